//! The report of a watched thread: its own figures, those of the process, and those of the other
//! threads.

use super::cell;
use super::registry::Registry;
use super::stall_record::StallRecord;
use super::watched_thread::WatchedThread;
use crate::resources::{Dated, DelaySum, Level, Limit, Quantiles, Sample};

/// All figures of one watched thread at one time.
#[derive(Debug, Clone)]
pub struct Report {
    /// Time of the report, by the process's clock.
    pub now_ms: f64,
    /// The process and its container.
    pub sample: Sample,
    /// The memory limit of which most is used.
    pub limit: Option<Dated<Limit>>,
    /// The level of memory pressure.
    pub level: Level,
    /// Share of one core that the thread uses, 0 to 1.
    pub thread_cpu: Option<Dated<f64>>,
    /// Share of time in which the loop was not in poll, 0 to 1.
    pub utilization: Option<Dated<f64>>,
    /// Mean of the utilization over the last 10 s.
    pub recent_utilization: Option<Dated<f64>>,
    /// Delays of the thread's loop in the last minute.
    pub delays: Option<Dated<Quantiles>>,
    /// Delays of the loops of all current threads in the last minute.
    pub process_delays: Option<Dated<Quantiles>>,
    /// Delays of all loops over all time.
    pub lifetime_delays: Option<Dated<Quantiles>>,
    /// Last observation of the loop; `None` if it is not watched.
    pub observed_ms: Option<f64>,
    /// Last observation of the loop that was observed longest ago.
    pub all_observed_ms: Option<f64>,
    /// Whether the loop is watched, and whether the kernel shows the thread.
    pub visibility: (bool, bool),
    /// Stalls of this thread.
    pub stalls: u64,
    /// The stall under way.
    pub stall: Option<StallRecord>,
    /// Times that everything was stopped.
    pub pauses: u32,
    /// The watched threads.
    pub threads: Vec<ThreadReport>,
    /// Requests of all threads, including threads that have left.
    pub process_requests: f64,
    /// Stalls of all threads, including threads that have left.
    pub process_stalls: u64,
    /// Duration of all stalls, ms.
    pub process_stalled_ms: f64,
    /// CPU of the watcher since its last sample, share of one core.
    pub own_cpu: Option<Dated<f64>>,
}

/// Figures of one thread in the reports of all.
#[derive(Debug, Clone)]
pub struct ThreadReport {
    /// Name.
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
    /// Returns all figures of the thread at index `at`; `None` before the first sample.
    pub(super) fn report(&mut self, at: usize, now_ms: f64) -> Option<Report> {
        let mut totals = self.past.clone();
        let mut process_minute = DelaySum::default();
        let mut delays = None;
        for (index, thread) in self.threads.iter_mut().enumerate() {
            thread.add_to(&mut totals);
            let minute = thread.delays.last_minute(now_ms);
            process_minute.add(&minute);
            if index == at {
                delays = minute.quantiles();
            }
        }
        let threads = self.threads.iter().map(ThreadReport::of).collect();
        let observed = self.threads.iter().filter_map(WatchedThread::observed_ms);
        let all_observed_ms = observed.reduce(f64::min);
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
            recent_utilization: thread.recent_utilization(),
            delays,
            process_delays: process_minute.quantiles(),
            lifetime_delays: totals.delays.quantiles(),
            observed_ms: thread.observed_ms(),
            all_observed_ms,
            visibility: thread.visibility(),
            stalls: thread.stalls,
            stall: thread.current_stall(),
            pauses: thread.pauses(),
            threads,
            process_requests: totals.requests,
            process_stalls: totals.stalls,
            process_stalled_ms: totals.stalled_ms,
            own_cpu,
        })
    }
}
