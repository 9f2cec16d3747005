//! The scan: a loop over values, with the open arrays and objects on its own stack.
//!
//! Owns the state of a scan, and scans in parts. Does not own strings (`text`), numbers (`number`)
//! or keys (`keys`). The file is long because the loop and its helpers are compiled as one
//! function: the helpers are inlined.

use super::keys::Keys;
use super::limits::{DEPTH_MAX, JsonLimits};
use super::number;
use super::outcome::{Refusal, Report, Segment, Step, at, beyond};
use super::text::{self, Content, Marks, Unescaped, word};
use crate::validators::Failure;

/// Names longer than this are cut in a path.
const NAME_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Around the outermost value.
    Root,
    Array,
    Object,
}

/// An open array or object.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    /// Whether the object is the value of a `constructor`.
    of_constructor: bool,
    /// Items or keys so far.
    count: u32,
    /// Offset of the last key; 0 before the first.
    key: u32,
}

impl Frame {
    #[inline(always)]
    fn new(kind: Kind, of_constructor: bool) -> Self {
        Self {
            kind,
            of_constructor,
            count: 0,
            key: 0,
        }
    }
}

/// The state between two values.
#[derive(Debug, Clone, Copy)]
struct State {
    offset: usize,
    /// The innermost open array or object.
    top: Frame,
    /// Whether the next value is that of a `constructor`.
    is_constructor: bool,
    report: Report,
}

impl State {
    fn new() -> Self {
        Self {
            offset: 0,
            top: Frame::new(Kind::Root, false),
            is_constructor: false,
            report: Report::default(),
        }
    }
}

/// A part that is not the last is read up to this many bytes before its end.
const MARGIN: usize = 2048;
/// U+FEFF in UTF-8. RFC 8259, section 8.1, lets a reader ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Except for numbers, no failure depends on bytes further behind its offset than this.
const LOOK_AHEAD: usize = 16;

/// A scanner; the next scan uses its small buffers again.
pub struct Scanner {
    keys: Keys,
    /// The arrays and objects around the innermost open one; after a refusal also that one.
    frames: Vec<Frame>,
    state: State,
    content: Content,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

/// Skips white space.
#[inline(always)]
fn skip(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
        // Indentation consists of runs of spaces.
        while word(bytes, at) == Some(0x2020_2020_2020_2020) {
            at += 8;
        }
    }
    at
}

/// Counts `,[]` or `,{}`, depending on `opening`, in a row from `at`; at most `most`.
#[inline(always)]
fn empty_containers(bytes: &[u8], at: usize, opening: u8, most: usize) -> usize {
    let mut count = 0;
    while count < most
        && let Some(&[b',', first, last]) = bytes.get(at + 3 * count..at + 3 * count + 3)
        && first == opening
        && last == opening + 2
    {
        count += 1;
    }
    count
}

/// Starts an item of the innermost array.
#[inline(always)]
fn item(offset: usize, limits: &JsonLimits, top: &mut Frame) -> Result<(), Refusal> {
    top.count += 1;
    if top.count as usize > limits.max_items {
        return Err(beyond(Failure::JsonItems, offset, limits.max_items));
    }
    Ok(())
}

/// Returns the failure of a byte at which a token was expected.
#[cold]
fn unexpected(bytes: &[u8], offset: usize) -> Refusal {
    let is_text = bytes.get(offset).is_none_or(u8::is_ascii)
        || std::str::from_utf8(&bytes[offset..bytes.len().min(offset + 4)])
            .map_or_else(|error| error.valid_up_to() > 0, |_| true);
    at(
        if is_text {
            Failure::JsonSyntax
        } else {
            Failure::JsonEncoding
        },
        offset.min(bytes.len()),
    )
}

/// True if the bytes that follow could change a refusal.
#[cold]
fn depends_on_rest(refusal: &Refusal, length: usize) -> bool {
    match refusal.failure {
        Failure::JsonNumberRange | Failure::JsonUnsafeInteger => true,
        Failure::JsonSyntax | Failure::JsonEncoding | Failure::JsonSurrogate | Failure::JsonNul => {
            refusal.offset + LOOK_AHEAD > length
        }
        // If the part ended in white space, the offset is not known.
        _ => refusal.offset >= length,
    }
}

impl Scanner {
    /// Creates a scanner.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys: Keys::new(),
            frames: Vec::new(),
            state: State::new(),
            content: Content::new(),
        }
    }

    /// Scans `bytes`; after a refusal, [`Scanner::path`] returns its place.
    ///
    /// # Errors
    /// The first failure in the order of the bytes; a repeated key may be found only at the end of
    /// its object.
    pub fn scan(&mut self, bytes: &[u8], limits: &JsonLimits) -> Result<Report, Refusal> {
        self.begin(bytes.len(), limits)?;
        match self.resume(bytes, limits, true)? {
            Step::Passed(report) => Ok(report),
            Step::More | Step::Cut => Err(unexpected(bytes, bytes.len())),
        }
    }

    /// Starts a scan in parts of a text of `length` bytes.
    ///
    /// # Errors
    /// The text is too large.
    pub fn begin(&mut self, length: usize, limits: &JsonLimits) -> Result<(), Refusal> {
        self.frames.clear();
        self.keys.reset(length);
        self.state = State::new();
        self.content = Content::new();
        let limit = limits.max_bytes.min(i32::MAX as usize);
        if length > limit {
            return Err(beyond(Failure::PayloadTooLarge, limit, limit));
        }
        Ok(())
    }

    /// Continues the scan. `bytes` is the text so far, including that of the previous calls.
    ///
    /// # Errors
    /// As [`Scanner::scan`]. A refusal is final: the bytes that follow cannot change it.
    pub fn resume(
        &mut self,
        bytes: &[u8],
        limits: &JsonLimits,
        is_last: bool,
    ) -> Result<Step, Refusal> {
        if is_last {
            self.part::<true>(bytes, limits)
        } else {
            self.part::<false>(bytes, limits)
        }
    }

    /// Scans a part, the last one or another: each has a loop of its own.
    #[inline(never)]
    fn part<const IS_LAST: bool>(
        &mut self,
        bytes: &[u8],
        limits: &JsonLimits,
    ) -> Result<Step, Refusal> {
        // Copies of their own, not behind one pointer: the compiler keeps them in registers.
        let limits = &{ *limits };
        let mut state = self.state;
        let mut content = self.content;
        if state.offset == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            if limits.no_byte_order_mark {
                return Err(at(Failure::JsonEncoding, 0));
            }
            state.offset = BYTE_ORDER_MARK.len();
            content.is_ascii = false;
        }
        let pause_at = if IS_LAST {
            usize::MAX
        } else {
            bytes.len().saturating_sub(MARGIN)
        };
        match self.run(bytes, limits, pause_at, &mut state, &mut content) {
            // More bytes may follow the outermost value.
            Ok(true) if !IS_LAST => Ok(Step::Cut),
            Ok(true) => Ok(Step::Passed(Report {
                is_ascii: content.is_ascii,
                has_nul: content.has_nul,
                ..state.report
            })),
            Ok(false) => {
                self.state = state;
                self.content = content;
                Ok(Step::More)
            }
            Err(refusal) if !IS_LAST && depends_on_rest(&refusal, bytes.len()) => Ok(Step::Cut),
            Err(refusal) => {
                self.frames.push(state.top);
                Err(refusal)
            }
        }
    }

    /// Scans values. Returns true at the end of the text, and false at `pause_at`.
    ///
    /// Long, because it is the hot loop: its state stays in local variables.
    #[inline(always)]
    fn run(
        &mut self,
        bytes: &[u8],
        limits: &JsonLimits,
        pause_at: usize,
        state: &mut State,
        content: &mut Content,
    ) -> Result<bool, Refusal> {
        let State {
            top,
            report,
            offset: next,
            is_constructor: is_next_constructor,
        } = state;
        let max_depth = limits.max_depth.min(DEPTH_MAX);
        let mut offset = *next;
        let marks = &mut Marks::new();
        // Whether the next value is that of a `constructor`.
        let mut is_constructor = *is_next_constructor;
        'value: loop {
            if offset >= pause_at {
                *next = offset;
                *is_next_constructor = is_constructor;
                return Ok(false);
            }
            offset = skip(bytes, offset);
            report.values += 1;
            if report.values > limits.max_values {
                return Err(beyond(Failure::JsonValues, offset, limits.max_values));
            }
            match bytes.get(offset) {
                Some(b'"') => {
                    let start = offset + 1;
                    let (end, _) = text::read(bytes, start, limits, marks, content)?;
                    if end - start > limits.max_string_bytes {
                        let limit = limits.max_string_bytes;
                        return Err(beyond(Failure::JsonStringLength, start, limit));
                    }
                    offset = end + 1;
                }
                Some(b'-' | b'0'..=b'9') => {
                    if top.kind == Kind::Array {
                        let room = (limits.max_values - report.values)
                            .min(limits.max_items - top.count as usize);
                        let singles = number::single_digits(bytes, offset, room);
                        if singles > 0 {
                            report.values += singles - 1;
                            top.count += singles as u32;
                            offset += 2 * singles;
                            is_constructor = false;
                            continue 'value;
                        }
                    }
                    let number =
                        number::read(bytes, offset).map_err(|offset| unexpected(bytes, offset))?;
                    if limits.finite_numbers && !number.is_finite {
                        return Err(at(Failure::JsonNumberRange, offset));
                    }
                    if number.loses_digits {
                        report.has_unsafe_integers = true;
                        if limits.safe_integers {
                            return Err(at(Failure::JsonUnsafeInteger, offset));
                        }
                    }
                    offset = number.end;
                }
                Some(&opening @ (b'{' | b'[')) => {
                    let depth = self.frames.len() + 1;
                    if depth > max_depth {
                        return Err(beyond(Failure::JsonDepth, offset, max_depth));
                    }
                    report.depth = report.depth.max(depth);
                    offset = skip(bytes, offset + 1);
                    // `]` and `}` are two above their opening.
                    if bytes.get(offset) == Some(&(opening + 2)) {
                        offset += 1;
                        if top.kind == Kind::Array {
                            let room = (limits.max_values - report.values)
                                .min(limits.max_items - top.count as usize);
                            let same = empty_containers(
                                &bytes[..bytes.len().min(pause_at)],
                                offset,
                                opening,
                                room,
                            );
                            report.values += same;
                            top.count += same as u32;
                            offset += 3 * same;
                        }
                    } else if opening == b'{' {
                        let of_constructor = std::mem::take(&mut is_constructor);
                        if limits.unique_keys {
                            self.keys.open();
                        }
                        let inner = Frame::new(Kind::Object, of_constructor);
                        self.frames.push(std::mem::replace(top, inner));
                        (offset, is_constructor) =
                            self.key(bytes, offset, limits, content, top, marks)?;
                        continue 'value;
                    } else {
                        // Whether the array is empty depends on the next part.
                        if pause_at != usize::MAX && offset >= bytes.len() {
                            return Err(unexpected(bytes, offset));
                        }
                        let inner = Frame::new(Kind::Array, false);
                        self.frames.push(std::mem::replace(top, inner));
                        item(offset, limits, top)?;
                        is_constructor = false;
                        continue 'value;
                    }
                }
                Some(b't') if bytes[offset..].starts_with(b"true") => offset += 4,
                Some(b'f') if bytes[offset..].starts_with(b"false") => offset += 5,
                Some(b'n') if bytes[offset..].starts_with(b"null") => offset += 4,
                _ => return Err(unexpected(bytes, offset)),
            }
            is_constructor = false;
            // After a value: a comma, or closing brackets.
            loop {
                offset = skip(bytes, offset);
                match (bytes.get(offset), top.kind) {
                    (Some(b','), Kind::Array) => {
                        offset += 1;
                        item(offset, limits, top)?;
                        continue 'value;
                    }
                    (Some(b','), Kind::Object) => {
                        offset = skip(bytes, offset + 1);
                        (offset, is_constructor) =
                            self.key(bytes, offset, limits, content, top, marks)?;
                        continue 'value;
                    }
                    (Some(b'}'), Kind::Object) => self.keys.close(bytes)?,
                    (Some(b']'), Kind::Array) => {}
                    (None, Kind::Root) => return Ok(true),
                    _ => return Err(unexpected(bytes, offset)),
                }
                offset += 1;
                if let Some(outer) = self.frames.pop() {
                    *top = outer;
                }
            }
        }
    }

    /// Reads a key of the innermost object and its colon. Returns the offset of the value, and
    /// whether the key is `constructor`.
    #[inline(always)]
    fn key(
        &mut self,
        bytes: &[u8],
        offset: usize,
        limits: &JsonLimits,
        content: &mut Content,
        top: &mut Frame,
        marks: &mut Marks,
    ) -> Result<(usize, bool), Refusal> {
        if bytes.get(offset) != Some(&b'"') {
            return Err(unexpected(bytes, offset));
        }
        let start = offset + 1;
        let (end, has_escapes) = text::read(bytes, start, limits, marks, content)?;
        top.count += 1;
        top.key = start as u32;
        if top.count as usize > limits.max_keys {
            return Err(beyond(Failure::JsonKeys, start, limits.max_keys));
        }
        if end - start > limits.max_key_bytes {
            let limit = limits.max_key_bytes;
            return Err(beyond(Failure::JsonKeyLength, start, limit));
        }
        if limits.unique_keys {
            self.keys.insert(bytes, start, end, has_escapes)?;
        }
        let mut is_constructor = false;
        if limits.safe_keys {
            let is = |name: &[u8]| {
                if has_escapes {
                    Unescaped::new(bytes, start).eq(name.iter().copied())
                } else {
                    &bytes[start..end] == name
                }
            };
            let first = bytes[start];
            let is_forbidden = match first {
                b'_' | b'\\' if is(b"__proto__") => true,
                b'p' | b'\\' => top.of_constructor && is(b"prototype"),
                _ => false,
            };
            if is_forbidden {
                return Err(at(Failure::JsonForbiddenKey, start));
            }
            is_constructor = matches!(first, b'c' | b'\\') && is(b"constructor");
        }
        let mut colon = end + 1;
        if bytes.get(colon) != Some(&b':') {
            colon = skip(bytes, colon);
        }
        if bytes.get(colon) == Some(&b':') {
            Ok((colon + 1, is_constructor))
        } else {
            Err(unexpected(bytes, colon))
        }
    }

    /// Returns the path at which the last scan stopped, from the outside in.
    #[must_use]
    pub fn path(&self, bytes: &[u8]) -> Vec<Segment> {
        self.frames
            .iter()
            .filter(|frame| frame.count > 0)
            .map(|frame| {
                if frame.kind == Kind::Array {
                    return Segment::Index(frame.count as usize - 1);
                }
                let name: Vec<u8> = Unescaped::new(bytes, frame.key as usize)
                    .take(NAME_MAX + 1)
                    .collect();
                let text = String::from_utf8_lossy(&name[..name.len().min(NAME_MAX)]);
                if name.len() > NAME_MAX {
                    Segment::Key(format!("{}…", text.trim_end_matches('\u{fffd}')))
                } else {
                    Segment::Key(text.into_owned())
                }
            })
            .collect()
    }
}
