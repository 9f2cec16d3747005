//! The mailbox between a watched thread and the watcher: atomics for answers and notices. Wake-ups go
//! through a socket (`wake_channel`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The thread's last answer and the watcher's pending notices. Times are the bits of an `f64`.
#[derive(Debug, Default)]
pub struct Mailbox {
    answered_ms: AtomicU64,
    notices: AtomicU32,
}

/// The level has changed.
pub const NOTICE_LEVEL: u32 = 1;
/// A stall is over.
pub const NOTICE_STALL: u32 = 2;
/// The figures of the heap are needed.
pub const NOTICE_HEAP: u32 = 4;

impl Mailbox {
    /// Called when the loop turns. Returns the pending notices and clears them.
    pub fn answer(&self, now_ms: f64) -> u32 {
        // Release: the watcher that sees this answer sees everything the thread stored before it.
        self.answered_ms.store(now_ms.to_bits(), Ordering::Release);
        self.notices.swap(0, Ordering::AcqRel)
    }

    pub(super) fn add_notice(&self, notice: u32) {
        self.notices.fetch_or(notice, Ordering::AcqRel);
    }

    pub(super) fn answered_ms(&self) -> f64 {
        f64::from_bits(self.answered_ms.load(Ordering::Acquire))
    }
}
