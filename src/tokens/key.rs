//! One key that is ready to verify signatures.
//!
//! Owns the prepared key material. Does not own reading and checking it (`jwk`) or selecting it for
//! a token (`key_set`). Invariant: all algorithms of a key are of one key type.

use super::algorithm::{Algorithm, Algorithms};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;

enum Prepared {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// A key that is ready to verify with its algorithms: one, or several of RSA.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithms: Algorithms,
    /// True if the key was written in a form that its RFC does not allow.
    pub(super) is_lenient: bool,
    prepared: Vec<(Algorithms, Prepared)>,
}

impl Key {
    pub(super) fn hmac(algorithm: Algorithm, key: hmac::Key) -> Self {
        let algorithms = Algorithms::of(&[algorithm]);
        Self::of(
            algorithms,
            vec![(algorithms, Prepared::Hmac(Box::new(key)))],
        )
    }

    /// Creates a key from its form for each of its algorithms.
    pub(super) fn public(forms: Vec<(Algorithm, ParsedPublicKey)>) -> Self {
        let list: Vec<_> = forms.iter().map(|(algorithm, _)| *algorithm).collect();
        let prepared = forms
            .into_iter()
            .map(|(algorithm, key)| (Algorithms::of(&[algorithm]), Prepared::Public(key)));
        Self::of(Algorithms::of(&list), prepared.collect())
    }

    const fn of(algorithms: Algorithms, prepared: Vec<(Algorithms, Prepared)>) -> Self {
        Self {
            kid: None,
            algorithms,
            is_lenient: false,
            prepared,
        }
    }

    /// True if `signature` is a signature of `message` by this key with `algorithm`, which must be
    /// one of the key's. HMAC tags are compared in constant time.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let form = self.prepared.iter().find(|(fits, _)| fits.has(algorithm));
        match form {
            Some((_, Prepared::Hmac(key))) => hmac::verify(key, message, signature).is_ok(),
            Some((_, Prepared::Public(key))) => key.verify_sig(message, signature).is_ok(),
            None => false,
        }
    }
}
