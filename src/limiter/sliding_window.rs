//! Sliding windows, counted by parts: a part counts until the whole of it has left the window.
//!
//! So no window of the given length holds more than the limit, wherever it begins. The price is that
//! a cost is given back late, by at most one part.

use super::algorithm::{Algorithm, Quota, Reading, Spent, blocked};

/// Parts of a window.
pub(super) const PARTS: u64 = 7;
/// Parts that a window touches, one of them at each end in part.
pub(super) const KEPT: u64 = PARTS + 1;
/// Number of the part of a blocked key.
const BLOCKED: u64 = u64::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct SlidingWindow {
    limit: f64,
    window_ms: f64,
}

/// The costs of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    /// Number of the newest part, or [`BLOCKED`].
    pub(super) newest: u64,
    /// Cost in each part, by its number; of a blocked key, the bits of the end of the block.
    pub(super) used: [u32; KEPT as usize],
}

impl Parts {
    /// Returns the state of a key that is blocked until a time, ms.
    pub(super) fn blocked(until: f64) -> Self {
        let bits = until.to_bits();
        let mut used = [0; KEPT as usize];
        used[0] = (bits >> 32) as u32;
        used[1] = bits as u32;
        Self {
            newest: BLOCKED,
            used,
        }
    }

    pub(super) fn blocked_until(&self) -> Option<f64> {
        let [high, low, ..] = self.used;
        (self.newest == BLOCKED).then(|| f64::from_bits(u64::from(high) << 32 | u64::from(low)))
    }

    fn at(&mut self, part: u64) -> &mut u32 {
        &mut self.used[(part % KEPT) as usize]
    }

    fn get(&self, part: u64) -> u32 {
        self.used[(part % KEPT) as usize]
    }

    /// Returns the cost in all parts.
    pub(super) fn sum(&self) -> f64 {
        self.used.iter().map(|used| f64::from(*used)).sum()
    }

    /// Takes points out of parts, of each what it has, in the order of `numbers`.
    fn give_back(&mut self, points: u32, numbers: impl Iterator<Item = u64>) {
        let mut left = points;
        for part in numbers {
            let given = left.min(self.get(part));
            *self.at(part) -= given;
            left -= given;
        }
    }

    /// Numbers of the parts, the oldest first.
    fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> + use<> {
        self.newest.saturating_sub(PARTS)..=self.newest
    }
}

impl SlidingWindow {
    pub(super) fn part_of(&self, now: f64) -> u64 {
        (now * PARTS as f64 / self.window_ms) as u64
    }

    /// Returns the time at which a part stops to count, ms.
    fn leaves_at(&self, part: u64) -> f64 {
        ((part + KEPT) as f64 * self.window_ms / PARTS as f64).ceil()
    }

    /// Returns the parts that count at `now`.
    ///
    /// # Errors
    /// The end of the block, ms.
    fn current(&self, state: &Parts, now: f64) -> Result<Parts, f64> {
        let mut parts = match state.blocked_until() {
            Some(until) if now < until => return Err(until),
            Some(_) => Self::FRESH,
            None => *state,
        };
        let part = self.part_of(now);
        if part > parts.newest {
            for passed in parts.newest + 1..=part.min(parts.newest + KEPT) {
                *parts.at(passed) = 0;
            }
            parts.newest = part;
        }
        Ok(parts)
    }

    /// Returns the time from which no cost counts, ms.
    pub(super) fn fresh_at(&self, state: &Parts) -> f64 {
        match state.blocked_until() {
            Some(until) => until,
            None => state
                .numbers()
                .rev()
                .find(|part| state.get(*part) > 0)
                .map_or(f64::NEG_INFINITY, |part| self.leaves_at(part)),
        }
    }

    /// Returns the time at which `cost` conforms, if nothing else is spent.
    fn conforms_at(&self, parts: &Parts, cost: f64) -> f64 {
        let mut excess = parts.sum() + cost - self.limit;
        for part in parts.numbers() {
            excess -= f64::from(parts.get(part));
            if excess <= 0.0 {
                return self.leaves_at(part);
            }
        }
        f64::INFINITY
    }
}

impl Algorithm for SlidingWindow {
    type State = Parts;
    const FRESH: Parts = Parts {
        newest: 0,
        used: [0; KEPT as usize],
    };

    fn new(quota: Quota) -> Self {
        Self {
            limit: quota.limit,
            window_ms: quota.window_ms,
        }
    }

    fn take(&self, state: &mut Parts, cost: f64, now: f64) -> Result<(), f64> {
        if cost > self.limit {
            return Err(f64::INFINITY);
        }
        let mut parts = self.current(state, now).map_err(|until| until - now)?;
        if parts.sum() + cost > self.limit {
            return Err(self.conforms_at(&parts, cost) - now);
        }
        let newest = parts.newest;
        *parts.at(newest) += cost as u32;
        *state = parts;
        Ok(())
    }

    fn charge(&self, state: &mut Parts, points: f64, now: f64) {
        if let Ok(mut parts) = self.current(state, now) {
            let newest = parts.newest;
            *parts.at(newest) = parts.get(newest).saturating_add(points as u32);
            *state = parts;
        }
    }

    /// The oldest costs are given back: the others count for longer, so that whatever is left counts in no window that it
    /// is not in.
    fn refund(&self, state: &mut Parts, points: f64, now: f64) {
        if let Ok(mut parts) = self.current(state, now) {
            let numbers = parts.numbers();
            parts.give_back(points as u32, numbers);
            *state = parts;
        }
    }

    /// The cost is given back to the part in which it was spent. If others have had it back from there, older parts
    /// give it.
    fn give_back(&self, state: &mut Parts, spent: Spent, now: f64) {
        if let Ok(mut parts) = self.current(state, now) {
            let part = self.part_of(spent.at);
            let numbers = parts.numbers().rev().filter(|number| *number <= part);
            parts.give_back(spent.cost as u32, numbers);
            *state = parts;
        }
    }

    fn block(&self, until: f64) -> Parts {
        Parts::blocked(until)
    }

    fn reading(&self, state: &Parts, now: f64) -> Reading {
        match self.current(state, now) {
            Err(until) => blocked(until, now),
            Ok(parts) => Reading {
                remaining: (self.limit - parts.sum()).max(0.0),
                reset_ms: (self.fresh_at(&parts) - now).max(0.0),
            },
        }
    }

    fn fresh_in(&self, state: &Parts, now: f64) -> f64 {
        self.fresh_at(state) - now
    }
}
