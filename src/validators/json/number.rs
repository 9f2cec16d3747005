//! Numbers: the grammar of RFC 8259, and what becomes of one in a double.

use super::text::word;

/// A number that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) end: usize,
    pub(super) is_finite: bool,
    /// An integer as written, beyond 2^53 either way.
    pub(super) loses_digits: bool,
}

/// Past the digits at `at`.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    if !bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return at;
    }
    at += 1;
    if !bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return at;
    }
    // Without a loop for up to eight, whose number no branch predictor guesses.
    while let Some(word) = word(bytes, at) {
        let values = word ^ 0x3030_3030_3030_3030;
        // Bytes above 9; carries disturb only what is behind the first of them.
        let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        if others != 0 {
            return at + (others.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes
        .get(at)
        .is_some_and(|byte| byte.wrapping_sub(b'0') < 10)
    {
        at += 1;
    }
    at
}

/// How many single digits, each with a comma behind it, come in a row from `at`; at most `most`,
/// by fours. It is the densest that an array can be.
#[inline(always)]
pub(super) fn single_digits(bytes: &[u8], at: usize, most: usize) -> usize {
    let mut count = 0;
    while count + 4 <= most
        && let Some(word) = word(bytes, at + 2 * count)
    {
        // Zeros at the commas, the digits' values elsewhere; a carry only comes from a byte that is neither.
        let values = word ^ 0x2c30_2c30_2c30_2c30;
        if (values.wrapping_add(0x7f76_7f76_7f76_7f76) | values) & 0x8080_8080_8080_8080 != 0 {
            break;
        }
        count += 4;
    }
    count
}

/// Reads the number at `start`, or says where it goes wrong.
#[inline(always)]
pub(super) fn read(bytes: &[u8], start: usize) -> Result<Number, usize> {
    let whole = start + usize::from(bytes.get(start) == Some(&b'-'));
    let mut end = digits(bytes, whole);
    let length = end - whole;
    if length == 0 || (length > 1 && bytes.get(whole) == Some(&b'0')) {
        return Err(whole + length.min(1));
    }
    let mut is_integer = true;
    if bytes.get(end) == Some(&b'.') {
        is_integer = false;
        let fraction = end + 1;
        end = digits(bytes, fraction);
        if end == fraction {
            return Err(end);
        }
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = end + 1;
        let exponent = sign + usize::from(matches!(bytes.get(sign), Some(b'+' | b'-')));
        end = digits(bytes, exponent);
        if end == exponent {
            return Err(end);
        }
        return Ok(Number {
            end,
            is_finite: is_finite(bytes, start, end),
            loses_digits: false,
        });
    }
    Ok(Number {
        end,
        // 308 digits are less than the largest double.
        is_finite: length <= 308 || is_finite(bytes, start, end),
        loses_digits: is_integer && length >= 16 && loses_digits(&bytes[whole..end]),
    })
}

/// Whether the number rounds to a finite double; exact, for any number of digits.
#[cold]
fn is_finite(bytes: &[u8], start: usize, end: usize) -> bool {
    std::str::from_utf8(&bytes[start..end])
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .is_some_and(f64::is_finite)
}

#[cold]
fn loses_digits(digits: &[u8]) -> bool {
    const LIMIT: &[u8] = b"9007199254740992";
    digits.len() > LIMIT.len() || digits > LIMIT
}
