//! The place of a member on the server, and the beats that keep it.

use super::super::call::Seat;
use std::collections::VecDeque;

/// Part of the lease after which a member no longer believes that it is alive to the others.
pub(super) const OWN_LEASE: f64 = 0.8;

/// A place on the server.
pub(super) struct Member {
    pub(super) seat: Seat,
    pub(super) run: String,
    /// Number of the last numbered call that was answered.
    pub(super) answered: u64,
    /// Number of the last beat, and of the last that was answered.
    pub(super) beat: u64,
    pub(super) beat_answered: u64,
    pub(super) is_active: bool,
    /// Time at which it joined a generation that is younger than a lease; `None` once it has settled.
    pub(super) settling: Option<f64>,
    /// Time at which the last answered beat was sent.
    pub(super) alive_ms: f64,
}

/// The beats under way, and the time of the next one.
pub(super) struct Beats {
    pub(super) next_ms: f64,
    /// Number of the message, number of the beat, time at which it was sent.
    sent: VecDeque<(u64, u64, f64)>,
}

impl Beats {
    pub(super) fn new(now: f64) -> Self {
        Self {
            next_ms: now,
            sent: VecDeque::new(),
        }
    }

    /// Returns the beats without an answer.
    pub(super) fn under_way(&self) -> usize {
        self.sent.len()
    }

    /// Notes a beat that was sent with message `number`.
    pub(super) fn sent(&mut self, number: u64, beat: u64, now: f64) {
        self.sent.push_back((number, beat, now));
    }

    /// Removes the beat of message `number`; returns its number and the time at which it was sent.
    pub(super) fn take(&mut self, number: u64) -> Option<(u64, f64)> {
        let at = self.sent.iter().position(|&(sent, ..)| sent == number)?;
        self.sent
            .remove(at)
            .map(|(_, beat, sent_ms)| (beat, sent_ms))
    }

    /// Forgets the beats up to `beat`: they were answered before, or never will be.
    pub(super) fn forget_before(&mut self, beat: u64) {
        self.sent.retain(|&(_, other, _)| other > beat);
    }

    /// Forgets the beats of a connection that is gone.
    pub(super) fn clear(&mut self) {
        self.sent.clear();
    }
}
