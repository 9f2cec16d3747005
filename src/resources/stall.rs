//! A stall of an event loop: its duration and its cause. The cause is the state in which the thread
//! spent most of the time: on a CPU, waiting for one, or asleep.

use super::observation::{Observation, ThreadState};
use super::parse::Scheduled;

/// The cause of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The thread is on a CPU: JavaScript, or native code called from it; or it waits for the
    /// engine's collector threads, which are.
    Busy,
    /// The thread sleeps in a system call.
    Blocked,
    /// The thread is ready to run but gets no CPU.
    Starved,
    /// As `Starved`, because the quota of the control group is used up.
    Throttled,
    /// The kernel does not show it.
    Unknown,
}

impl Cause {
    /// Returns the name that JavaScript uses.
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

/// A stall under way or over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Start, by the process's clock.
    pub since_ms: f64,
    /// Duration up to the last observation.
    pub duration_ms: f64,
    /// Duration at the time it was noticed.
    pub noticed_after_ms: f64,
    /// Cause, over the whole duration.
    pub cause: Cause,
    /// Whether the thread was ever seen asleep.
    pub was_asleep: bool,
    /// The first system call in which the thread was seen asleep.
    pub system_call: Option<u32>,
    /// Share of the duration on a CPU, 0 to 1.
    pub on_cpu: Option<f64>,
    /// Share of the duration waiting for a CPU, 0 to 1.
    pub waiting: Option<f64>,
}

/// Figures of the thread when a stall may have begun; shares count from there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Baseline {
    pub(super) scheduled: Option<Scheduled>,
    pub(super) throttled_ms: f64,
    /// As first seen within the block.
    pub(super) collectors_ns: Option<u64>,
}

impl Stall {
    /// Creates a stall that has just reached the threshold.
    pub(super) fn begun(since_ms: f64, lasted_ms: f64) -> Self {
        Self {
            since_ms,
            duration_ms: lasted_ms,
            noticed_after_ms: lasted_ms,
            cause: Cause::Unknown,
            was_asleep: false,
            system_call: None,
            on_cpu: None,
            waiting: None,
        }
    }

    /// Updates the stall from an observation `lasted_ms` after its start.
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
        let collecting = baseline
            .collectors_ns
            .zip(now.collectors_ns)
            .map_or(0.0, |(baseline, now)| {
                now.saturating_sub(baseline) as f64 / 1e6 / lasted_ms.max(1e-3)
            });
        let was_asleep = self.was_asleep || matches!(now.state, ThreadState::Asleep(_));
        // A wait counts when it ends: a thread that was never asleep still waits for a CPU.
        let for_cause = shares.map(|(on_cpu, waiting)| {
            let least = if was_asleep { 0.0 } else { 1.0 - on_cpu };
            (on_cpu, waiting.max(least))
        });
        let system_call = match now.state {
            ThreadState::Asleep(system_call) => self.system_call.or(system_call),
            _ => self.system_call,
        };
        Self {
            duration_ms: lasted_ms,
            cause: cause(for_cause, throttled, collecting),
            was_asleep,
            system_call,
            on_cpu: shares.map(|(on_cpu, _)| on_cpu),
            waiting: shares.map(|(_, waiting)| waiting),
            ..self
        }
    }
}

/// Returns the cause with the largest share of the time: on a CPU, waiting for one, or neither. A
/// thread that waits for the engine's collector threads is busy with them: JavaScriptCore collects
/// on threads of its own.
fn cause(shares: Option<(f64, f64)>, throttled: f64, collecting: f64) -> Cause {
    let Some((on_cpu, waiting)) = shares else {
        return Cause::Unknown;
    };
    let asleep = (1.0 - on_cpu - waiting).max(0.0);
    let collecting = collecting.min(asleep);
    let (on_cpu, neither) = (on_cpu + collecting, asleep - collecting);
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
