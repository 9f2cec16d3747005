//! The process's own time, the same on every thread: what threads share is judged by it.

use std::sync::LazyLock;
use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since it was first asked for; monotonic.
#[must_use]
pub fn process_now_ms() -> f64 {
    EPOCH.elapsed().as_secs_f64() * 1e3
}
