//! One sample of the process and its container, and the memory limit of which most is used.
//!
//! Owns the dates of the figures and the comparison with the previous sample. Does not own the
//! level derived from it (`pressure`).

use super::cgroup::{Cgroup, CpuStat, MemoryLimit, Quota};
use super::parse::Pressure;
use super::source::Source;

/// The kind of a memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The option `maxHeapSizeMb`, compared with the resident set.
    Configured,
    /// V8's heap limit, compared with its heap.
    Heap,
    /// The limit of a control group, compared with the group's working set.
    Cgroup,
    /// `memory.high` of a control group, where the kernel starts to slow it down.
    CgroupHigh,
    /// The machine's memory, compared with the resident set.
    Host,
}

impl Bound {
    /// Returns the name that JavaScript uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Configured => "maxHeapSizeMb",
            Self::Heap => "v8",
            Self::Cgroup => "cgroup",
            Self::CgroupHigh => "cgroup_high",
            Self::Host => "host",
        }
    }
}

/// A memory limit and its use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Kind of the limit.
    pub bound: Bound,
    /// Limit, bytes.
    pub limit: f64,
    /// Use, bytes.
    pub used: f64,
    /// For a control group: levels above the process's own group.
    pub level: usize,
}

impl Limit {
    /// Returns the use in percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        self.used / self.limit * 100.0
    }
}

/// A figure with the time at which it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dated<T> {
    /// The figure.
    pub value: T,
    /// Time, by the process's clock.
    pub at_ms: f64,
}

impl<T> Dated<T> {
    /// Dates a figure.
    pub fn new(value: T, at_ms: f64) -> Self {
        Self { value, at_ms }
    }

    /// Converts the figure and keeps its date.
    #[must_use]
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Dated<U> {
        Dated::new(form(self.value), self.at_ms)
    }

    /// Stores a figure that was read. One that could not be read keeps its last value and date.
    fn renew(known: &mut Option<Self>, found: Option<T>, now_ms: f64) {
        if let Some(value) = found {
            *known = Some(Self::new(value, now_ms));
        }
    }
}

/// All figures. A figure that could never be read is `None`, never 0 or NaN; one that can no longer
/// be read keeps its last value and date.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Time of the sample, by the process's clock.
    pub at_ms: f64,
    /// Resident bytes.
    pub rss: Option<Dated<u64>>,
    /// Resident bytes that no file backs.
    pub anonymous: Option<Dated<u64>>,
    /// Bytes charged to the control group, without the droppable page cache.
    pub working_set: Option<Dated<u64>>,
    /// Memory of the machine, bytes.
    pub total: Option<Dated<u64>>,
    /// Available memory of the machine, bytes.
    pub available: Option<Dated<u64>>,
    /// Swap of the machine, bytes.
    pub swap_total: Option<Dated<u64>>,
    /// Swap in use, bytes.
    pub swap_used: Option<Dated<u64>>,
    /// Load averages of the machine over 1, 5 and 15 minutes.
    pub load: Option<Dated<[f64; 3]>>,
    /// CPUs of the machine.
    pub machine_cpus: Option<Dated<u32>>,
    /// Start of the process, seconds since 1970.
    pub started_s: Option<Dated<u64>>,
    /// Open files of the process.
    pub open_files: Option<Dated<u64>>,
    /// Limit of open files.
    pub open_files_limit: Option<Dated<u64>>,
    /// Limits of control groups and of the machine whose use was read for this sample.
    pub limits: Vec<Limit>,
    /// Version of the control groups, 1 or 2.
    pub cgroup_version: Option<Dated<u8>>,
    /// Processes of the control group killed for memory.
    pub oom_kills: Option<Dated<u64>>,
    /// CPUs that the affinity allows.
    pub cpus: Option<Dated<u32>>,
    /// CPUs that the quota allows.
    pub quota_cpus: Option<Dated<f64>>,
    /// CPUs used since the last sample, averaged over at least [`CPU_WINDOW_MS`].
    pub used_cpus: Option<Dated<f64>>,
    /// Share of time for which the quota denied the CPU, percent.
    pub throttled_percent: Option<Dated<f64>>,
    /// Time for which the quota has denied the CPU so far, ms.
    pub throttled_ms: f64,
    /// PSI of memory, CPU and I/O; `true` if it is the control group's own.
    pub pressure: [Option<Dated<(Pressure, bool)>>; 3],
}

impl Sample {
    /// Returns the CPUs allowed by affinity and quota, with the older of the two dates.
    #[must_use]
    pub fn allowed_cpus(&self) -> Option<Dated<f64>> {
        let cpus = self.cpus.map(|cpus| cpus.map(f64::from));
        match (cpus, self.quota_cpus) {
            (Some(cpus), Some(quota)) => Some(Dated::new(
                cpus.value.min(quota.value),
                cpus.at_ms.min(quota.at_ms),
            )),
            (cpus, quota) => quota.or(cpus),
        }
    }

    /// Returns the CPU use in percent of the allowed CPUs, with the date of the use.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<Dated<f64>> {
        let allowed = self.allowed_cpus()?.value;
        Some(self.used_cpus?.map(|used| used / allowed * 100.0))
    }

    /// True if the resident set was read for this sample, or never could be read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.rss.is_none_or(|rss| rss.at_ms == self.at_ms)
    }

    /// Returns the resident bytes if they were read for this sample.
    fn fresh_rss(&self) -> Option<u64> {
        self.rss
            .filter(|rss| rss.at_ms == self.at_ms)
            .map(|rss| rss.value)
    }

    /// Returns the limit of which most is used. Only figures of this sample count, so that no level
    /// is derived from old ones. `heap` is the use and limit that JavaScript reported last for its
    /// heap.
    #[must_use]
    pub fn binding(&self, max_heap: f64, heap: Option<(f64, f64)>) -> Option<Limit> {
        let configured = self.fresh_rss().map(|rss| Limit {
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

/// Shortest time over which CPU use is averaged: `/proc` counts it in hundredths of a second.
pub const CPU_WINDOW_MS: f64 = 200.0;

/// Interval of figures that change rarely or cost most to read: limits, quota, PSI, the machine's
/// memory.
pub const SETTINGS_MS: f64 = 5000.0;
/// After this many of those reads the control group is looked up again: processes are moved rarely.
const FIND_EVERY: u32 = 12;
/// More open files than this are counted as rarely: the kernel lists a directory of them.
const FILES_OFTEN: u64 = 1024;

/// Takes samples, and keeps the counters that the next one is compared with.
#[derive(Debug, Default)]
pub struct Sampling {
    cgroup: Cgroup,
    known: Sample,
    limits: Vec<MemoryLimit>,
    settings_ms: Option<f64>,
    read: u32,
    last: Option<Counters>,
}

#[derive(Debug, Clone, Copy)]
struct Counters {
    at_ms: f64,
    cpu_ns: u64,
    throttled: Option<CpuStat>,
}

impl Sampling {
    /// Reads the figures that are due.
    pub fn sample(&mut self, source: &dyn Source, now_ms: f64) -> Sample {
        self.known.at_ms = now_ms;
        if self
            .settings_ms
            .is_none_or(|at_ms| now_ms - at_ms >= SETTINGS_MS)
        {
            self.settings_ms = Some(now_ms);
            self.read_settings(source, now_ms);
        }
        self.cgroup.refresh(source, &mut self.limits);
        let process = source.process();
        let throttled = self.cgroup.cpu_stat(source);
        self.compare(process.cpu_ns, now_ms, throttled);
        let known = &mut self.known;
        Dated::renew(&mut known.rss, process.rss, now_ms);
        Dated::renew(&mut known.anonymous, process.anonymous, now_ms);
        Dated::renew(&mut known.cpus, process.cpus, now_ms);
        let own = self.limits.iter().find(|limit| limit.level == 0);
        Dated::renew(
            &mut known.working_set,
            own.map(|limit| limit.working_set),
            now_ms,
        );
        if let Some(throttled) = throttled {
            known.throttled_ms = throttled.throttled_ns as f64 / 1e6;
        }
        let limits = self.limits.iter().map(|limit| Limit {
            bound: if limit.is_soft {
                Bound::CgroupHigh
            } else {
                Bound::Cgroup
            },
            limit: limit.limit as f64,
            used: limit.working_set as f64,
            level: limit.level,
        });
        // Some sandboxes report 0 bytes of memory.
        let total = known.total.filter(|total| total.value > 0);
        let host = process.rss.zip(total).map(|(rss, total)| Limit {
            bound: Bound::Host,
            limit: total.value as f64,
            used: rss as f64,
            level: 0,
        });
        known.limits = limits.chain(host).collect();
        known.clone()
    }

    fn read_settings(&mut self, source: &dyn Source, now_ms: f64) {
        let is_rare_due = self.read.is_multiple_of(FIND_EVERY);
        self.read_host(source, now_ms, is_rare_due);
        if is_rare_due {
            self.cgroup = Cgroup::find(source);
            Dated::renew(
                &mut self.known.cgroup_version,
                self.cgroup.version(),
                now_ms,
            );
        }
        self.read = self.read.wrapping_add(1);
        let (cgroup, known) = (&self.cgroup, &mut self.known);
        self.limits = cgroup.memory_limits(source, known.total.map(|total| total.value));
        Dated::renew(&mut known.working_set, cgroup.working_set(source), now_ms);
        Dated::renew(&mut known.oom_kills, cgroup.oom_kills(source), now_ms);
        match cgroup.quota(source) {
            Some(Quota::Cpus(cpus)) => known.quota_cpus = Some(Dated::new(cpus, now_ms)),
            Some(Quota::Unlimited) => known.quota_cpus = None,
            None => {}
        }
        for (known, resource) in known.pressure.iter_mut().zip(["memory", "cpu", "io"]) {
            Dated::renew(known, cgroup.pressure(source, resource), now_ms);
        }
    }

    /// Reads the figures of the machine, and those of the process that change rarely.
    fn read_host(&mut self, source: &dyn Source, now_ms: f64, is_rare_due: bool) {
        let known = &mut self.known;
        let machine = source.machine();
        Dated::renew(&mut known.total, machine.total, now_ms);
        Dated::renew(&mut known.available, machine.available, now_ms);
        Dated::renew(&mut known.swap_total, machine.swap_total, now_ms);
        Dated::renew(&mut known.swap_used, machine.swap_used, now_ms);
        Dated::renew(&mut known.load, machine.load, now_ms);
        let are_few = known
            .open_files
            .is_none_or(|files| files.value <= FILES_OFTEN);
        if is_rare_due || are_few {
            Dated::renew(&mut known.open_files, source.open_files(), now_ms);
        }
        if is_rare_due {
            let rare = source.rare();
            Dated::renew(&mut known.machine_cpus, rare.machine_cpus, now_ms);
            Dated::renew(&mut known.started_s, rare.started_s, now_ms);
            Dated::renew(&mut known.open_files_limit, rare.open_files_limit, now_ms);
        }
    }

    /// Returns the time for which the quota has denied the CPU so far, ns.
    #[must_use]
    pub fn throttled_ns(&self, source: &dyn Source) -> u64 {
        self.cgroup
            .cpu_stat(source)
            .map_or(0, |stat| stat.throttled_ns)
    }

    fn compare(&mut self, cpu_ns: Option<u64>, now_ms: f64, throttled: Option<CpuStat>) {
        let Some(cpu_ns) = cpu_ns else {
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
        // A counter that decreases belongs to another process, or is a bug of the kernel: there is
        // no figure then.
        self.known.used_cpus = now
            .cpu_ns
            .checked_sub(last.cpu_ns)
            .map(|ns| Dated::new(share(ns), now_ms));
        if let Some((now, last)) = throttled.zip(last.throttled) {
            self.known.throttled_percent = now
                .throttled_ns
                .checked_sub(last.throttled_ns)
                .map(|ns| Dated::new((share(ns) * 100.0).min(100.0), now_ms));
        }
        self.last = Some(now);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A file system in a map.
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
        fn take(&mut self, path: &str) {
            self.0.remove(path);
        }
        pub(in super::super) fn put(&mut self, path: &str, text: &str) {
            self.0.insert(path.to_owned(), text.to_owned());
        }
    }

    impl Source for Table {
        fn read(&self, path: &str) -> Option<String> {
            self.0.get(path).cloned()
        }
    }

    const MIB: u64 = 1 << 20;

    fn value<T>(figure: Option<Dated<T>>) -> Option<T> {
        figure.map(|figure| figure.value)
    }

    /// A process in a group with that quota, on 16 CPUs.
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
    fn one_busy_thread_is_100_50_6_and_200_percent_of_1_2_16_and_half_a_cpu() {
        for (cpu_max, percent) in [
            ("100000 100000", 100.0),
            ("200000 100000", 50.0),
            ("max 100000", 6.25),
            ("50000 100000", 200.0),
        ] {
            let mut sampling = Sampling::default();
            sampling.sample(&process(1000, cpu_max), 0.0);
            let sample = sampling.sample(&process(1100, cpu_max), 1000.0);
            assert_eq!(value(sample.cpu_percent()), Some(percent), "{cpu_max}");
            assert_eq!(value(sample.used_cpus), Some(1.0));
            assert_eq!(value(sample.throttled_percent), Some(10.0));
        }
    }

    #[test]
    fn cpu_use_needs_two_samples_with_enough_time_between() {
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
    fn a_counter_that_decreases_gives_no_figure() {
        let mut sampling = Sampling::default();
        sampling.sample(&process(1000, "max 1"), 0.0);
        let sample = sampling.sample(&process(10, "max 1"), 1000.0);
        assert_eq!((sample.used_cpus, sample.throttled_percent), (None, None));
        assert_eq!(
            sampling.sample(&process(110, "max 1"), 2000.0).used_cpus,
            Some(Dated::new(1.0, 2000.0))
        );
    }

    #[test]
    fn each_limit_has_its_own_numerator_and_the_fullest_counts() {
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
        // Droppable page cache is not pressure.
        files.put(
            "/sys/fs/cgroup/app/memory.stat",
            "anon 1\ninactive_file 230686720\n",
        );
        let sample = sampling.sample(&files, 5001.0);
        assert_eq!(bound(&sample, 400, None), Some((Bound::Configured, 50.0)));
        assert_eq!(value(sample.working_set), Some(28 * MIB));
    }

    #[test]
    fn an_unreadable_figure_keeps_its_value_and_date_while_others_are_renewed() {
        let mut sampling = Sampling::default();
        let mut files = process(1000, "50000 100000");
        for kind in ["memory", "cpu", "io"] {
            files.put(
                &format!("/proc/pressure/{kind}"),
                "some avg10=1.00 avg60=2.00 avg300=0 total=0\n",
            );
        }
        files.put("/sys/fs/cgroup/app/memory.max", "268435456");
        files.put("/sys/fs/cgroup/app/memory.current", "1048576");
        files.put("/sys/fs/cgroup/app/memory.events", "oom_kill 3\n");
        sampling.sample(&files, 0.0);
        files.put(
            "/proc/self/stat",
            "9 (bun) R 1 2 3 4 5 6 7 8 9 10 1100 0 0 0 20",
        );
        let all = sampling.sample(&files, 5000.0);
        assert_eq!(all.quota_cpus, Some(Dated::new(0.5, 5000.0)));
        let dates = |sample: &Sample| {
            let at = |date: Option<f64>| date.unwrap_or(f64::NAN);
            [
                at(sample.rss.map(|figure| figure.at_ms)),
                at(sample.anonymous.map(|figure| figure.at_ms)),
                at(sample.cpus.map(|figure| figure.at_ms)),
                at(sample.total.map(|figure| figure.at_ms)),
                at(sample.available.map(|figure| figure.at_ms)),
                at(sample.working_set.map(|figure| figure.at_ms)),
                at(sample.oom_kills.map(|figure| figure.at_ms)),
                at(sample.quota_cpus.map(|figure| figure.at_ms)),
                at(sample.used_cpus.map(|figure| figure.at_ms)),
                at(sample.throttled_percent.map(|figure| figure.at_ms)),
                at(sample.pressure[0].map(|figure| figure.at_ms)),
                at(sample.pressure[1].map(|figure| figure.at_ms)),
                at(sample.pressure[2].map(|figure| figure.at_ms)),
            ]
        };
        assert_eq!(dates(&all), [5000.0; 13]);
        // One file at a time, with the positions above of the figures that it contains.
        for (path, text, old) in [
            ("/proc/self/status", None, &[0, 1, 2][..]),
            ("/proc/self/status", Some("VmRSS:\t 1 MB\n"), &[0, 1, 2]),
            ("/proc/meminfo", None, &[3, 4]),
            ("/proc/meminfo", Some("MemTotal: 16777216 kB\n"), &[4]),
            ("/proc/self/stat", Some("9 (bun"), &[8, 9]),
            ("/sys/fs/cgroup/app/memory.current", Some("much"), &[5]),
            ("/sys/fs/cgroup/app/memory.events", None, &[6]),
            ("/sys/fs/cgroup/app/cpu.max", Some("some"), &[7]),
            ("/sys/fs/cgroup/app/cpu.stat", None, &[9]),
            ("/proc/pressure/memory", None, &[10]),
            ("/proc/pressure/io", Some("some avg10=nan"), &[12]),
        ] {
            let kept = files.read(path).unwrap();
            match text {
                Some(text) => files.put(path, text),
                None => files.take(path),
            }
            let known = sampling.sample(&files, 10_000.0);
            let mut expected = [10_000.0; 13];
            old.iter().for_each(|at| expected[*at] = 5000.0);
            assert_eq!(dates(&known), expected, "{path} {text:?}");
            assert_eq!(value(known.rss), value(all.rss));
            assert_eq!(value(known.oom_kills), Some(3));
            files.put(path, &kept);
            sampling = Sampling::default();
            sampling.sample(&process(1000, "50000 100000"), 0.0);
            sampling.sample(&files, 5000.0);
        }
    }

    #[test]
    fn old_figures_decide_no_level() {
        let mut sampling = Sampling::default();
        let mut files = process(1, "max 1");
        let limit = sampling.sample(&files, 0.0).binding(400.0, None);
        assert_eq!(limit.map(|limit| limit.bound), Some(Bound::Configured));
        files.take("/proc/self/status");
        let sample = sampling.sample(&files, 1000.0);
        assert_eq!(sample.rss, Some(Dated::new(200 * MIB, 0.0)));
        assert_eq!(sample.binding(400.0, None), None);
        assert_eq!((sample.limits.len(), sample.is_whole()), (0, false));
    }

    #[test]
    fn a_lifted_quota_is_gone_and_an_unreadable_one_stays() {
        let mut sampling = Sampling::default();
        let allowed = |sample: Sample| value(sample.allowed_cpus());
        let mut files = process(1, "50000 100000");
        assert_eq!(allowed(sampling.sample(&files, 0.0)), Some(0.5));
        files.take("/sys/fs/cgroup/app/cpu.max");
        assert_eq!(allowed(sampling.sample(&files, 5000.0)), Some(0.5));
        files.put("/sys/fs/cgroup/app/cpu.max", "max 100000");
        assert_eq!(allowed(sampling.sample(&files, 10_000.0)), Some(16.0));
    }

    #[test]
    fn a_host_without_memory_is_no_limit() {
        let mut files = process(1, "max 1");
        files.put("/proc/meminfo", "MemTotal: 0 kB\n");
        let sample = Sampling::default().sample(&files, 0.0);
        assert!(
            sample
                .limits
                .iter()
                .all(|limit| limit.percent().is_finite())
        );
    }

    #[test]
    fn no_files_give_no_figures() {
        let sample = Sampling::default().sample(&Table::new(&[]), 5.0);
        assert_eq!(
            (sample.rss, sample.working_set, sample.total),
            (None, None, None)
        );
        assert_eq!((sample.cpus, sample.cgroup_version), (None, None));
        assert_eq!((sample.cpu_percent(), sample.allowed_cpus()), (None, None));
        assert_eq!(sample.binding(512.0, None), None);
        assert_eq!(sample.binding(512.0, Some((f64::NAN, 1.0))), None);
        assert_eq!(sample.binding(512.0, Some((1.0, 0.0))), None);
    }
}
