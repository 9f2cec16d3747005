//! The monotonic clock of the process. It is the same on every thread, so that threads can compare
//! times; it is the only place in Rust that reads time.

use std::sync::LazyLock;
use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the milliseconds since the first call.
#[must_use]
pub fn process_now_ms() -> f64 {
    EPOCH.elapsed().as_secs_f64() * 1e3
}
