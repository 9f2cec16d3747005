//! Where figures come from: text of the kernel, below a root that tests replace, or whatever else
//! the host has.

use super::parse::{field, kilobytes, list_length, process_cpu_ns};

/// What the process uses; `None` for what cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessFigures {
    /// Resident bytes.
    pub rss: Option<u64>,
    /// Resident bytes that no file backs.
    pub anonymous: Option<u64>,
    /// CPUs that it may be put on.
    pub cpus: Option<u32>,
    /// CPU time so far, all threads.
    pub cpu_ns: Option<u64>,
}

/// Memory of the machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineFigures {
    /// All of it.
    pub total: Option<u64>,
    /// What of it is available.
    pub available: Option<u64>,
}

/// The file system of a Linux, a test's table, or a host that has no such files and says the
/// figures itself.
pub trait Source {
    /// The text of a file; `None` where it cannot be read.
    fn read(&self, path: &str) -> Option<String>;

    /// The same, for a file that is read with every sample.
    fn read_often(&self, path: &str) -> Option<String> {
        self.read(path)
    }

    /// What the process uses: by default, what `/proc` says.
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

    /// The machine's memory: by default, what `/proc` says.
    fn machine(&self) -> MachineFigures {
        let memory = self.read("/proc/meminfo").unwrap_or_default();
        MachineFigures {
            total: kilobytes(&memory, "MemTotal"),
            available: kilobytes(&memory, "MemAvailable"),
        }
    }
}
