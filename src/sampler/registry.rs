//! The registry: the watched threads, the samples of the process, and the schedule: a sample every
//! second, and an observation of each loop when its watch asks for one. Time is an argument.

use super::cell;
use super::system::{Kernel, OwnFigures};
use super::watched_thread::{LATE_MS, Totals, WatchedThread};
use crate::resources::{Dated, IDLE_OBSERVE_INTERVAL_MS, Level, Sample, Sampling, Source};
use std::thread::JoinHandle;

/// Interval of samples; the shorter one applies while memory is short or there is no CPU figure
/// yet.
pub(super) const SAMPLE_MS: f64 = 1000.0;
const SAMPLE_SOON_MS: f64 = 250.0;

/// The process and container below one root.
pub(super) struct Host {
    pub(super) root: String,
    source: Box<dyn Source + Send>,
    sampling: Sampling,
    pub(super) sample: Sample,
    due_ms: f64,
}

impl Host {
    fn new(root: &str, now_ms: f64) -> Self {
        Self {
            root: root.to_owned(),
            source: source(root),
            sampling: Sampling::default(),
            sample: Sample::default(),
            due_ms: now_ms,
        }
    }
}

/// Returns the source of a host's figures. A root other than the empty one is always a Linux file
/// system.
fn source(root: &str) -> Box<dyn Source + Send> {
    if root.is_empty() {
        #[cfg(target_os = "linux")]
        return Box::new(super::portable::Combined::new());
        #[cfg(not(target_os = "linux"))]
        return Box::new(super::portable::Portable::new());
    }
    Box::new(Kernel::new(root))
}

/// The watched threads and the hosts that they belong to.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) threads: Vec<WatchedThread>,
    pub(super) hosts: Vec<Host>,
    /// The share of the threads that have left.
    pub(super) past: Totals,
    pub(super) next_id: u64,
    pub(super) is_running: bool,
    pub(super) watcher: Option<JoinHandle<()>>,
    pub(super) own: OwnUsage,
}

/// The watcher's figures about itself.
#[derive(Default)]
pub(super) struct OwnUsage {
    figures: Option<OwnFigures>,
    wait_ms: f64,
    on_cpu_ns: u64,
    at_ms: f64,
    pub(super) cpu: Option<Dated<f64>>,
}

impl OwnUsage {
    /// Reads the figures; on the watcher's thread only.
    fn refresh(&mut self) -> Option<u64> {
        if self.figures.is_none() {
            self.figures = OwnFigures::open();
        }
        let scheduled = self.figures.as_ref()?.read()?;
        self.wait_ms = scheduled.waited_ns as f64 / 1e6;
        Some(scheduled.on_cpu_ns)
    }

    fn measure(&mut self, now_ms: f64) {
        let Some(on_cpu_ns) = self.refresh() else {
            return;
        };
        if self.at_ms > 0.0 && now_ms > self.at_ms {
            let used = on_cpu_ns.saturating_sub(self.on_cpu_ns) as f64 / 1e6;
            self.cpu = Some(Dated::new(used / (now_ms - self.at_ms), now_ms));
        }
        (self.on_cpu_ns, self.at_ms) = (on_cpu_ns, now_ms);
    }
}

impl Registry {
    /// Does everything that is due. Returns the time of the next call.
    pub(super) fn tick(&mut self, now_ms: f64) -> f64 {
        // Done together with an observation if one is near: a wake-up costs more than either.
        if self
            .hosts
            .iter()
            .any(|host| host.due_ms <= now_ms + IDLE_OBSERVE_INTERVAL_MS)
        {
            self.sample(now_ms);
            self.own.measure(now_ms);
        }
        for thread in self
            .threads
            .iter_mut()
            .filter(|thread| thread.observe_due_ms <= now_ms + 0.1)
        {
            if thread.rests(now_ms) {
                continue;
            }
            // After a late observation, read whether the watcher itself waited for a CPU.
            if now_ms - thread.observe_due_ms > LATE_MS {
                self.own.refresh();
            }
            let host = self.hosts.iter().find(|host| host.root == thread.root());
            let throttled_ms = host.map_or(0.0, |host| {
                if thread.is_suspect(now_ms) {
                    host.sampling.throttled_ns(&*host.source) as f64 / 1e6
                } else {
                    host.sample.throttled_ms
                }
            });
            for line in thread.observe(now_ms, self.own.wait_ms, throttled_ms) {
                thread.write(now_ms, &line);
            }
        }
        let observations = self.threads.iter().map(|thread| thread.observe_due_ms);
        self.hosts
            .iter()
            .map(|host| host.due_ms)
            .chain(observations)
            .fold(f64::INFINITY, f64::min)
    }

    /// Removes a thread and adds its totals to those of the threads that have left.
    pub(super) fn remember(&mut self, at: usize) {
        self.threads.swap_remove(at).add_to(&mut self.past);
    }

    pub(super) fn sample(&mut self, now_ms: f64) {
        for thread in &self.threads {
            if !self.hosts.iter().any(|host| host.root == thread.root()) {
                self.hosts.push(Host::new(thread.root(), now_ms));
            }
        }
        let in_flight: f64 = self
            .threads
            .iter()
            .map(|thread| thread.load(cell::IN_FLIGHT))
            .sum();
        for host in &mut self.hosts {
            host.sample = host.sampling.sample(&*host.source, now_ms);
            let mut is_short = host.sample.used_cpus.is_none();
            for thread in self
                .threads
                .iter_mut()
                .filter(|thread| thread.root() == host.root)
            {
                let others = in_flight - thread.load(cell::IN_FLIGHT);
                thread.take_sample(&host.sample, others);
                is_short |= thread.level() > Level::Ok;
            }
            host.due_ms = now_ms + if is_short { SAMPLE_SOON_MS } else { SAMPLE_MS };
        }
    }
}
