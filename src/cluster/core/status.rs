//! The state of the member, and its figures.

use super::{Core, Counters, State};

impl Core {
    pub(super) fn current(&self) -> State {
        if self.is_closed {
            return State::Closed;
        }
        let Some(member) = &self.member else {
            return if self.trouble || (self.link.is_none() && self.has_failed) {
                State::Unreachable
            } else {
                State::Joining
            };
        };
        if self.trouble || self.link.is_none() {
            State::Unreachable
        } else if !member.is_active {
            State::Joining
        } else if member.settling.is_some() {
            State::Settling
        } else if self.is_over() || self.flight.as_ref().is_some_and(|flight| flight.is_suspect) {
            State::Unreachable
        } else {
            State::Up
        }
    }

    pub(super) fn note_state(&mut self, now: f64) {
        let state = self.current();
        if state != self.state {
            self.state = state;
            self.since_ms = now;
        }
    }

    /// Returns the state as of the last call.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the time of the last change of state.
    #[must_use]
    pub fn since_ms(&self) -> f64 {
        self.since_ms
    }

    /// Returns the last problem, or else that of the reader of events; empty if there is none.
    #[must_use]
    pub fn problem(&self) -> &str {
        if self.problem.is_empty() {
            &self.unheard
        } else {
            &self.problem
        }
    }

    /// Returns the members of the cluster, as far as known.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Returns the members of the cluster when it had settled last, or more of them that were seen since: in a young
    /// generation, some may not have joined again.
    #[must_use]
    pub fn known_members(&self) -> u32 {
        self.known_members
    }

    /// Returns the revision of the limits in force.
    #[must_use]
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// True if the limits in force are not those that this member declared.
    #[must_use]
    pub fn limits_differ(&self) -> bool {
        self.limits != self.settings.limits
    }

    /// Returns the limits in force.
    #[must_use]
    pub fn limits(&self) -> [f64; 11] {
        self.limits.numbers()
    }

    /// Returns the time that is left of the drain, and its reason.
    #[must_use]
    pub fn drain(&self, now: f64) -> (f64, &str) {
        (self.drain.left_ms(now), &self.drain.reason)
    }

    /// Returns the number of names that are kept.
    #[cfg(test)]
    pub(in super::super) fn names(&self) -> usize {
        self.names.known.len()
    }

    /// Returns the seats that this member holds, and those that the server knows.
    #[must_use]
    pub fn seats(&self) -> (u32, u32) {
        (self.column.seats.held, self.column.seats.told)
    }

    /// Returns the clients that wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.count() as u32
    }

    /// Returns the counts since the start.
    #[must_use]
    pub fn counts(&self) -> Counters {
        self.counts
    }
}
