//! The complete verification of a token, and the state kept between two of them.
//!
//! Invariants: a header is remembered only after a valid signature, and only for one key set; the
//! payload in `scratch` is empty unless the last token was valid.

use super::claims;
use super::compact::{decode, split};
use super::header::{self, Header};
use super::key_set::{Candidates, KeySet};
use super::policy::{Policy, Refused};
use super::revocation::{Revocations, RevocationsFull};
use crate::validators::Failure;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Headers that are remembered: an issuer uses the same header in every token.
const HEADERS_MAX: usize = 8;

/// A policy with its keys and revocations. Threads share it; each has its own [`Scratch`].
pub struct Verifier {
    policy: Policy,
    keys: RwLock<Arc<KeySet>>,
    revocations: RwLock<Revocations>,
}

/// The deadline and the subject of a token that has passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The time at which it becomes invalid, s.
    pub deadline: f64,
    /// The place of the subject in the payload, in bytes, which are characters there; `None` without
    /// a subject, and for one with escapes or other characters than ASCII.
    pub subject: Option<Range<usize>>,
}

/// The header of a valid token; attackers cannot add one.
struct Known {
    encoded: Vec<u8>,
    candidates: Candidates,
}

/// The buffers of one thread, and the headers it remembers.
#[derive(Default)]
pub struct Scratch {
    header: Vec<u8>,
    signature: Vec<u8>,
    payload: Vec<u8>,
    payload_length: usize,
    keys: Option<Arc<KeySet>>,
    known: Vec<Known>,
    oldest: usize,
}

impl Scratch {
    /// Returns the payload of the token that was verified last.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload[..self.payload_length]
    }

    /// Drops the remembered headers if the keys have changed.
    fn use_keys(&mut self, keys: &Arc<KeySet>) {
        if self.keys.as_ref().is_none_or(|known| known.id != keys.id) {
            self.keys = Some(Arc::clone(keys));
            self.known.clear();
            self.oldest = 0;
        }
    }

    fn candidates(&self, header: &[u8]) -> Option<Candidates> {
        self.known
            .iter()
            .find(|known| known.encoded == header)
            .map(|known| known.candidates)
    }

    /// Remembers the header of a valid token in place of the oldest one.
    fn remember(&mut self, header: &[u8], candidates: Candidates) {
        let known = Known {
            encoded: header.to_vec(),
            candidates,
        };
        if self.known.len() < HEADERS_MAX {
            self.known.push(known);
        } else {
            self.known[self.oldest] = known;
            self.oldest = (self.oldest + 1) % HEADERS_MAX;
        }
    }
}

impl Verifier {
    /// Creates a verifier with these keys and room for `max_revocations`.
    #[must_use]
    pub fn new(policy: Policy, keys: KeySet, max_revocations: usize) -> Self {
        Self {
            policy,
            keys: RwLock::new(Arc::new(keys)),
            revocations: RwLock::new(Revocations::new(max_revocations)),
        }
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Replaces all keys at once.
    pub fn set_keys(&self, keys: KeySet) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys().len()
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Revokes the token `(issuer, id)`, which expires at `expiry`; `now` decides what may be
    /// forgotten, and `is_foreign` is as for [`Revocations::revoke`].
    pub fn revoke(
        &self,
        issuer: &str,
        id: &str,
        expiry: f64,
        now: f64,
        is_foreign: bool,
    ) -> Result<(), RevocationsFull> {
        let until = expiry + self.policy.tolerance_seconds;
        self.revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .revoke(issuer, id, until, now, is_foreign)
    }

    /// Revokes a subject's tokens issued before `not_before`. The entry is kept until `until`, or
    /// for as long as the policy's maximum age allows such tokens.
    pub fn not_before(
        &self,
        subject: &str,
        not_before: f64,
        until: Option<f64>,
        now: f64,
        is_foreign: bool,
    ) -> Result<(), RevocationsFull> {
        let tolerance = self.policy.tolerance_seconds;
        let by_age = self
            .policy
            .max_age_seconds
            .map_or(f64::INFINITY, |age| not_before + age + tolerance);
        let until = until.map_or(by_age, |until| by_age.min(until + tolerance));
        self.revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .not_before(subject, not_before, until, now, is_foreign)
    }

    /// Removes expired revocations and returns the number of the others.
    pub fn purge_revocations(&self, now: f64) -> usize {
        let mut revocations = self
            .revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        revocations.purge(now);
        revocations.len()
    }

    /// Verifies a token and leaves its payload in `scratch`; `now` in wall-clock seconds.
    pub fn verify(
        &self,
        token: &[u8],
        now: f64,
        scratch: &mut Scratch,
    ) -> Result<Verified, Refused> {
        self.verify_payload(token, scratch, false)?;
        let outcome = self.verify_claims(scratch.payload(), now);
        if outcome.is_err() {
            scratch.payload_length = 0;
        }
        outcome
    }

    fn verify_claims(&self, payload: &[u8], now: f64) -> Result<Verified, Refused> {
        let claims = claims::judge(payload, &self.policy, now, &mut Err)?;
        self.check_revoked(&claims)?;
        Ok(Verified {
            deadline: claims.deadline,
            subject: match claims.subject {
                Some(Cow::Borrowed(text)) => place_of(payload, text),
                Some(Cow::Owned(_)) | None => None,
            },
        })
    }

    /// Verifies the signature of a token with any payload, and leaves the payload in `scratch`.
    pub fn verify_signature(&self, token: &[u8], scratch: &mut Scratch) -> Result<(), Refused> {
        self.verify_payload(token, scratch, true)
    }

    /// True if a verified token with these claims has been revoked since.
    #[must_use]
    pub fn is_revoked(
        &self,
        issuer: Option<&str>,
        id: Option<&str>,
        subject: Option<&str>,
        issued_at: Option<f64>,
    ) -> bool {
        self.revocations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .covers(issuer, id, subject, issued_at)
    }

    fn check_revoked(&self, claims: &claims::Claims<'_>) -> Result<(), Refused> {
        let revocations = self
            .revocations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if !revocations.is_empty()
            && revocations.covers(
                claims.issuer.as_deref(),
                claims.id.as_deref(),
                claims.subject.as_deref(),
                claims.issued_at,
            )
        {
            return Err(Failure::TokenRevoked.into());
        }
        Ok(())
    }

    fn verify_payload(
        &self,
        token: &[u8],
        scratch: &mut Scratch,
        may_be_empty: bool,
    ) -> Result<(), Refused> {
        scratch.payload_length = 0;
        if token.len() > self.policy.max_token_bytes {
            return Err(Failure::TokenTooLong.into());
        }
        let parts = split(token)?;
        if parts.payload.is_empty() && !may_be_empty {
            return Err(Failure::TokenFormat.into());
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        scratch.use_keys(&keys);
        let known = scratch.candidates(parts.header);
        let candidates = match known {
            Some(candidates) => candidates,
            None => {
                let bytes = decode(parts.header, &mut scratch.header)?;
                let header = header::judge(bytes, &self.policy, &mut Err)?;
                candidates_of(&keys, &header)?
            }
        };
        let signature = decode(parts.signature, &mut scratch.signature)?;
        keys.verify(&candidates, parts.signed, signature)?;
        if known.is_none() {
            scratch.remember(parts.header, candidates);
        }
        scratch.payload_length = decode(parts.payload, &mut scratch.payload)?.len();
        Ok(())
    }

    /// Returns every check that a token fails, not only the first. Checks of a part that cannot be
    /// read are left out.
    ///
    /// Long, because the three parts are checked independently of each other.
    #[must_use]
    pub fn explain(&self, token: &[u8], now: f64) -> Vec<Refused> {
        let mut found = Vec::new();
        if token.len() > self.policy.max_token_bytes {
            return vec![Failure::TokenTooLong.into()];
        }
        let parts = match split(token) {
            Ok(parts) if !parts.payload.is_empty() => parts,
            Ok(_) => return vec![Failure::TokenFormat.into()],
            Err(failure) => return vec![failure.into()],
        };
        let mut note = |refused: Refused| {
            if !found.contains(&refused) {
                found.push(refused);
            }
            Ok(())
        };
        let (mut header, mut signature, mut payload) = (Vec::new(), Vec::new(), Vec::new());
        let keys = self.keys();
        let mut outcome = decode(parts.header, &mut header).map_err(Refused::from);
        let judged = match &mut outcome {
            Ok(bytes) => header::judge(bytes, &self.policy, &mut note).ok(),
            Err(refused) => {
                let _ = note(*refused);
                None
            }
        };
        let candidates = judged
            .filter(|header| header.algorithm.is_some())
            .map(|header| candidates_of(&keys, &header));
        if let Some(Err(failure)) = &candidates {
            let _ = note((*failure).into());
        }
        match (candidates, decode(parts.signature, &mut signature)) {
            (_, Err(failure)) => _ = note(failure.into()),
            (Some(Ok(candidates)), Ok(signature)) => {
                if let Err(failure) = keys.verify(&candidates, parts.signed, signature) {
                    let _ = note(failure.into());
                }
            }
            (Some(Err(_)) | None, Ok(_)) => {}
        }
        match decode(parts.payload, &mut payload) {
            Err(failure) => _ = note(failure.into()),
            Ok(bytes) => {
                if let Ok(claims) = claims::judge(bytes, &self.policy, now, &mut note)
                    && let Err(refused) = self.check_revoked(&claims)
                {
                    let _ = note(refused);
                }
            }
        }
        found
    }
}

fn candidates_of(keys: &KeySet, header: &Header<'_>) -> Result<Candidates, Failure> {
    let algorithm = header.algorithm.ok_or(Failure::TokenAlgorithm)?;
    keys.candidates(algorithm, header.kid.as_deref())
}

/// Returns the place of a slice of the payload, if it is ASCII.
fn place_of(payload: &[u8], text: &str) -> Option<Range<usize>> {
    let start = (text.as_ptr() as usize).checked_sub(payload.as_ptr() as usize)?;
    let place = start..start + text.len();
    payload.get(place.clone())?.is_ascii().then_some(place)
}
