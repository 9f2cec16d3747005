//! Finds the public key in DER: in a certificate (RFC 5280, section 4.1), and in a
//! SubjectPublicKeyInfo of a type that the `jsonwebtoken` crate does not know.
//!
//! Owns the walk through DER and the frame of PEM. Does not own the checks of keys (`jwk`), nor any
//! check of a certificate: it only carries a key here. Invariant: only definite lengths in their
//! shortest form are read, and nothing may follow the outermost element.

use super::algorithm::Algorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// Context tags 0 to 3, constructed.
const TAGGED: [u8; 4] = [0xa0, 0xa1, 0xa2, 0xa3];

// The contents of object identifiers.
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP256K1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x0a];
/// SHA-256, SHA-384 and SHA-512 differ in their last octet.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// A key of a type that needs more than the crate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Special<'a> {
    /// Another type, or no key at all.
    Other,
    /// A point on secp256k1.
    Secp256k1(&'a [u8]),
    /// The RSAPublicKey of an RSASSA-PSS key, and its hash.
    Pss(&'a [u8], PssHash),
    /// An RSASSA-PSS key with parameters that no algorithm of tokens has.
    Unsupported,
}

/// The hash that an RSASSA-PSS key is restricted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PssHash {
    Any,
    Only(Algorithm),
}

/// A cursor over the elements of one constructed element.
#[derive(Clone, Copy)]
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Returns the tag of the next element, its contents, and all of it.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits
                    .iter()
                    .fold(0, |sum, byte| sum * 256 + usize::from(*byte));
                // The shortest form (X.690, section 10.1).
                if digits[0] == 0 || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (contents, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some((tag, contents, whole))
    }

    /// Returns the contents of the next element if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, contents, _) = self.next()?;
        (found == tag).then_some(contents)
    }

    /// Skips the next element if it has this tag, and returns its contents.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let contents = ahead.expect(tag)?;
        *self = ahead;
        Some(contents)
    }

    const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the elements of a sequence that is all of `der`.
fn sequence(der: &[u8]) -> Option<Elements<'_>> {
    let mut outer = Elements(der);
    let contents = outer.expect(SEQUENCE)?;
    outer.is_empty().then_some(Elements(contents))
}

/// Returns the SubjectPublicKeyInfo of a certificate.
pub(super) fn of_certificate(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = sequence(der)?;
    let mut signed = Elements(certificate.expect(SEQUENCE)?);
    certificate.expect(SEQUENCE)?;
    certificate.expect(BIT_STRING)?;
    if !certificate.is_empty() {
        return None;
    }
    signed.optional(TAGGED[0]); // version
    signed.expect(INTEGER)?; // serial number
    for _ in 0..4 {
        signed.expect(SEQUENCE)?; // signature algorithm, issuer, validity, subject
    }
    let (tag, _, whole) = signed.next()?;
    (tag == SEQUENCE).then_some(whole)
}

/// Classifies a SubjectPublicKeyInfo.
pub(super) fn special(der: &[u8]) -> Special<'_> {
    parts(der).map_or(Special::Other, |(oid, parameters, key)| match oid {
        RSASSA_PSS => pss_hash(parameters).map_or(Special::Unsupported, |h| Special::Pss(key, h)),
        EC_PUBLIC_KEY => {
            let mut parameters = parameters;
            match parameters.expect(OID) {
                Some(SECP256K1) => Special::Secp256k1(key),
                _ => Special::Other,
            }
        }
        _ => Special::Other,
    })
}

/// Returns the algorithm of a SubjectPublicKeyInfo, its parameters, and the key.
fn parts(der: &[u8]) -> Option<(&[u8], Elements<'_>, &[u8])> {
    let mut info = sequence(der)?;
    let mut algorithm = Elements(info.expect(SEQUENCE)?);
    let oid = algorithm.expect(OID)?;
    let (unused_bits, key) = info.expect(BIT_STRING)?.split_first()?;
    (*unused_bits == 0 && info.is_empty()).then_some((oid, algorithm, key))
}

/// Returns the hash of RSASSA-PSS-params (RFC 4055, section 3.1), if an algorithm of RFC 7518,
/// section 3.5 can meet them: the same hash for MGF1, and a salt not longer than the hash.
fn pss_hash(mut parameters: Elements<'_>) -> Option<PssHash> {
    if parameters.is_empty() {
        return Some(PssHash::Any);
    }
    let mut parameters = Elements(parameters.expect(SEQUENCE)?);
    let hash = sha2(parameters.optional(TAGGED[0])?)?;
    let mut mask = sequence(parameters.optional(TAGGED[1])?)?;
    if mask.expect(OID)? != MGF1 || sha2(mask.0)? != hash {
        return None;
    }
    let salt = match parameters.optional(TAGGED[2]) {
        None => 20,
        Some(length) => match Elements(length).expect(INTEGER)? {
            [length] => usize::from(*length),
            _ => return None,
        },
    };
    let (algorithm, length) = match hash {
        1 => (Algorithm::PS256, 32),
        2 => (Algorithm::PS384, 48),
        3 => (Algorithm::PS512, 64),
        _ => return None,
    };
    (salt <= length).then_some(PssHash::Only(algorithm))
}

/// Returns the last octet of the identifier of a SHA-2 hash.
fn sha2(algorithm: &[u8]) -> Option<u8> {
    let oid = sequence(algorithm)?.expect(OID)?;
    let (last, start) = oid.split_last()?;
    (start == SHA2).then_some(*last)
}

/// Returns the DER in the one block of a PEM text, if that has this label.
pub(super) fn pem_block(pem: &str, label: &str) -> Option<Vec<u8>> {
    let begin = format!("-----BEGIN {label}-----");
    let (_, rest) = pem.split_once(&begin)?;
    let (body, rest) = rest.split_once(&format!("-----END {label}-----"))?;
    if pem.matches("-----BEGIN").count() != 1 || rest.contains("-----") {
        return None;
    }
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}

/// Returns the PEM of DER.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::{Elements, Special, of_certificate, pem, pem_block, special};
    use proptest::prelude::*;

    #[test]
    fn lengths_have_one_form() {
        let next = |bytes: &[u8]| {
            Elements(bytes)
                .next()
                .map(|(_, contents, _)| contents.len())
        };
        assert_eq!(next(&[4, 1, 9]), Some(1));
        assert_eq!(next(&[4, 0]), Some(0));
        assert_eq!(next(&[&[4, 0x81, 0x80][..], &[0; 128]].concat()), Some(128));
        for bytes in [
            &[4][..],
            &[4, 2, 9],
            &[4, 0x80, 0, 0],
            &[4, 0x81, 1, 9],
            &[4, 0x82, 0, 1, 9],
            &[4, 0x84, 0, 0, 0, 1, 9],
            &[4, 0xff],
        ] {
            assert_eq!(next(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn pem_has_one_block() {
        let text = pem("CERTIFICATE", &[7; 100]);
        assert_eq!(pem_block(&text, "CERTIFICATE"), Some(vec![7; 100]));
        assert_eq!(
            pem_block(&text.replace('\n', "\r\n"), "CERTIFICATE"),
            Some(vec![7; 100])
        );
        assert_eq!(pem_block(&text, "PUBLIC KEY"), None);
        assert_eq!(pem_block(&format!("{text}{text}"), "CERTIFICATE"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = of_certificate(&bytes);
            prop_assert_ne!(special(&bytes), Special::Secp256k1(&[1]));
        }
    }
}
