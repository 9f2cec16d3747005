//! The tickets that wait: for the next batch, and for the server's answer until their deadlines.

use std::collections::VecDeque;

/// Clients that may wait.
pub(super) const WAITING_MAX: usize = 65_536;

/// A newcomer that waits for the end of the seat that it replaces; see `takeover`.
pub(super) struct Taker {
    pub(super) ticket: u64,
    /// Time from which it insists.
    pub(super) insists_ms: f64,
}

/// The tickets that wait, in the order in which they asked.
#[derive(Default)]
pub(super) struct Waiting {
    /// Tickets for the next batch. Some have ended, and are not in `count`.
    queue: VecDeque<u64>,
    count: usize,
    /// Tickets in the order in which they asked, with their deadlines. Some are answered already.
    deadlines: VecDeque<(f64, u64)>,
}

impl Waiting {
    pub(super) fn add(&mut self, ticket: u64, due_ms: f64) {
        self.queue.push_back(ticket);
        self.count += 1;
        self.deadlines.push_back((due_ms, ticket));
    }

    /// Returns the tickets that wait for the next batch.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the next ticket for a batch, which may have ended; one that has not is to `leave`.
    pub(super) fn next(&mut self) -> Option<u64> {
        self.queue.pop_front()
    }

    /// Notes that a ticket has ended, or waits for the server from now on.
    pub(super) fn leave(&mut self) {
        self.count -= 1;
    }

    /// Returns the earliest deadline, and its ticket.
    pub(super) fn deadline(&self) -> Option<(f64, u64)> {
        self.deadlines.front().copied()
    }

    /// Removes the earliest deadline.
    pub(super) fn next_deadline(&mut self) -> Option<(f64, u64)> {
        self.deadlines.pop_front()
    }

    /// Forgets those that wait for the next batch.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.count = 0;
    }
}
