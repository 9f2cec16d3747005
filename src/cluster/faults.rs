//! Panics that a test asks for, in the tasks of the cluster's thread.

use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const SERVE: u32 = 1;
pub(super) const CALL: u32 = 2;
pub(super) const LISTEN: u32 = 3;
/// While the core is locked: it may be half-way.
pub(super) const LOCKED: u32 = 4;
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Lets the next task that meets the place panic.
pub(super) fn ask(place: u32) {
    ASKED.store(place, Ordering::SeqCst);
}

/// A place that may panic.
pub(super) fn meet(place: u32) {
    let is_asked = ASKED.compare_exchange(place, 0, Ordering::SeqCst, Ordering::SeqCst);
    assert!(is_asked.is_err(), "a bug that a test asked for");
}
