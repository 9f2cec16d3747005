//! What is told of a member: its own figures, those of the process it shares, and those of its fellows.

use super::cell;
use super::registry::Registry;
use super::stall_record::StallRecord;
use super::watched_thread::{Totals, WatchedThread};
use crate::resources::{Dated, Delays, Level, Limit, Quantiles, Sample};

/// Everything about one member, at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The process's clock.
    pub now_ms: f64,
    /// The process and its container.
    pub sample: Sample,
    /// The limit that binds.
    pub limit: Option<Dated<Limit>>,
    /// The level of memory.
    pub level: Level,
    /// The share of one core that the thread has used, 0 to 1.
    pub thread_cpu: Option<Dated<f64>>,
    /// The share of time in which the loop was not in poll, 0 to 1.
    pub utilization: Option<Dated<f64>>,
    /// Delays of its loop in the last minute.
    pub delays: Option<Dated<Quantiles>>,
    /// The same of all threads, those that have ended left out.
    pub process_delays: Option<Dated<Quantiles>>,
    /// Delays of all loops that there were, of all time.
    pub lifetime_delays: Option<Dated<Quantiles>>,
    /// When its loop was last looked at; `None` if it is not watched.
    pub observed_ms: Option<f64>,
    /// The same of the thread whose loop was looked at longest ago.
    pub all_observed_ms: Option<f64>,
    /// Whether the loop is watched, and whether the kernel shows the thread.
    pub visibility: (bool, bool),
    /// Stalls of this thread.
    pub stalls: u64,
    /// The one under way.
    pub stall: Option<StallRecord>,
    /// Times at which everything was stopped.
    pub pauses: u32,
    /// Threads under watch.
    pub threads: Vec<ThreadReport>,
    /// Of all threads, those that have ended included.
    pub process_requests: f64,
    /// Stalls of all threads, those that have ended included.
    pub process_stalls: u64,
    /// Milliseconds of all stalls.
    pub process_stalled_ms: f64,
    /// The watcher's own CPU since its last sample, share of one core.
    pub own_cpu: Option<Dated<f64>>,
}

/// A member as others see it.
#[derive(Debug, Clone)]
pub struct ThreadReport {
    /// Its name.
    pub name: String,
    /// Requests in flight.
    pub in_flight: f64,
    /// Share of one core.
    pub cpu: Option<Dated<f64>>,
    /// Share of time out of poll.
    pub utilization: Option<Dated<f64>>,
    /// Stalls so far.
    pub stalls: u64,
}

impl ThreadReport {
    fn of(thread: &WatchedThread) -> Self {
        Self {
            name: thread.config.name.clone(),
            in_flight: thread.load(cell::IN_FLIGHT),
            cpu: thread.thread_cpu,
            utilization: thread.utilization,
            stalls: thread.stalls,
        }
    }
}

impl Registry {
    /// Adds up a figure over all threads, those that have left included.
    fn sum(&self, figure: fn(&Totals) -> f64) -> f64 {
        let past = self.past.as_ref().map_or(0.0, figure);
        let threads = self.threads.iter();
        past + threads.map(|thread| figure(&thread.totals())).sum::<f64>()
    }

    /// Everything about the member at `at`; `None` before the first sample.
    pub(super) fn report(&mut self, at: usize, now_ms: f64) -> Option<Report> {
        let mut current = Delays::new(now_ms);
        let mut lifetime = self
            .past
            .as_ref()
            .map_or_else(|| Delays::new(now_ms), |past| past.delays.clone());
        for thread in &self.threads {
            current.merge(&thread.delays);
            lifetime.merge(&thread.delays);
        }
        let threads = self.threads.iter().map(ThreadReport::of).collect();
        let observed = self.threads.iter().filter_map(WatchedThread::observed_ms);
        let all_observed_ms = observed.reduce(f64::min);
        let (process_requests, process_stalled_ms) = (
            self.sum(|totals| totals.requests),
            self.sum(|totals| totals.stalled_ms),
        );
        let process_stalls = self.sum(|totals| totals.stalls as f64) as u64;
        let own_cpu = self.own.cpu;
        let thread = self.threads.get_mut(at)?;
        let host = self.hosts.iter().find(|host| host.root == thread.root())?;
        Some(Report {
            now_ms,
            sample: host.sample.clone(),
            limit: thread.limit,
            level: thread.level(),
            thread_cpu: thread.thread_cpu,
            utilization: thread.utilization,
            delays: thread.delays.last_minute(now_ms),
            process_delays: current.last_minute(now_ms),
            lifetime_delays: lifetime.lifetime(),
            observed_ms: thread.observed_ms(),
            all_observed_ms,
            visibility: thread.visibility(),
            stalls: thread.stalls,
            stall: thread.current_stall(),
            pauses: thread.pauses(),
            threads,
            process_requests,
            process_stalls,
            process_stalled_ms,
            own_cpu,
        })
    }
}
