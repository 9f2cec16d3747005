//! A block of an event loop: how long it lasts, and why. The cause is the largest share of its time:
//! on a CPU, waiting for one, or neither.

use super::observation::{Observation, ThreadState};
use super::parse::Scheduled;

/// Why a loop does not turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its thread is on a CPU: JavaScript, or native code called from it.
    Busy,
    /// Its thread sleeps in a system call.
    Blocked,
    /// Its thread is ready and gets no CPU.
    Starved,
    /// As `Starved`, because the quota of the control group is used up.
    Throttled,
    /// The kernel does not say.
    Unknown,
}

impl Cause {
    /// As JavaScript names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Blocked => "blocked",
            Self::Starved => "starved",
            Self::Throttled => "throttled",
            Self::Unknown => "unknown",
        }
    }
}

/// A block under way or over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// When it began, by the process's clock.
    pub since_ms: f64,
    /// How long it has lasted, as far as seen.
    pub duration_ms: f64,
    /// How long it had lasted when it was noticed.
    pub noticed_after_ms: f64,
    /// Why, over its whole length.
    pub cause: Cause,
    /// The system call it was first seen asleep in.
    pub system_call: Option<u32>,
    /// Share of its length on a CPU, 0 to 1.
    pub on_cpu: Option<f64>,
    /// Share of its length waiting for a CPU, 0 to 1.
    pub waiting: Option<f64>,
}

/// What a thread's figures were when a block may have begun: shares are counted from there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Baseline {
    pub(super) scheduled: Option<Scheduled>,
    pub(super) throttled_ms: f64,
}

impl Stall {
    /// One that has just reached the threshold.
    pub(super) fn begun(since_ms: f64, lasted_ms: f64) -> Self {
        Self {
            since_ms,
            duration_ms: lasted_ms,
            noticed_after_ms: lasted_ms,
            cause: Cause::Unknown,
            system_call: None,
            on_cpu: None,
            waiting: None,
        }
    }

    /// As a look finds it, `lasted_ms` after it began.
    pub(super) fn seen(self, baseline: &Baseline, now: &Observation, lasted_ms: f64) -> Self {
        let shares = baseline
            .scheduled
            .zip(now.scheduled)
            .map(|(baseline, now)| {
                let share = |ns: u64| (ns as f64 / 1e6 / lasted_ms.max(1e-3)).clamp(0.0, 1.0);
                (
                    share(now.on_cpu_ns.saturating_sub(baseline.on_cpu_ns)),
                    share(now.waited_ns.saturating_sub(baseline.waited_ns)),
                )
            });
        let throttled = (now.throttled_ms - baseline.throttled_ms) / lasted_ms.max(1e-3);
        let system_call = match now.state {
            ThreadState::Asleep(system_call) => self.system_call.or(system_call),
            _ => self.system_call,
        };
        Self {
            duration_ms: lasted_ms,
            cause: cause(shares, throttled),
            system_call,
            on_cpu: shares.map(|(on_cpu, _)| on_cpu),
            waiting: shares.map(|(_, waiting)| waiting),
            ..self
        }
    }
}

/// By the largest share of the time: on a CPU, waiting for one, neither.
fn cause(shares: Option<(f64, f64)>, throttled: f64) -> Cause {
    let Some((on_cpu, waiting)) = shares else {
        return Cause::Unknown;
    };
    let neither = 1.0 - on_cpu - waiting;
    if waiting >= on_cpu && waiting >= neither {
        return if throttled >= 0.3 {
            Cause::Throttled
        } else {
            Cause::Starved
        };
    }
    if on_cpu >= neither {
        Cause::Busy
    } else {
        Cause::Blocked
    }
}
