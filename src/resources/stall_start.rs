//! The start of a block, estimated from the figures of the blocked thread.
//!
//! ```text
//!   alive        start          first               now
//!   ──┴────────────┴──────────────┴───────────────────┴──▶
//!     the loop     the block      first observation   latest observation
//!     turned       begins         that found it       within it
//! ```
//! The kernel counts the time of a thread on a CPU and waiting for one, but not its sleep. From
//! `first` to `now` the thread is in the block, which gives the share of time in which this block
//! is active; its active time since `alive`, divided by that share, leads back to the start.

use super::observation::{Observation, ThreadState};
use super::parse::Scheduled;

/// Active for at least this share of the time, a thread has not slept: waits that end late, and
/// ticks that count late, account for the rest.
const CONTIGUOUS: f64 = 0.9;
/// Active for less than this share, a thread sleeps, and its active time says nothing of the start.
const ASLEEP: f64 = 0.5;
/// Shortest time over which the share is measured.
const SHARE_MIN_MS: f64 = 10.0;

/// The bounds of a block's start, and its estimate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StallStart {
    alive_ms: f64,
    before: Option<Scheduled>,
    first_ms: f64,
    first: Option<Scheduled>,
    was_asleep: bool,
    at_ms: f64,
    exact_ms: f64,
}

fn active_ms(now: Scheduled, then: Scheduled) -> f64 {
    let on_cpu = now.on_cpu_ns.saturating_sub(then.on_cpu_ns);
    let waited = now.waited_ns.saturating_sub(then.waited_ns);
    (on_cpu + waited) as f64 / 1e6
}

impl StallStart {
    /// Begins with the first observation `now` of a block, after the observation `last`.
    ///
    /// - `alive_ms`: latest time at which the loop is known to have turned
    pub(super) fn new(last: &Observation, now: &Observation, alive_ms: f64) -> Self {
        Self {
            alive_ms: alive_ms.clamp(last.at_ms, now.at_ms),
            before: last.scheduled,
            first_ms: now.at_ms,
            first: now.scheduled,
            was_asleep: matches!(now.state, ThreadState::Asleep(_)),
            at_ms: now.at_ms,
            exact_ms: now.at_ms,
        }
    }

    /// Refines the estimate by another observation within the block.
    pub(super) fn observe(&mut self, now: &Observation) {
        let Some(((before, first), scheduled)) = self.before.zip(self.first).zip(now.scheduled)
        else {
            return;
        };
        let active = active_ms(scheduled, before);
        let elapsed = now.at_ms - self.first_ms;
        let share = if elapsed < SHARE_MIN_MS {
            1.0
        } else {
            (active_ms(scheduled, first) / elapsed).min(1.0)
        };
        if self.was_asleep || share < ASLEEP {
            // It began to sleep anywhere between the two observations.
            let latest = self.first_ms - active_ms(first, before);
            self.at_ms = (self.alive_ms + latest.max(self.alive_ms)) / 2.0;
        } else if share < CONTIGUOUS {
            self.at_ms = (now.at_ms - active / share).clamp(self.alive_ms, self.first_ms);
        } else {
            // A wait for a CPU counts when it ends: the earliest of the estimates is the best.
            let found = (now.at_ms - active).clamp(self.alive_ms, self.first_ms);
            self.at_ms = self.at_ms.min(found);
            if elapsed >= SHARE_MIN_MS {
                self.exact_ms = self.exact_ms.min(found);
            }
        }
    }

    /// Returns the best estimate.
    pub(super) fn at_ms(&self) -> f64 {
        self.at_ms
    }

    /// Returns the start if the thread has not slept since; otherwise the first observation of it.
    pub(super) fn exact_ms(&self) -> f64 {
        self.exact_ms
    }

    /// Leaves out a time in which everything was stopped.
    pub(super) fn shift(&mut self, ms: f64, now_ms: f64) {
        for time in [
            &mut self.alive_ms,
            &mut self.first_ms,
            &mut self.at_ms,
            &mut self.exact_ms,
        ] {
            *time = (*time + ms).min(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at_ms: f64, state: ThreadState, on_cpu_ms: f64, waited_ms: f64) -> Observation {
        Observation {
            at_ms,
            state,
            scheduled: Some(Scheduled {
                on_cpu_ns: (on_cpu_ms * 1e6) as u64,
                waited_ns: (waited_ms * 1e6) as u64,
                runs: 0,
            }),
            answered_ms: 0.0,
            begun: 0,
            own_wait_ms: 0.0,
            throttled_ms: 0.0,
            collectors_ns: None,
        }
    }

    /// Returns the estimate for a block that begins at 110, between observations at 100 and 140.
    fn estimate(state: ThreadState, figures: impl Fn(f64) -> (f64, f64)) -> (f64, f64) {
        let at = |ms: f64| {
            let (on_cpu, waited) = figures(ms - 110.0);
            seen(ms, state, on_cpu, waited)
        };
        let mut start = StallStart::new(&seen(100.0, ThreadState::Poll, 0.0, 0.0), &at(140.0), 0.0);
        for ms in [140.0, 160.0, 180.0, 200.0, 209.0] {
            start.observe(&at(ms));
        }
        (start.at_ms(), start.exact_ms())
    }

    #[test]
    fn a_thread_that_never_slept_is_dated_by_its_active_time() {
        assert_eq!(
            estimate(ThreadState::Running, |ms| (ms, 0.0)),
            (110.0, 110.0)
        );
        assert_eq!(
            estimate(ThreadState::Running, |ms| (ms / 2.0, ms / 2.0)),
            (110.0, 110.0)
        );
    }

    #[test]
    fn waits_that_count_when_they_end_delay_no_estimate() {
        // Each wait lasts 10 ms.
        let (at, exact) = estimate(ThreadState::Running, |ms| {
            (ms / 5.0, (ms * 0.08).floor() * 10.0)
        });
        assert!((110.0..=114.0).contains(&at) && at == exact, "{at} {exact}");
    }

    #[test]
    fn a_thread_that_sleeps_now_and_then_is_dated_by_its_share_of_active_time() {
        let (at, exact) = estimate(ThreadState::Running, |ms| (ms * 0.7, 0.0));
        assert!((at - 110.0).abs() < 0.1, "{at}");
        assert_eq!(exact, 140.0);
    }

    #[test]
    fn a_thread_that_sleeps_began_halfway_between_two_observations() {
        let (at, exact) = estimate(ThreadState::Asleep(Some(0)), |_| (0.0, 0.0));
        assert_eq!((at, exact), (120.0, 140.0));
        let (at, _) = estimate(ThreadState::Asleep(Some(0)), |ms| (ms.min(20.0), 0.0));
        assert_eq!(at, 110.0);
    }

    #[test]
    fn an_answer_bounds_the_start_and_a_stop_is_left_out() {
        let at = |ms: f64| seen(ms, ThreadState::Running, ms, 0.0);
        let mut start = StallStart::new(&at(100.0), &at(140.0), 125.0);
        start.observe(&at(160.0));
        assert_eq!(start.at_ms(), 125.0);
        start.shift(1000.0, 1160.0);
        assert_eq!(start.at_ms(), 1125.0);
    }
}
