//! Notices a stall of an event loop while it lasts, and finds its cause.
//!
//! Another thread observes the loop every few milliseconds. The loop is alive if
//! - its thread sleeps in the loop's own poll (the kernel shows the system call and the epoll in
//!   which a thread sleeps), so that an idle loop is never challenged and never woken;
//! - or it has answered: a byte was written into a socket that the loop reads, and it was read;
//! - or another request or message has begun, since consecutive callbacks are not a stall.
//!
//! ```text
//!   poll ─┐ wakes      first observation threshold                    answered, or in poll
//!   ──────┴────────────────┬─────────────────┬─────────────────────────────┬──▶
//!         since            challenge         Begun (cause so far)          Ended (duration)
//! ```
//! `since` is the latest time at which the stall can have begun: a stall is noticed when that is a
//! threshold ago. A thread that was put on a CPU exactly once since it was seen in poll has run or
//! waited for a CPU ever since it woke; its own figures then give the time to the microsecond.
//! Otherwise `since` is the first observation that found the block. The reported duration counts
//! from the best estimate (`stall_start`), which the observations during the stall refine.
//!
//! If the watcher's own observation comes late, and not because it waited for a CPU, everything was
//! stopped (SIGSTOP, a suspended machine, a debugger): that time counts as no stall.

use super::observation::{Observation, ThreadState};
use super::parse::Scheduled;
use super::stall::{Baseline, Stall};
use super::stall_start::StallStart;

/// The outcome of an observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Whether to challenge the loop.
    pub challenge: bool,
    /// Time until the next observation, ms.
    pub next_ms: f64,
    /// A stall that has just been noticed.
    pub begun: Option<Stall>,
    /// A stall that is over.
    pub ended: Option<Stall>,
    /// Delay of an event that arrived at the latest challenge; 0 if the loop was in poll.
    pub delay_ms: Option<f64>,
}

/// Interval between two observations of a loop that is neither calm nor stalled.
pub const OBSERVE_INTERVAL_MS: f64 = 20.0;
/// A loop is idle if it used less than 0.5 % CPU over `IDLE_AFTER_MS`.
const IDLE_AFTER_MS: f64 = 1000.0;
const IDLE_CPU_NS: u64 = 5_000_000;
/// An idle loop is calm if it woke at most this often in that time.
const CALM_RUNS: u64 = 20;
/// Interval for a calm loop, longer because each wake-up of the watcher costs 25 µs in a virtual
/// machine. A busy thread is still dated to the microsecond by its own figures; one that sleeps in
/// a system call is noticed later by up to this interval, and its start is known to half of it.
pub const IDLE_OBSERVE_INTERVAL_MS: f64 = 2.0 * OBSERVE_INTERVAL_MS;
/// Interval during a stall.
const STALLED_OBSERVE_INTERVAL_MS: f64 = 10.0;
/// Interval for a thread that the kernel does not show: each observation wakes its loop.
const BLIND_OBSERVE_INTERVAL_MS: f64 = 50.0;
/// An observation that is late by half of the threshold, or by this for a short threshold, while
/// the watcher did not wait for a CPU, means that everything was stopped. A shorter delay is a
/// hitch of the machine that the loop shares.
const PAUSE_MIN_MS: f64 = 15.0;

/// The watch over one event loop.
#[derive(Debug)]
pub struct StallWatch {
    threshold_ms: f64,
    last: Option<Observation>,
    planned_ms: f64,
    since_ms: f64,
    start: StallStart,
    baseline: Baseline,
    challenged_ms: Option<f64>,
    stall: Option<Stall>,
    pauses: u32,
    is_calm: bool,
    /// Start of the idle period, and the thread's figures then.
    idle_from: (f64, Scheduled),
}

impl StallWatch {
    /// Creates a watch for stalls of `threshold_ms` and more.
    #[must_use]
    pub fn new(threshold_ms: f64) -> Self {
        Self {
            threshold_ms,
            last: None,
            planned_ms: f64::INFINITY,
            since_ms: 0.0,
            start: StallStart::default(),
            baseline: Baseline {
                scheduled: None,
                throttled_ms: 0.0,
                collectors_ns: None,
            },
            challenged_ms: None,
            stall: None,
            pauses: 0,
            is_calm: false,
            idle_from: (0.0, Scheduled::default()),
        }
    }

    /// Returns how often everything was stopped.
    #[must_use]
    pub fn pauses(&self) -> u32 {
        self.pauses
    }

    /// Returns the stall under way, as of the latest observation.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        self.stall
    }

    /// True if the loop has not been seen alive for half of the threshold.
    #[must_use]
    pub fn is_suspect(&self, now_ms: f64) -> bool {
        let is_out = self
            .last
            .is_some_and(|last| last.state != ThreadState::Poll);
        is_out && now_ms - self.since_ms >= self.threshold_ms / 2.0
    }

    /// True if the loop was in poll at the latest observation, and owes no answer: until its thread
    /// runs, another observation would find the same.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.challenged_ms.is_none()
            && self
                .last
                .is_some_and(|last| last.state == ThreadState::Poll)
    }

    /// Notes that the thread of a loop at rest has not run until `at_ms`; the next observation was
    /// due at `planned_ms`.
    pub fn rested(&mut self, at_ms: f64, planned_ms: f64) {
        let Some(last) = &mut self.last else { return };
        last.at_ms = at_ms;
        let last = *last;
        self.live(at_ms, &last);
        self.planned_ms = planned_ms;
    }

    /// Judges an observation.
    pub fn observe(&mut self, now: Observation) -> Verdict {
        let mut verdict = Verdict {
            challenge: false,
            next_ms: OBSERVE_INTERVAL_MS,
            begun: None,
            ended: None,
            delay_ms: None,
        };
        let Some(last) = self.last.replace(now) else {
            self.live(now.at_ms, &now);
            // The running callback began before the watch did.
            self.planned_ms = now.at_ms + OBSERVE_INTERVAL_MS;
            if now.state != ThreadState::Poll {
                self.challenge(now.at_ms, &mut verdict);
            }
            return verdict;
        };
        self.allow_for_pause(&last, &now);

        if let Some(asked) = self.challenged_ms.filter(|asked| now.answered_ms >= *asked) {
            self.challenged_ms = None;
            verdict.delay_ms = Some(now.answered_ms - asked);
            verdict.ended = self.end(now.answered_ms);
        }
        if now.begun != last.begun || now.state == ThreadState::Poll {
            verdict.ended = verdict.ended.or_else(|| self.end(now.at_ms));
        }
        if now.state == ThreadState::Poll {
            if self.challenged_ms.is_none() {
                verdict.delay_ms = verdict.delay_ms.or(Some(0.0));
            }
            self.live(now.at_ms, &now);
            self.rest(&now, &mut verdict);
        } else {
            self.out_of_poll(&last, &now, &mut verdict);
        }
        self.planned_ms = now.at_ms + verdict.next_ms;
        verdict
    }

    /// Judges an observation of a thread that is not in poll.
    fn out_of_poll(&mut self, last: &Observation, now: &Observation, verdict: &mut Verdict) {
        self.is_calm = false;
        self.idle_from = (now.at_ms, now.scheduled.unwrap_or_default());
        let turned = now.begun != last.begun || verdict.ended.is_some();
        if self.challenged_ms.is_none() || turned {
            self.since_ms =
                if last.state == ThreadState::Poll && !turned && verdict.delay_ms.is_none() {
                    woke_ms(last, now)
                } else {
                    // The loop has turned at an unknown time: the block may begin only now.
                    now.at_ms
                };
            // A request began at an unknown time since: no earlier time is sure to be in its block.
            let alive_ms = if now.begun != last.begun {
                now.at_ms
            } else {
                now.answered_ms
            };
            self.start = StallStart::new(last, now, alive_ms);
            self.baseline = Baseline {
                scheduled: last.scheduled,
                throttled_ms: last.throttled_ms,
                collectors_ns: None,
            };
        }
        if self.challenged_ms.is_none() {
            self.challenge(now.at_ms, verdict);
        }
        self.judge(now, verdict);
    }

    fn challenge(&mut self, now_ms: f64, verdict: &mut Verdict) {
        self.challenged_ms = Some(now_ms);
        verdict.challenge = true;
    }

    /// Notes that the loop is alive: a block begins now at the earliest.
    fn live(&mut self, at_ms: f64, now: &Observation) {
        self.since_ms = at_ms;
        self.start = StallStart::new(now, now, at_ms);
        self.baseline = Baseline {
            scheduled: now.scheduled,
            throttled_ms: now.throttled_ms,
            collectors_ns: None,
        };
    }

    /// Sets the next observation of a loop in poll.
    fn rest(&mut self, now: &Observation, verdict: &mut Verdict) {
        self.judge_calm(now);
        if self.is_calm && self.threshold_ms >= IDLE_OBSERVE_INTERVAL_MS {
            verdict.next_ms = IDLE_OBSERVE_INTERVAL_MS;
        }
    }

    /// Decides whether the loop is calm: less than [`IDLE_CPU_NS`] in the last [`IDLE_AFTER_MS`],
    /// in at most [`CALM_RUNS`] turns.
    fn judge_calm(&mut self, now: &Observation) {
        let Some(scheduled) = now.scheduled else {
            return;
        };
        let (from_ms, from) = self.idle_from;
        let seconds = (now.at_ms - from_ms) / IDLE_AFTER_MS;
        let is_busy = scheduled.on_cpu_ns.saturating_sub(from.on_cpu_ns) >= IDLE_CPU_NS;
        if is_busy || seconds >= 1.0 {
            let runs = scheduled.runs.saturating_sub(from.runs) as f64;
            self.is_calm = !is_busy && runs <= CALM_RUNS as f64 * seconds;
            self.idle_from = (now.at_ms, scheduled);
        }
    }

    fn pause_ms(&self) -> f64 {
        PAUSE_MIN_MS.max(self.threshold_ms / 2.0)
    }

    fn allow_for_pause(&mut self, last: &Observation, now: &Observation) {
        let late = now.at_ms - self.planned_ms;
        let unexplained = late - (now.own_wait_ms - last.own_wait_ms).max(0.0);
        if unexplained > self.pause_ms() {
            self.pauses += 1;
            self.since_ms = (self.since_ms + unexplained).min(now.at_ms);
            self.start.shift(unexplained, now.at_ms);
            if let Some(stall) = &mut self.stall {
                stall.since_ms = (stall.since_ms + unexplained).min(now.at_ms);
            }
        }
    }

    fn judge(&mut self, now: &Observation, verdict: &mut Verdict) {
        self.baseline.collectors_ns = self.baseline.collectors_ns.or(now.collectors_ns);
        self.start.observe(now);
        self.since_ms = self.since_ms.min(self.start.exact_ms());
        let start_ms = self.start.at_ms().min(self.since_ms);
        let lasted = now.at_ms - self.since_ms;
        let all_ms = now.at_ms - start_ms;
        if let Some(stall) = self.stall {
            let stall = Stall {
                since_ms: start_ms,
                ..stall
            };
            self.stall = Some(stall.seen(&self.baseline, now, all_ms));
            verdict.next_ms = STALLED_OBSERVE_INTERVAL_MS;
        } else if lasted >= self.threshold_ms {
            let stall = Stall::begun(start_ms, all_ms).seen(&self.baseline, now, all_ms);
            self.stall = Some(stall);
            verdict.begun = Some(stall);
            verdict.next_ms = STALLED_OBSERVE_INTERVAL_MS;
        } else {
            // Rounded up to a millisecond: an observation at 99.9 of 100 ms would delay the notice
            // by a whole interval.
            let most = if now.state == ThreadState::Unknown {
                BLIND_OBSERVE_INTERVAL_MS
            } else {
                OBSERVE_INTERVAL_MS
            };
            verdict.next_ms = (self.threshold_ms - lasted).ceil().clamp(1.0, most);
        }
    }

    /// Ends the stall. Its shares are those of the last observation within it; current ones would
    /// include the time after it.
    fn end(&mut self, at_ms: f64) -> Option<Stall> {
        let stall = self.stall.take()?;
        Some(Stall {
            duration_ms: (at_ms - stall.since_ms).max(0.0),
            ..stall
        })
    }
}

/// Returns the latest time at which a thread that was in poll at `last` can have left it.
fn woke_ms(last: &Observation, now: &Observation) -> f64 {
    let exact = last
        .scheduled
        .zip(now.scheduled)
        .and_then(|(before, after)| {
            if after.runs != before.runs + 1 {
                return None;
            }
            let active = after.on_cpu_ns.checked_sub(before.on_cpu_ns)?
                + after.waited_ns.checked_sub(before.waited_ns)?;
            Some(now.at_ms - active as f64 / 1e6)
        });
    match exact {
        // The thread sleeps elsewhere by now, and how long it has slept is unknown.
        Some(_) if matches!(now.state, ThreadState::Asleep(_)) => now.at_ms,
        Some(exact) => exact.clamp(last.at_ms, now.at_ms),
        None => now.at_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::super::stall::Cause;
    use super::*;
    use proptest::prelude::*;

    /// A simulated thread, observed every [`OBSERVE_INTERVAL_MS`] or when the watch asks for it.
    struct Scene {
        watch: StallWatch,
        now_ms: f64,
        observation: Observation,
        /// Whether the loop answers at once.
        turns: bool,
        found: Vec<(f64, Stall)>,
        ended: Vec<Stall>,
        next_ms: f64,
        wakes: u32,
        looks: u32,
        /// Looks only whether the thread has run while the loop is at rest, as the watcher does.
        is_lazy: bool,
        interval_ms: f64,
        rests: u32,
        rested_ms: f64,
        seen: Observation,
    }

    impl Scene {
        fn new() -> Self {
            let observation = Observation {
                at_ms: 0.0,
                state: ThreadState::Poll,
                scheduled: Some(Scheduled::default()),
                answered_ms: 0.0,
                begun: 0,
                own_wait_ms: 0.0,
                throttled_ms: 0.0,
                collectors_ns: None,
            };
            let mut scene = Self {
                watch: StallWatch::new(100.0),
                now_ms: 0.0,
                observation,
                turns: true,
                found: Vec::new(),
                ended: Vec::new(),
                next_ms: 0.0,
                wakes: 0,
                looks: 0,
                is_lazy: false,
                interval_ms: 0.0,
                rests: 0,
                rested_ms: 0.0,
                seen: observation,
            };
            scene.see();
            scene
        }

        fn see(&mut self) {
            let has_run = self.observation.state != ThreadState::Poll
                || self.observation.scheduled != self.seen.scheduled;
            if self.is_lazy && !has_run && self.rests < 50 && self.watch.is_at_rest() {
                self.rests += 1;
                self.rested_ms = self.now_ms;
                self.next_ms = self.now_ms + self.interval_ms;
                return;
            }
            if self.rested_ms > self.seen.at_ms {
                self.watch.rested(self.rested_ms, self.next_ms);
            }
            self.rests = 0;
            self.observation.at_ms = self.now_ms;
            self.seen = self.observation;
            let verdict = self.watch.observe(self.observation);
            if verdict.challenge {
                self.wakes += 1;
                if self.turns {
                    self.observation.answered_ms = self.now_ms + 0.1;
                }
            }
            self.found
                .extend(verdict.begun.map(|stall| (self.now_ms, stall)));
            self.ended.extend(verdict.ended);
            self.next_ms = self.now_ms + verdict.next_ms;
            self.interval_ms = verdict.next_ms;
            self.looks += 1;
        }

        /// Passes time in a state; `on_cpu` and `waiting` are shares.
        fn spend(&mut self, ms: f64, state: ThreadState, on_cpu: f64, waiting: f64) {
            let until = self.now_ms + ms;
            let wakes = self.observation.state == ThreadState::Poll && state != ThreadState::Poll;
            if let Some(scheduled) = self.observation.scheduled.as_mut().filter(|_| wakes) {
                scheduled.runs += 1;
            }
            self.observation.state = state;
            while self.now_ms < until {
                let to = self.next_ms.min(until);
                if let Some(scheduled) = &mut self.observation.scheduled {
                    scheduled.on_cpu_ns += ((to - self.now_ms) * on_cpu * 1e6) as u64;
                    scheduled.waited_ns += ((to - self.now_ms) * waiting * 1e6) as u64;
                }
                self.now_ms = to;
                if self.now_ms == self.next_ms {
                    self.see();
                }
            }
        }

        fn idle(&mut self, ms: f64) {
            self.spend(ms, ThreadState::Poll, 0.0, 0.0);
        }

        /// Stops everything for a time.
        fn stop(&mut self, ms: f64) {
            self.now_ms += ms;
            self.next_ms = self.now_ms;
            self.see();
        }
    }

    #[test]
    fn an_idle_loop_is_never_challenged_in_24_hours() {
        let mut scene = Scene::new();
        scene.idle(24.0 * 3_600_000.0);
        assert_eq!(
            (scene.wakes, scene.found.len(), scene.watch.pauses()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_busy_loop_is_noticed_at_the_threshold_after_it_woke() {
        let mut scene = Scene::new();
        scene.idle(1007.0);
        scene.turns = false;
        scene.spend(300.0, ThreadState::Running, 1.0, 0.0);
        scene.turns = true;
        scene.idle(50.0);
        let (at, stall) = scene.found[0];
        assert!((1107.0..1108.1).contains(&at), "{at}");
        assert_eq!((stall.cause, stall.since_ms.round()), (Cause::Busy, 1007.0));
        assert_eq!(scene.found.len(), 1);
        assert!(
            (290.0..=320.0).contains(&scene.ended[0].duration_ms),
            "{:?}",
            scene.ended
        );
    }

    #[test]
    fn a_calm_loop_is_observed_less_often_and_dated_as_exactly() {
        let mut scene = Scene::new();
        scene.idle(10_003.0);
        assert_eq!(
            scene.next_ms - scene.observation.at_ms,
            IDLE_OBSERVE_INTERVAL_MS
        );
        scene.turns = false;
        scene.spend(200.0, ThreadState::Running, 1.0, 0.0);
        assert!(
            (100.0..=101.1).contains(&(scene.found[0].0 - 10_003.0)),
            "{:?}",
            scene.found
        );
        let mut scene = Scene::new();
        scene.idle(10_003.0);
        scene.turns = false;
        scene.spend(200.0, ThreadState::Asleep(Some(0)), 0.0, 0.0);
        assert!(
            (100.0..=141.0).contains(&(scene.found[0].0 - 10_003.0)),
            "{:?}",
            scene.found
        );
    }

    #[test]
    fn a_preempted_thread_of_a_calm_loop_is_dated_as_exactly() {
        let mut scene = Scene::new();
        scene.idle(10_003.0);
        scene.turns = false;
        scene.spend(10.0, ThreadState::Running, 0.5, 0.5);
        if let Some(scheduled) = &mut scene.observation.scheduled {
            scheduled.runs += 7;
        }
        scene.spend(102.0, ThreadState::Running, 0.5, 0.5);
        scene.turns = true;
        scene.observation.answered_ms = scene.now_ms;
        scene.idle(100.0);
        let off = (scene.ended[0].duration_ms - 112.0).abs();
        assert!(off < 1.0, "{:?}", scene.ended);
    }

    #[test]
    fn a_loop_that_wakes_often_is_observed_as_often_as_a_busy_one() {
        let mut scene = Scene::new();
        for (turns, every_ms) in [(4, 250.0), (40, 25.0)] {
            for _ in 0..3 * turns {
                scene.spend(0.1, ThreadState::Running, 0.1, 0.0);
                scene.idle(every_ms - 0.1);
            }
            let expected = if turns > 20 {
                OBSERVE_INTERVAL_MS
            } else {
                IDLE_OBSERVE_INTERVAL_MS
            };
            assert_eq!(scene.next_ms - scene.observation.at_ms, expected, "{turns}");
        }
    }

    #[test]
    fn each_cause_follows_from_the_threads_figures() {
        for (state, on_cpu, waiting, throttled, cause) in [
            (ThreadState::Running, 0.95, 0.05, 0.0, Cause::Busy),
            (
                ThreadState::Asleep(Some(0)),
                0.01,
                0.01,
                0.0,
                Cause::Blocked,
            ),
            (ThreadState::Running, 0.3, 0.7, 0.0, Cause::Starved),
            // The wait has not ended yet.
            (ThreadState::Running, 0.3, 0.0, 0.0, Cause::Starved),
            (ThreadState::Running, 0.2, 0.8, 0.75, Cause::Throttled),
        ] {
            let mut scene = Scene::new();
            scene.idle(500.0);
            scene.turns = false;
            scene.spend(60.0, state, on_cpu, waiting);
            scene.observation.throttled_ms += 200.0 * throttled;
            scene.spend(140.0, state, on_cpu, waiting);
            assert_eq!(scene.found.len(), 1);
            assert_eq!(scene.found[0].1.cause, cause);
        }
    }

    #[test]
    fn a_thread_that_waits_for_its_engines_collector_is_busy() {
        for (share, cause) in [(0.9, Cause::Busy), (0.2, Cause::Blocked)] {
            let mut scene = Scene::new();
            scene.idle(500.0);
            scene.turns = false;
            for step in 0..20u32 {
                let spent_ns = f64::from(step) * 10.0 * share * 1e6;
                scene.observation.collectors_ns = Some(7_000_000 + spent_ns as u64);
                scene.spend(10.0, ThreadState::Asleep(Some(202)), 0.05, 0.0);
            }
            assert_eq!(scene.watch.stall().map(|stall| stall.cause), Some(cause));
        }
    }

    #[test]
    fn a_system_call_is_named_and_noticed_within_one_more_observation() {
        let mut scene = Scene::new();
        scene.idle(503.0);
        scene.turns = false;
        scene.spend(200.0, ThreadState::Asleep(Some(61)), 0.0, 0.0);
        let (at, stall) = scene.found[0];
        assert!(at <= 503.0 + 100.0 + OBSERVE_INTERVAL_MS + 1.0, "{at}");
        assert_eq!((stall.cause, stall.system_call), (Cause::Blocked, Some(61)));
    }

    #[test]
    fn a_process_stopped_for_2_s_or_suspended_for_8_h_is_no_stall() {
        for (ms, state) in [
            (2000.0, ThreadState::Running),
            (2000.0, ThreadState::Poll),
            (8.0 * 3_600_000.0, ThreadState::Running),
            (2000.0, ThreadState::Asleep(None)),
        ] {
            let mut scene = Scene::new();
            scene.idle(500.0);
            scene.turns = false;
            scene.spend(30.0, state, 1.0, 0.0);
            scene.stop(ms);
            assert_eq!(
                (scene.found.len(), scene.watch.pauses()),
                (0, 1),
                "{state:?}"
            );
            scene.turns = true;
            scene.observation.answered_ms = scene.now_ms + 0.1;
            scene.spend(300.0, ThreadState::Running, 1.0, 0.0);
            scene.idle(100.0);
            assert_eq!(scene.found.len(), 0);
        }
    }

    #[test]
    fn a_watcher_that_waited_for_a_cpu_still_counts_the_time() {
        let mut scene = Scene::new();
        scene.idle(500.0);
        scene.turns = false;
        scene.spend(30.0, ThreadState::Running, 0.5, 0.5);
        scene.observation.own_wait_ms += 140.0;
        scene.observation.scheduled = Some(Scheduled {
            on_cpu_ns: 15_000_000,
            waited_ns: 155_000_000,
            runs: 9,
        });
        scene.stop(140.0);
        assert_eq!(scene.found.len(), 1);
        assert_eq!(scene.found[0].1.cause, Cause::Starved);
    }

    #[test]
    fn consecutive_requests_are_no_stall() {
        let mut scene = Scene::new();
        scene.idle(500.0);
        scene.turns = false;
        for _ in 0..40 {
            scene.observation.begun += 1;
            scene.spend(45.0, ThreadState::Running, 1.0, 0.0);
        }
        assert_eq!(scene.found.len(), 0);
    }

    #[test]
    fn without_kernel_figures_the_loop_is_challenged_and_the_cause_is_unknown() {
        let mut scene = Scene::new();
        scene.observation.scheduled = None;
        scene.spend(1000.0, ThreadState::Unknown, 0.0, 0.0);
        assert_eq!(scene.found.len(), 0);
        assert!((10..=25).contains(&scene.wakes), "{}", scene.wakes);
        scene.turns = false;
        scene.spend(400.0, ThreadState::Unknown, 0.0, 0.0);
        assert_eq!(scene.found.len(), 1);
        assert_eq!(scene.found[0].1.cause, Cause::Unknown);
    }

    proptest! {
        /// Idle, busy and blocked stretches in any order and length: every stretch of threshold +
        /// 30 ms without an answer is found in time, and none below the threshold is found.
        #[test]
        fn blocks_are_found_if_and_only_if_they_reach_the_threshold(
            stretches in prop::collection::vec((0.0f64..250.0, 1.0f64..400.0, any::<bool>(), any::<bool>()), 1..20),
            is_lazy: bool,
        ) {
            let mut scene = Scene::new();
            scene.is_lazy = is_lazy;
            let mut expected = Vec::new();
            for (idle_ms, block_ms, is_busy, is_preempted) in stretches {
                scene.turns = true;
                scene.observation.answered_ms = scene.now_ms;
                scene.idle(idle_ms + 45.0);
                let begins = scene.now_ms;
                let before = scene.found.len();
                scene.turns = false;
                if let Some(scheduled) = scene.observation.scheduled.as_mut().filter(|_| is_preempted) {
                    scheduled.runs += 3;
                }
                scene.spend(block_ms, if is_busy { ThreadState::Running } else { ThreadState::Asleep(None) }, f64::from(u8::from(is_busy)), 0.0);
                let found = scene.found.len() - before;
                if block_ms < 99.9 {
                    prop_assert_eq!(found, 0, "{} ms is below the threshold", block_ms);
                }
                if block_ms > 130.0 {
                    prop_assert_eq!(found, 1, "{} ms was not found", block_ms);
                }
                if found == 1 {
                    expected.push(block_ms);
                    let (at, _) = scene.found[before];
                    prop_assert!((99.9..=130.0).contains(&(at - begins)), "noticed after {} ms", at - begins);
                }
            }
            scene.turns = true;
            scene.observation.answered_ms = scene.now_ms;
            scene.idle(100.0);
            prop_assert_eq!(scene.ended.len(), expected.len());
            for (stall, block_ms) in scene.ended.iter().zip(expected) {
                let off = (stall.duration_ms - block_ms).abs();
                prop_assert!(off <= 10.1, "{} of {block_ms} ms", stall.duration_ms);
            }
        }
    }
}
