//! Refuses weak keys: secrets that are public or short, RSA moduli that can be factored, Ed25519
//! points for which anyone can sign.

use super::algorithm::Algorithm;
use super::key_problem::KeyProblem;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaSubjectPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Size of RSA moduli, bits: smaller ones can be factored, larger ones cost milliseconds per
/// signature.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const SECRET_MAX_BYTES: usize = 1 << 14;

pub(super) fn check_secret(secret: &[u8], algorithm: Algorithm) -> Result<(), KeyProblem> {
    if looks_like_a_key(secret) {
        return Err(KeyProblem::KeyAsSecret);
    }
    let hash_bytes = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        _ => 64,
    };
    match secret.len() {
        length if length < hash_bytes => Err(KeyProblem::ShortSecret),
        length if length > SECRET_MAX_BYTES => Err(KeyProblem::LongSecret),
        _ => Ok(()),
    }
}

/// True if a secret is the text or the bytes of a key that others may have: PEM at any position,
/// the base64 within it, DER, an SSH key, a JWK or a set of JWKs.
fn looks_like_a_key(secret: &[u8]) -> bool {
    let is_der = |bytes: &[u8]| {
        bytes.first() == Some(&0x30)
            && (RsaSubjectPublicKey::from_der(bytes).is_ok()
                || ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes).is_ok()
                || ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok()
                || ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes).is_ok()
                || ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, bytes).is_ok()
                || (bytes.len() == 44 && ParsedPublicKey::new(&ED25519, bytes).is_ok()))
    };
    if is_der(secret) || memchr::memmem::find(secret, b"-----BEGIN").is_some() {
        return true;
    }
    let Ok(text) = std::str::from_utf8(secret) else {
        return false;
    };
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if ["ssh-", "ecdsa-sha2-"]
        .iter()
        .any(|start| text.starts_with(start))
    {
        return true;
    }
    if text.starts_with(['{', '[']) && (text.contains("kty") || text.contains("\"keys\"")) {
        return true;
    }
    let packed: String = text.split_whitespace().collect();
    STANDARD.decode(packed).is_ok_and(|bytes| is_der(&bytes))
}

pub(super) fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyProblem> {
    let (Some(first), Some(last)) = (n.first(), n.last()) else {
        return Err(KeyProblem::Encoding);
    };
    // RFC 7518, section 6.3.1: the minimum number of octets.
    if *first == 0 || e.first() == Some(&0) {
        return Err(KeyProblem::Encoding);
    }
    if last % 2 == 0 {
        return Err(KeyProblem::Encoding);
    }
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(KeyProblem::RsaSize);
    }
    if e.last().is_none_or(|last| last % 2 == 0) || e == [1] {
        return Err(KeyProblem::RsaExponent);
    }
    if is_roca(n) {
        Err(KeyProblem::Roca)
    } else {
        Ok(())
    }
}

/// True if a modulus has the fingerprint of CVE-2017-15361: modulo each of these primes it is a
/// power of 65537 (Nemec and others, "The Return of Coppersmith's Attack", section 2.3). One good
/// modulus in 2^27 has it by chance.
fn is_roca(n: &[u8]) -> bool {
    [
        11u32, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
    ]
    .iter()
    .all(|&prime| {
        let rest = n
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        for _ in 0..prime {
            if power == rest {
                return true;
            }
            power = power * 65537 % prime;
        }
        false
    })
}

/// The y coordinates of all points whose order divides 8, in each encoding, without the sign bit of
/// x. Under such a key a signature is valid for (nearly) every message (Chalkias and others,
/// "Taming the many EdDSAs").
const SMALL_ORDER: [[u8; 32]; 7] = [
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

/// Refuses points of small order.
pub(super) fn check_ed25519(point: &[u8]) -> Result<(), KeyProblem> {
    let Ok(mut y) = <[u8; 32]>::try_from(point) else {
        return Err(KeyProblem::Encoding);
    };
    y[31] &= 0x7f;
    if SMALL_ORDER.contains(&y) {
        return Err(KeyProblem::SmallOrder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{KeyProblem, SMALL_ORDER, check_ed25519, is_roca};

    #[test]
    fn points_of_small_order_are_no_keys_whatever_their_sign() {
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = y.to_vec();
                point[31] |= sign;
                assert_eq!(check_ed25519(&point).err(), Some(KeyProblem::SmallOrder));
            }
        }
        assert_eq!(check_ed25519(&[2; 32]).err(), None);
        assert_eq!(check_ed25519(&[0; 31]).err(), Some(KeyProblem::Encoding));
    }

    #[test]
    fn roca_moduli_are_recognized() {
        // 65537^k is a power of 65537 modulo every prime.
        let mut number = vec![1u8];
        for _ in 0..128 {
            let mut carry = 0u32;
            let mut next: Vec<u8> = Vec::new();
            for (at, byte) in number.iter().rev().enumerate() {
                let low = number.len() - 1;
                let shifted = if at >= 2 {
                    u32::from(number[low - (at - 2)])
                } else {
                    0
                };
                let sum = u32::from(*byte) + shifted + carry;
                next.push(sum as u8);
                carry = sum >> 8;
            }
            for at in number.len()..number.len() + 2 {
                let low = number.len() - 1;
                let sum = carry
                    + if at >= 2 && at - 2 <= low {
                        u32::from(number[low - (at - 2)])
                    } else {
                        0
                    };
                next.push(sum as u8);
                carry = sum >> 8;
            }
            next.reverse();
            let start = next.iter().position(|byte| *byte != 0).unwrap();
            number = next[start..].to_vec();
        }
        assert!(is_roca(&number));
        let last = number.len() - 1;
        number[last] ^= 2;
        assert!(!is_roca(&number));
    }
}
