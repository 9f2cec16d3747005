//! How a thread asks to be watched.

use crate::resources::Thresholds;

/// How a thread wants to be watched.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in reports.
    pub name: String,
    /// Before `/proc` and `/sys`; empty but in tests.
    pub root: String,
    /// Limit of the resident set.
    pub max_heap_bytes: f64,
    /// Levels of memory.
    pub thresholds: Thresholds,
    /// From how long on a block is a stall; `None` to watch no loop.
    pub stall_ms: Option<f64>,
}
