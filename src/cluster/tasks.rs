//! Tasks of the cluster's thread: they end with their owner, survive a panic of their own, and pause after
//! failures.

use crate::clock::process_now_ms;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};

/// Shortest and longest pause before a connection is made anew.
const BACKOFF_MS: (f64, f64) = (50.0, 2000.0);

/// Ends a task when its owner ends, by a panic, too.
pub(super) struct Owned(pub(super) AbortHandle);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a task to its end; `false` if it has panicked.
pub(super) async fn survives(task: impl Future<Output = ()> + 'static) -> bool {
    let task = spawn_local(task);
    let _owned = Owned(task.abort_handle());
    task.await.is_ok()
}

/// Pauses after failures.
pub(super) async fn backoff(failures: i32) {
    if failures > 0 {
        let longest = (BACKOFF_MS.0 * 2f64.powi(failures.min(10) - 1)).min(BACKOFF_MS.1);
        // Full jitter: a server that comes back must not meet all members at once.
        let part = (process_now_ms() * 1e3) % 1000.0 / 1000.0;
        tokio::time::sleep(Duration::from_secs_f64(longest * part / 1e3)).await;
    }
}
