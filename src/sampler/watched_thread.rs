//! One watched JavaScript thread: its cells, its stall watch, its stalls and its figures.
//!
//! Does not own the schedule (`registry`) or the files of the kernel (`system`).

use super::cell::{self, Cells};
use super::config::Config;
use super::log::Log;
use super::mailbox::{Mailbox, NOTICE_HEAP, NOTICE_LEVEL, NOTICE_STALL};
use super::stall_record::StallRecord;
use super::system::{CpuClock, KernelThread};
use crate::resources::{
    CPU_WINDOW_MS, Dated, DelaySum, Delays, Level, Limit, OBSERVE_INTERVAL_MS, Observation,
    PressureGauge, Sample, Stall, StallWatch, ThreadState, Transition,
};
use crate::wake_channel::WakeChannel;
use std::collections::VecDeque;
use std::sync::Arc;

/// Stalls and transitions that are kept.
const KEPT: usize = 64;
/// Labels per thread.
const LABELS_MAX: usize = 1024;
/// Characters per label.
const LABEL_MAX: usize = 200;

/// An observation later than this may be due to the watcher waiting for a CPU.
pub(super) const LATE_MS: f64 = 5.0;
/// Looks at a thread that has not run, until the next full observation.
const RESTS_MAX: u32 = 50;

/// Window of the mean utilization, ms.
const RECENT_MS: f64 = 10_000.0;

/// The share of a thread in the totals of the process, or of several.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) requests: f64,
    pub(super) stalls: u64,
    pub(super) stalled_ms: f64,
    pub(super) delays: DelaySum,
}

/// One watched thread.
pub(super) struct WatchedThread {
    pub(super) id: u64,
    pub(super) config: Config,
    cells: Box<dyn Cells>,
    mailbox: Arc<Mailbox>,
    channel: Option<WakeChannel>,
    kernel: Option<KernelThread>,
    watch: Option<StallWatch>,
    suspect: Option<u64>,
    gauge: PressureGauge,
    pub(super) limit: Option<Dated<Limit>>,
    labels: Vec<String>,
    log: Option<Log>,
    pub(super) observe_due_ms: f64,
    observed_ms: f64,
    /// Interval that the latest observation asked for, ms.
    interval_ms: f64,
    /// Looks since the latest observation that found that the thread had not run; time of the latest.
    rests: u32,
    rested_ms: f64,
    /// Time in which the thread was seen asleep outside of poll since its use was measured, ms.
    blocked_ms: f64,
    stalled_label: String,
    stalled_in_flight: f64,
    pub(super) ring: VecDeque<StallRecord>,
    pub(super) transitions: VecDeque<(f64, Transition)>,
    pub(super) stalls: u64,
    stalled_ms: f64,
    pub(super) delays: Delays,
    usage: Option<Usage>,
    pub(super) thread_cpu: Option<Dated<f64>>,
    pub(super) utilization: Option<Dated<f64>>,
    /// Time and busy time of the latest measurements, which cover [`RECENT_MS`].
    recent: VecDeque<(f64, f64)>,
}

/// Scheduler figures of the thread at the latest sample.
#[derive(Debug, Clone, Copy)]
struct Usage {
    at_ms: f64,
    on_cpu_ns: u64,
    waited_ns: u64,
}

impl WatchedThread {
    pub(super) fn new(
        id: u64,
        config: Config,
        cells: Box<dyn Cells>,
        mailbox: Arc<Mailbox>,
        channel: Option<WakeChannel>,
        now_ms: f64,
    ) -> Self {
        let kernel = KernelThread::current(&config.root);
        Self {
            id,
            cells,
            mailbox,
            kernel,
            watch: config
                .stall_ms
                .filter(|_| channel.is_some())
                .map(StallWatch::new),
            channel,
            suspect: None,
            gauge: PressureGauge::new(config.thresholds),
            limit: None,
            labels: vec![String::new()],
            log: None,
            observe_due_ms: now_ms,
            observed_ms: now_ms,
            interval_ms: 0.0,
            rests: RESTS_MAX,
            rested_ms: now_ms,
            blocked_ms: 0.0,
            stalled_label: String::new(),
            stalled_in_flight: 0.0,
            ring: VecDeque::new(),
            transitions: VecDeque::new(),
            stalls: 0,
            stalled_ms: 0.0,
            delays: Delays::new(now_ms),
            usage: None,
            thread_cpu: None,
            utilization: None,
            recent: VecDeque::new(),
            config,
        }
    }

    /// Takes the CPU clock of the thread. Files of a test belong to no thread that runs.
    pub(super) fn has_clock(&mut self, clock: Option<CpuClock>) {
        if let Some(kernel) = self.kernel.as_mut().filter(|_| self.config.root.is_empty()) {
            kernel.clock = clock;
        }
    }

    pub(super) fn root(&self) -> &str {
        &self.config.root
    }

    /// True if a block may soon become a stall.
    pub(super) fn is_suspect(&self, now_ms: f64) -> bool {
        self.watch
            .as_ref()
            .is_some_and(|watch| watch.is_suspect(now_ms))
    }

    /// Writes a line to the log, if there is one.
    pub(super) fn write(&mut self, now_ms: f64, line: &str) {
        if let Some(log) = &mut self.log {
            log.write(now_ms, line);
        }
    }

    /// Takes the log out of a thread that leaves.
    pub(super) fn take_log(&mut self) -> Option<Log> {
        self.log.take()
    }

    pub(super) fn log_to(&mut self, log: Option<Log>) {
        self.log = log;
    }

    /// Returns whether the loop is watched, and whether the kernel shows the thread.
    pub(super) fn visibility(&self) -> (bool, bool) {
        (self.watch.is_some(), self.kernel.is_some())
    }

    /// Returns the time of the last observation, if the loop is watched.
    pub(super) fn observed_ms(&self) -> Option<f64> {
        self.watch
            .as_ref()
            .map(|_| self.observed_ms.max(self.rested_ms))
    }

    pub(super) fn pauses(&self) -> u32 {
        self.watch.as_ref().map_or(0, StallWatch::pauses)
    }

    pub(super) fn level(&self) -> Level {
        self.gauge.level()
    }

    pub(super) fn load(&self, at: usize) -> f64 {
        self.cells.load(at)
    }

    pub(super) fn store(&self, at: usize, value: f64) {
        self.cells.store(at, value);
    }

    /// Adds the share of this thread.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        totals.requests += self.load(cell::REQUESTS);
        totals.stalls += self.stalls;
        totals.stalled_ms += self.stalled_ms;
        totals.delays.add(&self.delays.lifetime());
    }

    pub(super) fn label(&mut self, at: usize, text: &str) -> bool {
        if at == 0 || at != self.labels.len() || at >= LABELS_MAX {
            return false;
        }
        // A label must not break the line of a log.
        self.labels.push(
            text.chars()
                .take(LABEL_MAX)
                .map(|c| if c.is_control() { '?' } else { c })
                .collect(),
        );
        true
    }

    fn label_in_flight(&self) -> &str {
        self.labels
            .get(self.load(cell::LABEL) as usize)
            .map_or("", String::as_str)
    }

    /// Looks at a thread whose loop is at rest. Returns `false` if it has to be observed: the thread
    /// has run, or there were many looks since the latest observation, or this one comes late.
    ///
    /// An idle loop costs these looks. They touch little memory, since other programs have taken the
    /// caches in the meantime; the next observation makes up for them.
    pub(super) fn rests(&mut self, now_ms: f64) -> bool {
        let rests = self.rests < RESTS_MAX
            && now_ms - self.observe_due_ms <= LATE_MS
            && self.kernel.as_ref().is_some_and(KernelThread::has_not_run);
        if rests {
            self.rests += 1;
            self.rested_ms = now_ms;
            self.observe_due_ms = now_ms + self.interval_ms;
        }
        rests
    }

    /// Makes up for the looks since the latest observation.
    fn end_rest(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        if self.rested_ms > self.observed_ms {
            watch.rested(self.rested_ms, self.observe_due_ms);
            self.was_in_poll(self.rested_ms);
            self.observed_ms = self.rested_ms;
        }
    }

    /// Observes the thread. Returns the lines to write.
    pub(super) fn observe(
        &mut self,
        now_ms: f64,
        own_wait_ms: f64,
        throttled_ms: f64,
    ) -> Vec<String> {
        self.end_rest();
        let Some(watch) = &mut self.watch else {
            self.observe_due_ms = f64::INFINITY;
            return Vec::new();
        };
        let (scheduled, state) = self
            .kernel
            .as_mut()
            .map_or((None, ThreadState::Unknown), KernelThread::observe);
        let collectors_ns = self
            .kernel
            .as_mut()
            .and_then(|kernel| kernel.collectors_ns(state));
        let verdict = watch.observe(Observation {
            at_ms: now_ms,
            state,
            scheduled,
            answered_ms: self.mailbox.answered_ms(),
            begun: self.cells.load(cell::BEGUN) as u64,
            own_wait_ms,
            throttled_ms,
            collectors_ns,
        });
        if matches!(state, ThreadState::Asleep(_))
            && self
                .kernel
                .as_ref()
                .is_some_and(|kernel| kernel.suspect().is_none())
        {
            self.blocked_ms += (now_ms - self.observed_ms).min(2.0 * OBSERVE_INTERVAL_MS);
        }
        if let Some(delay_ms) = verdict.delay_ms {
            self.answered(now_ms, delay_ms, state);
        }
        if verdict.challenge {
            self.suspect = self.kernel.as_ref().and_then(KernelThread::suspect);
            if let Some(channel) = &mut self.channel {
                channel.wake();
            }
        }
        self.observed_ms = now_ms;
        self.interval_ms = verdict.next_ms;
        self.observe_due_ms = now_ms + verdict.next_ms;
        let is_at_rest = self.watch.as_ref().is_some_and(StallWatch::is_at_rest);
        self.rests = if is_at_rest { 0 } else { RESTS_MAX };
        let mut lines = Vec::new();
        lines.extend(verdict.begun.map(|stall| self.stall_begun(&stall)));
        lines.extend(verdict.ended.map(|stall| self.stall_ended(&stall)));
        if self.log.is_some() {
            lines
        } else {
            Vec::new()
        }
    }

    /// Records the delay of an event from outside.
    fn answered(&mut self, now_ms: f64, delay_ms: f64, state: ThreadState) {
        if state != ThreadState::Poll
            && let Some(kernel) = &mut self.kernel
        {
            kernel.answered(delay_ms, self.suspect);
        }
        if delay_ms > 0.0 {
            self.delays.record(now_ms, delay_ms, OBSERVE_INTERVAL_MS);
        } else {
            self.was_in_poll(now_ms);
        }
    }

    /// Records the time without a delay: observations of a calm loop are further apart, and each
    /// stands for the interval it covers.
    fn was_in_poll(&mut self, now_ms: f64) {
        let times = ((now_ms - self.observed_ms) / OBSERVE_INTERVAL_MS)
            .round()
            .clamp(1.0, 1000.0);
        self.delays.record_none(now_ms, times as u64);
    }

    fn stall_begun(&mut self, stall: &Stall) -> String {
        self.stalled_label = self.label_in_flight().to_owned();
        self.stalled_in_flight = self.load(cell::IN_FLIGHT);
        self.store(cell::STALL, (self.stalls + 1) as f64);
        self.record(self.stalls + 1, stall).line(false)
    }

    fn stall_ended(&mut self, stall: &Stall) -> String {
        self.stalls += 1;
        self.stalled_ms += stall.duration_ms;
        self.store(cell::STALL, 0.0);
        let record = self.record(self.stalls, stall);
        let text = record.line(true);
        if self.ring.len() == KEPT {
            self.ring.pop_front();
        }
        self.ring.push_back(record);
        self.stalled_label.clear();
        self.notify(NOTICE_STALL);
        text
    }

    /// Returns the stall under way.
    pub(super) fn current_stall(&self) -> Option<StallRecord> {
        let stall = self.watch.as_ref()?.stall()?;
        Some(self.record(self.stalls + 1, &stall))
    }

    fn record(&self, id: u64, stall: &Stall) -> StallRecord {
        StallRecord {
            id,
            thread: self.config.name.clone(),
            stall: *stall,
            label: self.stalled_label.clone(),
            in_flight: self.stalled_in_flight,
        }
    }

    /// Leaves a notice for the thread and wakes its loop.
    fn notify(&mut self, notice: u32) {
        self.mailbox.add_notice(notice);
        if let Some(channel) = &mut self.channel {
            channel.wake();
        }
    }

    /// Takes a sample of the process; `others` is the number of requests in flight on other
    /// threads.
    pub(super) fn take_sample(&mut self, sample: &Sample, others: f64) {
        let heap = (self.load(cell::HEAP_USED), self.load(cell::HEAP_LIMIT));
        let limit = sample
            .binding(self.config.max_heap_bytes, Some(heap))
            .filter(|limit| limit.percent() >= self.floor(sample));
        let percent = limit.map_or(f64::NAN, |limit| limit.percent());
        if let Some(limit) = limit {
            self.limit = Some(Dated::new(limit, sample.at_ms));
        }
        if let Some(transition) = self.gauge.sample(sample.at_ms, percent) {
            if self.transitions.len() == KEPT {
                self.transitions.pop_front();
            }
            self.transitions.push_back((sample.at_ms, transition));
            self.notify(NOTICE_LEVEL);
        } else if percent >= self.config.thresholds.warning {
            self.notify(NOTICE_HEAP);
        }
        self.measure(sample.at_ms);
        self.store(cell::PERCENT, percent);
        self.store(
            cell::RSS,
            sample.rss.map_or(f64::NAN, |rss| rss.value as f64),
        );
        self.store(
            cell::CPU_PERCENT,
            sample
                .cpu_percent()
                .map_or(f64::NAN, |percent| percent.value),
        );
        self.store(cell::OTHERS_IN_FLIGHT, others);
        self.store(cell::SAMPLED_AT, sample.at_ms);
        self.store(cell::LEVEL, f64::from(self.gauge.level() as u8));
    }

    /// Returns the percentage below which a sample is ignored.
    fn floor(&self, sample: &Sample) -> f64 {
        // An incomplete sample does not prove that memory is no longer short.
        match self.gauge.level() {
            _ if sample.is_whole() => f64::NEG_INFINITY,
            Level::Ok => f64::NEG_INFINITY,
            Level::Warning => self.config.thresholds.warning,
            Level::Critical => self.config.thresholds.critical,
        }
    }

    /// Measures CPU and utilization of the thread since the latest sample.
    fn measure(&mut self, now_ms: f64) {
        let seen = self.kernel.as_mut().map(KernelThread::observe);
        // The kernel's figures are new to the watch over the loop.
        self.rests = RESTS_MAX;
        let Some((Some(scheduled), _)) = seen else {
            return;
        };
        let now = Usage {
            at_ms: now_ms,
            on_cpu_ns: scheduled.on_cpu_ns,
            waited_ns: scheduled.waited_ns,
        };
        let last = *self.usage.get_or_insert(now);
        let elapsed_ms = now_ms - last.at_ms;
        if elapsed_ms < CPU_WINDOW_MS {
            return;
        }
        let share = |now: u64, last: u64| {
            (now.saturating_sub(last) as f64 / 1e6 / elapsed_ms).clamp(0.0, 1.0)
        };
        let on_cpu = share(now.on_cpu_ns, last.on_cpu_ns);
        self.thread_cpu = Some(Dated::new(on_cpu, now_ms));
        self.usage = Some(now);
        if self.watch.is_none() {
            return;
        }
        // Time on a CPU and time waiting for one are exact; time asleep outside of poll is sampled.
        let asleep = std::mem::take(&mut self.blocked_ms) / elapsed_ms;
        let busy = on_cpu + share(now.waited_ns, last.waited_ns) + asleep;
        let busy = busy.min(1.0);
        self.utilization = Some(Dated::new(busy, now_ms));
        self.recent.push_back((elapsed_ms, busy * elapsed_ms));
        let covered = |recent: &VecDeque<(f64, f64)>| recent.iter().map(|(ms, _)| ms).sum::<f64>();
        while self.recent.len() > 1 && covered(&self.recent) - self.recent[0].0 >= RECENT_MS {
            self.recent.pop_front();
        }
    }

    /// Returns the mean of the utilization over the last [`RECENT_MS`].
    pub(super) fn recent_utilization(&self) -> Option<Dated<f64>> {
        let (all, busy) = self
            .recent
            .iter()
            .fold((0.0, 0.0), |(all, busy), (ms, busy_ms)| {
                (all + ms, busy + busy_ms)
            });
        self.utilization
            .filter(|_| all > 0.0)
            .map(|last| Dated::new((busy / all).min(1.0), last.at_ms))
    }
}
