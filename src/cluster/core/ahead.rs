//! Seats of the total that a member holds ahead of its clients (`leaseTotal`).
//!
//! The server counts them as the member's, so that they may be given out without asking: what is told
//! and not held is spare. A batch asks for more by admissions without keys. Clients that were admitted
//! so stand in no bucket yet; their keys are told soon after, in parts.
//!
//! # Invariants
//! - Seats held never exceed seats told, as without it: the server's total stays exact.
//! - At rest at most `lease_total` seats are spare, and none while the total is over its limit.
//! - Nothing is given out ahead while another limit than the total may be in force.

use super::super::call::{Asked, Contents, EXEMPT};
use super::super::code::GRANTED;
use super::tickets::Place;
use super::{Core, State};

/// Pause after a refusal before more seats are asked for, ms.
const REFUSED_MS: f64 = 100.0;

impl Core {
    /// Returns the seats that may be held ahead; 0 if the mode is off.
    pub(super) fn ahead_max(&self) -> u32 {
        let limits = &self.limits;
        let is_only_limit = [
            limits.prefix,
            limits.address,
            limits.user,
            limits.anonymous,
            limits.anonymous_address,
            limits.unknown,
        ]
        .iter()
        .all(|&limit| limit == u32::MAX);
        // A rate has to be asked for each client.
        let has_rates = limits.ip_rate[0] > 0.0 || limits.user_rate[0] > 0.0;
        if is_only_limit && !has_rates {
            self.settings.lease_total
        } else {
            0
        }
    }

    /// Returns the seats that are kept ahead: none while more are counted than the total allows, since a lowered limit
    /// would be passed by those who get them.
    fn kept_ahead(&self) -> u32 {
        if self.over > 0 { 0 } else { self.ahead_max() }
    }

    /// True if the server knows of fewer seats than are held.
    pub(super) fn is_over(&self) -> bool {
        if self.ahead_max() > 0 {
            self.column.seats.held > self.column.seats.told
        } else {
            self.column.is_over()
        }
    }

    /// True if the server is to be told something.
    pub(super) fn has_news(&self) -> bool {
        if self.ahead_max() == 0 {
            return self.column.is_dirty();
        }
        self.is_over()
            || self.seats_to_release() > 0
            || self.column.has_dirty_keys()
            || self.column.anonymous.held != self.column.anonymous.told
    }

    /// Returns the told seats that are neither held nor kept ahead.
    pub(super) fn seats_to_release(&self) -> u32 {
        let kept = self.kept_ahead();
        self.column.seats.to_release().saturating_sub(kept)
    }

    /// Returns the seats to publish: those held, and the told ones that are kept ahead.
    pub(super) fn seats_to_tell(&self) -> u32 {
        let seats = self.column.seats;
        seats
            .held
            .max(seats.told.min(seats.held + self.kept_ahead()))
    }

    /// Returns the seats that may be given out now: those that a call under way gives back are not.
    fn spare(&self) -> u32 {
        let told = self.column.seats.told;
        let left = match self.flight.as_ref().map(|flight| &flight.contents) {
            Some(Contents::Batch { seats, .. }) => told.saturating_sub(*seats),
            Some(Contents::Publish { seats, .. }) => told.min(*seats),
            _ => told,
        };
        left.saturating_sub(self.column.seats.held)
    }

    /// Gives a spare seat to a new ticket; `true` if there is one.
    pub(super) fn take_ahead(&mut self, at: usize) -> bool {
        if self.kept_ahead() == 0 || self.current() != State::Up {
            return false;
        }
        self.is_ahead_wanted = true;
        if self.spare() == 0 {
            return false;
        }
        self.tickets[at].is_awaited = false;
        self.tickets[at].place = Place::Held;
        self.hold(at, true);
        self.counts.ahead += 1;
        true
    }

    /// Gives a spare seat to a client that the server has refused, if it still waits.
    pub(super) fn gives_ahead(&mut self, at: usize) -> bool {
        self.tickets[at].is_awaited && self.take_ahead(at)
    }

    /// Returns the number of seats to ask for ahead.
    pub(super) fn ahead_to_ask(&self, now: f64) -> u32 {
        let max = self.kept_ahead();
        let spare = self.spare();
        if !self.is_ahead_wanted || now < self.next_ahead_ms || spare > max / 2 {
            return 0;
        }
        max.saturating_sub(spare)
    }

    /// Adds admissions without keys to a batch, as many as it has room for.
    pub(super) fn ask_ahead(&mut self, now: f64, asked: &mut Vec<Asked>) {
        let room = self.settings.batch_max.saturating_sub(asked.len());
        let count = room.min(self.ahead_to_ask(now) as usize);
        asked.extend((0..count).map(|_| Asked {
            ticket: 0,
            keys: [None; 4],
            // Limits of addresses need a key.
            flags: EXEMPT,
        }));
        self.is_ahead_wanted = false;
    }

    /// Takes the answer to an admission without keys.
    pub(super) fn decided_ahead(&mut self, now: f64, code: i32) {
        if code == GRANTED {
            self.column.seats.told += 1;
        } else {
            self.next_ahead_ms = now + REFUSED_MS;
        }
    }

    /// True if keys of clients that were admitted ahead are to be told now.
    pub(super) fn tells_keys(&self, now: f64) -> bool {
        self.ahead_max() > 0
            && now >= self.next_tell_ms
            && (self.column.has_keys_over()
                || self.column.anonymous.held > self.column.anonymous.told)
    }
}
