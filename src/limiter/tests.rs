//! Each algorithm against a naive model, with random arrivals.

use super::{Kind, Limiter, Quota, Settings, Spent};
use crate::error::Error;
use proptest::prelude::*;

fn settings(kind: Kind, limit: u32, window_ms: u32, burst: u32) -> Settings {
    Settings {
        kind,
        quota: Quota {
            limit: f64::from(limit),
            window_ms: f64::from(window_ms),
            burst: f64::from(burst),
        },
        max_keys: 1000,
    }
}

/// Whole units of a bucket that drains by `limit` in each `window`: the definition of GCRA, in
/// whole numbers.
struct Bucket {
    level: i128,
    at: i128,
}

proptest! {
    /// Also at the time of day, where a product with a high limit has no place for single units.
    #[test]
    fn gcra_agrees_with_a_leaky_bucket(
        steps in proptest::collection::vec((0u32..2000, 1u32..4), 1..300),
        limit in prop_oneof![1u32..50, 1u32..=1 << 30], window in 1u32..5000, burst in 1u32..20,
        start in prop_oneof![Just(0i64), -10_000i64..0, 1_764_400_000_000i64..1_764_500_000_000],
    ) {
        let mut limiter = Limiter::new(&settings(Kind::Gcra, limit, window, burst));
        let mut now = i128::from(start);
        let mut bucket = Bucket { level: 0, at: now };
        let (limit, window, burst) = (i128::from(limit), i128::from(window), i128::from(burst));
        for (gap, cost) in steps {
            now += i128::from(gap);
            let drained = (bucket.level - (now - bucket.at) * limit).max(0);
            bucket = Bucket { level: drained, at: now };
            let wanted = drained + i128::from(cost) * window;
            let admits = wanted <= burst * window;
            let answer = limiter.take(&[1], f64::from(cost), now as f64).answer;
            prop_assert_eq!(answer.admitted, admits);
            if admits {
                bucket.level = wanted;
            } else if i128::from(cost) <= burst {
                let wait = (wanted - burst * window) as f64 / limit as f64;
                prop_assert_eq!(answer.retry_after_ms, wait);
            } else {
                prop_assert_eq!(answer.retry_after_ms, f64::INFINITY);
            }
            prop_assert_eq!(answer.reading.remaining, ((burst * window - bucket.level) / window) as f64);
            prop_assert_eq!(answer.reading.reset_ms, bucket.level as f64 / limit as f64);
        }
    }

    #[test]
    fn fixed_windows_agree_with_a_count(
        steps in proptest::collection::vec((0u32..700, 1u32..4), 1..300),
        limit in 1u32..20, window in 1u32..3000,
    ) {
        let mut limiter = Limiter::new(&settings(Kind::FixedWindow, limit, window, limit));
        let (mut begun, mut used, mut now) = (None, 0, 0);
        for (gap, cost) in steps {
            now += gap;
            if begun.is_some_and(|begun| now >= begun + window) {
                (begun, used) = (None, 0);
            }
            let admits = used + cost <= limit;
            let answer = limiter.take(&[1], f64::from(cost), f64::from(now)).answer;
            prop_assert_eq!(answer.admitted, admits);
            if admits {
                used += cost;
                begun.get_or_insert(now);
            }
            prop_assert_eq!(answer.reading.remaining, f64::from(limit - used));
            let left = begun.map_or(0, |begun| begun + window - now);
            prop_assert_eq!(answer.reading.reset_ms, f64::from(left));
        }
    }

    /// Properties of a log of all costs: no window holds more than the limit, and a cost that fits
    /// into the window and a seventh of it is never refused.
    #[test]
    fn sliding_windows_agree_with_a_log(
        steps in proptest::collection::vec((0u32..700, 1u32..4), 1..300),
        limit in 1u32..20, window in 1u32..3000,
    ) {
        let mut limiter = Limiter::new(&settings(Kind::SlidingWindow, limit, window, limit));
        let mut log: Vec<(f64, u32)> = Vec::new();
        let mut now = 0.0;
        for (gap, cost) in steps {
            now += f64::from(gap);
            let within = |span: f64| -> u32 {
                log.iter().filter(|(at, _)| now - at <= span).map(|(_, cost)| cost).sum()
            };
            let (inner, outer) = (within(f64::from(window)), within(f64::from(window) * 8.0 / 7.0));
            let answer = limiter.take(&[1], f64::from(cost), now).answer;
            if answer.admitted {
                prop_assert!(inner + cost <= limit);
                log.push((now, cost));
            } else {
                prop_assert!(outer + cost > limit);
                if cost <= limit {
                    let after = limiter.peek(&[1], f64::from(cost), now + answer.retry_after_ms);
                    prop_assert!(after.admitted);
                }
            }
        }
    }

    /// At the time of day in whole milliseconds, a limiter admits its burst and not one more, whatever
    /// the limit is.
    #[test]
    fn a_burst_is_exact_at_the_time_of_day(
        now in 1_764_400_000_000i64..1_764_500_000_000, limit in 1u32..=1 << 30, window in 1u32..100_000,
        most in 1u32..50, part in 0u32..8,
    ) {
        let now = now as f64 + f64::from(part) / 8.0;
        for burst in [most, limit] {
            let mut limiter = Limiter::new(&settings(Kind::Gcra, limit, window, burst));
            let fresh = limiter.peek(&[1], 1.0, now).reading.remaining;
            prop_assert_eq!(fresh, f64::from(burst));
            let over = limiter.take(&[1], f64::from(burst) + 1.0, now).answer;
            prop_assert_eq!((over.admitted, over.retry_after_ms), (false, f64::INFINITY));
            prop_assert!(limiter.take(&[1], f64::from(burst - 1) + 1.0, now).answer.admitted);
            let refused = limiter.take(&[1], 1.0, now).answer;
            prop_assert_eq!((refused.admitted, refused.reading.remaining), (false, 0.0));
        }
    }

    /// Fractional times round, also where they are small beside the window.
    #[test]
    fn a_burst_is_whole_at_any_time(now in 0.0..1e9f64, small in 0.0..10.0f64, limit in 1u32..50, window in 1u32..100_000_000) {
        for now in [now, small] {
            let mut limiter = Limiter::new(&settings(Kind::Gcra, limit, window, limit));
            for left in (0..limit).rev() {
                let answer = limiter.take(&[1], 1.0, now).answer;
                prop_assert_eq!((answer.admitted, answer.reading.remaining), (true, f64::from(left)));
            }
            let refused = limiter.take(&[1], 1.0, now).answer;
            prop_assert!(!refused.admitted);
            prop_assert!(limiter.peek(&[1], 1.0, now + refused.retry_after_ms).admitted);
            limiter.reward(&[1], 1.0, now);
            prop_assert!(limiter.take(&[1], 1.0, now).answer.admitted);
        }
    }

    /// A cost that is taken and given back at the same time leaves no trace.
    #[test]
    fn a_cost_that_is_given_back_at_once_leaves_no_trace(
        steps in proptest::collection::vec((0u32..700, 1u32..4, any::<bool>()), 1..200),
        limit in 1u32..20, window in 1u32..3000, kind in 0u8..3,
    ) {
        let kind = [Kind::Gcra, Kind::SlidingWindow, Kind::FixedWindow][usize::from(kind)];
        let mut limiters = [0; 2].map(|_| Limiter::new(&settings(kind, limit, window, limit)));
        let mut now = 0.0;
        for (gap, cost, is_undone) in steps {
            now += f64::from(gap);
            let cost = f64::from(cost);
            let [one, two] = &mut limiters;
            if is_undone {
                let answer = one.take(&[1], cost, now).answer;
                if answer.admitted {
                    let whole_at = now + answer.reading.reset_ms;
                    one.give_back(&[1], Spent { cost, at: now, whole_at }, now);
                }
            } else {
                prop_assert_eq!(one.take(&[1], cost, now).answer, two.take(&[1], cost, now).answer);
            }
        }
    }
}

/// Costs of one key, of which some are given back later, as the requests that answer well are.
struct Kept {
    limiter: Limiter,
    /// Costs that may still be given back, and the times of those that never are.
    open: Vec<Spent>,
    kept: Vec<f64>,
}

impl Kept {
    fn new(kind: Kind, limit: u32, window: u32) -> Self {
        Self {
            limiter: Limiter::new(&settings(kind, limit, window, limit)),
            open: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn take(&mut self, is_kept: bool, now: f64) {
        let answer = self.limiter.take(&[1], 1.0, now).answer;
        if !answer.admitted {
            return;
        }
        if is_kept {
            self.kept.push(now);
        } else {
            let whole_at = now + answer.reading.reset_ms;
            self.open.push(Spent {
                cost: 1.0,
                at: now,
                whole_at,
            });
        }
    }

    /// Most costs that are never given back, in any window.
    fn most(&self, window: u32) -> usize {
        let within = |from: f64| {
            let until = from + f64::from(window);
            self.kept
                .iter()
                .filter(|at| (from..until).contains(*at))
                .count()
        };
        self.kept
            .iter()
            .map(|from| within(*from))
            .max()
            .unwrap_or(0)
    }
}

proptest! {
    /// Costs given back at any time let no more through than each algorithm's documented worst case.
    #[test]
    fn costs_given_back_late_keep_the_bounds(
        steps in proptest::collection::vec((0u32..12, any::<u8>(), 0u32..600), 1..400),
        limit in 1u32..8, window in 7u32..2000, kind in 0u8..3,
    ) {
        let (kind, bound) = [
            (Kind::SlidingWindow, limit),
            // A window may begin with a cost that is given back.
            (Kind::FixedWindow, 2 * limit),
            (Kind::Gcra, 3 * limit - 1),
        ][usize::from(kind)];
        let mut kept = Kept::new(kind, limit, window);
        let mut now = 1_764_400_000_000.0;
        for (step, number, gap) in steps {
            match step {
                0..4 => kept.take(true, now),
                4..7 => kept.take(false, now),
                7..10 if !kept.open.is_empty() => {
                    let spent = kept.open.swap_remove(usize::from(number) % kept.open.len());
                    kept.limiter.give_back(&[1], spent, now);
                }
                _ => now += f64::from(gap),
            }
        }
        prop_assert!(kept.most(window) <= bound as usize, "{} of {bound}", kept.most(window));
    }

    /// A reward gives back the oldest costs: whatever was spent since counts for its whole window.
    #[test]
    fn a_late_reward_forgets_no_later_cost(held in 1u32..5, limit in 5u32..8, gap in 1u32..5999) {
        let mut limiter = Limiter::new(&settings(Kind::SlidingWindow, limit, 7000, limit));
        for _ in 0..held {
            limiter.take(&[1], 1.0, 0.0);
        }
        let later = f64::from(gap);
        let mut admitted = 0;
        while limiter.take(&[1], 1.0, later).answer.admitted {
            admitted += 1;
        }
        prop_assert_eq!(admitted, limit - held);
        limiter.reward(&[1], f64::from(held), later);
        while limiter.take(&[1], 1.0, 6999.0).answer.admitted {
            admitted += 1;
        }
        prop_assert_eq!(admitted, limit);
    }
}

#[test]
fn a_cost_above_the_limit_is_never_admitted_also_of_a_blocked_key() {
    for kind in [Kind::Gcra, Kind::SlidingWindow, Kind::FixedWindow] {
        let mut limiter = Limiter::new(&settings(kind, 2, 1000, 2));
        limiter.block(&[1], 5000.0, 0.0);
        assert_eq!(limiter.peek(&[1], 2.0, 0.0).retry_after_ms, 5000.0);
        assert_eq!(limiter.peek(&[1], 3.0, 0.0).retry_after_ms, f64::INFINITY);
    }
}

#[test]
fn a_cost_that_has_come_back_by_itself_is_not_given_back() {
    for kind in [Kind::Gcra, Kind::SlidingWindow, Kind::FixedWindow] {
        let mut limiter = Limiter::new(&settings(kind, 2, 1000, 2));
        let first = limiter.take(&[1], 1.0, 0.0).answer;
        let whole_at = first.reading.reset_ms;
        // Beyond the last part of a sliding window, which counts a seventh longer.
        assert!(limiter.take(&[1], 2.0, 1200.0).answer.admitted);
        let spent = Spent {
            cost: 1.0,
            at: 0.0,
            whole_at,
        };
        limiter.give_back(&[1], spent, 1200.0);
        assert!(!limiter.take(&[1], 1.0, 1200.0).answer.admitted);
    }
}

#[test]
fn a_clock_that_is_set_back_keeps_what_is_spent() {
    let mut limiter = Limiter::new(&settings(Kind::Gcra, 2, 1000, 2));
    let now = 1_764_400_000_000.0;
    for time in [now, now - 1000.0] {
        limiter.take(&[1], 2.0, time);
        assert!(!limiter.take(&[1], 1.0, time).answer.admitted);
    }
    limiter.penalty(&[1], f64::from(1 << 30), now);
    assert!(!limiter.take(&[1], 1.0, now - 3_600_000.0).answer.admitted);
    // A clock that jumps by years begins anew, whatever way it goes.
    for time in [0.0, -now, now, 9e15] {
        assert!(limiter.take(&[1], 2.0, time).answer.admitted, "{time}");
    }
}

/// Returns the most that a limiter of 10 in 1,000 ms admits in less than a window.
fn worst_case(kind: Kind) -> usize {
    let mut limiter = Limiter::new(&settings(kind, 10, 1000, 10));
    let mut admitted = Vec::new();
    // One, then a rest of nearly a window, then as many as are admitted at every millisecond.
    assert!(limiter.take(&[1], 1.0, 0.0).answer.admitted);
    let first = if kind == Kind::Gcra { 5000 } else { 999 };
    for now in first..first + 3000 {
        while limiter.take(&[1], 1.0, f64::from(now)).answer.admitted {
            admitted.push(now);
        }
    }
    let within = |from: i32| {
        admitted
            .iter()
            .filter(|at| (from..from + 1000).contains(*at))
            .count()
    };
    admitted.iter().map(|from| within(*from)).max().unwrap_or(0)
}

#[test]
fn the_worst_case_of_each_algorithm_is_the_documented_one() {
    assert_eq!(worst_case(Kind::Gcra), 19);
    assert_eq!(worst_case(Kind::FixedWindow), 19);
    assert_eq!(worst_case(Kind::SlidingWindow), 10);
}

#[test]
fn a_blocked_key_is_refused_until_the_end_and_begins_anew() {
    for kind in [Kind::Gcra, Kind::SlidingWindow, Kind::FixedWindow] {
        let mut limiter = Limiter::new(&settings(kind, 2, 1000, 2));
        assert!(limiter.take(&[1], 2.0, 0.0).answer.admitted);
        let reading = limiter.block(&[1], 5000.0, 100.0);
        assert_eq!((reading.remaining, reading.reset_ms), (0.0, 4900.0));
        limiter.reward(&[1], 2.0, 200.0);
        limiter.penalty(&[1], 2.0, 200.0);
        let refused = limiter.take(&[1], 1.0, 4999.0).answer;
        assert_eq!((refused.admitted, refused.retry_after_ms), (false, 1.0));
        let anew = limiter.take(&[1], 2.0, 5000.0).answer;
        assert_eq!((anew.admitted, anew.reading.remaining), (true, 0.0));
        assert!(limiter.reset(&[1]));
        assert!(!limiter.reset(&[1]));
        assert!(limiter.take(&[1], 2.0, 5000.0).answer.admitted);
    }
}

#[test]
fn penalties_and_rewards_without_end_stay_within_bounds() {
    for kind in [Kind::Gcra, Kind::SlidingWindow, Kind::FixedWindow] {
        let mut limiter = Limiter::new(&settings(kind, 1 << 30, 1 << 30, 1 << 30));
        for _ in 0..100 {
            let reading = limiter.penalty(&[1], f64::from(1 << 30), 0.0);
            assert_eq!(reading.remaining, 0.0);
            assert!(reading.reset_ms <= 2.0 * f64::from(1 << 30), "{reading:?}");
        }
        for _ in 0..200 {
            limiter.reward(&[1], f64::from(1 << 30), 0.0);
        }
        assert_eq!(
            limiter.peek(&[1], 1.0, 0.0).reading.remaining,
            f64::from(1 << 30)
        );
        assert_eq!(limiter.counts().keys, 0);
    }
}

#[test]
fn threads_that_share_a_name_admit_the_limit_together() {
    let settings = settings(Kind::Gcra, 1000, 1 << 30, 1000);
    // Held open, so that a thread that ends early does not take the counts with it.
    let held = Limiter::open("threads", &settings);
    assert!(held.is_ok());
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut limiter = Limiter::open("threads", &settings).expect("open");
                    (0..4000)
                        .filter(|at| limiter.take(&[at % 4], 1.0, 0.0).answer.admitted)
                        .count()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    });
    assert_eq!(admitted, 4000);
    let other = Limiter::open(
        "threads",
        &Settings {
            max_keys: 1,
            ..settings
        },
    );
    assert_eq!(
        other.err(),
        Some(Error::LimiterConflict { field: "maxKeys" })
    );
}

#[test]
fn keys_of_all_lengths_are_told_apart() {
    let mut limiter = Limiter::new(&settings(Kind::FixedWindow, 1, 1000, 1));
    let long: Vec<u16> = vec![65; 1 << 20];
    for length in [0, 1, 63, 64, 126, 127, 128, 129, 255, 256, 1 << 20] {
        assert!(
            limiter.take(&long[..length], 1.0, 0.0).answer.admitted,
            "{length}"
        );
        assert!(
            !limiter.take(&long[..length], 1.0, 0.0).answer.admitted,
            "{length}"
        );
    }
    // One unit of two bytes is no two units of one byte.
    assert!(limiter.take(&[0x4141], 1.0, 0.0).answer.admitted);
    assert!(limiter.take(&[0x41, 0x41], 1.0, 0.0).answer.admitted);
}
