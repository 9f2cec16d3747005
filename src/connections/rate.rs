//! Connect rates by GCRA: one theoretical arrival time per key (ITU-T I.371, virtual scheduling
//! algorithm).
//!
//! Owns the algorithm and a bounded store of arrival times ([`Cells`]). Does not read a clock.
//! Invariant: a refused event changes nothing.

use std::hash::Hash;

/// Keys that are remembered, those of the latest events.
const KEYS_MAX: usize = 1 << 17;
/// No cell. The place of a cell is its index plus one, so that fresh memory, which is zero, is empty.
const NONE: u32 = 0;

/// One event per `interval_ms`, with bursts of `burst` events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Interval that one event uses up, ms.
    pub interval_ms: f64,
    /// Events that may come at once.
    pub burst: f64,
}

impl Rate {
    /// Returns the time by which sums of intervals may be wrong, ms. Those of thirds are rounded, and the errors of
    /// events that come for hours exactly at their rate add up: none of these is to be refused.
    fn tolerance_ms(self) -> f64 {
        (self.interval_ms / 1024.0).clamp(1e-6, 0.125)
    }

    /// Returns the new arrival time if an event at `now` conforms.
    ///
    /// # Errors
    /// Time until an event would conform, ms.
    pub fn check(self, arrival: f64, now: f64) -> Result<f64, f64> {
        let arrival = arrival.max(now);
        let allowed_at = arrival - self.interval_ms * (self.burst - 1.0);
        if now + self.tolerance_ms() >= allowed_at {
            Ok(arrival + self.interval_ms)
        } else {
            Err(allowed_at - now)
        }
    }
}

/// The arrival times of the `MAX` keys with the latest events. `MAX` is a power of two, since a head
/// is found by a mask.
///
/// ```text
///  heads     chain of each hash: a cell, the next cell of the same hash, ...
///  cells     key, arrival time, links: one chain, and one list of all cells by their latest event
/// ```
///
/// A full table forgets the key whose latest event is the oldest. So a newcomer is always judged by
/// its own events, and an attacker gains no more than this: a key begins anew, with one burst, after
/// events of `MAX` other keys, each of which its own rate admitted. A client with fewer keys
/// gains nothing.
///
/// Two other rules were rejected. One arrival time for all keys beyond the table locks out honest
/// newcomers. Forgetting the key that is nearest to conforming keeps busy keys longer, but where all
/// cells are busy, two newcomers push each other out and neither is limited.
///
/// An event costs one lookup and a few stores, however full the table is. Heads stay as long as they
/// are, and cells are used again, so nothing is ever hashed anew or scanned. The hash is keyed, so
/// that no client can choose keys that share a chain.
pub(super) struct Cells<K, const MAX: usize = KEYS_MAX> {
    heads: Box<[u32]>,
    cells: Vec<Cell<K>>,
    newest: u32,
    oldest: u32,
    hashes: ahash::RandomState,
}

struct Cell<K> {
    arrival: f64,
    key: K,
    /// Next cell of the same chain.
    next: u32,
    newer: u32,
    older: u32,
}

impl<K, const MAX: usize> Default for Cells<K, MAX> {
    fn default() -> Self {
        Self {
            heads: Box::default(),
            cells: Vec::new(),
            newest: NONE,
            oldest: NONE,
            hashes: ahash::RandomState::default(),
        }
    }
}

impl<K: Hash + Eq + Copy, const MAX: usize> Cells<K, MAX> {
    /// Returns the arrival time of a key; 0 for a key that is not remembered. An arrival time in the
    /// past has the same effect.
    pub(super) fn arrival(&self, key: K) -> f64 {
        match self.find(key) {
            NONE => 0.0,
            at => self.cell(at).arrival,
        }
    }

    /// Stores the arrival time of a key, which has the latest event now.
    pub(super) fn record(&mut self, key: K, arrival: f64) {
        let found = self.find(key);
        let at = if found != NONE {
            self.unlink(found);
            found
        } else if self.cells.len() < MAX {
            if self.heads.is_empty() {
                self.heads = vec![NONE; MAX].into_boxed_slice();
            }
            self.cells.push(Cell {
                arrival,
                key,
                next: NONE,
                newer: NONE,
                older: NONE,
            });
            let at = self.cells.len() as u32;
            self.chain(at);
            at
        } else {
            let at = self.oldest;
            self.unlink(at);
            self.unchain(at);
            self.cell_mut(at).key = key;
            self.chain(at);
            at
        };
        self.cell_mut(at).arrival = arrival;
        self.link(at);
    }

    fn cell(&self, at: u32) -> &Cell<K> {
        &self.cells[at as usize - 1]
    }

    fn cell_mut(&mut self, at: u32) -> &mut Cell<K> {
        &mut self.cells[at as usize - 1]
    }

    fn head_of(&self, key: K) -> usize {
        self.hashes.hash_one(key) as usize & (MAX - 1)
    }

    fn find(&self, key: K) -> u32 {
        if self.heads.is_empty() {
            return NONE;
        }
        let mut at = self.heads[self.head_of(key)];
        while at != NONE && self.cell(at).key != key {
            at = self.cell(at).next;
        }
        at
    }

    /// Puts a cell at the head of the chain of its key.
    fn chain(&mut self, at: u32) {
        let head = self.head_of(self.cell(at).key);
        self.cell_mut(at).next = self.heads[head];
        self.heads[head] = at;
    }

    /// Takes a cell out of the chain of its key.
    fn unchain(&mut self, at: u32) {
        let head = self.head_of(self.cell(at).key);
        let next = self.cell(at).next;
        if self.heads[head] == at {
            self.heads[head] = next;
            return;
        }
        let mut before = self.heads[head];
        while self.cell(before).next != at {
            before = self.cell(before).next;
        }
        self.cell_mut(before).next = next;
    }

    /// Puts a cell at the new end of the list.
    fn link(&mut self, at: u32) {
        let older = self.newest;
        let cell = self.cell_mut(at);
        cell.older = older;
        cell.newer = NONE;
        match older {
            NONE => self.oldest = at,
            older => self.cell_mut(older).newer = at,
        }
        self.newest = at;
    }

    /// Takes a cell out of the list.
    fn unlink(&mut self, at: u32) {
        let &Cell { newer, older, .. } = self.cell(at);
        match newer {
            NONE => self.newest = older,
            newer => self.cell_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.cell_mut(older).newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Properties: in any window at most burst + window / interval events conform; the wait
        /// time of a refusal is exact.
        #[test]
        fn agrees_with_a_token_bucket(gaps in proptest::collection::vec(0u32..300, 1..200), interval in 1u32..200, burst in 1u32..8) {
            let rate = Rate { interval_ms: f64::from(interval), burst: f64::from(burst) };
            let (mut arrival, mut now) = (0.0, 1_000.0);
            let (mut tokens, mut filled_at) = (f64::from(burst), now);
            for gap in gaps {
                now += f64::from(gap);
                tokens = (tokens + (now - filled_at) / rate.interval_ms).min(rate.burst);
                filled_at = now;
                // Sums of thirds are rounded: close to a whole token, both answers are right.
                if (tokens - 1.0).abs() < 1e-6 { tokens = 1.0; }
                match rate.check(arrival, now) {
                    Ok(next) => { prop_assert!(tokens >= 1.0); arrival = next; tokens -= 1.0; }
                    Err(wait) => {
                        prop_assert!(tokens < 1.0);
                        prop_assert!(rate.check(arrival, now + wait).is_ok());
                        prop_assert!(rate.check(arrival, now + wait - 0.5).is_err() || wait < 0.5);
                    }
                }
            }
        }
    }

    /// The errors of hours of thirds refuse nothing, in a process that has run for months, too.
    #[test]
    fn events_that_come_exactly_at_their_rate_conform_for_hours() {
        for start in [0.0, 1e9, 1e10] {
            for count in [3u32, 7, 1000, 3333] {
                let rate = Rate {
                    interval_ms: 1000.0 / f64::from(count),
                    burst: f64::from(count),
                };
                let mut arrival = 0.0;
                for second in 0..20_000 {
                    let now = start + f64::from(second) * 1000.0;
                    // As many events at once as their seconds give.
                    for _ in 0..count.min(8) {
                        arrival = match rate.check(arrival, now) {
                            Ok(next) => next,
                            Err(wait) => panic!("{count} a second, second {second}: {wait}"),
                        };
                    }
                    arrival += rate.interval_ms * f64::from(count - count.min(8));
                }
            }
        }
    }

    /// One event of `key` at `now`: the time to wait, if it is refused.
    fn event<const MAX: usize>(
        cells: &mut Cells<u32, MAX>,
        key: u32,
        now: f64,
        rate: Rate,
    ) -> Result<(), f64> {
        let arrival = rate.check(cells.arrival(key), now)?;
        cells.record(key, arrival);
        Ok(())
    }

    const FEW: usize = 8;

    proptest! {
        /// Properties: a key is limited exactly, to the wait time, until [`FEW`] other keys have had
        /// an event since its own latest one; then it begins anew. The table holds the keys with the
        /// latest events, in their order, and no others.
        #[test]
        fn agrees_with_a_list_of_all_events(
            events in proptest::collection::vec((0u32..20, 0u32..40), 1..300),
            burst in 1u32..4,
        ) {
            let rate = Rate { interval_ms: 100.0, burst: f64::from(burst) };
            let mut cells = Cells::<u32, FEW>::default();
            // Keys and arrival times of all events that were admitted.
            let mut admitted = Vec::<(u32, f64)>::new();
            let mut now = 1_000.0;
            for (key, gap) in events {
                now += f64::from(gap);
                let mut others = Vec::new();
                let mut arrival = 0.0;
                for &(one, at) in admitted.iter().rev() {
                    if one == key {
                        arrival = at;
                        break;
                    }
                    if !others.contains(&one) {
                        others.push(one);
                    }
                }
                let expected = rate.check(if others.len() < FEW { arrival } else { 0.0 }, now);
                prop_assert_eq!(event(&mut cells, key, now, rate), expected.map(|_| ()));
                if let Ok(arrival) = expected {
                    admitted.push((key, arrival));
                }
                let mut latest = Vec::new();
                for &(one, _) in admitted.iter().rev() {
                    if latest.len() < FEW && !latest.contains(&one) {
                        latest.push(one);
                    }
                }
                prop_assert_eq!(keys(&cells), latest);
                prop_assert!(cells.cells.len() <= FEW);
            }
        }
    }

    /// The keys by their latest event, the newest first; every one is found by its hash.
    fn keys<const MAX: usize>(cells: &Cells<u32, MAX>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = cells.newest;
        while at != NONE {
            assert_eq!(cells.find(cells.cell(at).key), at);
            found.push(cells.cell(at).key);
            at = cells.cell(at).older;
        }
        found
    }

    #[test]
    fn remembers_the_keys_of_the_latest_events_in_bounded_memory() {
        let rate = Rate {
            interval_ms: 1e9,
            burst: 2.0,
        };
        let mut cells = Cells::<u32>::default();
        for key in 0..1_000_000u32 {
            assert_eq!(event(&mut cells, key, 1.0, rate), Ok(()));
            // A key that comes back in time stays.
            assert_eq!(
                event(&mut cells, u32::MAX, f64::from(key) * 2e9, rate),
                Ok(())
            );
        }
        assert_eq!((cells.cells.len(), cells.heads.len()), (KEYS_MAX, KEYS_MAX));
        assert!(cells.cells.capacity() <= 2 * KEYS_MAX);
        assert_eq!(size_of::<Cell<super::super::Address>>(), 40);
        let kept = keys(&cells);
        assert_eq!(kept.len(), KEYS_MAX);
        assert_eq!(kept[0], u32::MAX);
        assert!(
            kept[1..]
                .iter()
                .copied()
                .eq((0..1_000_000).rev().take(KEYS_MAX - 1))
        );
    }

    #[test]
    fn newcomers_after_a_million_hostile_keys_have_their_own_rate() {
        let rate = Rate {
            interval_ms: 60_000.0,
            burst: 2.0,
        };
        let mut cells = Cells::<u32>::default();
        for key in 0..1_000_000u32 {
            assert_eq!(event(&mut cells, key, 1.0, rate), Ok(()));
        }
        for honest in 2_000_000..2_000_200u32 {
            assert_eq!(event(&mut cells, honest, 1.0, rate), Ok(()));
            assert_eq!(event(&mut cells, honest, 1.0, rate), Ok(()));
            assert_eq!(event(&mut cells, honest, 1.0, rate), Err(60_000.0));
        }
    }

    #[test]
    fn a_key_begins_anew_only_after_events_of_as_many_other_keys() {
        let rate = Rate {
            interval_ms: 60_000.0,
            burst: 2.0,
        };
        let mut cells = Cells::<u32>::default();
        for _ in 0..2 {
            assert_eq!(event(&mut cells, 0, 1.0, rate), Ok(()));
        }
        for key in 1..KEYS_MAX as u32 {
            assert_eq!(event(&mut cells, key, 1.0, rate), Ok(()));
        }
        assert_eq!(event(&mut cells, 0, 1.0, rate), Err(60_000.0));
        assert_eq!(event(&mut cells, KEYS_MAX as u32, 1.0, rate), Ok(()));
        assert_eq!(event(&mut cells, 0, 1.0, rate), Ok(()));
    }
}
