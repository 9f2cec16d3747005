//! One look at the process and its container, and the limit that binds.

use super::Files;
use super::cgroup::{Cgroup, CpuStat, MemoryLimit};
use super::parse::{Pressure, field, kilobytes, list_length, process_cpu_ns};

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `maxHeapSize`, against the resident set.
    Configured,
    /// V8's own ceiling, against its heap.
    Heap,
    /// A control group's, against the group's working set.
    Cgroup,
    /// A control group's `memory.high`, where the kernel begins to slow it down.
    CgroupHigh,
    /// The machine's memory, against the resident set.
    Host,
}

impl Bound {
    /// As JavaScript names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Configured => "maxHeapSize",
            Self::Heap => "v8",
            Self::Cgroup => "cgroup",
            Self::CgroupHigh => "cgroup_high",
            Self::Host => "host",
        }
    }
}

/// A limit of memory and what of it is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Whose it is.
    pub bound: Bound,
    /// Bytes.
    pub limit: f64,
    /// Bytes.
    pub used: f64,
    /// For a control group: steps up from the process's own.
    pub level: usize,
}

impl Limit {
    /// How much is used, in percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        self.used / self.limit * 100.0
    }
}

/// What was found. A figure that could not be read is `None`, never 0 or NaN.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// When it was taken, by the process's clock.
    pub at_ms: f64,
    /// Resident bytes.
    pub rss: Option<u64>,
    /// Resident bytes that no file backs.
    pub anonymous: Option<u64>,
    /// Bytes charged to the control group, less droppable page cache.
    pub working_set: Option<u64>,
    /// Memory of the machine.
    pub total: Option<u64>,
    /// What of it is available.
    pub available: Option<u64>,
    /// The limits of control groups and machine.
    pub limits: Vec<Limit>,
    /// 1 or 2.
    pub cgroup_version: Option<u8>,
    /// Kills for memory in the control group.
    pub oom_kills: Option<u64>,
    /// CPUs that the process may be put on.
    pub cpus: Option<u32>,
    /// CPUs that the quota allows.
    pub quota_cpus: Option<f64>,
    /// CPUs used, over the time since the last sample but at least [`CPU_WINDOW_MS`].
    pub used_cpus: Option<f64>,
    /// When `used_cpus` was found.
    pub cpu_at_ms: f64,
    /// Share of time for which the quota denied the CPU, in percent.
    pub throttled_percent: Option<f64>,
    /// Milliseconds for which the quota has denied the CPU so far.
    pub throttled_ms: f64,
    /// PSI of memory, CPU and I/O; `true` where it is the control group's own.
    pub pressure: [Option<(Pressure, bool)>; 3],
}

impl Sample {
    /// CPUs allowed: by affinity and quota.
    #[must_use]
    pub fn allowed_cpus(&self) -> Option<f64> {
        let cpus = self.cpus.map(f64::from);
        match (cpus, self.quota_cpus) {
            (Some(cpus), Some(quota)) => Some(cpus.min(quota)),
            (cpus, quota) => quota.or(cpus),
        }
    }

    /// Percent of the CPUs allowed.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<f64> {
        Some(self.used_cpus? / self.allowed_cpus()? * 100.0)
    }

    /// The limit of which most is used. `heap` is what JavaScript last said of its heap: used and limit.
    #[must_use]
    pub fn binding(&self, max_heap: f64, heap: Option<(f64, f64)>) -> Option<Limit> {
        let configured = self.rss.map(|rss| Limit {
            bound: Bound::Configured,
            limit: max_heap,
            used: rss as f64,
            level: 0,
        });
        let heap = heap
            .filter(|(used, limit)| {
                used.is_finite() && limit.is_finite() && *limit > 0.0 && *used >= 0.0
            })
            .map(|(used, limit)| Limit {
                bound: Bound::Heap,
                limit,
                used,
                level: 0,
            });
        self.limits
            .iter()
            .copied()
            .chain(configured)
            .chain(heap)
            .filter(|limit| limit.limit > 0.0)
            .max_by(|a, b| a.percent().total_cmp(&b.percent()))
    }
}

/// The least time over which CPU is averaged: `/proc` counts it in hundredths of a second.
pub const CPU_WINDOW_MS: f64 = 200.0;

/// What changes rarely, or costs most, is read this often: limits, quota, PSI, the machine's memory.
pub const SETTINGS_MS: f64 = 5000.0;
/// The control group is looked up anew after as many of these: a process is moved rarely.
const FIND_EVERY: u32 = 12;

/// Takes samples, and keeps what the next one is compared with.
#[derive(Debug, Default)]
pub struct Sampling {
    cgroup: Cgroup,
    settings: Option<Settings>,
    read: u32,
    last: Option<Counters>,
    cpu: Option<(f64, f64)>,
    throttled_percent: Option<f64>,
}

/// What is read every [`SETTINGS_MS`].
#[derive(Debug, Clone)]
struct Settings {
    at_ms: f64,
    total: Option<u64>,
    available: Option<u64>,
    limits: Vec<MemoryLimit>,
    working_set: Option<u64>,
    oom_kills: Option<u64>,
    quota_cpus: Option<f64>,
    pressure: [Option<(Pressure, bool)>; 3],
}

#[derive(Debug, Clone, Copy)]
struct Counters {
    at_ms: f64,
    cpu_ns: u64,
    throttled: Option<CpuStat>,
}

impl Sampling {
    /// Reads what is due.
    pub fn sample(&mut self, files: &dyn Files, now_ms: f64) -> Sample {
        let mut settings = match self.settings.take() {
            Some(settings) if now_ms - settings.at_ms < SETTINGS_MS => settings,
            _ => self.read_settings(files, now_ms),
        };
        self.cgroup.refresh(files, &mut settings.limits);
        let status = files.read("/proc/self/status").unwrap_or_default();
        let rss = kilobytes(&status, "VmRSS");
        let throttled = self.cgroup.cpu_stat(files);
        self.compare(files, now_ms, throttled);
        let own = settings.limits.iter().find(|limit| limit.level == 0);
        let limits = settings.limits.iter().map(|limit| Limit {
            bound: if limit.is_soft {
                Bound::CgroupHigh
            } else {
                Bound::Cgroup
            },
            limit: limit.limit as f64,
            used: limit.working_set as f64,
            level: limit.level,
        });
        let host = rss.zip(settings.total).map(|(rss, total)| Limit {
            bound: Bound::Host,
            limit: total as f64,
            used: rss as f64,
            level: 0,
        });
        let sample = Sample {
            at_ms: now_ms,
            rss,
            anonymous: kilobytes(&status, "RssAnon"),
            working_set: own.map(|limit| limit.working_set).or(settings.working_set),
            total: settings.total,
            available: settings.available,
            limits: limits.chain(host).collect(),
            cgroup_version: self.cgroup.version(),
            oom_kills: settings.oom_kills,
            cpus: field(&status, "Cpus_allowed_list").and_then(list_length),
            quota_cpus: settings.quota_cpus,
            used_cpus: self.cpu.map(|(cpus, _)| cpus),
            cpu_at_ms: self.cpu.map_or(now_ms, |(_, at_ms)| at_ms),
            throttled_percent: self.throttled_percent,
            throttled_ms: throttled.map_or(0.0, |stat| stat.throttled_ns as f64 / 1e6),
            pressure: settings.pressure,
        };
        self.settings = Some(settings);
        sample
    }

    fn read_settings(&mut self, files: &dyn Files, now_ms: f64) -> Settings {
        if self.read.is_multiple_of(FIND_EVERY) {
            self.cgroup = Cgroup::find(files);
        }
        self.read = self.read.wrapping_add(1);
        let memory = files.read("/proc/meminfo").unwrap_or_default();
        let total = kilobytes(&memory, "MemTotal");
        let cgroup = &self.cgroup;
        Settings {
            at_ms: now_ms,
            total,
            available: kilobytes(&memory, "MemAvailable"),
            limits: cgroup.memory_limits(files, total),
            working_set: cgroup.working_set(files),
            oom_kills: cgroup.oom_kills(files),
            quota_cpus: cgroup.quota_cpus(files),
            pressure: ["memory", "cpu", "io"].map(|resource| cgroup.pressure(files, resource)),
        }
    }

    /// Nanoseconds for which the quota has denied the CPU so far.
    #[must_use]
    pub fn throttled_ns(&self, files: &dyn Files) -> u64 {
        self.cgroup
            .cpu_stat(files)
            .map_or(0, |stat| stat.throttled_ns)
    }

    fn compare(&mut self, files: &dyn Files, now_ms: f64, throttled: Option<CpuStat>) {
        let Some(cpu_ns) = files
            .read("/proc/self/stat")
            .as_deref()
            .and_then(process_cpu_ns)
        else {
            (self.last, self.cpu, self.throttled_percent) = (None, None, None);
            return;
        };
        let now = Counters {
            at_ms: now_ms,
            cpu_ns,
            throttled,
        };
        let Some(last) = self.last else {
            self.last = Some(now);
            return;
        };
        let elapsed_ms = now_ms - last.at_ms;
        if elapsed_ms < CPU_WINDOW_MS {
            return;
        }
        let share = |ns: u64| ns as f64 / (elapsed_ms * 1e6);
        // A counter that went back is another process's, or a bug of the kernel: no figure is made of it.
        self.cpu = now
            .cpu_ns
            .checked_sub(last.cpu_ns)
            .map(|ns| (share(ns), now_ms));
        self.throttled_percent = throttled.zip(last.throttled).and_then(|(now, last)| {
            Some((share(now.throttled_ns.checked_sub(last.throttled_ns)?) * 100.0).min(100.0))
        });
        self.last = Some(now);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A file system in a table.
    pub(in super::super) struct Table(HashMap<String, String>);

    impl Table {
        pub(in super::super) fn new(files: &[(&str, &str)]) -> Self {
            Self(
                files
                    .iter()
                    .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                    .collect(),
            )
        }
        pub(in super::super) fn put(&mut self, path: &str, text: &str) {
            self.0.insert(path.to_owned(), text.to_owned());
        }
    }

    impl Files for Table {
        fn read(&self, path: &str) -> Option<String> {
            self.0.get(path).cloned()
        }
    }

    const MIB: u64 = 1 << 20;

    /// A process in a group of that quota, on 16 CPUs.
    fn process(ticks: u64, cpu_max: &str) -> Table {
        Table::new(&[
            (
                "/proc/self/status",
                "VmRSS:\t 204800 kB\nRssAnon:\t 102400 kB\nCpus_allowed_list:\t0-15\n",
            ),
            (
                "/proc/meminfo",
                "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
            ),
            (
                "/proc/self/stat",
                &format!("9 (bun) R 1 2 3 4 5 6 7 8 9 10 {ticks} 0 0 0 20"),
            ),
            (
                "/proc/self/mountinfo",
                "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            ),
            ("/proc/self/cgroup", "0::/app\n"),
            ("/sys/fs/cgroup/app/cpu.max", cpu_max),
            (
                "/sys/fs/cgroup/app/cpu.stat",
                &format!("nr_throttled 1\nthrottled_usec {}\n", ticks * 1000),
            ),
        ])
    }

    #[test]
    fn pitfall_1_one_busy_thread_is_100_50_and_6_percent_of_half_a_cpu_of_2_and_of_16() {
        for (cpu_max, percent) in [
            ("100000 100000", 100.0),
            ("200000 100000", 50.0),
            ("max 100000", 6.25),
            ("50000 100000", 200.0),
        ] {
            let mut sampling = Sampling::default();
            sampling.sample(&process(1000, cpu_max), 0.0);
            let sample = sampling.sample(&process(1100, cpu_max), 1000.0);
            assert_eq!(sample.cpu_percent(), Some(percent), "{cpu_max}");
            assert_eq!(sample.used_cpus, Some(1.0));
            assert_eq!(sample.throttled_percent, Some(10.0));
        }
    }

    #[test]
    fn pitfall_2_there_is_no_cpu_before_two_samples_and_none_of_too_short_a_time() {
        let mut sampling = Sampling::default();
        assert_eq!(
            sampling.sample(&process(1000, "max 1"), 0.0).cpu_percent(),
            None
        );
        assert_eq!(
            sampling
                .sample(&process(1001, "max 1"), 199.0)
                .cpu_percent(),
            None
        );
        assert!(
            sampling
                .sample(&process(1020, "max 1"), 200.0)
                .cpu_percent()
                .is_some()
        );
    }

    #[test]
    fn a_counter_that_goes_back_makes_no_figure() {
        let mut sampling = Sampling::default();
        sampling.sample(&process(1000, "max 1"), 0.0);
        let sample = sampling.sample(&process(10, "max 1"), 1000.0);
        assert_eq!((sample.used_cpus, sample.throttled_percent), (None, None));
        assert_eq!(
            sampling.sample(&process(110, "max 1"), 2000.0).used_cpus,
            Some(1.0)
        );
    }

    #[test]
    fn pitfall_3_each_limit_has_its_own_numerator_and_the_fullest_binds() {
        let mut sampling = Sampling::default();
        let mut files = process(1, "max 1");
        let bound = |sample: &Sample, max_mb: u64, heap| {
            sample
                .binding((max_mb * MIB) as f64, heap)
                .map(|limit| (limit.bound, limit.percent().round()))
        };
        let sample = sampling.sample(&files, 0.0);
        assert_eq!(bound(&sample, 400, None), Some((Bound::Configured, 50.0)));
        assert_eq!(bound(&sample, 100_000, None), Some((Bound::Host, 1.0)));
        let heap = Some(((90 * MIB) as f64, (100 * MIB) as f64));
        assert_eq!(bound(&sample, 400, heap), Some((Bound::Heap, 90.0)));
        files.put("/sys/fs/cgroup/app/memory.max", "268435456");
        files.put("/sys/fs/cgroup/app/memory.current", "260046848");
        assert_eq!(
            bound(&sampling.sample(&files, 4999.0), 400, None),
            Some((Bound::Configured, 50.0))
        );
        let sample = sampling.sample(&files, 5000.0);
        assert_eq!(bound(&sample, 400, heap), Some((Bound::Cgroup, 97.0)));
        // Pitfall 4: page cache that can be dropped is not pressure.
        files.put(
            "/sys/fs/cgroup/app/memory.stat",
            "anon 1\ninactive_file 230686720\n",
        );
        let sample = sampling.sample(&files, 5001.0);
        assert_eq!(bound(&sample, 400, None), Some((Bound::Configured, 50.0)));
        assert_eq!(sample.working_set, Some(28 * MIB));
    }

    #[test]
    fn nothing_to_read_is_nothing_known() {
        let sample = Sampling::default().sample(&Table::new(&[]), 5.0);
        assert_eq!(
            (sample.rss, sample.working_set, sample.total, sample.cpus),
            (None, None, None, None)
        );
        assert_eq!((sample.cpu_percent(), sample.allowed_cpus()), (None, None));
        assert_eq!(sample.binding(512.0, None), None);
        assert_eq!(sample.binding(512.0, Some((f64::NAN, 1.0))), None);
        assert_eq!(sample.binding(512.0, Some((1.0, 0.0))), None);
    }
}
