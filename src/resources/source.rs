//! The source of figures: texts of the kernel below a root that tests replace, or another interface
//! of the host.

use super::parse::{field, kilobytes, list_length, load, process_cpu_ns};

/// Memory and CPU of the process; `None` for figures that the host does not provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessFigures {
    /// Resident bytes.
    pub rss: Option<u64>,
    /// Resident bytes that no file backs.
    pub anonymous: Option<u64>,
    /// CPUs that the affinity allows.
    pub cpus: Option<u32>,
    /// CPU time of all threads so far, ns.
    pub cpu_ns: Option<u64>,
}

/// Memory of the machine in bytes, its load and its CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MachineFigures {
    /// Total memory.
    pub total: Option<u64>,
    /// Available memory.
    pub available: Option<u64>,
    /// Total swap; 0 without swap.
    pub swap_total: Option<u64>,
    /// Swap in use.
    pub swap_used: Option<u64>,
    /// Load averages of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
}

/// Figures of the process that cost much to read, or never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RareFigures {
    /// CPUs of the machine.
    pub machine_cpus: Option<u32>,
    /// Start of the process, seconds since 1970.
    pub started_s: Option<u64>,
    /// Limit of open files.
    pub open_files_limit: Option<u64>,
}

/// A file system of Linux, a map in tests, or a host without such files that provides the figures
/// itself.
pub trait Source {
    /// Returns the text of a file; `None` if it cannot be read.
    fn read(&self, path: &str) -> Option<String>;

    /// Returns the text of a file that every sample reads.
    fn read_often(&self, path: &str) -> Option<String> {
        self.read(path)
    }

    /// Returns the figures of the process; by default from `/proc`.
    fn process(&self) -> ProcessFigures {
        let status = self.read_often("/proc/self/status").unwrap_or_default();
        ProcessFigures {
            rss: kilobytes(&status, "VmRSS"),
            anonymous: kilobytes(&status, "RssAnon"),
            cpus: field(&status, "Cpus_allowed_list").and_then(list_length),
            cpu_ns: self
                .read_often("/proc/self/stat")
                .as_deref()
                .and_then(process_cpu_ns),
        }
    }

    /// Returns the machine's memory and load; by default from `/proc`.
    fn machine(&self) -> MachineFigures {
        let memory = self.read("/proc/meminfo").unwrap_or_default();
        let swap_total = kilobytes(&memory, "SwapTotal");
        MachineFigures {
            total: kilobytes(&memory, "MemTotal"),
            available: kilobytes(&memory, "MemAvailable"),
            swap_total,
            swap_used: swap_total
                .zip(kilobytes(&memory, "SwapFree"))
                .and_then(|(total, free)| total.checked_sub(free)),
            load: self.read("/proc/loadavg").as_deref().and_then(load),
        }
    }

    /// Returns the figures that are read once a minute; by default none.
    fn rare(&self) -> RareFigures {
        RareFigures::default()
    }

    /// Returns the number of open files of the process; by default none.
    fn open_files(&self) -> Option<u64> {
        None
    }
}
