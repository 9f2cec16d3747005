//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling): one theoretical arrival time
//! for each key.
//!
//! Times are kept in units of `1 / limit` ms, in which a cost of 1 takes `window_ms` units. So sums
//! of intervals are whole numbers, and exact for clocks of whole milliseconds.

use super::algorithm::{Algorithm, Quota, Reading, blocked};

/// Longest time by which the arrival time of a key may lie ahead, beyond its burst, ms.
const AHEAD_MAX_MS: f64 = 1_073_741_824.0;
/// Share of the largest number of a sum that roundings of fractional times may add up to.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    limit: f64,
    /// Units that a cost of 1 takes.
    interval: f64,
    /// Units of the whole burst.
    burst: f64,
}

impl Gcra {
    /// Returns the arrival time of a key that is not blocked, not before the clock; and the clock.
    ///
    /// # Errors
    /// Time until the block ends, ms.
    fn arrival(&self, state: f64, now: f64) -> Result<(f64, f64), f64> {
        let clock = now * self.limit;
        if state < 0.0 {
            return if now < -state {
                Err(-state - now)
            } else {
                Ok((clock, clock))
            };
        }
        Ok((state.max(clock), clock))
    }
}

impl Algorithm for Gcra {
    /// The theoretical arrival time in units; negative: the end of a block in ms.
    type State = f64;
    const FRESH: f64 = 0.0;

    fn new(quota: Quota) -> Self {
        Self {
            limit: quota.limit,
            interval: quota.window_ms,
            burst: quota.burst * quota.window_ms,
        }
    }

    fn take(&self, state: &mut f64, cost: f64, now: f64) -> Result<(), f64> {
        let (arrival, clock) = self.arrival(*state, now)?;
        let next = arrival + cost * self.interval;
        let excess = next - self.burst - clock;
        if excess > (next + self.burst) * ROUNDING {
            return Err(if cost * self.interval > self.burst {
                f64::INFINITY
            } else {
                excess / self.limit
            });
        }
        *state = next;
        Ok(())
    }

    fn charge(&self, state: &mut f64, points: f64, now: f64) {
        if let Ok((arrival, clock)) = self.arrival(*state, now) {
            let most = clock + self.burst + AHEAD_MAX_MS * self.limit;
            *state = (arrival + points * self.interval).min(most);
        }
    }

    fn refund(&self, state: &mut f64, points: f64, now: f64) {
        if let Ok((arrival, clock)) = self.arrival(*state, now) {
            *state = (arrival - points * self.interval).max(clock);
        }
    }

    fn block(&self, until: f64) -> f64 {
        -until
    }

    fn reading(&self, state: &f64, now: f64) -> Reading {
        match self.arrival(*state, now) {
            Err(_) => blocked(-state, now),
            Ok((arrival, clock)) => {
                let ahead = arrival - clock;
                let free = self.burst - ahead + (arrival + self.burst) * ROUNDING;
                Reading {
                    remaining: (free / self.interval).floor().max(0.0),
                    reset_ms: ahead / self.limit,
                }
            }
        }
    }

    fn fresh_at(&self, state: &f64) -> f64 {
        if *state < 0.0 {
            -state
        } else {
            state / self.limit
        }
    }
}
