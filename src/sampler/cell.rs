//! The cells that a JavaScript thread shares with the watcher, by who writes them. NaN is "no value yet".

/// Memory that a JavaScript thread shares with the watcher.
pub trait Cells: Send {
    /// Reads a cell.
    fn load(&self, at: usize) -> f64;
    /// Writes a cell of the watcher's.
    fn store(&self, at: usize, value: f64);
}

/// JavaScript: requests in flight.
pub const IN_FLIGHT: usize = 0;
/// JavaScript: requests that began, in all.
pub const REQUESTS: usize = 1;
/// JavaScript: requests and messages that began, in all.
pub const BEGUN: usize = 2;
/// JavaScript: label of what began last; 0 for none.
pub const LABEL: usize = 3;
/// JavaScript: bytes of its heap in use.
pub const HEAP_USED: usize = 4;
/// JavaScript: bytes at which its engine gives up.
pub const HEAP_LIMIT: usize = 5;
/// Watcher: 0 ok, 1 warning, 2 critical.
pub const LEVEL: usize = 6;
/// Watcher: percent of the binding limit in use.
pub const PERCENT: usize = 7;
/// Watcher: resident bytes of the process.
pub const RSS: usize = 8;
/// Watcher: percent of the allowed CPUs in use.
pub const CPU_PERCENT: usize = 9;
/// Watcher: requests in flight on other threads.
pub const OTHERS_IN_FLIGHT: usize = 10;
/// Watcher: when it sampled last, by the process's clock.
pub const SAMPLED_AT: usize = 11;
/// Watcher: since when the loop is blocked; NaN while it is not.
pub const STALLED_SINCE: usize = 12;
/// Their names, in their order.
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
    "STALLED_SINCE",
];
