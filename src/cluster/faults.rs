//! Panics that a test asks for, in the tasks of the cluster's thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

pub(super) const SERVE: u32 = 1;
pub(super) const CALL: u32 = 2;
pub(super) const LISTEN: u32 = 3;
/// While the core is locked: it may be half-way.
pub(super) const LOCKED: u32 = 4;
/// While the system's resolver works.
pub(super) const LOOKUP: u32 = 5;
static ASKED: AtomicU32 = AtomicU32::new(0);
/// The place whose threads are held, and how many of them there are.
static HELD: Mutex<(u32, u32)> = Mutex::new((0, 0));
static LET_GO: Condvar = Condvar::new();

/// Lets the next task that meets the place panic.
pub(super) fn ask(place: u32) {
    ASKED.store(place, Ordering::SeqCst);
}

/// A place that may panic.
pub(super) fn meet(place: u32) {
    let is_asked = ASKED.compare_exchange(place, 0, Ordering::SeqCst, Ordering::SeqCst);
    assert!(is_asked.is_err(), "a bug that a test asked for");
}

/// Holds all threads that come to the place, until another one is named.
pub(super) fn hold_at(place: u32) {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).0 = place;
    LET_GO.notify_all();
}

/// Returns the number of threads that are held.
pub(super) fn held() -> u32 {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).1
}

/// A place that may hold its thread.
pub(super) fn hold(place: u32) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.1 += 1;
    while held.0 == place {
        held = LET_GO.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
    held.1 -= 1;
}
