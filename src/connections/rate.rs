//! Connect rates by GCRA: one theoretical arrival time per key (ITU-T I.371, virtual scheduling
//! algorithm).
//!
//! Owns the algorithm and a bounded store of arrival times. Does not read a clock. Invariant: a
//! refused event changes nothing.

use std::collections::HashMap;
use std::hash::Hash;

/// Keys that are remembered; beyond them, new keys share one arrival time.
const KEYS_MAX: usize = 65_536;

/// One event per `interval_ms`, with bursts of `burst` events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Interval that one event uses up, ms.
    pub interval_ms: f64,
    /// Events that may come at once.
    pub burst: f64,
}

impl Rate {
    /// Returns the new arrival time if an event at `now` conforms.
    ///
    /// # Errors
    /// Time until an event would conform, ms.
    pub fn check(self, arrival: f64, now: f64) -> Result<f64, f64> {
        let arrival = arrival.max(now);
        let allowed_at = arrival - self.interval_ms * (self.burst - 1.0);
        // Sums of thirds are rounded; without the tolerance a burst could be one event short.
        if now + 1e-6 >= allowed_at {
            Ok(arrival + self.interval_ms)
        } else {
            Err(allowed_at - now)
        }
    }
}

/// Arrival times of many keys. An arrival time in the past has the same effect as none, so such
/// keys may be dropped.
pub(super) struct Cells<K> {
    arrivals: HashMap<K, f64>,
    overflow: f64,
    sweep_at: f64,
}

impl<K> Default for Cells<K> {
    fn default() -> Self {
        Self {
            arrivals: HashMap::new(),
            overflow: 0.0,
            sweep_at: 0.0,
        }
    }
}

impl<K: Hash + Eq + Copy> Cells<K> {
    pub(super) fn arrival(&mut self, key: K, now: f64, rate: Rate) -> f64 {
        if let Some(&arrival) = self.arrivals.get(&key) {
            return arrival;
        }
        if self.arrivals.len() >= KEYS_MAX && now >= self.sweep_at {
            self.arrivals.retain(|_, arrival| *arrival > now);
            // At most one scan per interval, however many new keys arrive.
            self.sweep_at = now + rate.interval_ms.max(1_000.0);
        }
        if self.arrivals.len() >= KEYS_MAX {
            self.overflow
        } else {
            0.0
        }
    }

    pub(super) fn record(&mut self, key: K, arrival: f64) {
        if self.arrivals.len() < KEYS_MAX || self.arrivals.contains_key(&key) {
            self.arrivals.insert(key, arrival);
        } else {
            self.overflow = arrival;
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

    #[test]
    fn remembers_a_bounded_number_of_keys() {
        let rate = Rate {
            interval_ms: 1e9,
            burst: 1.0,
        };
        let mut cells = Cells::default();
        for key in 0..100_000u32 {
            let arrival = cells.arrival(key, 1.0, rate);
            if let Ok(next) = rate.check(arrival, 1.0) {
                cells.record(key, next);
            }
        }
        assert_eq!(cells.arrivals.len(), KEYS_MAX);
        assert!(rate.check(cells.arrival(99_999, 1.0, rate), 1.0).is_err());
    }
}
