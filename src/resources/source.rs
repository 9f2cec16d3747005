//! The source of figures: texts of the kernel below a root that tests replace, or another interface
//! of the host.

use super::parse::{field, kilobytes, list_length, process_cpu_ns};

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

/// Memory of the machine, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineFigures {
    /// Total.
    pub total: Option<u64>,
    /// Available.
    pub available: Option<u64>,
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

    /// Returns the machine's memory; by default from `/proc`.
    fn machine(&self) -> MachineFigures {
        let memory = self.read("/proc/meminfo").unwrap_or_default();
        MachineFigures {
            total: kilobytes(&memory, "MemTotal"),
            available: kilobytes(&memory, "MemAvailable"),
        }
    }
}
