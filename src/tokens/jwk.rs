//! Reads one key, from a JWK (RFC 7517, 8037) or from PEM, and prepares it.
//!
//! Owns the formats, and the checks that the members agree. Does not own the checks for weak keys
//! (`weak_keys`).

use super::algorithm::{Algorithm, Algorithms};
use super::header::is_kid;
use super::jwk_encoding::{Encoding, Reader, exact};
use super::key::Key;
use super::key_problem::KeyProblem;
use super::spki;
use super::weak_keys::{check_ed25519, check_rsa, check_secret};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    RsaSubjectPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

/// A key in its input form: a JWK, or PEM with the members of a JWK that state its purpose. A
/// repeated member is an error; private members are ignored.
#[derive(Deserialize, Default)]
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
    /// Of any type: keys whose other members suffice do not need it.
    x5c: Option<serde_json::Value>,
    pem: Option<String>,
}

/// The public material, by type.
enum Material {
    Secret(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
        /// RSA, or the algorithms that the key is restricted to.
        fits: Algorithms,
    },
    /// A point on the curve of an algorithm.
    Ec(Algorithm, Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Checks a key and prepares it for those of `allowed` that fit it.
pub(super) fn prepare(
    raw: &RawKey,
    allowed: Algorithms,
    encoding: Encoding,
) -> Result<Key, KeyProblem> {
    check_purpose(raw)?;
    let named = match &raw.alg {
        None => None,
        Some(name) => Some(Algorithm::named(name).ok_or(KeyProblem::UnknownAlgorithm)?),
    };
    let mut reader = Reader::new(encoding);
    let material = match &raw.pem {
        Some(pem) => from_pem(pem)?,
        None => from_jwk(raw, &mut reader)?,
    };
    let algorithms = material.select(named, allowed)?;
    if raw.kid.as_ref().is_some_and(|kid| !is_kid(kid)) {
        return Err(KeyProblem::Kid);
    }
    let mut key = material.key(algorithms)?;
    key.kid.clone_from(&raw.kid);
    key.is_lenient = reader.is_lenient;
    Ok(key)
}

impl RawKey {
    /// Creates a key from PEM, as a map of certificates has it.
    pub(super) fn of_pem(kid: String, pem: String) -> Self {
        Self {
            kid: Some(kid),
            pem: Some(pem),
            ..Self::default()
        }
    }
}

impl Material {
    /// Returns the algorithms that fit the material.
    fn algorithms(&self) -> Algorithms {
        match self {
            Self::Secret(_) => Algorithms::HMAC,
            Self::Rsa { fits, .. } => *fits,
            Self::Ec(algorithm, _) => Algorithms::of(&[*algorithm]),
            Self::Ed25519(_) => Algorithms::ED25519,
        }
    }

    /// Selects the algorithms of the key: the one that it names, else all of its type. They never
    /// cross types. An HMAC secret has one, since its least length depends on it.
    fn select(
        &self,
        named: Option<Algorithm>,
        allowed: Algorithms,
    ) -> Result<Algorithms, KeyProblem> {
        let fits = self.algorithms();
        let mut algorithms = fits.and(allowed);
        if let Some(named) = named {
            if !fits.has(named) {
                return Err(KeyProblem::AlgorithmMismatch);
            }
            algorithms = algorithms.and(Algorithms::of(&[named]));
        }
        if algorithms.is_empty() {
            return Err(KeyProblem::NotAllowed);
        }
        if matches!(self, Self::Secret(_)) && !algorithms.is_one() {
            return Err(KeyProblem::Ambiguous);
        }
        Ok(algorithms)
    }

    /// Checks the material and prepares it.
    fn key(self, algorithms: Algorithms) -> Result<Key, KeyProblem> {
        let first = algorithms.first().ok_or(KeyProblem::NotAllowed)?;
        match self {
            Self::Secret(secret) => {
                check_secret(&secret, first)?;
                let hash = match first {
                    Algorithm::HS256 => hmac::HMAC_SHA256,
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                Ok(Key::hmac(first, hmac::Key::new(hash, &secret)))
            }
            Self::Rsa { n, e, .. } => {
                check_rsa(&n, &e)?;
                let form = |algorithm| {
                    RsaPublicKeyComponents { n: &n, e: &e }
                        .to_parsed_public_key(rsa_parameters(algorithm))
                        .map(|key| (algorithm, key))
                        .map_err(|_| KeyProblem::Encoding)
                };
                let forms: Result<Vec<_>, _> = algorithms.iter().map(form).collect();
                Ok(Key::public(forms?))
            }
            Self::Ec(algorithm, point) => {
                let parameters = match algorithm {
                    Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
                    Algorithm::ES256K => &ECDSA_P256K1_SHA256_FIXED,
                    _ => &ECDSA_P521_SHA512_FIXED,
                };
                let key = ParsedPublicKey::new(parameters, point).map_err(|_| KeyProblem::Point)?;
                Ok(Key::public(vec![(algorithm, key)]))
            }
            Self::Ed25519(bytes) => {
                let key = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| KeyProblem::Point)?;
                Ok(Key::public(vec![(Algorithm::EdDSA, key)]))
            }
        }
    }
}

const fn rsa_parameters(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        _ => &RSA_PSS_2048_8192_SHA512,
    }
}

/// Checks `use` and `key_ops`, together and each by itself (RFC 7517, sections 4.2 and 4.3).
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

/// Returns the length of a coordinate on a curve, and the algorithm of the curve.
fn curve(name: &str) -> Option<(usize, Algorithm)> {
    match name {
        "P-256" => Some((32, Algorithm::ES256)),
        "P-384" => Some((48, Algorithm::ES384)),
        "P-521" => Some((66, Algorithm::ES512)),
        "secp256k1" => Some((32, Algorithm::ES256K)),
        _ => None,
    }
}

fn from_jwk(raw: &RawKey, reader: &mut Reader) -> Result<Material, KeyProblem> {
    let kty = raw.kty.as_deref().ok_or(KeyProblem::Malformed)?;
    if raw.crv.is_some() && matches!(kty, "oct" | "RSA") {
        return Err(KeyProblem::AlgorithmMismatch);
    }
    if let Some(material) = from_certificates(raw, kty)? {
        return Ok(material);
    }
    match kty {
        "oct" => match raw.k.as_deref() {
            None => Err(KeyProblem::Malformed),
            Some("") => Err(KeyProblem::ShortSecret),
            Some(_) => Ok(Material::Secret(exact(raw.k.as_ref())?)),
        },
        "RSA" => Ok(Material::Rsa {
            n: reader.number(raw.n.as_ref())?,
            e: reader.number(raw.e.as_ref())?,
            fits: Algorithms::RSA,
        }),
        "EC" => {
            let (length, algorithm) = match raw.crv.as_deref() {
                Some("Ed25519") => return Err(KeyProblem::AlgorithmMismatch),
                Some(name) => curve(name).ok_or(KeyProblem::Unsupported)?,
                None => return Err(KeyProblem::Malformed),
            };
            let x = reader.coordinate(raw.x.as_ref(), length)?;
            let y = reader.coordinate(raw.y.as_ref(), length)?;
            Ok(Material::Ec(algorithm, [&[4][..], &x, &y].concat()))
        }
        "OKP" => match raw.crv.as_deref() {
            Some("Ed25519") => ed25519(reader.bytes(raw.x.as_ref())?),
            Some(name) if curve(name).is_some() => Err(KeyProblem::AlgorithmMismatch),
            Some(_) => Err(KeyProblem::Unsupported),
            None => Err(KeyProblem::Malformed),
        },
        _ => Err(KeyProblem::Unsupported),
    }
}

/// Returns the key of the first certificate in `x5c` (RFC 7517, section 4.7) of a JWK that has no
/// members of a key itself. Names, dates and the chain are not checked: the set is trusted.
fn from_certificates(raw: &RawKey, kty: &str) -> Result<Option<Material>, KeyProblem> {
    let has_members = raw.n.is_some() || raw.e.is_some() || raw.x.is_some() || raw.k.is_some();
    let (Some(x5c), false) = (&raw.x5c, has_members) else {
        return Ok(None);
    };
    let first = x5c.get(0).and_then(serde_json::Value::as_str);
    let der = first.and_then(|text| STANDARD.decode(text).ok());
    let spki = der.as_deref().and_then(spki::of_certificate);
    let material = from_spki(spki.ok_or(KeyProblem::Certificate)?)?;
    let fits = match &material {
        Material::Rsa { .. } => kty == "RSA",
        Material::Ec(..) => kty == "EC",
        Material::Ed25519(_) => kty == "OKP",
        Material::Secret(_) => false,
    };
    if fits {
        Ok(Some(material))
    } else {
        Err(KeyProblem::AlgorithmMismatch)
    }
}

fn ed25519(point: Vec<u8>) -> Result<Material, KeyProblem> {
    check_ed25519(&point)?;
    Ok(Material::Ed25519(point))
}

fn from_pem(pem: &str) -> Result<Material, KeyProblem> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyProblem::Private);
    }
    if let Some(der) = spki::pem_block(pem, "CERTIFICATE") {
        return from_spki(spki::of_certificate(&der).ok_or(KeyProblem::Pem)?);
    }
    if pem.contains("-----BEGIN CERTIFICATE") {
        return Err(KeyProblem::Pem);
    }
    if let Some(der) = spki::pem_block(pem, "PUBLIC KEY")
        && let Some(material) = from_special_spki(&der)?
    {
        return Ok(material);
    }
    from_plain_pem(pem)
}

/// Reads the DER of a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
fn from_spki(der: &[u8]) -> Result<Material, KeyProblem> {
    match from_special_spki(der)? {
        Some(material) => Ok(material),
        None => from_plain_pem(&spki::pem("PUBLIC KEY", der)),
    }
}

/// Reads the keys that the crate does not know: RSASSA-PSS (RFC 4055) and secp256k1.
fn from_special_spki(der: &[u8]) -> Result<Option<Material>, KeyProblem> {
    match spki::special(der) {
        spki::Special::Other => Ok(None),
        spki::Special::Secp256k1(point) if point.len() == 65 => {
            Ok(Some(Material::Ec(Algorithm::ES256K, point.to_vec())))
        }
        spki::Special::Pss(key, hash) => {
            let fits = match hash {
                spki::PssHash::Any => Algorithms::PSS,
                spki::PssHash::Only(algorithm) => Algorithms::of(&[algorithm]),
            };
            match from_plain_pem(&spki::pem("RSA PUBLIC KEY", key))? {
                Material::Rsa { n, e, .. } => Ok(Some(Material::Rsa { n, e, fits })),
                _ => Err(KeyProblem::Pem),
            }
        }
        _ => Err(KeyProblem::Unsupported),
    }
}

fn from_plain_pem(pem: &str) -> Result<Material, KeyProblem> {
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
            fits: Algorithms::RSA,
        });
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem.as_bytes()) {
        let point = bytes(&key)?;
        // A point of another curve with coordinates of this length is refused as no point.
        let algorithm = match point.len() {
            65 => Algorithm::ES256,
            97 => Algorithm::ES384,
            133 => Algorithm::ES512,
            _ => return Err(KeyProblem::Unsupported),
        };
        return Ok(Material::Ec(algorithm, point));
    }
    if let Ok(key) = DecodingKey::from_ed_pem(pem.as_bytes()) {
        return ed25519(bytes(&key)?);
    }
    Err(KeyProblem::Pem)
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Algorithms, Encoding, KeyProblem, RawKey, prepare};

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
        prepare(&raw, Algorithms::of(algorithms), Encoding::Canonical).err()
    }

    #[test]
    fn members_of_a_jwk_must_agree() {
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
    fn key_material_must_have_the_right_length() {
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
}
