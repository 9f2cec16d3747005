//! Figures of the process and the machine on hosts without `/proc`, from the `sysinfo` crate. It
//! knows no control groups and no figures of single threads.

use crate::resources::{MachineFigures, ProcessFigures, Source};
use std::cell::RefCell;
use std::thread::available_parallelism;
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

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
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        // The crate returns 0 for "not known".
        let known = |bytes: u64| Some(bytes).filter(|bytes| *bytes > 0);
        MachineFigures {
            total: known(system.total_memory()),
            available: known(system.available_memory()),
        }
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
        assert_eq!(portable.read("/proc/self/status"), None);
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
