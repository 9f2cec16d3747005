//! The cells that a JavaScript thread shares with the watcher, with the writer of each. NaN means
//! "no value yet".
//!
//! `docs/memory.md` lists them from here. Each cell has one writer.

/// Memory that a JavaScript thread shares with the watcher.
pub trait Cells: Send {
    /// Reads a cell.
    fn load(&self, at: usize) -> f64;
    /// Writes one of the watcher's cells.
    fn store(&self, at: usize, value: f64);
}

/// JavaScript: requests in flight.
pub const IN_FLIGHT: usize = 0;
/// JavaScript: requests begun so far.
pub const REQUESTS: usize = 1;
/// JavaScript: requests and messages begun so far.
pub const BEGUN: usize = 2;
/// JavaScript: label of the request or message begun last; 0 for none.
pub const LABEL: usize = 3;
/// JavaScript: bytes of its heap in use.
pub const HEAP_USED: usize = 4;
/// JavaScript: bytes of its heap limit.
pub const HEAP_LIMIT: usize = 5;
/// Watcher: level of memory pressure: 0 ok, 1 warning, 2 critical.
pub const LEVEL: usize = 6;
/// Watcher: percent in use of the memory limit of which most is used.
pub const PERCENT: usize = 7;
/// Watcher: resident bytes of the process.
pub const RSS: usize = 8;
/// Watcher: percent of the allowed CPUs in use.
pub const CPU_PERCENT: usize = 9;
/// Watcher: requests in flight on other threads.
pub const OTHERS_IN_FLIGHT: usize = 10;
/// Watcher: time of the last sample, by the process's clock.
pub const SAMPLED_AT: usize = 11;
/// Watcher: number of the stall under way; 0 if there is none.
pub const STALL: usize = 12;
/// The names of the cells, in their order.
pub const NAMES: [&str; 13] = [
    "IN_FLIGHT",
    "REQUESTS",
    "BEGUN",
    "LABEL",
    "HEAP_USED",
    "HEAP_LIMIT",
    "LEVEL",
    "PERCENT",
    "RSS",
    "CPU_PERCENT",
    "OTHERS_IN_FLIGHT",
    "SAMPLED_AT",
    "STALL",
];
