//! The number of different users active in the last minutes.
//!
//! Up to `EXACT_MAX` users are stored as keyed hashes with the minute of their last activity, and
//! counted exactly. Beyond that a `HyperLogLog` takes part: 2^14 registers for each of 15 minutes,
//! merged over a window by their maximum (standard error 0.81 %). When all users that did not fit
//! have been inactive for 15 minutes, counting is exact again and the registers are dropped.
//!
//! Estimator: Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017),
//! algorithm 6, which needs no bias tables and no switch between formulas.

use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Minutes that are remembered.
pub const MINUTES: u64 = 15;
/// Users that are counted exactly.
const EXACT_MAX: usize = 4096;
const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash that are left for the rank.
const RANK_BITS: u32 = 64 - INDEX_BITS;

/// Passes a key through: it is a uniform keyed hash already.
#[derive(Clone, Copy, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _bytes: &[u8]) {
        debug_assert!(false, "only u64 keys");
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[derive(Clone, Copy, Default)]
struct BuildAsIs;

impl BuildHasher for BuildAsIs {
    type Hasher = AsIs;
    fn build_hasher(&self) -> AsIs {
        AsIs(0)
    }
}

/// Registers of each minute.
struct Sketch {
    minutes: Vec<(u64, Box<[u8]>)>,
}

impl Sketch {
    fn new() -> Self {
        let empty = || (u64::MAX, vec![0; REGISTERS].into_boxed_slice());
        Self {
            minutes: (0..MINUTES).map(|_| empty()).collect(),
        }
    }

    fn record(&mut self, hash: u64, minute: u64) {
        let (of, registers) = &mut self.minutes[(minute % MINUTES) as usize];
        if *of != minute {
            *of = minute;
            registers.fill(0);
        }
        let register = &mut registers[(hash >> RANK_BITS) as usize];
        // The sentinel bit below the others gives the highest rank if no other bit is set.
        let rank = ((hash << INDEX_BITS) | (1 << (INDEX_BITS - 1))).leading_zeros() + 1;
        *register = (*register).max(rank as u8);
    }

    fn estimate(&self, minute: u64, window: u64) -> f64 {
        let mut merged = vec![0u8; REGISTERS];
        for (of, registers) in &self.minutes {
            if *of <= minute && minute - of < window {
                for (into, from) in merged.iter_mut().zip(registers.iter()) {
                    *into = (*into).max(*from);
                }
            }
        }
        let mut of_rank = [0u32; RANK_BITS as usize + 2];
        for rank in merged {
            of_rank[rank as usize] += 1;
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(of_rank[RANK_BITS as usize + 1]) / m);
        for rank in (1..=RANK_BITS as usize).rev() {
            z = 0.5 * (z + f64::from(of_rank[rank]));
        }
        z += m * sigma(f64::from(of_rank[0]) / m);
        m * m / (2.0 * std::f64::consts::LN_2 * z)
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The active users.
pub struct Users {
    keys: (u64, u64),
    /// The last active minute of each user.
    exact: HashMap<u64, u64, BuildAsIs>,
    sketch: Option<Sketch>,
    /// The map is complete again from this minute on.
    complete_from: u64,
    newest: u64,
}

impl Default for Users {
    fn default() -> Self {
        // The operating system seeds `RandomState`.
        let seed = RandomState::new();
        Self::with_keys(seed.hash_one(0), seed.hash_one(1))
    }
}

impl Users {
    /// Creates an empty set whose hash has these keys.
    #[must_use]
    pub fn with_keys(first: u64, second: u64) -> Self {
        Self {
            keys: (first, second),
            exact: HashMap::with_hasher(BuildAsIs),
            sketch: None,
            complete_from: 0,
            newest: 0,
        }
    }

    /// Hashes the bytes of an id, a block at a time: the hasher works on eight bytes.
    fn hash(&self, id: &[u16]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        let mut bytes = [0; 64];
        for units in id.chunks(bytes.len() / 2) {
            for (pair, unit) in bytes.chunks_exact_mut(2).zip(units) {
                pair.copy_from_slice(&unit.to_le_bytes());
            }
            hasher.write(&bytes[..units.len() * 2]);
        }
        hasher.finish()
    }

    /// Records that a user was active. A minute before the newest counts as the newest.
    pub fn record(&mut self, id: &[u16], minute: u64) {
        let minute = self.turn(minute);
        let hash = self.hash(id);
        if let Some(last) = self.exact.get_mut(&hash) {
            if *last == minute {
                return;
            }
            *last = minute;
        } else if self.exact.len() < EXACT_MAX {
            self.exact.insert(hash, minute);
        } else {
            self.complete_from = minute + MINUTES;
            if self.sketch.is_none() {
                let mut sketch = Sketch::new();
                for (hash, minute) in &self.exact {
                    sketch.record(*hash, *minute);
                }
                self.sketch = Some(sketch);
            }
        }
        if let Some(sketch) = &mut self.sketch {
            sketch.record(hash, minute);
        }
    }

    /// Returns the users active in the last `window` minutes (at most 15), the current one
    /// included.
    pub fn count(&mut self, minute: u64, window: u64) -> f64 {
        let minute = self.turn(minute);
        match &self.sketch {
            Some(sketch) => sketch.estimate(minute, window).round(),
            None => self
                .exact
                .values()
                .filter(|last| minute - **last < window)
                .count() as f64,
        }
    }

    /// Removes users that have been inactive for too long, when a minute begins.
    fn turn(&mut self, minute: u64) -> u64 {
        if minute <= self.newest {
            return self.newest;
        }
        self.newest = minute;
        self.exact.retain(|_, last| minute - *last < MINUTES);
        if minute >= self.complete_from {
            self.sketch = None;
        }
        minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap as Model;

    fn id(number: u32) -> Vec<u16> {
        number.to_string().encode_utf16().collect()
    }

    proptest! {
        /// Up to the cap, the counts agree with a map from user to last active minute.
        #[test]
        fn agrees_with_a_map_up_to_the_cap(steps in prop::collection::vec((0u32..200, 0u64..3), 1..300), window in 1u64..=15) {
            let mut users = Users::with_keys(1, 2);
            let mut model = Model::new();
            let mut minute = 0;
            for (user, passed) in steps {
                minute += passed;
                users.record(&id(user), minute);
                model.insert(user, minute);
                let expected = model.values().filter(|last| minute - **last < window).count();
                prop_assert_eq!(users.count(minute, window), expected as f64);
            }
        }
    }

    #[test]
    fn estimates_within_three_standard_errors_beyond_the_cap() {
        for number in [4097u32, 10_000, 50_000, 200_000, 1_000_000] {
            let mut users = Users::with_keys(3, 4);
            for user in 0..number {
                users.record(&id(user), 7);
            }
            let estimate = users.count(7, 15);
            let error = (estimate / f64::from(number) - 1.0).abs();
            assert!(error < 3.0 * 0.0081, "{number}: {estimate}");
        }
    }

    #[test]
    fn a_window_merges_its_minutes_and_no_others() {
        let mut users = Users::with_keys(5, 6);
        for minute in 0..15 {
            for user in 0..10_000 {
                users.record(&id(minute * 5000 + user), u64::from(minute));
            }
        }
        for (window, expected) in [(1, 10_000.0), (2, 15_000.0), (15, 80_000.0)] {
            let estimate = users.count(14, window);
            assert!(
                (estimate / expected - 1.0_f64).abs() < 0.025,
                "{window}: {estimate}"
            );
        }
        assert!((users.count(28, 15) / 10_000.0 - 1.0).abs() < 0.025);
        assert_eq!(users.count(29, 15), 0.0);
    }

    #[test]
    fn counting_is_exact_again_when_the_excess_users_are_gone() {
        let mut users = Users::with_keys(7, 8);
        for user in 0..100_000 {
            users.record(&id(user), 0);
        }
        assert!(users.sketch.is_some());
        users.record(&id(1), 15);
        users.record(&id(2), 16);
        assert!(users.sketch.is_none());
        assert_eq!(users.count(16, 15), 2.0);
    }

    #[test]
    fn a_minute_that_goes_back_changes_nothing() {
        let mut users = Users::with_keys(9, 10);
        users.record(&id(1), 100);
        users.record(&id(2), 3);
        assert_eq!(users.count(0, 1), 2.0);
    }

    #[test]
    fn a_million_users_do_not_grow_memory() {
        let mut users = Users::default();
        for user in 0..1_000_000u32 {
            users.record(&id(user), u64::from(user / 100_000));
        }
        assert!(users.exact.len() <= EXACT_MAX);
        assert_eq!(users.sketch.map(|sketch| sketch.minutes.len()), Some(15));
    }
}
