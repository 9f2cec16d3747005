//! The compact serialization (RFC 7515, section 7.1): three base64url parts and two dots, in the
//! one canonical encoding.

use crate::validators::Failure;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The parts of a token, still encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub header: &'a [u8],
    pub payload: &'a [u8],
    pub signature: &'a [u8],
    /// The signed text: header, dot, payload.
    pub signed: &'a [u8],
}

/// Splits a token at its dots. The payload may be empty: a JWS may have an empty payload.
pub(super) fn split(token: &[u8]) -> Result<Parts<'_>, Failure> {
    if token.is_empty() {
        return Err(Failure::TokenRequired);
    }
    let mut dots = memchr::memchr_iter(b'.', token);
    let (Some(first), Some(second)) = (dots.next(), dots.next()) else {
        return Err(Failure::TokenFormat);
    };
    match dots.count() {
        0 => {}
        // Five parts are a JWE.
        2 => return Err(Failure::TokenEncrypted),
        _ => return Err(Failure::TokenFormat),
    }
    let parts = Parts {
        header: &token[..first],
        payload: &token[first + 1..second],
        signature: &token[second + 1..],
        signed: &token[..second],
    };
    if parts.header.is_empty() || parts.signature.is_empty() {
        return Err(Failure::TokenFormat);
    }
    Ok(parts)
}

/// Decodes one part into `buffer`. Refuses every encoding but the canonical one: other characters,
/// padding, white space, stray bits at the end.
pub(super) fn decode<'b>(encoded: &[u8], buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Failure> {
    let room = encoded.len() / 4 * 3 + 3;
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let length = URL_SAFE_NO_PAD
        .decode_slice(encoded, buffer)
        .map_err(|_| Failure::TokenEncoding)?;
    Ok(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use super::{decode, split};
    use crate::validators::Failure;

    #[test]
    fn only_three_parts_are_a_token() {
        let refused = |token: &str| split(token.as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(refused(""), Failure::TokenRequired);
        for token in [
            "a",
            "a.b",
            ".",
            "..",
            ".b.c",
            "a.b.",
            "a.b.c.d",
            "a.b.c.d.e.f",
        ] {
            assert_eq!(refused(token), Failure::TokenFormat, "{token}");
        }
        assert_eq!(refused("a.b.c.d.e"), Failure::TokenEncrypted);
        let parts = split(b"aa.bb.cc").unwrap();
        assert_eq!(
            (parts.header, parts.payload, parts.signature),
            (&b"aa"[..], &b"bb"[..], &b"cc"[..])
        );
        assert_eq!(parts.signed, b"aa.bb");
    }

    #[test]
    fn only_the_canonical_encoding_is_accepted() {
        let mut buffer = Vec::new();
        assert_eq!(
            decode(b"AAAA_-8", &mut buffer).unwrap(),
            [0, 0, 0, 255, 239]
        );
        for wrong in [
            "AA==",
            "AA=",
            "A",
            "AB",
            "AAB",
            "AA A",
            "AA\n",
            "AA+A",
            "AA/A",
            " AAA",
            "AAAA\u{e9}",
        ] {
            assert_eq!(
                decode(wrong.as_bytes(), &mut buffer),
                Err(Failure::TokenEncoding),
                "{wrong}"
            );
        }
    }
}
