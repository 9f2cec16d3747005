//! Seats of clients: asked for, held and given back.

use super::super::call::{Asked, EXEMPT, MOVE, TAKE, UNKNOWN};
use super::super::code::{ABANDONED, CLOSED, DRAINING, GRANTED, OVERLOAD, WAIT};
use super::super::column::{Key, Name, Scope};
use super::super::reject_cache;
use super::tickets::Place;
use super::waiting::WAITING_MAX;
use super::{Answer, Client, Core, State};

impl Core {
    /// Asks for a seat. Returns the ticket, and [`WAIT`] or the answer. A refused client holds no
    /// ticket.
    pub fn ask(&mut self, now: f64, port: u32, client: &Client) -> (u64, i32) {
        if self.closing.is_some() || self.is_closed {
            return (0, CLOSED);
        }
        if self.drain.until_ms > now {
            return (0, DRAINING);
        }
        self.expire(now);
        let is_up = self.current() == State::Up;
        if is_up && let Some(code) = self.refused_before(now, client) {
            self.counts.cached += 1;
            return (0, code);
        }
        if is_up && self.waiting.count() + self.takers.len() >= WAITING_MAX {
            return (0, OVERLOAD);
        }
        let mut enter = |scope, digest| Some(self.column.enter(Name { scope, digest }));
        let address = enter(Scope::Address, client.address);
        let prefix = client
            .prefix
            .and_then(|digest| enter(Scope::Prefix, digest));
        let user = client.user.and_then(|digest| enter(Scope::User, digest));
        let anonymous = match client.user {
            Some(_) => None,
            None => enter(Scope::Anonymous, client.address),
        };
        let may_take = self.settings.closes_oldest && client.user.is_some();
        let flags = (u8::from(client.is_exempt) * EXEMPT)
            + (u8::from(client.address == 0) * UNKNOWN)
            + (u8::from(may_take) * TAKE);
        let ticket = self
            .tickets
            .issue(port, [address, prefix, user, anonymous], flags, 0);
        if self
            .tickets
            .find(ticket)
            .is_some_and(|at| self.take_ahead(at))
        {
            return (ticket, GRANTED);
        }
        self.wait_or_decide(now, ticket, is_up)
    }

    /// Lets a new ticket wait for the server, or decides by the policy.
    pub(super) fn wait_or_decide(&mut self, now: f64, ticket: u64, is_up: bool) -> (u64, i32) {
        if is_up {
            let due_ms = now + self.settings.admit_timeout_ms;
            self.waiting.add(ticket, due_ms);
            return (ticket, WAIT);
        }
        let code = self.decide(now, ticket);
        (if code == GRANTED { ticket } else { 0 }, code)
    }

    /// Returns the code of a limit that refused the same client a moment ago.
    fn refused_before(&self, now: f64, client: &Client) -> Option<i32> {
        use reject_cache::{ADDRESS, ANONYMOUS, ANONYMOUS_ADDRESS, PREFIX, TOTAL, UNKNOWN, USER};
        if self.rejects.is_empty() {
            return None;
        }
        let is_bound = !client.is_exempt;
        let of_address = if client.address == 0 {
            UNKNOWN
        } else {
            ADDRESS
        };
        let prefix = client.prefix.filter(|_| is_bound);
        let is_anonymous = client.user.is_none();
        // In the order of the script.
        [
            Some((TOTAL, 0)),
            prefix.map(|prefix| (PREFIX, prefix)),
            is_bound.then_some((of_address, client.address)),
            client
                .user
                .filter(|_| !self.settings.closes_oldest)
                .map(|user| (USER, user)),
            (is_bound && is_anonymous).then_some((ANONYMOUS_ADDRESS, client.address)),
            is_anonymous.then_some((ANONYMOUS, 0)),
        ]
        .into_iter()
        .flatten()
        .find(|&full| self.rejects.holds(now, full))
        .map(|(code, _)| i32::from(code))
    }

    /// Notes a limit that is full, unless a seat of it is about to be given back from here.
    pub(super) fn note_refusal(&mut self, now: f64, one: &Asked, code: i32) {
        use reject_cache::{ADDRESS, ANONYMOUS, ANONYMOUS_ADDRESS, PREFIX, TOTAL, UNKNOWN, USER};
        let Ok(code) = u8::try_from(code) else {
            return;
        };
        let key = match code {
            PREFIX => one.keys[1],
            ADDRESS | UNKNOWN => one.keys[0],
            USER => one.keys[2],
            ANONYMOUS_ADDRESS => one.keys[3],
            TOTAL if self.seats_to_release() == 0 => return self.rejects.note(now, (TOTAL, 0)),
            ANONYMOUS if self.column.anonymous.to_release() == 0 => {
                return self.rejects.note(now, (ANONYMOUS, 0));
            }
            _ => return,
        };
        if let Some(key) = key
            && !self.column.is_releasing(key)
        {
            self.rejects.note(now, (code, self.column.name(key).digest));
        }
    }

    /// Gives a seat back, or ends the wait for one.
    pub fn release(&mut self, now: f64, ticket: u64) {
        let Some(at) = self.tickets.find(ticket) else {
            return;
        };
        if self.tickets[at].is_awaited {
            // The waiting caller must hear of it: the ticket has no caller from now on.
            self.tickets[at].is_awaited = false;
            let port = self.tickets[at].port;
            self.answers.push(Answer {
                port,
                ticket,
                code: ABANDONED,
            });
        }
        match self.tickets[at].place {
            Place::Waiting => {
                self.waiting.leave();
                self.dispose(at);
            }
            Place::Flying => {
                if self.tickets[at].is_held {
                    self.hold(at, false);
                }
            }
            Place::Held | Place::Taking => {
                // Somebody waits for the end of one that is replaced.
                let delay = if self.tickets[at].is_replaced {
                    0.0
                } else {
                    self.settings.release_delay_ms
                };
                self.hold(at, false);
                self.dispose(at);
                self.release_by(now + delay);
            }
            Place::Free => {}
        }
    }

    /// Tells released seats at `due_ms` at the latest.
    pub(super) fn release_by(&mut self, due_ms: f64) {
        let due = self.release_ms.unwrap_or(f64::INFINITY);
        self.release_ms = Some(due.min(due_ms));
    }

    /// Counts a seat that the server knows as held no longer, which is told with the next batch.
    pub(super) fn withdraw(&mut self, at: usize) {
        self.hold(at, false);
        self.release_by(0.0);
    }

    /// Frees a ticket.
    pub(super) fn dispose(&mut self, at: usize) {
        for key in self.tickets.end(at).into_iter().flatten() {
            self.column.leave(key);
        }
    }

    /// Counts the seat of a ticket as held, or as held no longer.
    pub(super) fn hold(&mut self, at: usize, is_more: bool) {
        let ticket = &mut self.tickets[at];
        if ticket.is_held == is_more {
            return;
        }
        ticket.is_held = is_more;
        let (keys, is_move) = (ticket.keys, ticket.flags & MOVE != 0);
        for key in keys.into_iter().flatten() {
            self.hold_key(key, is_more);
        }
        if is_more {
            self.note_held(at);
        }
        if is_move {
            return;
        }
        let change = |count: &mut u32| {
            *count = if is_more {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
        };
        change(&mut self.column.seats.held);
        if keys[3].is_some() {
            change(&mut self.column.anonymous.held);
        }
    }

    /// Counts a seat of a key as held, or as held no longer.
    pub(super) fn hold_key(&mut self, key: Key, is_more: bool) {
        self.column.hold(key, is_more);
        if !is_more {
            self.rejects.free(self.column.name(key));
            if self.column.held(key) == 0 {
                self.by_user.remove(&key);
            }
        }
    }
}
