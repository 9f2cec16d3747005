//! Figures of the process and the machine from the `sysinfo` crate, on every platform. On Linux our
//! own reading (`system`) stays for the figures that the crate lacks (control groups, pressure,
//! single threads), and for those that cost the watcher its budget: memory and CPU of the process,
//! each second, and the number of open files. `bench/sources.rs` compares the two.

use crate::resources::{MachineFigures, ProcessFigures, RareFigures, Source};
use std::cell::RefCell;
use std::thread::available_parallelism;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};

/// The host, through its own interfaces.
pub(super) struct Portable {
    /// `None` if the crate does not support the host.
    system: Option<RefCell<System>>,
    pid: Pid,
}

impl Portable {
    pub(super) fn new() -> Self {
        Self {
            system: System::new().ok().map(RefCell::new),
            pid: Pid::from_u32(std::process::id()),
        }
    }
}

impl Source for Portable {
    fn read(&self, _path: &str) -> Option<String> {
        None
    }

    fn process(&self) -> ProcessFigures {
        let Some(system) = &self.system else {
            return ProcessFigures::default();
        };
        let mut system = system.borrow_mut();
        let wanted = ProcessRefreshKind::nothing()
            .with_memory()
            .with_cpu()
            .without_tasks();
        // Drops the process from the list if the crate can read nothing, so that old figures do not
        // count as new.
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), true, wanted);
        let process = system.process(self.pid);
        ProcessFigures {
            rss: process.map(sysinfo::Process::memory).filter(|rss| *rss > 0),
            anonymous: None,
            cpus: available_parallelism()
                .ok()
                .and_then(|cpus| u32::try_from(cpus.get()).ok()),
            cpu_ns: process
                .and_then(|process| process.accumulated_cpu_time().checked_mul(1_000_000)),
        }
    }

    fn machine(&self) -> MachineFigures {
        let Some(system) = &self.system else {
            return MachineFigures::default();
        };
        let mut system = system.borrow_mut();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
        // The crate returns 0 for "not known".
        let known = |bytes: u64| Some(bytes).filter(|bytes| *bytes > 0);
        let total = known(system.total_memory());
        let swap = total.map(|_| (system.total_swap(), system.used_swap()));
        MachineFigures {
            total,
            available: known(system.available_memory()),
            // A machine without swap has 0 of it, if its memory is known.
            swap_total: swap.map(|(total, _)| total),
            swap_used: swap.map(|(_, used)| used),
            load: load(),
        }
    }

    fn rare(&self) -> RareFigures {
        let Some(system) = &self.system else {
            return RareFigures::default();
        };
        let mut system = system.borrow_mut();
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let cpus = u32::try_from(system.cpus().len()).ok();
        let process = system.process(self.pid);
        RareFigures {
            machine_cpus: cpus.filter(|cpus| *cpus > 0),
            started_s: process
                .map(sysinfo::Process::start_time)
                .filter(|seconds| *seconds > 0),
            open_files_limit: process
                .and_then(sysinfo::Process::open_files_limit)
                .and_then(|files| u64::try_from(files).ok()),
        }
    }

    fn open_files(&self) -> Option<u64> {
        let system = self.system.as_ref()?.borrow();
        let files = system.process(self.pid)?.open_files()?;
        u64::try_from(files).ok()
    }
}

/// Returns the load averages; `None` on Windows, which has none.
fn load() -> Option<[f64; 3]> {
    if cfg!(windows) {
        return None;
    }
    let average = System::load_average().ok()?;
    Some([average.one, average.five, average.fifteen])
}

/// Linux: the crate's figures of the machine, and our own of the process.
#[cfg(target_os = "linux")]
pub(super) struct Combined {
    portable: Portable,
    kernel: super::system::Kernel,
}

#[cfg(target_os = "linux")]
impl Combined {
    pub(super) fn new() -> Self {
        let portable = Portable::new();
        // The first refresh puts the process into the crate's list, from which `rare` reads.
        portable.process();
        Self {
            portable,
            kernel: super::system::Kernel::new(""),
        }
    }
}

#[cfg(target_os = "linux")]
impl Source for Combined {
    fn read(&self, path: &str) -> Option<String> {
        self.kernel.read(path)
    }

    fn read_often(&self, path: &str) -> Option<String> {
        self.kernel.read_often(path)
    }

    fn process(&self) -> ProcessFigures {
        // Every second: the crate takes ten times as long (bench/sources.rs), and knows neither the
        // part without files nor the affinity.
        let ours = self.kernel.process();
        if ours.rss.is_some() && ours.cpu_ns.is_some() {
            return ours;
        }
        let theirs = self.portable.process();
        ProcessFigures {
            rss: ours.rss.or(theirs.rss),
            cpu_ns: ours.cpu_ns.or(theirs.cpu_ns),
            ..ours
        }
    }

    fn machine(&self) -> MachineFigures {
        let theirs = self.portable.machine();
        if theirs.total.is_some() && theirs.available.is_some() {
            theirs
        } else {
            self.kernel.machine()
        }
    }

    fn rare(&self) -> RareFigures {
        self.portable.rare()
    }

    fn open_files(&self) -> Option<u64> {
        // Since 6.2 the kernel counts them as the size of the directory. The crate lists it, which
        // takes some 2 µs a file: 25 ms for 10,000.
        let counted = std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
        Some(counted)
            .filter(|files| *files > 0)
            .or_else(|| self.portable.open_files())
    }
}

#[cfg(test)]
mod tests {
    use super::super::system::Kernel;
    use super::*;
    use crate::resources::{Bound, Sampling};

    /// Uses CPU until the process's CPU time has grown by `ns`.
    fn spend(source: &dyn Source, ns: u64) {
        let start = source.process().cpu_ns.unwrap();
        let mut sum = 0u64;
        while source.process().cpu_ns.unwrap() < start + ns {
            sum = std::hint::black_box((0..100_000u64).fold(sum, u64::wrapping_add));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn portable_figures_agree_with_proc() {
        let (portable, kernel) = (Portable::new(), Kernel::new(""));
        let near = |a: Option<u64>, b: Option<u64>, share: f64| {
            let (a, b) = (a.unwrap() as f64, b.unwrap() as f64);
            assert!((a - b).abs() <= share * a.max(b), "{a} {b}");
        };
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        spend(&kernel, 300_000_000);
        let (a, b) = (portable.process(), kernel.process());
        near(a.rss, b.rss, 0.1);
        assert!(b.rss.unwrap() > held.len() as u64);
        near(a.cpu_ns, b.cpu_ns, 0.2);
        // The portable figure includes the quota.
        assert!(a.cpus.unwrap() >= 1 && a.cpus <= b.cpus);
        let (a, b) = (portable.machine(), kernel.machine());
        assert_eq!(a.total, b.total);
        near(a.available, b.available, 0.1);
        assert_eq!(a.swap_total, b.swap_total);
        let swap = |figures: &MachineFigures| figures.swap_used.unwrap() as f64;
        assert!((swap(&a) - swap(&b)).abs() <= 0.1 * a.total.unwrap() as f64);
        let (a, b) = (a.load.unwrap(), b.load.unwrap());
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 0.5),
            "{a:?} {b:?}"
        );
        assert_eq!(portable.read("/proc/self/status"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rare_figures_agree_with_proc() {
        let combined = Combined::new();
        let rare = combined.rare();
        let cpus = combined.read("/sys/devices/system/cpu/online").unwrap();
        let (first, last) = cpus.trim().split_once('-').unwrap_or(("0", cpus.trim()));
        let online = last.parse::<u32>().unwrap() - first.parse::<u32>().unwrap() + 1;
        assert_eq!(rare.machine_cpus, Some(online));
        let limits = combined.read("/proc/self/limits").unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let limit = line.and_then(|line| line.split_ascii_whitespace().nth(3)?.parse().ok());
        assert_eq!(rare.open_files_limit, limit);
        let stat = combined.read("/proc/self/stat").unwrap();
        let ticks = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_ascii_whitespace()
            .nth(19);
        let booted = combined.read("/proc/stat").unwrap();
        let booted = booted
            .lines()
            .find_map(|line| line.strip_prefix("btime "))
            .unwrap();
        let started =
            booted.parse::<f64>().unwrap() + ticks.unwrap().parse::<f64>().unwrap() / 100.0;
        assert!((rare.started_s.unwrap() as f64 - started).abs() <= 2.0);
        let before = combined.open_files().unwrap();
        let held: Vec<_> = (0..40)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        // Other tests open and close files meanwhile.
        let near = |a: u64, b: u64| assert!(a.abs_diff(b) <= 20, "{a} {b}");
        near(combined.open_files().unwrap(), before + 40);
        near(combined.portable.open_files().unwrap(), before + 40);
        drop(held);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn combined_figures_have_those_of_both() {
        let process = Combined::new().process();
        assert!(process.rss.is_some() && process.cpu_ns.is_some());
        assert!(process.anonymous.is_some() && process.cpus.is_some());
    }

    #[test]
    fn portable_samples_have_memory_cpu_and_the_machines_limit() {
        let portable = Portable::new();
        let mut sampling = Sampling::default();
        let first = sampling.sample(&portable, 0.0);
        assert_eq!(first.cpu_percent(), None);
        let before = portable.process().cpu_ns.unwrap();
        spend(&portable, 250_000_000);
        let sample = sampling.sample(&portable, 1000.0);
        let used = (portable.process().cpu_ns.unwrap() - before) as f64 / 1e9;
        assert!((sample.used_cpus.unwrap().value - used).abs() < 0.1);
        assert!(sample.cpu_percent().unwrap().value > 0.0);
        let bounds: Vec<Bound> = sample.limits.iter().map(|limit| limit.bound).collect();
        assert_eq!(bounds, [Bound::Host]);
        assert_eq!(
            sample.binding(1.0, None).map(|limit| limit.bound),
            Some(Bound::Configured)
        );
        assert!(sample.cgroup_version.is_none() && sample.pressure.iter().all(Option::is_none));
    }
}
