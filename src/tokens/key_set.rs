//! A set of prepared keys, and the selection of keys for a token.
//!
//! Owns the rules for `kid`. Does not own fetching or caching of key sets. Invariant: no two usable
//! keys of a set have the same `kid`.

use super::algorithm::{Algorithm, Algorithms};
use super::jwk::{RawKey, prepare};
use super::key::Key;
use super::key_problem::{KeyError, KeyProblem};
use crate::validators::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Limits of a set: keys, and length of its text.
const KEYS_MAX: usize = 100;
const TEXT_MAX_BYTES: usize = 1 << 20;
/// Keys that are tried for a token without a `kid`.
pub(super) const TRIES_MAX: usize = 4;

/// A set of keys, indexed by `kid`.
pub struct KeySet {
    /// Unique in the process.
    pub(super) id: u64,
    keys: Vec<Key>,
    by_kid: HashMap<String, u8>,
}

/// A set loaded from a text.
pub struct Loaded {
    /// The usable keys.
    pub set: KeySet,
    /// Keys that were left out.
    pub skipped: Vec<KeyError>,
}

/// Why a text is not a usable set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetProblem {
    /// Not `{"keys": […]}`, or a key repeats a member.
    #[error("is not a JWK set: an object with an array of keys")]
    Malformed,
    /// Too large, or too many keys.
    #[error("is too large: at most 100 keys and 1 MiB")]
    TooLarge,
    /// Two usable keys have the same id.
    #[error("has two keys of the same kid")]
    DuplicateKid,
    /// No key in it can be used.
    #[error("has no key that the verifier can use")]
    Empty,
    /// A key cannot be used and may not be left out.
    #[error("has a key that cannot be used")]
    Key(KeyError),
}

/// Which keys may be left out of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// None: each key was given on purpose.
    Nothing,
    /// Keys for another purpose.
    Foreign,
    /// Every key that cannot be used: one bad key of an issuer must not lock out all users.
    Unusable,
}

impl Tolerance {
    const fn allows(self, problem: KeyProblem) -> bool {
        match self {
            Self::Nothing => false,
            Self::Foreign => problem.is_foreign(),
            Self::Unusable => true,
        }
    }
}

#[derive(Deserialize)]
struct RawSet<'a> {
    // Parsed one by one: an error in one key must not affect the others.
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Creates an empty set.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Vec::new(), HashMap::new())
    }

    fn of(keys: Vec<Key>, by_kid: HashMap<String, u8>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: the number only has to be unique.
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            keys,
            by_kid,
        }
    }

    /// Reads a JWK set, whose keys may also be `{"pem": …}`.
    pub fn load(
        text: &str,
        allowed: Algorithms,
        tolerance: Tolerance,
    ) -> Result<Loaded, SetProblem> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(SetProblem::TooLarge);
        }
        let raw: RawSet<'_> = serde_json::from_str(text).map_err(|_| SetProblem::Malformed)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(SetProblem::TooLarge);
        }
        let (mut keys, mut by_kid, mut skipped) = (Vec::new(), HashMap::new(), Vec::new());
        for (index, raw) in raw.keys.into_iter().enumerate() {
            let prepared = serde_json::from_str::<RawKey>(raw.get())
                .map_err(|_| KeyProblem::Malformed)
                .and_then(|raw| prepare(&raw, allowed));
            match prepared {
                Ok(key) => {
                    let place = keys.len() as u8;
                    if let Some(kid) = &key.kid
                        && by_kid.insert(kid.clone(), place).is_some()
                    {
                        return Err(SetProblem::DuplicateKid);
                    }
                    keys.push(key);
                }
                Err(problem) => {
                    let error = KeyError { index, problem };
                    if !tolerance.allows(problem) {
                        return Err(SetProblem::Key(error));
                    }
                    skipped.push(error);
                }
            }
        }
        if keys.is_empty() {
            return Err(SetProblem::Empty);
        }
        Ok(Loaded {
            set: Self::of(keys, by_kid),
            skipped,
        })
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the keys that may have signed a token with this header.
    ///
    /// A `kid` selects the key with that id, or else the keys without an id. Without a `kid`, every
    /// key of the algorithm is a candidate, up to [`TRIES_MAX`].
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<Candidates, Failure> {
        if self.keys.is_empty() {
            return Err(Failure::TokenKeysUnavailable);
        }
        let mut candidates = Candidates::default();
        if let Some(kid) = kid
            && let Some(&place) = self.by_kid.get(kid)
        {
            return if self.keys[place as usize].algorithms.has(algorithm) {
                candidates.add(place)?;
                Ok(candidates)
            } else {
                Err(Failure::TokenAlgorithm)
            };
        }
        for (place, key) in self.keys.iter().enumerate() {
            if key.algorithms.has(algorithm) && (kid.is_none() || key.kid.is_none()) {
                candidates.add(place as u8)?;
            }
        }
        if candidates.count > 0 {
            Ok(candidates)
        } else if kid.is_some() && !self.by_kid.is_empty() {
            Err(Failure::TokenKeyUnknown)
        } else {
            Err(Failure::TokenAlgorithm)
        }
    }

    pub(super) fn verifies(
        &self,
        candidates: Candidates,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        candidates.places[..candidates.count]
            .iter()
            .any(|&place| self.keys[place as usize].verifies(message, signature))
    }
}

/// Indexes of keys in their set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Candidates {
    places: [u8; TRIES_MAX],
    count: usize,
}

impl Candidates {
    fn add(&mut self, place: u8) -> Result<(), Failure> {
        let free = self
            .places
            .get_mut(self.count)
            .ok_or(Failure::TokenKeyAmbiguous)?;
        *free = place;
        self.count += 1;
        Ok(())
    }
}
