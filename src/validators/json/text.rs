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

/// A string between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) end: usize,
    pub(super) has_escapes: bool,
    pub(super) is_ascii: bool,
    pub(super) has_nul: bool,
}

/// Reads a string from its first byte at `start` to its closing quote.
#[inline(always)]
pub(super) fn read(
    bytes: &[u8],
    start: usize,
    limits: &JsonLimits,
) -> Result<Text, (Failure, usize)> {
    // Nearly all strings have no special byte before their end.
    let mut at = start;
    let mut is_ascii = true;
    while let Some(block) = block(bytes, at) {
        is_ascii &= block.is_ascii;
        at += block.length;
        if block.length < 16 {
            if is_ascii && bytes.get(at) == Some(&b'"') {
                return Ok(Text {
                    end: at,
                    has_escapes: false,
                    is_ascii: true,
                    has_nul: false,
                });
            }
            break;
        }
    }
    read_on(bytes, start, at, is_ascii, limits)
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
    is_ascii: bool,
    limits: &JsonLimits,
) -> Result<Text, (Failure, usize)> {
    let mut text = Text {
        end: at,
        has_escapes: false,
        is_ascii,
        has_nul: false,
    };
    loop {
        while let Some(block) = block(bytes, at) {
            text.is_ascii &= block.is_ascii;
            at += block.length;
            if block.length < 16 {
                break;
            }
        }
        match bytes.get(at) {
            Some(b'"') => break,
            Some(b'\\') => {
                text.has_escapes = true;
                at = escape(bytes, at, limits, &mut text.has_nul)?;
            }
            Some(..0x20) | None => return Err((Failure::JsonSyntax, at)),
            Some(byte) => {
                text.is_ascii &= byte.is_ascii();
                at += 1;
            }
        }
    }
    text.end = at;
    if !text.is_ascii
        && let Err(error) = std::str::from_utf8(&bytes[start..at])
    {
        return Err((Failure::JsonEncoding, start + error.valid_up_to()));
    }
    Ok(text)
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
