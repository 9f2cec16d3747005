//! Refusals of the server that are repeated here for a short time: a flood of one client costs a call
//! in each such time, not one for each attempt.

use super::column::{Name, Scope};
use std::collections::{HashMap, VecDeque};

/// Keys that are remembered; the oldest goes first.
pub(super) const KEYS_MAX: usize = 65_536;

/// A limit that was full: its code, and the key that it counts; 0 for limits over all clients.
pub(super) type Full = (u8, u128);

/// Refusals of the last moments.
pub(super) struct RejectCache {
    ttl_ms: f64,
    until: HashMap<Full, f64, ahash::RandomState>,
    /// In the order of their ends. An entry that was noted again, or removed, stands here in vain.
    order: VecDeque<(f64, Full)>,
}

impl RejectCache {
    /// Creates an empty cache; with `ttl_ms` 0 it stays empty.
    pub(super) fn new(ttl_ms: f64) -> Self {
        Self {
            ttl_ms,
            until: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Notes a refusal.
    pub(super) fn note(&mut self, now: f64, full: Full) {
        if self.ttl_ms <= 0.0 {
            return;
        }
        self.expire(now);
        let until = now + self.ttl_ms;
        self.until.insert(full, until);
        self.order.push_back((until, full));
        while self.order.len() > KEYS_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((until, full)) = self.order.pop_front()
            && self.until.get(&full) == Some(&until)
        {
            self.until.remove(&full);
        }
    }

    fn expire(&mut self, now: f64) {
        while self.order.front().is_some_and(|&(until, _)| until <= now) {
            self.drop_oldest();
        }
    }

    /// True if the limit was full a moment ago.
    pub(super) fn holds(&self, now: f64, full: Full) -> bool {
        self.until.get(&full).is_some_and(|&until| now < until)
    }

    /// Forgets the refusals of a key of which a seat was given back, and those of the totals.
    pub(super) fn free(&mut self, name: Name) {
        if self.until.is_empty() {
            return;
        }
        for &code in codes_of(name.scope) {
            self.until.remove(&(code, name.digest));
        }
        self.until.remove(&(TOTAL, 0));
        if name.scope == Scope::Anonymous {
            self.until.remove(&(ANONYMOUS, 0));
        }
    }

    /// True if nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// Forgets everything: other limits may be in force.
    pub(super) fn clear(&mut self) {
        self.until.clear();
        self.order.clear();
    }
}

// Codes of limits, as the scripts return them.
/// All connections.
pub(super) const TOTAL: u8 = 2;
/// Connections of an IPv6 prefix.
pub(super) const PREFIX: u8 = 3;
/// Connections of an address.
pub(super) const ADDRESS: u8 = 4;
/// Connections of a user.
pub(super) const USER: u8 = 5;
/// Connections without a user.
pub(super) const ANONYMOUS: u8 = 6;
/// Connections without a user of an address.
pub(super) const ANONYMOUS_ADDRESS: u8 = 7;
/// Connections without an address.
pub(super) const UNKNOWN: u8 = 10;

fn codes_of(scope: Scope) -> &'static [u8] {
    match scope {
        Scope::Address => &[ADDRESS, UNKNOWN],
        Scope::Prefix => &[PREFIX],
        Scope::User => &[USER],
        Scope::Anonymous => &[ANONYMOUS_ADDRESS],
        // Rates have no seats.
        Scope::NetworkRate | Scope::UserRate | Scope::Rate => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Note(u8, u128),
        Free(u8, u128),
        Wait(u8),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4u8, 0..6u128).prop_map(|(scope, key)| Step::Note(scope, key)),
            2 => (0..4u8, 0..6u128).prop_map(|(scope, key)| Step::Free(scope, key)),
            4 => (1..80u8).prop_map(Step::Wait),
            1 => Just(Step::Clear),
        ]
    }

    const SCOPES: [Scope; 4] = [Scope::Address, Scope::Prefix, Scope::User, Scope::Anonymous];
    const CODES: [u8; 4] = [ADDRESS, PREFIX, USER, ANONYMOUS_ADDRESS];

    proptest! {
        #[test]
        fn agrees_with_a_list_of_refusals(ttl in 0..150u8, steps in prop::collection::vec(step(), 1..80)) {
            let mut cache = RejectCache::new(f64::from(ttl));
            let mut model: Vec<(Full, f64)> = Vec::new();
            let mut now = 0.0;
            for step in steps {
                match step {
                    Step::Note(scope, key) => {
                        // Every sixth key stands for the total.
                        let full = if key == 5 { (TOTAL, 0) } else { (CODES[scope as usize], key) };
                        cache.note(now, full);
                        model.push((full, now + f64::from(ttl)));
                    }
                    Step::Free(scope, digest) => {
                        cache.free(Name { scope: SCOPES[scope as usize], digest });
                        model.retain(|(full, _)| *full != (TOTAL, 0) && *full != (CODES[scope as usize], digest));
                    }
                    Step::Wait(ms) => now += f64::from(ms),
                    Step::Clear => {
                        cache.clear();
                        model.clear();
                    }
                }
                for code in CODES.into_iter().chain([TOTAL]) {
                    for key in 0..6 {
                        let full = (code, key);
                        let expected = model.iter().any(|(noted, until)| *noted == full && now < *until);
                        prop_assert_eq!(cache.holds(now, full), expected);
                    }
                }
                prop_assert!(cache.until.len() <= cache.order.len());
            }
        }
    }

    #[test]
    fn forgets_the_oldest_of_too_many() {
        let mut cache = RejectCache::new(1000.0);
        for key in 0..KEYS_MAX as u128 + 10 {
            cache.note(0.0, (ADDRESS, key));
        }
        assert!(!cache.holds(1.0, (ADDRESS, 9)));
        assert!(cache.holds(1.0, (ADDRESS, 10)));
        assert_eq!(cache.until.len(), KEYS_MAX);
        assert_eq!(cache.order.len(), KEYS_MAX);
        cache.note(1000.0, (ADDRESS, 1));
        assert_eq!(cache.order.len(), 1);
    }
}
