//! Seats that are counted over all processes of one Linux host, in a file in shared memory: no
//! server, no waiting.
//!
//! Owns the file, its rows, and the process's column in it. Does not own leases or slots, which are
//! the table's of `connections`: it takes part there as an [`Admission`](crate::connections::Admission).
//!
//! ```text
//!               column of process 0   process 1   process 2
//!  total                   120            98           0
//!  192.0.2.1                 2             1           0        a limit of 3 is reached
//!  user ada                  1             0           0
//! ```
//! # Invariants
//! - A process writes its own column only. Sums are read, never stored: what a killed process has
//!   left is in its column, and nowhere else.
//! - A column belongs to the holder of a lock, which the kernel frees when the holder ends. Whoever
//!   gets the lock of a column that was used sets it to zeros.
//! - Nothing waits for another process, except for opening and leaving the file.

#[cfg(target_os = "linux")]
mod file;
#[cfg(target_os = "linux")]
mod key;
#[cfg(target_os = "linux")]
mod layout;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(target_os = "linux")]
mod open;
#[cfg(target_os = "linux")]
mod seats;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod watch;

mod error;

#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use error::HostError;

use crate::connections::{Admission, Limits};
use std::sync::Arc;

/// Opens the seats of a name over all processes of this host, or makes them: a column of this
/// process, which all its threads share.
///
/// # Errors
/// [`HostError`]
#[cfg(target_os = "linux")]
pub fn open_host(
    name: &str,
    capacity: usize,
    processes: usize,
    limits: Limits,
) -> Result<Arc<dyn Admission + Send + Sync>, HostError> {
    let index = open::open(name, capacity, processes, limits)?;
    Ok(index)
}

/// Elsewhere than on Linux there are no locks that belong to an open file.
///
/// # Errors
/// [`HostError::Unsupported`]
#[cfg(not(target_os = "linux"))]
pub fn open_host(
    _name: &str,
    _capacity: usize,
    _processes: usize,
    _limits: Limits,
) -> Result<Arc<dyn Admission + Send + Sync>, HostError> {
    Err(HostError::Unsupported)
}
