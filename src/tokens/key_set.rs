//! A set of prepared keys, and the selection of keys for a token.
//!
//! Owns the rules for `kid`. Does not own fetching or caching of key sets. Invariant: at most
//! [`TRIES_MAX`] keys are tried for a token.

use super::algorithm::{Algorithm, Algorithms};
use super::jwk::{RawKey, prepare};
use super::jwk_encoding::Encoding;
use super::key::Key;
use super::key_problem::{KeyError, KeyProblem};
use crate::validators::Failure;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Greatest number of keys that a caller may ask for, and length of a set's text.
pub const KEYS_MAX: usize = 1000;
const TEXT_MAX_BYTES: usize = 1 << 20;
/// Keys that are tried for a token, and keys that may share a `kid`.
pub(super) const TRIES_MAX: usize = 4;
/// Skipped keys that an error names.
const NAMED_MAX: usize = 8;

/// A set of keys, indexed by `kid`.
pub struct KeySet {
    /// Unique in the process.
    pub(super) id: u64,
    keys: Vec<Key>,
    by_kid: HashMap<String, Vec<u16>>,
    /// True if a later version of the set may have further keys.
    is_fetched: bool,
}

/// A set loaded from a text.
pub struct Loaded {
    /// The usable keys.
    pub set: KeySet,
    /// Keys that were left out.
    pub skipped: Vec<KeyError>,
    /// Number of keys in a form that their RFC does not allow.
    pub lenient: usize,
}

/// Why a text is not a usable set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetProblem {
    /// Neither `{"keys": […]}` nor a map of certificates, or a key repeats a member.
    #[error("is not a JWK set: an object with an array of keys")]
    Malformed,
    /// Too large, or too many keys.
    #[error("is too large: at most {0} keys and 1 MiB")]
    TooLarge(usize),
    /// No key in it can be used.
    #[error("has no key that the verifier can use{}", list(.0))]
    Empty(Vec<KeyError>),
    /// A key cannot be used and may not be left out.
    #[error("has a key that cannot be used")]
    Key(KeyError),
}

/// Returns the reasons for which keys were skipped.
fn list(skipped: &[KeyError]) -> String {
    let mut text = String::new();
    for error in skipped.iter().take(NAMED_MAX) {
        let start = if text.is_empty() { ": " } else { "; " };
        text.push_str(&format!("{start}key {} {}", error.index, error.problem));
    }
    if skipped.len() > NAMED_MAX {
        text.push_str(&format!("; and {} more", skipped.len() - NAMED_MAX));
    }
    text
}

/// Where keys come from. It decides whether keys may be left out, and in which forms they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// The application, which has chosen each key: a bad one is its mistake, and none is left out.
    Chosen,
    /// An issuer, whose set the application has at hand: one bad key must not lock out all users, so
    /// every key that cannot be used is left out.
    Published,
    /// An issuer, whose set is fetched: as `Published`, and a later version may have further keys.
    Fetched,
}

impl KeySource {
    const fn encoding(self) -> Encoding {
        match self {
            Self::Chosen => Encoding::Canonical,
            Self::Published | Self::Fetched => Encoding::Published,
        }
    }
}

#[derive(Deserialize)]
struct RawSet<'a> {
    // Parsed one by one: an error in one key must not affect the others.
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// A map from key ids to certificates in PEM, as Google publishes them. Repeated ids stay apart.
struct Certificates(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Certificates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Certificates;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of strings")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Certificates, M::Error> {
                let mut list = Vec::new();
                while let Some(member) = map.next_entry()? {
                    list.push(member);
                }
                Ok(Certificates(list))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Returns the keys of a JWK set or of a map of certificates; `None` for one that cannot be read.
fn raw_keys(text: &str) -> Result<Vec<Option<RawKey>>, SetProblem> {
    if let Ok(set) = serde_json::from_str::<RawSet<'_>>(text) {
        let keys = set.keys.into_iter();
        return Ok(keys
            .map(|raw| serde_json::from_str(raw.get()).ok())
            .collect());
    }
    match serde_json::from_str::<Certificates>(text) {
        Ok(Certificates(list))
            if list
                .iter()
                .all(|(kid, pem)| kid != "keys" && pem.contains("-----BEGIN CERTIFICATE")) =>
        {
            let keys = list.into_iter();
            Ok(keys
                .map(|(kid, pem)| Some(RawKey::of_pem(kid, pem)))
                .collect())
        }
        _ => Err(SetProblem::Malformed),
    }
}

impl KeySet {
    /// Creates an empty set.
    #[must_use]
    pub fn empty() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: the number only has to be unique.
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            keys: Vec::new(),
            by_kid: HashMap::new(),
            is_fetched: false,
        }
    }

    /// Reads a JWK set of at most `max_keys`, whose keys may also be `{"pem": …}`.
    pub fn load(
        text: &str,
        allowed: Algorithms,
        source: KeySource,
        max_keys: usize,
    ) -> Result<Loaded, SetProblem> {
        let max_keys = max_keys.min(KEYS_MAX);
        if text.len() > TEXT_MAX_BYTES {
            return Err(SetProblem::TooLarge(max_keys));
        }
        let raw = raw_keys(text)?;
        if raw.len() > max_keys {
            return Err(SetProblem::TooLarge(max_keys));
        }
        let mut set = Self::empty();
        set.is_fetched = source == KeySource::Fetched;
        let (mut skipped, mut lenient) = (Vec::new(), 0);
        for (index, raw) in raw.into_iter().enumerate() {
            let added = raw
                .ok_or(KeyProblem::Malformed)
                .and_then(|raw| prepare(&raw, allowed, source.encoding()))
                .and_then(|key| set.add(key));
            match added {
                Ok(is_lenient) => lenient += usize::from(is_lenient),
                Err(problem) => {
                    let error = KeyError { index, problem };
                    if source == KeySource::Chosen {
                        return Err(SetProblem::Key(error));
                    }
                    skipped.push(error);
                }
            }
        }
        if set.keys.is_empty() {
            return Err(SetProblem::Empty(skipped));
        }
        Ok(Loaded {
            set,
            skipped,
            lenient,
        })
    }

    /// Adds a key; returns whether it was read leniently.
    fn add(&mut self, key: Key) -> Result<bool, KeyProblem> {
        if let Some(kid) = &key.kid {
            let places = self.by_kid.entry(kid.clone()).or_default();
            if places.len() == TRIES_MAX {
                return Err(KeyProblem::CrowdedKid);
            }
            places.push(self.keys.len() as u16);
        }
        let is_lenient = key.is_lenient;
        self.keys.push(key);
        Ok(is_lenient)
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
    /// A `kid` selects the keys with that id that fit the algorithm, or else the keys without an
    /// id. Without a `kid`, every key of the algorithm is a candidate. At most [`TRIES_MAX`] are
    /// tried.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<Candidates, Failure> {
        if self.keys.is_empty() {
            return Err(Failure::TokenKeysUnavailable);
        }
        let mut candidates = Candidates {
            places: [0; TRIES_MAX],
            count: 0,
            algorithm,
            is_of_unknown_kid: false,
        };
        if let Some(kid) = kid
            && let Some(places) = self.by_kid.get(kid)
        {
            for &place in places {
                if self.keys[usize::from(place)].algorithms.has(algorithm) {
                    candidates.add(place)?;
                }
            }
            return if candidates.count > 0 {
                Ok(candidates)
            } else {
                Err(Failure::TokenAlgorithm)
            };
        }
        candidates.is_of_unknown_kid = kid.is_some();
        for (place, key) in self.keys.iter().enumerate() {
            if key.algorithms.has(algorithm) && (kid.is_none() || key.kid.is_none()) {
                candidates.add(place as u16)?;
            }
        }
        if candidates.count > 0 {
            Ok(candidates)
        } else if kid.is_some() && (self.is_fetched || !self.by_kid.is_empty()) {
            Err(Failure::TokenKeyUnknown)
        } else {
            Err(Failure::TokenAlgorithm)
        }
    }

    /// Verifies a signature with each of the candidates. If none fits and the token names a key
    /// that a fetched set lacks, its key is unknown: the next version of the set may have it.
    pub(super) fn verify(
        &self,
        candidates: &Candidates,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        let fits = candidates.places[..candidates.count].iter().any(|&place| {
            self.keys[usize::from(place)].verifies(candidates.algorithm, message, signature)
        });
        if fits {
            Ok(())
        } else if candidates.is_of_unknown_kid && self.is_fetched {
            Err(Failure::TokenKeyUnknown)
        } else {
            Err(Failure::TokenSignature)
        }
    }
}

/// Indexes of keys in their set, and the algorithm that a token names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidates {
    places: [u16; TRIES_MAX],
    count: usize,
    algorithm: Algorithm,
    /// True if the token's `kid` is not in the set: keys without an id are tried.
    is_of_unknown_kid: bool,
}

impl Candidates {
    fn add(&mut self, place: u16) -> Result<(), Failure> {
        let free = self
            .places
            .get_mut(self.count)
            .ok_or(Failure::TokenKeyAmbiguous)?;
        *free = place;
        self.count += 1;
        Ok(())
    }
}
