//! The leases of seats that are taken and not yet open, in the order in which they expire.

use std::collections::VecDeque;

/// Ended leases that may stay in a queue.
pub(super) const ENDED_MIN: usize = 64;

/// Leases of one length, the oldest first.
#[derive(Default)]
pub(super) struct Leases {
    /// Slot, generation and stamp.
    pub(super) queue: VecDeque<(u32, u32, u32)>,
    /// Leases in the queue that have ended: at most as many as are under way, and a few.
    pub(super) ended: usize,
}

impl Leases {
    pub(super) fn push(&mut self, slot: u32, generation: u32, stamp: u32) {
        self.queue.push_back((slot, generation, stamp));
    }

    /// Notes that a lease has ended. Removes the ended ones once they are the greater half, so that
    /// the queue is bounded by the leases under way, at constant amortized cost.
    pub(super) fn end(&mut self, is_open: impl Fn(u32, u32) -> bool) {
        self.ended += 1;
        if self.ended > self.queue.len() / 2 + ENDED_MIN {
            self.queue
                .retain(|&(slot, generation, _)| is_open(slot, generation));
            self.ended = 0;
        }
    }
}
