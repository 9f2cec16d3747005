//! One key that is ready to verify signatures.
//!
//! Owns the prepared key material. Does not own reading and checking it (`jwk`) or selecting it for
//! a token (`key_set`). Invariant: a key verifies with one algorithm only.

use super::algorithm::Algorithms;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;

enum Prepared {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// A key that is ready to verify with its one algorithm.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithms: Algorithms,
    prepared: Prepared,
}

impl Key {
    pub(super) fn hmac(kid: Option<String>, algorithms: Algorithms, key: hmac::Key) -> Self {
        Self {
            kid,
            algorithms,
            prepared: Prepared::Hmac(Box::new(key)),
        }
    }

    pub(super) fn public(
        kid: Option<String>,
        algorithms: Algorithms,
        key: ParsedPublicKey,
    ) -> Self {
        Self {
            kid,
            algorithms,
            prepared: Prepared::Public(key),
        }
    }

    /// True if `signature` is a signature of `message` by this key. HMAC tags are compared in
    /// constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.prepared {
            Prepared::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Prepared::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}
