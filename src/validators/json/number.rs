//! Numbers: the grammar of RFC 8259, and whether a double can hold the value.

use super::text::word;

/// A number that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) end: usize,
    pub(super) is_finite: bool,
    /// Whether it is written as an integer beyond ±2^53.
    pub(super) loses_digits: bool,
}

/// Skips the digits at `at`.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    if !bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return at;
    }
    at += 1;
    if !bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return at;
    }
    // Up to eight digits without a loop: a branch predictor cannot guess their number.
    while let Some(word) = word(bytes, at) {
        let values = word ^ 0x3030_3030_3030_3030;
        // Marks bytes above 9; a carry only disturbs bytes behind the first of them.
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

/// Counts single digits, each followed by a comma, in a row from `at`; at most `most`, by fours. An
/// array cannot hold values more densely.
#[inline(always)]
pub(super) fn single_digits(bytes: &[u8], at: usize, most: usize) -> usize {
    let mut count = 0;
    while count + 4 <= most
        && let Some(word) = word(bytes, at + 2 * count)
    {
        // Zero at the commas, the digits' values elsewhere; only a byte that is neither causes a
        // carry.
        let values = word ^ 0x2c30_2c30_2c30_2c30;
        if (values.wrapping_add(0x7f76_7f76_7f76_7f76) | values) & 0x8080_8080_8080_8080 != 0 {
            break;
        }
        count += 4;
    }
    count
}

/// Reads the number at `start`, or returns the offset of the error.
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
        // A number of 308 digits is below the largest double.
        is_finite: length <= 308 || is_finite(bytes, start, end),
        loses_digits: is_integer && length >= 16 && loses_digits(&bytes[whole..end]),
    })
}

/// True if the number rounds to a finite double; exact for any number of digits.
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
