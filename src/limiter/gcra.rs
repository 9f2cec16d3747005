//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling): one theoretical arrival time
//! for each key.
//!
//! Times are whole numbers of units, modulo 2^64. Both a millisecond and the time that a cost of 1
//! takes are a whole number of units, so sums are exact, whatever time a clock of whole milliseconds
//! tells. Only differences of times matter. A state counts while it lies ahead of the clock, by no more
//! than twice the most that it can: a clock that is set back farther than that begins anew.
//!
//! A unit is at most a millionth of a millisecond, except for a burst that takes years to fill. The
//! states of a rate of up to 2^20 per ms wrap around after 100 years, those of 2^30 per ms after 74
//! days: a key that was idle for so long and was not dropped may be refused then.

use super::algorithm::{Algorithm, Quota, Reading, Spent};

/// Longest time by which the arrival time of a key may lie ahead, beyond its burst, ms.
const AHEAD_MAX_MS: u64 = 1 << 30;
/// Units of a millisecond, if a burst allows so many.
const PRECISION: u64 = 1 << 21;
/// Most units of a burst.
const BURST_MAX: u64 = 1 << 61;
/// Set in the state of a blocked key; all times are even.
const BLOCKED: u64 = 1;

#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    /// Cost admitted at once.
    most: f64,
    /// Units of a millisecond; even.
    per_ms: u64,
    /// Units that a cost of 1 takes; even.
    interval: u64,
    /// Units of the whole burst.
    burst: u64,
}

/// Returns the greatest common divisor of two numbers.
const fn common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 {
        one
    } else {
        common_divisor(other, one % other)
    }
}

impl Gcra {
    /// Returns the time of a clock in units, the nearest even one before or after it.
    fn clock(&self, now: f64) -> u64 {
        let whole = now as i64;
        let part = (now - whole as f64) * self.per_ms as i64 as f64;
        let units = whole.wrapping_mul(self.per_ms as i64);
        units.wrapping_add((part + 0.5) as i64) as u64 & !BLOCKED
    }

    /// Returns the units by which a fractional time may be rounded: a small part of the interval.
    fn rounding(&self, now: f64) -> u64 {
        if now as i64 as f64 == now {
            return 0;
        }
        let most = now.abs() * f64::EPSILON * self.per_ms as f64 + 2.0;
        (most as u64).min(self.interval >> 10)
    }

    /// Most units by which an arrival time can lie ahead.
    fn ahead_max(&self) -> u64 {
        self.burst + AHEAD_MAX_MS * self.per_ms
    }

    /// Returns the units by which the arrival time of a key that is not blocked lies ahead.
    ///
    /// # Errors
    /// Units until the block ends.
    fn ahead(&self, state: u64, clock: u64) -> Result<u64, u64> {
        let is_blocked = state & BLOCKED != 0;
        let ahead = (state & !BLOCKED).wrapping_sub(clock);
        if state == Self::FRESH || ahead == 0 || ahead / 2 >= self.ahead_max() {
            Ok(0)
        } else if is_blocked {
            Err(ahead)
        } else {
            Ok(ahead)
        }
    }

    /// Returns the number of costs of 1 that have room in so many units at a time.
    fn costs(&self, units: u64, now: f64) -> f64 {
        let (whole, rest) = (units / self.interval, units % self.interval);
        let missing = self.interval - rest;
        // The second look costs more, and is needed rarely.
        let is_next = missing <= self.interval >> 10 && missing <= self.rounding(now);
        (whole + u64::from(is_next)) as i64 as f64
    }

    /// Returns a number of units in ms.
    fn ms(&self, units: u64) -> f64 {
        units as i64 as f64 / self.per_ms as i64 as f64
    }
}

impl Algorithm for Gcra {
    /// The theoretical arrival time; of a blocked key the end of the block, and [`BLOCKED`].
    type State = u64;
    /// No block has this end.
    const FRESH: u64 = BLOCKED;

    fn new(quota: Quota) -> Self {
        let (limit, window, burst) = (
            quota.limit as u64,
            quota.window_ms as u64,
            quota.burst as u64,
        );
        let common = common_divisor(limit, window).max(1);
        let (mut per_ms, mut interval) = (limit / common * 2, window / common * 2);
        while per_ms < PRECISION && burst * interval <= BURST_MAX / 2 {
            per_ms *= 2;
            interval *= 2;
        }
        Self {
            most: quota.burst,
            per_ms,
            interval,
            burst: burst * interval,
        }
    }

    fn take(&self, state: &mut u64, cost: f64, now: f64) -> Result<(), f64> {
        if cost > self.most {
            return Err(f64::INFINITY);
        }
        let clock = self.clock(now);
        let ahead = self.ahead(*state, clock).map_err(|left| self.ms(left))?;
        let next = ahead + cost as i64 as u64 * self.interval;
        if next > self.burst && next - self.burst > self.rounding(now) {
            return Err(self.ms(next - self.burst));
        }
        *state = clock.wrapping_add(next);
        Ok(())
    }

    fn charge(&self, state: &mut u64, points: f64, now: f64) {
        let clock = self.clock(now);
        if let Ok(ahead) = self.ahead(*state, clock) {
            let units = (points as u64).saturating_mul(self.interval);
            let next = ahead.saturating_add(units).min(self.ahead_max());
            *state = clock.wrapping_add(next);
        }
    }

    fn refund(&self, state: &mut u64, points: f64, now: f64) {
        let clock = self.clock(now);
        if let Ok(ahead) = self.ahead(*state, clock) {
            let units = (points as u64).saturating_mul(self.interval);
            *state = clock.wrapping_add(ahead.saturating_sub(units));
        }
    }

    /// No more is given back than the time that the key had still to wait by then for its whole limit: what has come back by
    /// itself may have been spent again.
    fn give_back(&self, state: &mut u64, spent: Spent, now: f64) {
        let clock = self.clock(now);
        if let Ok(ahead) = self.ahead(*state, clock) {
            let left = (spent.whole_at - now) * self.per_ms as i64 as f64;
            // Times near 2^40 are known to a thousand units.
            let slack = spent.whole_at.abs() * f64::EPSILON * self.per_ms as i64 as f64 + 2.0;
            let left = if left > 0.0 { (left + slack) as u64 } else { 0 };
            let units = (spent.cost as u64).saturating_mul(self.interval).min(left);
            *state = clock.wrapping_add(ahead.saturating_sub(units));
        }
    }

    fn block(&self, until: f64) -> u64 {
        let state = self.clock(until) | BLOCKED;
        if state == Self::FRESH {
            state + 2
        } else {
            state
        }
    }

    fn reading(&self, state: &u64, now: f64) -> Reading {
        match self.ahead(*state, self.clock(now)) {
            Err(left) => Reading {
                remaining: 0.0,
                reset_ms: self.ms(left),
            },
            Ok(ahead) => Reading {
                remaining: self.costs(self.burst.saturating_sub(ahead), now),
                reset_ms: self.ms(ahead),
            },
        }
    }

    fn fresh_in(&self, state: &u64, now: f64) -> f64 {
        match self.ahead(*state, self.clock(now)) {
            Ok(units) | Err(units) => self.ms(units),
        }
    }
}
