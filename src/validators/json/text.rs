//! Strings: finds their end, and reads their text without escapes.

use super::limits::JsonLimits;
use crate::validators::Failure;
use wide::u8x16;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Returns the eight bytes at `at`, the first in the lowest bits.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?))
}

/// Returns a mask with the high bit of every byte that is a quote, a backslash or a control
/// character. Only the first hit is exact, which suffices: a borrow can disturb the bytes behind
/// it.
#[inline(always)]
fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * 0x22);
    let slash = word ^ (ONES * 0x5c);
    ((quote.wrapping_sub(ONES) & !quote)
        | (slash.wrapping_sub(ONES) & !slash)
        | (word.wrapping_sub(ONES * 0x20) & !word))
        & HIGH
}

/// Sixteen bytes of a string.
struct Block {
    /// Number of bytes before the first quote, backslash or control character.
    length: usize,
    /// Whether these bytes are ASCII.
    is_ascii: bool,
}

/// Returns the sixteen bytes at `at`.
#[inline(always)]
fn block(bytes: &[u8], at: usize) -> Option<Block> {
    let block = u8x16::new(*bytes.get(at..)?.first_chunk()?);
    let special = block.simd_eq(u8x16::splat(b'"'))
        | block.simd_eq(u8x16::splat(b'\\'))
        | block.min(u8x16::splat(0x1f)).simd_eq(block);
    // A hit behind the end, so that there is always one.
    let hits = special.to_bitmask() | 1 << 16;
    Some(Block {
        length: hits.trailing_zeros() as usize,
        is_ascii: block.to_bitmask() & (hits ^ (hits - 1)) == 0,
    })
}

/// Bytes whose marks are kept.
const BLOCK: usize = 64;

/// The marks of 64 bytes: a bit for each byte that may end a plain string, that is a quote, a backslash, a
/// control character, one that is not ASCII, and each place behind the text. The end of a string is found by
/// a shift. To compare its bytes would have to wait until the end of the string before it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// Number of the block, from the beginning of the text.
    block: usize,
    marks: u64,
}

impl Marks {
    /// Starts without a block. Marks are those of one text: of a longer one they may differ at its end.
    pub(super) fn new() -> Self {
        Self {
            block: usize::MAX,
            marks: 0,
        }
    }

    /// Returns the first marked place from `at` on, at most the length of the text.
    #[inline(always)]
    fn next(&mut self, bytes: &[u8], at: usize) -> usize {
        let block = at / BLOCK;
        if block != self.block {
            self.load(bytes, block);
        }
        let marks = self.marks >> (at % BLOCK);
        if marks != 0 {
            return at + marks.trailing_zeros() as usize;
        }
        self.search(bytes)
    }

    /// Returns the first marked place behind this block.
    #[inline(always)]
    fn search(&mut self, bytes: &[u8]) -> usize {
        loop {
            self.load(bytes, self.block + 1);
            if self.marks != 0 {
                return self.block * BLOCK + self.marks.trailing_zeros() as usize;
            }
        }
    }

    #[inline(always)]
    fn load(&mut self, bytes: &[u8], block: usize) {
        self.block = block;
        let rest = bytes.get(block * BLOCK..).unwrap_or_default();
        self.marks = match rest.first_chunk::<BLOCK>() {
            Some(bytes) => marks_of(bytes),
            None => marks_of_last(rest),
        };
    }
}

#[inline(always)]
fn marks_of(bytes: &[u8; BLOCK]) -> u64 {
    let mut marks = 0;
    for (at, part) in bytes.chunks_exact(16).enumerate() {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(part);
        let part = u8x16::new(sixteen);
        let marked = part.simd_eq(u8x16::splat(b'"'))
            | part.simd_eq(u8x16::splat(b'\\'))
            | part.min(u8x16::splat(0x1f)).simd_eq(part)
            // The high bit alone marks a byte that is not ASCII.
            | part;
        marks |= u64::from(marked.to_bitmask()) << (16 * at);
    }
    marks
}

/// The marks of the last bytes of a text.
#[cold]
fn marks_of_last(rest: &[u8]) -> u64 {
    let mut bytes = [0; BLOCK];
    bytes[..rest.len()].copy_from_slice(rest);
    // A zero is a control character.
    marks_of(&bytes)
}

/// Two facts about all strings of a text: whether they are ASCII, and whether one of them has a U+0000.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) is_ascii: bool,
    pub(super) has_nul: bool,
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            is_ascii: true,
            has_nul: false,
        }
    }
}

/// Reads a string from its first byte at `start` to its closing quote, and notes in `content` other
/// characters than ASCII and U+0000.
/// Returns its end, and whether it has escapes: two numbers, since a structure would go through memory.
#[inline(always)]
pub(super) fn read(
    bytes: &[u8],
    start: usize,
    limits: &JsonLimits,
    marks: &mut Marks,
    content: &mut Content,
) -> Result<(usize, bool), (Failure, usize)> {
    // Nearly all strings have no marked byte before their end.
    let end = marks.next(bytes, start);
    if bytes.get(end) == Some(&b'"') {
        return Ok((end, false));
    }
    read_on(bytes, start, end, limits, content)
}

/// Returns the end of a string without escapes that was read before.
#[inline]
pub(super) fn plain_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(word) = word(bytes, at) {
        let hits = special(word);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte != b'"') {
        at += 1;
    }
    at
}

/// Continues [`read`] at `at` for a string that is not plain.
#[inline(never)]
fn read_on(
    bytes: &[u8],
    start: usize,
    mut at: usize,
    limits: &JsonLimits,
    content: &mut Content,
) -> Result<(usize, bool), (Failure, usize)> {
    let mut is_ascii = true;
    let mut has_escapes = false;
    loop {
        while let Some(block) = block(bytes, at) {
            is_ascii &= block.is_ascii;
            at += block.length;
            if block.length < 16 {
                break;
            }
        }
        match bytes.get(at) {
            Some(b'"') => break,
            Some(b'\\') => {
                has_escapes = true;
                at = escape(bytes, at, limits, &mut content.has_nul)?;
            }
            Some(..0x20) | None => return Err((Failure::JsonSyntax, at)),
            Some(byte) => {
                is_ascii &= byte.is_ascii();
                at += 1;
            }
        }
    }
    content.is_ascii &= is_ascii;
    if !is_ascii && let Err(error) = std::str::from_utf8(&bytes[start..at]) {
        return Err((Failure::JsonEncoding, start + error.valid_up_to()));
    }
    Ok((at, has_escapes))
}

/// Reads the escape at `at` and returns its end.
fn escape(
    bytes: &[u8],
    at: usize,
    limits: &JsonLimits,
    has_nul: &mut bool,
) -> Result<usize, (Failure, usize)> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let Some(unit) = unit(bytes, at) else {
                // The first byte that is not a hexadecimal digit.
                let digits = bytes[at + 2..]
                    .iter()
                    .take(4)
                    .take_while(|byte| byte.is_ascii_hexdigit());
                return Err((Failure::JsonSyntax, at + 2 + digits.count()));
            };
            if unit == 0 {
                *has_nul = true;
                if limits.no_nul {
                    return Err((Failure::JsonNul, at));
                }
            }
            let is_pair = matches!(unit, 0xd800..0xdc00)
                && matches!(self::unit(bytes, at + 6), Some(0xdc00..0xe000));
            if is_pair {
                return Ok(at + 12);
            }
            if limits.whole_characters && matches!(unit, 0xd800..0xe000) {
                return Err((Failure::JsonSurrogate, at));
            }
            Ok(at + 6)
        }
        _ => Err((Failure::JsonSyntax, (at + 1).min(bytes.len()))),
    }
}

/// Returns the UTF-16 unit of the `\uXXXX` at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = bytes.get(at..at + 6)? else {
        return None;
    };
    digits.iter().try_fold(0, |unit, &byte| {
        Some(unit << 4 | char::from(byte).to_digit(16)?)
    })
}

/// The bytes of a string without escapes: UTF-8, with lone surrogates as three bytes each.
pub(super) struct Unescaped<'a> {
    bytes: &'a [u8],
    at: usize,
    pending: [u8; 4],
    /// Index in `pending` of the first byte that was not returned yet.
    from: usize,
}

impl<'a> Unescaped<'a> {
    /// Starts at the first byte of a string.
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Self {
        Self {
            bytes,
            at: start,
            pending: [0; 4],
            from: 4,
        }
    }

    fn code_point(&mut self, code: u32) -> u8 {
        let tail = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
        let (first, length) = match code {
            ..0x80 => (code as u8, 1),
            0x80..0x800 => (0xc0 | (code >> 6) as u8, 2),
            0x800..0x1_0000 => (0xe0 | (code >> 12) as u8, 3),
            _ => (0xf0 | (code >> 18) as u8, 4),
        };
        self.pending = [first, tail(12), tail(6), tail(0)];
        self.from = 5 - length;
        first
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Some(&byte) = self.pending.get(self.from) {
            self.from += 1;
            return Some(byte);
        }
        match *self.bytes.get(self.at)? {
            b'"' => None,
            b'\\' => {
                let short =
                    match *self.bytes.get(self.at + 1)? {
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'u' => {
                            let high = unit(self.bytes, self.at)?;
                            self.at += 6;
                            if let (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) =
                                (high, unit(self.bytes, self.at))
                            {
                                self.at += 6;
                                return Some(self.code_point(
                                    0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                                ));
                            }
                            return Some(self.code_point(high));
                        }
                        same => same,
                    };
                self.at += 2;
                Some(short)
            }
            byte => {
                self.at += 1;
                Some(byte)
            }
        }
    }
}
