//! Revoked tokens, until they would have expired anyway.
//!
//! Revocation is by `(iss, jti)`, or by subject for all tokens issued before a time. Entries are
//! keyed 128-bit hashes: of fixed size, and clients cannot make two of them collide. The token's
//! text is never the key, since one token has several valid texts (an ECDSA signature has two
//! forms).
//!
//! The caller's `now` decides what may be forgotten. No entry is dropped or refused for its expiry
//! alone while there is room, since that time may be wrong.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};

/// The list is full: no entry was dropped and none was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationsFull;

/// The revocations. Times are wall-clock seconds.
#[derive(Debug)]
pub struct Revocations {
    max: usize,
    keys: (u64, u64),
    tokens: HashMap<u128, u64>,
    subjects: HashMap<u128, (f64, u64)>,
    /// The keys of both maps, in the order of their expiry.
    expiries: BTreeSet<(u64, bool, u128)>,
}

impl Revocations {
    /// Creates a list for `max` entries.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let state = RandomState::new();
        Self {
            max,
            keys: (state.hash_one(0u8), state.hash_one(1u8)),
            tokens: HashMap::new(),
            subjects: HashMap::new(),
            expiries: BTreeSet::new(),
        }
    }

    fn hash(&self, parts: impl Hash) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        parts.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expiries.len()
    }

    /// True if there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expiries.is_empty()
    }

    /// Removes expired entries.
    pub fn purge(&mut self, now: f64) {
        while let Some(&(until, is_subject, hash)) = self.expiries.first() {
            if until as f64 > now {
                return;
            }
            self.expiries.pop_first();
            if is_subject {
                self.subjects.remove(&hash);
            } else {
                self.tokens.remove(&hash);
            }
        }
    }

    /// Makes room for one more entry. Returns `false` if there is no need to add it: the list is
    /// full, and the entry has expired.
    fn makes_room(&mut self, until: u64, now: f64) -> Result<bool, RevocationsFull> {
        if self.len() < self.max {
            return Ok(true);
        }
        self.purge(now);
        if until as f64 <= now {
            return Ok(false);
        }
        if self.len() < self.max {
            Ok(true)
        } else {
            Err(RevocationsFull)
        }
    }

    /// Revokes a token until `until`. For a token that is revoked already, the later `until`
    /// counts. An entry that `is_foreign` is added to a full list, too: another one has counted it.
    pub fn revoke(
        &mut self,
        issuer: &str,
        id: &str,
        until: f64,
        now: f64,
        is_foreign: bool,
    ) -> Result<(), RevocationsFull> {
        let until = ceil(until);
        let hash = self.hash((issuer, id));
        let known = self.tokens.get(&hash).copied();
        if known.is_some_and(|known| known >= until) {
            return Ok(());
        }
        match known {
            Some(known) => _ = self.expiries.remove(&(known, false, hash)),
            None if is_foreign => {}
            None if self.makes_room(until, now)? => {}
            None => return Ok(()),
        }
        self.tokens.insert(hash, until);
        self.expiries.insert((until, false, hash));
        Ok(())
    }

    /// Revokes a subject's tokens issued before `not_before`, until `until`; `is_foreign` as for
    /// [`Revocations::revoke`].
    pub fn not_before(
        &mut self,
        subject: &str,
        not_before: f64,
        until: f64,
        now: f64,
        is_foreign: bool,
    ) -> Result<(), RevocationsFull> {
        let until = ceil(until);
        let hash = self.hash(subject);
        let (mut not_before, mut until) = (not_before, until);
        match self.subjects.get(&hash).copied() {
            Some((known, known_until)) => {
                not_before = not_before.max(known);
                until = until.max(known_until);
                self.expiries.remove(&(known_until, true, hash));
            }
            None if is_foreign => {}
            None if self.makes_room(until, now)? => {}
            None => return Ok(()),
        }
        self.subjects.insert(hash, (not_before, until));
        self.expiries.insert((until, true, hash));
        Ok(())
    }

    /// True if a token is revoked. A token without `iat` cannot prove that it was issued later.
    #[must_use]
    pub fn covers(
        &self,
        issuer: Option<&str>,
        id: Option<&str>,
        subject: Option<&str>,
        issued_at: Option<f64>,
    ) -> bool {
        if let Some(id) = id
            && !self.tokens.is_empty()
            && self
                .tokens
                .contains_key(&self.hash((issuer.unwrap_or(""), id)))
        {
            return true;
        }
        if let Some(subject) = subject
            && !self.subjects.is_empty()
            && let Some((not_before, _)) = self.subjects.get(&self.hash(subject))
        {
            return issued_at.is_none_or(|issued_at| issued_at < *not_before);
        }
        false
    }
}

fn ceil(seconds: f64) -> u64 {
    seconds.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::{Revocations, RevocationsFull};
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_full_list_refuses_and_makes_room_by_expiry() {
        let mut list = Revocations::new(2);
        list.revoke("i", "a", 10.0, 0.0, false).unwrap();
        list.not_before("s", 5.0, 20.0, 0.0, false).unwrap();
        let full = Err(RevocationsFull);
        assert_eq!(list.revoke("i", "b", 30.0, 9.0, false), full);
        assert_eq!(list.not_before("t", 5.0, 30.0, 9.0, false), full);
        assert_eq!(list.revoke("i", "a", 12.0, 9.0, false), Ok(()));
        assert_eq!(list.revoke("i", "b", 30.0, 12.0, false), Ok(()));
        assert!(
            list.covers(Some("i"), Some("b"), None, None)
                && !list.covers(Some("i"), Some("a"), None, None)
        );
        assert!(
            !list.covers(None, Some("b"), None, None),
            "of another issuer"
        );
    }

    #[test]
    fn a_subject_is_revoked_up_to_a_time() {
        let mut list = Revocations::new(2);
        list.not_before("s", 100.0, f64::INFINITY, 0.0, false)
            .unwrap();
        list.not_before("s", 50.0, 60.0, 0.0, false).unwrap();
        let covers = |issued_at| list.covers(None, None, Some("s"), issued_at);
        assert!(covers(Some(99.9)) && covers(None) && !covers(Some(100.0)));
        assert!(!list.covers(None, None, Some("t"), None));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn an_entry_that_has_expired_is_held_while_there_is_room() {
        // The time may be too late: the token is good again when it is set back.
        let mut list = Revocations::new(2);
        let covers = |list: &Revocations, id| list.covers(Some("i"), Some(id), None, None);
        list.revoke("i", "a", 10.0, 100.0, false).unwrap();
        list.not_before("s", 5.0, 10.0, 100.0, false).unwrap();
        assert!(covers(&list, "a") && list.covers(None, None, Some("s"), None));
        assert_eq!(
            list.revoke("i", "b", 10.0, 5.0, false),
            Err(RevocationsFull)
        );
        // On a full list they make room, and none of them is added.
        assert_eq!(list.revoke("i", "b", 10.0, 100.0, false), Ok(()));
        assert_eq!((list.len(), covers(&list, "b")), (0, false));
    }

    #[test]
    fn an_entry_of_another_process_is_added_to_a_full_list() {
        let mut list = Revocations::new(1);
        list.revoke("i", "a", 10.0, 0.0, false).unwrap();
        list.revoke("i", "b", 10.0, 0.0, true).unwrap();
        list.not_before("s", 5.0, 10.0, 0.0, true).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(
            list.revoke("i", "c", 10.0, 0.0, false),
            Err(RevocationsFull)
        );
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_deadlines_when_it_is_purged(steps in prop::collection::vec((0u8..6, 0u32..40, 0u32..5), 1..80)) {
            let mut list = Revocations::new(4);
            let mut model: HashMap<u8, u32> = HashMap::new();
            let mut now = 0;
            for (id, until, pass) in steps {
                now += pass;
                list.purge(f64::from(now));
                model.retain(|_, until| *until > now);
                let outcome =
                    list.revoke("i", &id.to_string(), f64::from(until), f64::from(now), false);
                if until > now {
                    if model.contains_key(&id) || model.len() < 4 {
                        prop_assert_eq!(outcome, Ok(()));
                        let entry = model.entry(id).or_insert(until);
                        *entry = until.max(*entry);
                    } else {
                        prop_assert_eq!(outcome, Err(RevocationsFull));
                    }
                }
                list.purge(f64::from(now));
                prop_assert_eq!(list.len(), model.len());
                for id in 0..6u8 {
                    prop_assert_eq!(list.covers(Some("i"), Some(&id.to_string()), None, None), model.contains_key(&id));
                }
            }
        }
    }
}
