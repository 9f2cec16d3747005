//! Tasks of the cluster's thread: they end with their owner, survive a panic of their own, and pause after
//! failures.

use crate::clock::process_now_ms;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};

/// Shortest and longest pause before a connection is made anew.
const BACKOFF_MS: (f64, f64) = (50.0, 2000.0);

/// Longest pause, in leases: a new generation waits for a lease, in which everybody must be back.
const BACKOFF_LEASES: f64 = 0.25;

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
    pause(longest_pause_ms(failures, f64::INFINITY)).await;
}

/// Pauses after failures in which a member was not reached, whose lease goes on meanwhile.
pub(super) async fn backoff_within(failures: i32, lease_ms: f64) {
    pause(longest_pause_ms(failures, lease_ms)).await;
}

fn longest_pause_ms(failures: i32, lease_ms: f64) -> f64 {
    if failures == 0 {
        return 0.0;
    }
    let doubled = BACKOFF_MS.0 * 2f64.powi(failures.min(10) - 1);
    doubled.min(BACKOFF_MS.1).min(lease_ms * BACKOFF_LEASES)
}

/// Pauses for a part of a time.
async fn pause(longest_ms: f64) {
    if longest_ms > 0.0 {
        // Full jitter: a server that comes back must not meet all members at once.
        let part = (process_now_ms() * 1e3) % 1000.0 / 1000.0;
        tokio::time::sleep(Duration::from_secs_f64(longest_ms * part / 1e3)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_tries_again_within_the_lease_in_which_others_wait_for_it() {
        for failures in 1..40 {
            assert!(longest_pause_ms(failures, 1000.0) <= 250.0);
        }
        assert_eq!(longest_pause_ms(0, 1000.0), 0.0);
        assert_eq!(longest_pause_ms(1, 6000.0), 50.0);
        assert_eq!(longest_pause_ms(40, 60_000.0), 2000.0);
    }
}
