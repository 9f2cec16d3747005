//! The configuration of a watched thread.

use crate::resources::Thresholds;

/// The configuration of a watched thread.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the thread in reports.
    pub name: String,
    /// Prefix of `/proc` and `/sys`; empty except in tests.
    pub root: String,
    /// Limit of the resident set, bytes.
    pub max_heap_bytes: f64,
    /// Thresholds of memory pressure.
    pub thresholds: Thresholds,
    /// Shortest block that counts as a stall, ms; `None` to watch no event loop.
    pub stall_ms: Option<f64>,
}
