//! Sliding windows with a small state, for the limits that most keys have.
//!
//! The state of a key has 128 bits, less than half of those of [`SlidingWindow`]: eight counts, each as
//! wide as the limit needs. The other bits hold the low bits of the number of the newest part. Each
//! call unpacks the state, and leaves the arithmetic to [`SlidingWindow`].

use super::algorithm::{Algorithm, Quota, Reading, Spent};
use super::sliding_window::{KEPT, PARTS, Parts, SlidingWindow};

/// Least width of a count: seven of them hold the end of a block.
const COUNT_BITS_MIN: u32 = 10;
/// Half of the numbers that the low bits can hold have to last for this time, ms: ten years. A key that
/// is asked for after a longer time, or after such a jump of the clock, may be refused by old costs.
const KEPT_MS: f64 = 10.0 * 365.0 * 86_400_000.0;

#[derive(Debug, Clone, Copy)]
pub(super) struct PackedWindow {
    window: SlidingWindow,
    /// Width of a count.
    count_bits: u32,
}

/// The costs of one key: of its 128 bits the low ones are the counts, by the place of the part.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedParts([u32; 4]);

impl PackedParts {
    fn new(bits: u128) -> Self {
        Self([0, 32, 64, 96].map(|shift| (bits >> shift) as u32))
    }

    fn bits(self) -> u128 {
        let words = self.0.iter().rev();
        words.fold(0, |bits, word| bits << 32 | u128::from(*word))
    }
}

/// Returns the width of the counts of a quota: each holds the limit, and a number that stands for a
/// blocked key.
fn count_bits_of(quota: Quota) -> u32 {
    let most = quota.limit.min(f64::from(u32::MAX)) as u64 + 1;
    (u64::BITS - most.leading_zeros()).max(COUNT_BITS_MIN)
}

impl PackedWindow {
    /// True if the states of this quota fit into 128 bits.
    pub(super) fn holds(quota: Quota) -> bool {
        let counts = count_bits_of(quota) * KEPT as u32;
        if counts >= u128::BITS {
            return false;
        }
        let half = 2f64.powi((u128::BITS - counts) as i32 - 1);
        half * quota.window_ms / PARTS as f64 >= KEPT_MS
    }

    /// The highest number of a count, which stands for a blocked key.
    fn blocked_count(&self) -> u32 {
        (1 << self.count_bits) - 1
    }

    fn count(&self, bits: u128, place: u32) -> u32 {
        (bits >> (place * self.count_bits)) as u32 & self.blocked_count()
    }

    fn shifted(&self, count: u32, place: u32) -> u128 {
        u128::from(count) << (place * self.count_bits)
    }

    fn unpack(&self, state: PackedParts, now: f64) -> Parts {
        let bits = state.bits();
        if bits == 0 {
            return SlidingWindow::FRESH;
        }
        if self.count(bits, KEPT as u32 - 1) == self.blocked_count() {
            return Parts::blocked(f64::from_bits(bits as u64));
        }
        // The newest part is the one with these low bits that is closest to the part of `now`.
        let shift = self.count_bits * KEPT as u32;
        let unknown = shift - u64::BITS;
        let here = self.window.part_of(now);
        let newest = (bits >> shift) as u64;
        let ahead = (newest.wrapping_sub(here) << unknown).cast_signed() >> unknown;
        Parts {
            newest: here.saturating_add_signed(ahead),
            used: std::array::from_fn(|place| self.count(bits, place as u32)),
        }
    }

    fn pack(&self, parts: &Parts) -> PackedParts {
        if let Some(until) = parts.blocked_until() {
            let blocked = self.shifted(self.blocked_count(), KEPT as u32 - 1);
            return PackedParts::new(blocked | u128::from(until.to_bits()));
        }
        let most = self.blocked_count() - 1;
        let counts = (0u32..).zip(parts.used);
        let bits = counts.fold(0, |bits, (place, used)| {
            bits | self.shifted(used.min(most), place)
        });
        // Without costs the state equals that of a key that is not known.
        let newest = if bits == 0 {
            0
        } else {
            u128::from(parts.newest)
        };
        PackedParts::new(bits | newest << (self.count_bits * KEPT as u32))
    }

    fn change<R>(
        &self,
        state: &mut PackedParts,
        now: f64,
        change: impl FnOnce(&SlidingWindow, &mut Parts) -> R,
    ) -> R {
        let mut parts = self.unpack(*state, now);
        let result = change(&self.window, &mut parts);
        *state = self.pack(&parts);
        result
    }
}

impl Algorithm for PackedWindow {
    type State = PackedParts;
    const FRESH: PackedParts = PackedParts([0; 4]);

    fn new(quota: Quota) -> Self {
        Self {
            window: SlidingWindow::new(quota),
            count_bits: count_bits_of(quota),
        }
    }

    fn take(&self, state: &mut PackedParts, cost: f64, now: f64) -> Result<(), f64> {
        self.change(state, now, |window, parts| window.take(parts, cost, now))
    }

    fn charge(&self, state: &mut PackedParts, points: f64, now: f64) {
        self.change(state, now, |window, parts| {
            window.charge(parts, points, now)
        });
    }

    fn refund(&self, state: &mut PackedParts, points: f64, now: f64) {
        self.change(state, now, |window, parts| {
            window.refund(parts, points, now)
        });
    }

    fn give_back(&self, state: &mut PackedParts, spent: Spent, now: f64) {
        self.change(state, now, |window, parts| {
            window.give_back(parts, spent, now)
        });
    }

    fn block(&self, until: f64) -> PackedParts {
        self.pack(&Parts::blocked(until))
    }

    fn reading(&self, state: &PackedParts, now: f64) -> Reading {
        self.window.reading(&self.unpack(*state, now), now)
    }

    fn fresh_in(&self, state: &PackedParts, now: f64) -> f64 {
        self.window.fresh_in(&self.unpack(*state, now), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn three_in_seven_seconds() -> PackedWindow {
        PackedWindow::new(Quota {
            limit: 3.0,
            window_ms: 7000.0,
            burst: 3.0,
        })
    }

    #[test]
    fn holds_what_has_a_place() {
        let holds = |limit: f64, window_ms: f64| {
            PackedWindow::holds(Quota {
                limit,
                window_ms,
                burst: limit,
            })
        };
        const DAY_MS: f64 = 86_400_000.0;
        assert!(holds(1022.0, 1.0) && !holds(1023.0, 1.0));
        assert!(holds(4094.0, 1100.0) && !holds(4095.0, 1100.0) && !holds(4094.0, 1000.0));
        assert!(holds(16_382.0, DAY_MS) && !holds(16_383.0, DAY_MS));
        assert!(!holds(65_535.0, 1e12) && !holds(f64::INFINITY, 1e12));
    }

    #[test]
    fn a_penalty_counts_up_to_the_width_of_its_part() {
        let window = three_in_seven_seconds();
        let mut state = PackedWindow::FRESH;
        window.charge(&mut state, 1e9, 500.0);
        assert_eq!(window.take(&mut state, 1.0, 7999.0), Err(1.0));
        assert_eq!(window.take(&mut state, 3.0, 8000.0), Ok(()));
        // In the last place the highest count would stand for a blocked key.
        window.charge(&mut state, 1e9, 15_500.0);
        assert_eq!(window.take(&mut state, 1.0, 15_500.0), Err(7500.0));
        // Three of them are the older costs.
        window.refund(&mut state, 1023.0, 15_500.0);
        assert_eq!(window.take(&mut state, 2.0, 16_000.0), Err(7000.0));
        assert_eq!(window.take(&mut state, 1.0, 16_000.0), Ok(()));
    }

    #[test]
    fn a_refused_cost_changes_nothing() {
        let window = three_in_seven_seconds();
        let mut state = PackedWindow::FRESH;
        assert_eq!(window.take(&mut state, 3.0, 500.0), Ok(()));
        let before = window.reading(&state, 2500.0);
        assert_eq!(window.take(&mut state, 1.0, 2500.0), Err(5500.0));
        assert_eq!(window.reading(&state, 2500.0), before);
    }

    proptest! {
        /// Whatever is done to a key, it is in the state of one that is not packed: early, at the
        /// time of day, and where the low bits of the numbers begin anew.
        #[test]
        fn agrees_with_the_wide_state(
            steps in proptest::collection::vec((0u8..8, 1u32..6, -50i32..20_000), 1..300),
            (limit, window_ms) in prop_oneof![
                (1u32..50, 1u32..10_000),
                (1023u32..2046, 5u32..10_000),
                (4000u32..=4094, 2000u32..10_000),
                (4095u32..8190, 300_000u32..400_000),
                (9000u32..16_383, 80_000_000u32..90_000_000),
            ],
            start in prop_oneof![Just(0.0), Just(1_764_400_000_000.0), Just(-1.0)],
        ) {
            let quota = Quota { limit: f64::from(limit), window_ms: f64::from(window_ms), burst: 1.0 };
            prop_assert!(PackedWindow::holds(quota));
            let (wide, packed) = (SlidingWindow::new(quota), PackedWindow::new(quota));
            let (mut state, mut small) = (SlidingWindow::FRESH, PackedWindow::FRESH);
            // -1 stands for shortly before the low bits begin anew.
            let numbers = 2f64.powi((128 - count_bits_of(quota) * 8) as i32);
            let mut now = if start < 0.0 {
                (numbers * f64::from(window_ms) / 7.0 - 30_000.0).floor()
            } else {
                start
            };
            for (kind, cost, gap) in steps {
                // A clock of the application may step back.
                now = (now + f64::from(gap)).max(0.0);
                let cost = f64::from(cost);
                match kind {
                    0 => { wide.charge(&mut state, cost, now); packed.charge(&mut small, cost, now); }
                    1 => { wide.refund(&mut state, cost, now); packed.refund(&mut small, cost, now); }
                    7 => {
                        let spent = Spent { cost, at: (now - f64::from(gap)).max(0.0), whole_at: now };
                        wide.give_back(&mut state, spent, now);
                        packed.give_back(&mut small, spent, now);
                    }
                    2 if gap > 15_000 => {
                        state = wide.block(now + f64::from(gap));
                        small = packed.block(now + f64::from(gap));
                    }
                    _ => prop_assert_eq!(wide.take(&mut state, cost, now), packed.take(&mut small, cost, now)),
                }
                prop_assert_eq!(wide.reading(&state, now), packed.reading(&small, now));
                let (left, small_left) = (wide.fresh_in(&state, now), packed.fresh_in(&small, now));
                prop_assert!(left == small_left || (left <= 0.0 && small_left <= 0.0));
                if left <= 0.0 {
                    // Such a key equals one that is not known, also before a clock that steps back.
                    (state, small) = (SlidingWindow::FRESH, PackedWindow::FRESH);
                }
            }
        }
    }
}
