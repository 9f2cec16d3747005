//! Seats that move to another user (`bindUser`).
//!
//! A move is a ticket of its own, which asks for a seat of the user and for nothing else. Once it is
//! granted, by the server or by the policy, the seat that moves takes it over in the same step, and
//! gives its old user back. So both users are counted while the question is under way, and one
//! afterwards, whatever happens to the link.
//!
//! # Invariants
//! - A move never holds a seat after the step that granted it: the seat that moves does, or nobody.
//! - A seat that is gone takes nothing over: what was granted for it is given back.

use super::super::call::MOVE;
use super::super::code::{ABANDONED, CLOSED, GRANTED, OVERLOAD};
use super::super::column::{Name, Scope};
use super::super::reject_cache::USER;
use super::waiting::WAITING_MAX;
use super::{Core, State};

impl Core {
    /// Asks for a seat of `user` for the seat of a ticket. Returns the ticket of the move, and
    /// `WAIT` or the answer. With `GRANTED`, now or later, the seat has moved; with any other answer
    /// it is where it was.
    pub fn rebind(&mut self, now: f64, port: u32, base: u64, user: u128) -> (u64, i32) {
        if self.closing.is_some() || self.is_closed {
            return (0, CLOSED);
        }
        self.expire(now);
        if !self.is_held(base) {
            return (0, ABANDONED);
        }
        let is_up = self.current() == State::Up;
        if is_up && self.rejects.holds(now, (USER, user)) {
            self.counts.cached += 1;
            return (0, i32::from(USER));
        }
        if is_up && self.waiting.count() >= WAITING_MAX {
            return (0, OVERLOAD);
        }
        let key = self.column.enter(Name {
            scope: Scope::User,
            digest: user,
        });
        let ticket = self
            .tickets
            .issue(port, [None, None, Some(key), None], MOVE, base);
        self.wait_or_decide(now, ticket, is_up)
    }

    fn is_held(&self, ticket: u64) -> bool {
        self.tickets
            .find(ticket)
            .is_some_and(|at| self.tickets[at].is_held && self.tickets[at].flags & MOVE == 0)
    }

    /// Hands the seat of a granted move over, and returns the answer to it; [`GRANTED`] for other
    /// tickets. With `is_flying`, the caller disposes of the ticket.
    pub(super) fn settle_move(&mut self, at: usize, is_flying: bool) -> i32 {
        if self.tickets[at].flags & MOVE == 0 {
            return GRANTED;
        }
        let base = self.tickets.find(self.tickets[at].base);
        let base = base.filter(|&base| self.tickets[base].is_held);
        let code = match base {
            Some(base) => {
                self.hand_over(at, base);
                GRANTED
            }
            None => {
                self.hold(at, false);
                ABANDONED
            }
        };
        if !is_flying {
            self.dispose(at);
        }
        code
    }

    /// Gives the user's seat of a move to the ticket that moves, in the place of the old one.
    fn hand_over(&mut self, from: usize, to: usize) {
        let user = self.tickets[from].keys[2];
        let [address, prefix, old_user, anonymous] = self.tickets[to].keys;
        self.tickets[from].is_held = false;
        self.tickets[to].keys = [address, prefix, user, None];
        self.note_held(to);
        // The move's own use of the key ends with its ticket.
        if let Some(user) = user {
            self.column.keep(user);
        }
        for key in [old_user, anonymous].into_iter().flatten() {
            self.hold_key(key, false);
            self.column.leave(key);
        }
        if anonymous.is_some() {
            self.column.anonymous.held = self.column.anonymous.held.saturating_sub(1);
        }
    }
}
