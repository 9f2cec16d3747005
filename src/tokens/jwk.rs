//! One key, from a JWK (RFC 7517, 8037) or from PEM, checked before it is used.

use super::algorithm::{Algorithm, Algorithms};
use super::header::is_kid;
use super::key::Key;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, RsaSubjectPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

/// RSA moduli, in bits: below, they can be factored; above, one check costs milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const SECRET_MAX_BYTES: usize = 1 << 14;

/// A key as it is given: a JWK, or PEM with the members of a JWK that say what it is for.
/// A repeated member is an error; private members are not looked at.
#[derive(Deserialize)]
pub(super) struct RawKey {
    kty: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    pem: Option<String>,
}

/// What is wrong with a key. No text of the key is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each has its sentence")]
pub enum KeyProblem {
    #[error("is not a key: a JWK needs a kty, and the members of its kty")]
    Malformed,
    #[error(
        "is of a type that does not verify signatures here: kty must be oct, RSA, EC (P-256, P-384, P-521) or OKP (Ed25519)"
    )]
    Unsupported,
    #[error("is not for signatures: use must be sig")]
    Use,
    #[error("is not for verifying: key_ops must name verify")]
    Operations,
    #[error("contradicts itself: use and key_ops, or names in key_ops, disagree")]
    Contradiction,
    #[error("is for an algorithm that is not supported")]
    UnknownAlgorithm,
    #[error("is for another type of key than its alg: kty and crv must fit it")]
    AlgorithmMismatch,
    #[error("is for none of the verifier's algorithms")]
    NotAllowed,
    #[error("fits several of the verifier's algorithms: give it one by algorithm")]
    Ambiguous,
    #[error("has a kid that is not 1 to 256 characters of printable ASCII")]
    Kid,
    #[error("is an Ed25519 point of small order, for which anybody can sign")]
    SmallOrder,
    #[error("has numbers of a wrong length or encoding for its type")]
    Encoding,
    #[error("is an HMAC secret shorter than its hash (RFC 7518, section 3.2)")]
    ShortSecret,
    #[error("is an HMAC secret of more than 16384 bytes")]
    LongSecret,
    #[error("is an HMAC secret that holds a PEM, DER, SSH or JWK key: everybody may know it")]
    KeyAsSecret,
    #[error("is an RSA key of less than 2048 or more than 8192 bits (RFC 7518, section 3.3)")]
    RsaSize,
    #[error("is an RSA key whose exponent is even or less than 3")]
    RsaExponent,
    #[error("is an RSA key of the ROCA kind (CVE-2017-15361): its factors can be found")]
    Roca,
    #[error("is not PEM of a public key (PUBLIC KEY or RSA PUBLIC KEY)")]
    Pem,
    #[error("is a private key: verifiers need the public one only")]
    Private,
    #[error("has no point on its curve")]
    Point,
}

impl KeyProblem {
    /// Whether the key is fine for somebody else: a key set may hold such.
    #[must_use]
    pub const fn is_foreign(self) -> bool {
        matches!(
            self,
            Self::Unsupported
                | Self::Use
                | Self::Operations
                | Self::UnknownAlgorithm
                | Self::NotAllowed
        )
    }
}

/// A key that was refused, by its place in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyError {
    /// Its place.
    pub index: usize,
    /// Why.
    pub problem: KeyProblem,
}

/// The public material, by type.
enum Material {
    Secret(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Checks and prepares a key for one of `allowed`.
pub(super) fn prepare(raw: &RawKey, allowed: Algorithms) -> Result<Key, KeyProblem> {
    check_purpose(raw)?;
    let named = match &raw.alg {
        None => None,
        Some(name) => Some(Algorithm::named(name).ok_or(KeyProblem::UnknownAlgorithm)?),
    };
    let material = match &raw.pem {
        Some(pem) => from_pem(pem)?,
        None => from_jwk(raw)?,
    };
    let fits = material.algorithms();
    let mut algorithms = fits.and(allowed);
    if let Some(named) = named {
        if !fits.has(named) {
            return Err(KeyProblem::AlgorithmMismatch);
        }
        algorithms = algorithms.and(Algorithms::of(&[named]));
    }
    let Some(algorithm) = algorithms.first() else {
        return Err(KeyProblem::NotAllowed);
    };
    if !algorithms.is_one() {
        return Err(KeyProblem::Ambiguous);
    }
    if raw.kid.as_ref().is_some_and(|kid| !is_kid(kid)) {
        return Err(KeyProblem::Kid);
    }
    let kid = raw.kid.clone();
    match material {
        Material::Secret(secret) => {
            check_secret(&secret, algorithm)?;
            let hash = match algorithm {
                Algorithm::HS256 => hmac::HMAC_SHA256,
                Algorithm::HS384 => hmac::HMAC_SHA384,
                _ => hmac::HMAC_SHA512,
            };
            Ok(Key::hmac(kid, algorithms, hmac::Key::new(hash, &secret)))
        }
        Material::Rsa { n, e } => {
            check_rsa(&n, &e)?;
            let parameters = match algorithm {
                Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
                Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
                Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
                Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
                Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
                _ => &RSA_PSS_2048_8192_SHA512,
            };
            let key = RsaPublicKeyComponents { n: &n, e: &e }
                .to_parsed_public_key(parameters)
                .map_err(|_| KeyProblem::Encoding)?;
            Ok(Key::public(kid, algorithms, key))
        }
        Material::Ec(point) => {
            let parameters = match algorithm {
                Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
                Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
                _ => &ECDSA_P521_SHA512_FIXED,
            };
            let key = ParsedPublicKey::new(parameters, point).map_err(|_| KeyProblem::Point)?;
            Ok(Key::public(kid, algorithms, key))
        }
        Material::Ed25519(bytes) => {
            let key = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| KeyProblem::Point)?;
            Ok(Key::public(kid, algorithms, key))
        }
    }
}

impl Material {
    /// The algorithms that fit it: an elliptic curve has one.
    fn algorithms(&self) -> Algorithms {
        match self {
            Self::Secret(_) => Algorithms::HMAC,
            Self::Rsa { .. } => Algorithms::RSA,
            Self::Ec(point) => match point.len() {
                65 => Algorithms::of(&[Algorithm::ES256]),
                97 => Algorithms::of(&[Algorithm::ES384]),
                _ => Algorithms::of(&[Algorithm::ES512]),
            },
            Self::Ed25519(_) => Algorithms::ED25519,
        }
    }
}

/// `use` and `key_ops`, together and each by itself (RFC 7517, sections 4.2 and 4.3).
fn check_purpose(raw: &RawKey) -> Result<(), KeyProblem> {
    if let Some(operations) = &raw.key_ops {
        let repeats = operations
            .iter()
            .enumerate()
            .any(|(at, one)| operations[..at].contains(one));
        let signs = |one: &String| one == "sign" || one == "verify";
        let disagrees = match raw.r#use.as_deref() {
            Some("sig") => !operations.iter().all(signs),
            Some("enc") => operations.iter().any(signs),
            _ => false,
        };
        if repeats || disagrees {
            return Err(KeyProblem::Contradiction);
        }
    }
    if raw.r#use.as_ref().is_some_and(|purpose| purpose != "sig") {
        return Err(KeyProblem::Use);
    }
    if raw
        .key_ops
        .as_ref()
        .is_some_and(|operations| !operations.iter().any(|one| one == "verify"))
    {
        return Err(KeyProblem::Operations);
    }
    Ok(())
}

fn base64(text: Option<&String>) -> Result<Vec<u8>, KeyProblem> {
    let text = text.ok_or(KeyProblem::Malformed)?;
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| KeyProblem::Encoding)?;
    if bytes.is_empty() {
        Err(KeyProblem::Encoding)
    } else {
        Ok(bytes)
    }
}

fn from_jwk(raw: &RawKey) -> Result<Material, KeyProblem> {
    let kty = raw.kty.as_deref().ok_or(KeyProblem::Malformed)?;
    if raw.crv.is_some() && matches!(kty, "oct" | "RSA") {
        return Err(KeyProblem::AlgorithmMismatch);
    }
    match kty {
        "oct" => match raw.k.as_deref() {
            None => Err(KeyProblem::Malformed),
            Some("") => Err(KeyProblem::ShortSecret),
            Some(_) => Ok(Material::Secret(base64(raw.k.as_ref())?)),
        },
        "RSA" => Ok(Material::Rsa {
            n: base64(raw.n.as_ref())?,
            e: base64(raw.e.as_ref())?,
        }),
        "EC" => {
            let length = match raw.crv.as_deref() {
                Some("P-256") => 32,
                Some("P-384") => 48,
                Some("P-521") => 66,
                Some("Ed25519") => return Err(KeyProblem::AlgorithmMismatch),
                Some(_) => return Err(KeyProblem::Unsupported),
                None => return Err(KeyProblem::Malformed),
            };
            let (x, y) = (base64(raw.x.as_ref())?, base64(raw.y.as_ref())?);
            if x.len() != length || y.len() != length {
                return Err(KeyProblem::Encoding);
            }
            Ok(Material::Ec([&[4][..], &x, &y].concat()))
        }
        "OKP" => match raw.crv.as_deref() {
            Some("Ed25519") => ed25519(base64(raw.x.as_ref())?),
            Some("P-256" | "P-384" | "P-521") => Err(KeyProblem::AlgorithmMismatch),
            Some(_) => Err(KeyProblem::Unsupported),
            None => Err(KeyProblem::Malformed),
        },
        _ => Err(KeyProblem::Unsupported),
    }
}

fn from_pem(pem: &str) -> Result<Material, KeyProblem> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyProblem::Private);
    }
    if pem.contains("-----BEGIN CERTIFICATE") {
        return Err(KeyProblem::Pem);
    }
    let bytes = |key: &DecodingKey| {
        key.try_get_as_bytes()
            .map(<[u8]>::to_vec)
            .map_err(|_| KeyProblem::Pem)
    };
    if let Ok(key) = DecodingKey::from_rsa_pem(pem.as_bytes()) {
        let key = RsaSubjectPublicKey::from_der(&bytes(&key)?).map_err(|_| KeyProblem::Pem)?;
        let (n, e) = (key.modulus(), key.exponent());
        return Ok(Material::Rsa {
            n: n.big_endian_without_leading_zero().to_vec(),
            e: e.big_endian_without_leading_zero().to_vec(),
        });
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem.as_bytes()) {
        let point = bytes(&key)?;
        return if matches!(point.len(), 65 | 97 | 133) {
            Ok(Material::Ec(point))
        } else {
            Err(KeyProblem::Unsupported)
        };
    }
    if let Ok(key) = DecodingKey::from_ed_pem(pem.as_bytes()) {
        return ed25519(bytes(&key)?);
    }
    Err(KeyProblem::Pem)
}

fn check_secret(secret: &[u8], algorithm: Algorithm) -> Result<(), KeyProblem> {
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

/// Whether a secret is the text or the bytes of a key that others have: PEM wherever it begins,
/// the base64 within it, DER, an SSH key, a JWK or a set of them.
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

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyProblem> {
    let (Some(first), Some(last)) = (n.first(), n.last()) else {
        return Err(KeyProblem::Encoding);
    };
    // RFC 7518, section 6.3.1: the least number of octets.
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

/// Whether a modulus has the mark of the keys of CVE-2017-15361: modulo each of these primes it is
/// a power of 65537 (Nemec and others, "The Return of Coppersmith's Attack", section 2.3). One
/// good modulus in 2^27 has it by chance.
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

/// The y of all points whose order divides 8, in each of its encodings, without the sign of x. Under
/// such a key a signature holds for (nearly) every message (Chalkias and others, "Taming the many EdDSAs").
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

fn ed25519(point: Vec<u8>) -> Result<Material, KeyProblem> {
    let Ok(mut y) = <[u8; 32]>::try_from(point.as_slice()) else {
        return Err(KeyProblem::Encoding);
    };
    y[31] &= 0x7f;
    if SMALL_ORDER.contains(&y) {
        return Err(KeyProblem::SmallOrder);
    }
    Ok(Material::Ed25519(point))
}

#[cfg(test)]
mod tests {
    use super::{KeyProblem, RawKey, SMALL_ORDER, ed25519, is_roca, prepare};
    use crate::tokens::algorithm::{Algorithm, Algorithms};

    const P256: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const SECRET: &str = r#""kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow""#;
    const ALL: &[Algorithm] = &[
        Algorithm::HS256,
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    fn problem(json: &str, algorithms: &[Algorithm]) -> Option<KeyProblem> {
        let raw: RawKey = serde_json::from_str(&format!("{{{json}}}")).unwrap();
        prepare(&raw, Algorithms::of(algorithms)).err()
    }

    #[test]
    fn what_a_jwk_says_of_itself_has_to_agree() {
        let wrong = |members: &str, expected| {
            assert_eq!(
                problem(&format!("{P256},{members}"), ALL),
                Some(expected),
                "{members}"
            )
        };
        assert_eq!(problem(P256, ALL), None);
        for good in [
            r#""alg":"ES256""#,
            r#""use":"sig""#,
            r#""key_ops":["verify"]"#,
            r#""key_ops":["sign","verify"],"use":"sig""#,
            r#""kid":"a b""#,
        ] {
            assert_eq!(problem(&format!("{P256},{good}"), ALL), None, "{good}");
        }
        wrong(r#""alg":"ES384""#, KeyProblem::AlgorithmMismatch);
        wrong(r#""alg":"HS256""#, KeyProblem::AlgorithmMismatch);
        wrong(r#""alg":"ECDH-ES""#, KeyProblem::UnknownAlgorithm);
        wrong(r#""use":"enc""#, KeyProblem::Use);
        wrong(r#""key_ops":["sign"]"#, KeyProblem::Operations);
        wrong(r#""key_ops":[]"#, KeyProblem::Operations);
        wrong(
            r#""key_ops":["verify","verify"]"#,
            KeyProblem::Contradiction,
        );
        wrong(
            r#""key_ops":["verify","deriveKey"],"use":"sig""#,
            KeyProblem::Contradiction,
        );
        wrong(
            r#""key_ops":["verify"],"use":"enc""#,
            KeyProblem::Contradiction,
        );
        wrong(r#""kid":"""#, KeyProblem::Kid);
        wrong(r#""kid":"\u00e9""#, KeyProblem::Kid);
        assert_eq!(
            problem(P256, &[Algorithm::RS256]),
            Some(KeyProblem::NotAllowed)
        );
        assert_eq!(
            problem(&format!("{SECRET},\"crv\":\"P-256\""), ALL),
            Some(KeyProblem::AlgorithmMismatch)
        );
        assert_eq!(
            problem(SECRET, &[Algorithm::HS256, Algorithm::HS512]),
            Some(KeyProblem::Ambiguous)
        );
        assert_eq!(
            problem(
                &format!("{SECRET},\"alg\":\"HS512\""),
                &[Algorithm::HS256, Algorithm::HS512]
            ),
            None
        );
    }

    #[test]
    fn points_of_small_order_are_no_keys_whatever_their_sign() {
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = y.to_vec();
                point[31] |= sign;
                assert_eq!(ed25519(point).err(), Some(KeyProblem::SmallOrder));
            }
        }
        assert_eq!(ed25519(vec![2; 32]).err(), None);
        assert_eq!(ed25519(vec![0; 31]).err(), Some(KeyProblem::Encoding));
    }

    #[test]
    fn numbers_have_their_length() {
        for (json, expected) in [
            (
                r#""kty":"EC","crv":"P-256","x":"AA","y":"AA""#,
                KeyProblem::Encoding,
            ),
            (
                r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU""#,
                KeyProblem::Point,
            ),
            (
                r#""kty":"OKP","crv":"Ed25519","x":"AA""#,
                KeyProblem::Encoding,
            ),
            (
                r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=""#,
                KeyProblem::Encoding,
            ),
            (
                r#""kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#,
                KeyProblem::Unsupported,
            ),
            (
                r#""kty":"EC","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#,
                KeyProblem::AlgorithmMismatch,
            ),
            (r#""kty":"RSA","n":"AQAB","e":"AQAB""#, KeyProblem::RsaSize),
            (r#""kty":"RSA","n":"AQAB""#, KeyProblem::Malformed),
            (r#""kty":"oct","k":"""#, KeyProblem::ShortSecret),
            (r#""kty":"oct","k":"AA""#, KeyProblem::ShortSecret),
            (r#""kty":"oct""#, KeyProblem::Malformed),
            (r#""kty":"AKP""#, KeyProblem::Unsupported),
            (r#""crv":"P-256""#, KeyProblem::Malformed),
        ] {
            assert_eq!(problem(json, ALL), Some(expected), "{json}");
        }
        let n = |bytes: &[u8]| {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
        };
        let rsa = |n_bytes: &[u8], e: &[u8]| {
            problem(
                &format!(r#""kty":"RSA","n":"{}","e":"{}""#, n(n_bytes), n(e)),
                ALL,
            )
        };
        let mut modulus = [0xffu8; 256];
        assert_eq!(rsa(&modulus, &[1, 0, 1]), None);
        assert_eq!(rsa(&modulus, &[1]), Some(KeyProblem::RsaExponent));
        assert_eq!(rsa(&modulus, &[2]), Some(KeyProblem::RsaExponent));
        assert_eq!(
            rsa(&[&[0], &modulus[..]].concat(), &[1, 0, 1]),
            Some(KeyProblem::Encoding)
        );
        assert_eq!(rsa(&[0xff; 1025], &[1, 0, 1]), Some(KeyProblem::RsaSize));
        modulus[0] = 0x7f;
        assert_eq!(
            rsa(&modulus, &[1, 0, 1]),
            Some(KeyProblem::RsaSize),
            "2047 bits"
        );
    }

    #[test]
    fn roca_moduli_are_known_by_their_mark() {
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
