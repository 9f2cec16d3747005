//! Reasons why a key cannot be used. Invariant: no text of the key is part of an error.

/// Why a key cannot be used. Contains no text of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each has its sentence")]
pub enum KeyProblem {
    #[error("is not a key: a JWK needs a kty, and the members of its kty")]
    Malformed,
    #[error(
        "is of an unsupported type: kty must be oct, RSA, EC (P-256, P-384, P-521, secp256k1) or OKP (Ed25519)"
    )]
    Unsupported,
    #[error("is not for signatures: use must be sig")]
    Use,
    #[error("is not for verifying: key_ops must name verify")]
    Operations,
    #[error("contradicts itself: use and key_ops disagree, or key_ops repeats a name")]
    Contradiction,
    #[error("has an alg that is not supported")]
    UnknownAlgorithm,
    #[error("does not fit its alg: kty and crv must be those of the algorithm")]
    AlgorithmMismatch,
    #[error("is for none of the verifier's algorithms")]
    NotAllowed,
    #[error("is an HMAC secret that fits several of the verifier's algorithms: set its algorithm")]
    Ambiguous,
    #[error("has a kid that is not 1 to 256 characters of printable ASCII")]
    Kid,
    #[error("has the kid of four keys before it")]
    CrowdedKid,
    #[error("is an Ed25519 point of small order, for which anyone can sign")]
    SmallOrder,
    #[error("has a member of the wrong length or encoding for its type")]
    Encoding,
    #[error("is an HMAC secret shorter than its hash (RFC 7518, section 3.2)")]
    ShortSecret,
    #[error("is an HMAC secret of more than 16384 bytes")]
    LongSecret,
    #[error("is an HMAC secret that contains a PEM, DER, SSH or JWK key, which may be public")]
    KeyAsSecret,
    #[error("is an RSA key of less than 2048 or more than 8192 bits (RFC 7518, section 3.3)")]
    RsaSize,
    #[error("is an RSA key whose exponent is even or less than 3")]
    RsaExponent,
    #[error("is an RSA key of the ROCA kind (CVE-2017-15361): its factors can be found")]
    Roca,
    #[error("is not PEM of one public key (PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE)")]
    Pem,
    #[error("has an x5c whose first certificate cannot be read")]
    Certificate,
    #[error("is a private key: pass the public key")]
    Private,
    #[error("is not a point on its curve")]
    Point,
}

/// A refused key, by its place in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyError {
    /// Index in the set.
    pub index: usize,
    /// The reason.
    pub problem: KeyProblem,
}
