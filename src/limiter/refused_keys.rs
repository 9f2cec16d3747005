//! The keys that were refused most often, in bounded memory, and the refusals that are worth an
//! event.
//!
//! Owns 64 keys by the space-saving algorithm (Metwally, Agrawal and El Abbadi, 2005): a key that is
//! not among them takes the place of the one with the lowest count, and goes on from that count.
//! Invariants: a count is too high by at most its error, and the error is at most a 64th of all
//! refusals; a key with more than that share is among them. No key is kept in clear, only its hash.

use super::key::KeyHash;

/// Keys that are counted.
pub const REFUSED_KEYS: usize = 64;
/// Most refusals that are told in a second.
const TOLD_PER_SECOND: u32 = 10;
const SECOND_MS: f64 = 1000.0;

/// A refusal that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Place of the key, below [`REFUSED_KEYS`].
    pub place: usize,
    /// Whether the place belongs to this key since this refusal.
    pub is_new: bool,
    /// Whether listeners are to be told.
    pub is_told: bool,
}

/// A key that was refused often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefusedKey {
    /// Its place.
    pub place: usize,
    /// Refusals; too high by at most `error`.
    pub refused: u64,
    /// Greatest error of `refused`.
    pub error: u64,
    /// Time of its latest refusal, ms.
    pub latest: f64,
    /// Number from the hash of the key, by which it can be named.
    pub pseudonym: u32,
}

struct Entry {
    key: KeyHash,
    error: u64,
    latest: f64,
    /// Time until which refusals of the key are not told, ms.
    quiet_until: f64,
}

/// The refused keys of one limiter.
#[derive(Default)]
pub(super) struct RefusedKeys {
    entries: Vec<Entry>,
    /// Counts of the entries, apart from them: each unknown key looks at all of them.
    counts: Vec<u64>,
    second_end: f64,
    told: u32,
}

impl RefusedKeys {
    /// Counts a refusal. It is told if it is the first one of its key for `window_ms`, and no more
    /// than ten others were told in this second.
    pub(super) fn note(&mut self, key: KeyHash, now: f64, window_ms: f64) -> Noted {
        let known = self.entries.iter().position(|entry| entry.key == key);
        let place = known.unwrap_or_else(|| self.place_for(key));
        self.counts[place] += 1;
        let is_told = self.entries[place].quiet_until <= now && self.may_tell(now);
        let entry = &mut self.entries[place];
        entry.latest = now;
        if is_told {
            entry.quiet_until = now + window_ms;
        }
        Noted {
            place,
            is_new: known.is_none(),
            is_told,
        }
    }

    /// Returns a place for a key that has none.
    fn place_for(&mut self, key: KeyHash) -> usize {
        let mut entry = Entry {
            key,
            error: 0,
            latest: 0.0,
            quiet_until: f64::NEG_INFINITY,
        };
        if self.entries.len() < REFUSED_KEYS {
            self.entries.push(entry);
            self.counts.push(0);
            return self.entries.len() - 1;
        }
        let counts = self.counts.iter().enumerate();
        let (place, least) = counts.min_by_key(|(_, count)| **count).unwrap_or((0, &0));
        entry.error = *least;
        self.entries[place] = entry;
        place
    }

    fn may_tell(&mut self, now: f64) -> bool {
        if now >= self.second_end {
            self.second_end = now + SECOND_MS;
            self.told = 0;
        }
        self.told += 1;
        self.told <= TOLD_PER_SECOND
    }

    /// Returns the `most` keys with the highest counts, the highest first.
    pub(super) fn top(&self, most: usize) -> Vec<RefusedKey> {
        let mut places: Vec<usize> = (0..self.entries.len()).collect();
        places.sort_by_key(|place| std::cmp::Reverse(self.counts[*place]));
        places.truncate(most);
        let of = |place: usize| {
            let Entry {
                key, error, latest, ..
            } = self.entries[place];
            RefusedKey {
                place,
                refused: self.counts[place],
                error,
                latest,
                pseudonym: pseudonym(key),
            }
        };
        places.into_iter().map(of).collect()
    }
}

/// Mixes the hash of a key, so that a name shows no part of it.
fn pseudonym([a, b, c]: KeyHash) -> u32 {
    let mixed = (u64::from(a) << 32 | u64::from(b)) ^ (u64::from(c) << 16);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const WINDOW_MS: f64 = 5000.0;

    fn key(name: u32) -> KeyHash {
        [name.wrapping_mul(0x9e37_79b9), name, 7]
    }

    proptest! {
        /// Against exact counts: no count is too low, none is too high by more than its error, and
        /// no error exceeds its share. A key is told once in a window while it has its place.
        #[test]
        fn counts_keep_their_bounds(
            steps in proptest::collection::vec((0u32..400, 0u32..3, 0u32..400), 1..3000)
        ) {
            let mut refused = RefusedKeys::default();
            let mut exact: HashMap<u32, u64> = HashMap::new();
            let mut names: Vec<u32> = vec![0; REFUSED_KEYS];
            let mut told: Vec<f64> = vec![f64::NEG_INFINITY; REFUSED_KEYS];
            let mut seconds: Vec<f64> = Vec::new();
            let (mut now, mut total) = (0.0, 0u64);
            for (name, kind, gap) in steps {
                now += f64::from(gap);
                // Two of three refusals are those of five keys.
                let name = if kind == 0 { name } else { name % 5 };
                let noted = refused.note(key(name), now, WINDOW_MS);
                *exact.entry(name).or_default() += 1;
                total += 1;
                if noted.is_new {
                    names[noted.place] = name;
                    told[noted.place] = f64::NEG_INFINITY;
                }
                prop_assert_eq!(names[noted.place], name);
                if noted.is_told {
                    prop_assert!(now - told[noted.place] >= WINDOW_MS);
                    told[noted.place] = now;
                    seconds.push(now);
                }
            }
            for window in seconds.windows(2 * TOLD_PER_SECOND as usize + 1) {
                prop_assert!(window[window.len() - 1] - window[0] >= SECOND_MS);
            }
            let all = refused.top(REFUSED_KEYS);
            prop_assert!(all.windows(2).all(|pair| pair[0].refused >= pair[1].refused));
            prop_assert_eq!(all.iter().map(|one| one.refused).sum::<u64>(), total);
            let mut shown = HashMap::new();
            for RefusedKey { place, refused, error, latest, pseudonym: name } in all {
                let count = exact[&names[place]];
                prop_assert!(refused >= count && refused - error <= count);
                prop_assert!(error <= total / REFUSED_KEYS as u64);
                prop_assert!(latest <= now);
                prop_assert_eq!(name, pseudonym(key(names[place])));
                shown.insert(names[place], ());
            }
            for (name, count) in exact {
                prop_assert!(count <= total / REFUSED_KEYS as u64 || shown.contains_key(&name));
            }
        }
    }

    #[test]
    fn a_flood_of_different_keys_is_told_ten_times_a_second() {
        let mut refused = RefusedKeys::default();
        let told = (0..100_000)
            .filter(|name| {
                refused
                    .note(key(*name), f64::from(*name) / 10.0, 60_000.0)
                    .is_told
            })
            .count();
        assert_eq!(told, 100);
        assert_eq!(refused.top(10).len(), 10);
        assert_eq!(refused.entries.len(), REFUSED_KEYS);
    }

    #[test]
    fn a_refusal_that_came_too_late_in_its_second_is_told_in_the_next_one() {
        let mut refused = RefusedKeys::default();
        for name in 0..10 {
            assert!(refused.note(key(name), 0.0, WINDOW_MS).is_told);
        }
        assert!(!refused.note(key(10), 1.0, WINDOW_MS).is_told);
        assert!(!refused.note(key(0), 1000.0, WINDOW_MS).is_told);
        assert!(refused.note(key(10), 1000.0, WINDOW_MS).is_told);
        assert!(refused.note(key(0), WINDOW_MS, WINDOW_MS).is_told);
    }
}
