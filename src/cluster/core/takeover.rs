//! Newcomers that replace the oldest connection of their user (`onFull: 'closeOldest'`).
//!
//! ```text
//!  newcomer ── batch ──▶ server: the user is full. The newcomer has its seat in its own column, so nobody else can
//!                        take the one that is freed; an event names the process of the oldest seat
//!  holder   ◀── event ── closes its oldest connection of the user, and tells it at once
//!  newcomer ── batch ──▶ may it open? Once the user is no longer over the limit
//! ```
//!
//! Events come by another connection than replies. One that comes while a call is under way waits for its reply: the
//! newcomer may be this process's own, and its seat is one of those that the event tells it to keep. A newcomer that has
//! asked in vain for a while insists: the server tells all processes again how many seats they may keep.
//!
//! # Invariants
//! - A newcomer opens only while all seats of its user, its own and those that wait included, are within the limit.
//! - An event ends one seat at most, and none if the process has ended one by itself since.
//! - A newcomer that waits in vain gives its seat back at the end of its `admit_timeout_ms`.

use super::super::call::{Asked, INSIST, LOOK, MOVE};
use super::super::code::{GRANTED, REPLACED};
use super::super::column::{Key, Name, Scope};
use super::super::reject_cache::USER;
use super::tickets::Place;
use super::waiting::Taker;
use super::{Answer, Core};

/// Pause between two questions whether the newcomers that wait may open, ms.
const LOOK_MS: f64 = 10.0;
/// Pause until a newcomer that waits insists, and until it does so again, ms.
const INSIST_MS: f64 = 50.0;
/// Events that may wait for a reply. A newcomer whose event is dropped insists.
const REPLACEMENTS_MAX: usize = 4096;
/// Ended tickets that a user's list may hold, besides as many as are held.
const ENDED_MAX: usize = 8;

impl Core {
    /// Notes the seat of a ticket that is held, as the latest of its user.
    pub(super) fn note_held(&mut self, at: usize) {
        let Some(user) = self.tickets[at].keys[2].filter(|_| self.settings.closes_oldest) else {
            return;
        };
        // A move is noted once the seat that moves has taken it over.
        if self.tickets[at].flags & MOVE != 0 {
            return;
        }
        let ticket = self.tickets.number(at);
        let most = 2 * self.column.held(user) as usize + ENDED_MAX;
        let mut list = self.by_user.remove(&user).unwrap_or_default();
        if list.len() >= most {
            list.retain(|&one| self.is_of(one, user));
        }
        list.push_back(ticket);
        self.by_user.insert(user, list);
    }

    /// True for a ticket that holds a seat of a user, which nobody replaces yet.
    fn is_of(&self, ticket: u64, user: Key) -> bool {
        self.tickets.find(ticket).is_some_and(|at| {
            let found = &self.tickets[at];
            found.is_held && !found.is_replaced && found.keys[2] == Some(user)
        })
    }

    /// Lets a newcomer wait for the end of the seat that it replaces.
    pub(super) fn await_takeover(&mut self, now: f64, ticket: u64, at: usize) {
        self.tickets[at].place = Place::Taking;
        if self.takers.is_empty() {
            self.next_look_ms = now + LOOK_MS / 2.0;
        }
        self.takers.push(Taker {
            ticket,
            insists_ms: now + INSIST_MS,
        });
    }

    /// Adds the questions of those that wait to a batch, as many as it has room for.
    pub(super) fn look(&mut self, now: f64, asked: &mut Vec<Asked>) {
        self.next_look_ms = now + LOOK_MS;
        let mut takers = std::mem::take(&mut self.takers);
        takers.retain(|taker| self.is_taking(taker.ticket).is_some());
        let room = self.settings.batch_max.div_ceil(2).min(takers.len());
        // One speaks for all of its user.
        let mut insisting = Vec::new();
        for taker in &mut takers[..room] {
            let Some(at) = self.is_taking(taker.ticket) else {
                continue;
            };
            let user = self.tickets[at].keys[2];
            let insists = taker.insists_ms <= now;
            if insists {
                taker.insists_ms = now + INSIST_MS;
            }
            let speaks = insists && !insisting.contains(&user);
            if speaks {
                insisting.push(user);
            }
            asked.push(Asked {
                ticket: taker.ticket,
                keys: [None, None, user, None],
                flags: if speaks { LOOK | INSIST } else { LOOK },
            });
        }
        // The others are next.
        takers.rotate_left(room);
        self.takers = takers;
    }

    fn is_taking(&self, ticket: u64) -> Option<usize> {
        let at = self.tickets.find(ticket)?;
        (self.tickets[at].place == Place::Taking).then_some(at)
    }

    /// Takes the answer to a question.
    pub(super) fn looked(&mut self, ticket: u64, code: i32) {
        let Some(at) = self.is_taking(ticket).filter(|_| code == GRANTED) else {
            return;
        };
        self.tickets[at].place = Place::Held;
        self.tickets[at].is_awaited = false;
        self.counts.granted += 1;
        self.counts.takeovers += 1;
        let port = self.tickets[at].port;
        self.answers.push(Answer { port, ticket, code });
    }

    /// Refuses a newcomer that waits, and gives its seat back.
    pub(super) fn give_up_taking(&mut self, now: f64, ticket: u64, at: usize) {
        self.tickets[at].is_awaited = false;
        self.counts.refused += 1;
        let port = self.tickets[at].port;
        self.answers.push(Answer {
            port,
            ticket,
            code: i32::from(USER),
        });
        self.hold(at, false);
        self.dispose(at);
        self.release_by(now);
    }

    /// Takes the event of a newcomer.
    pub(in crate::cluster) fn replace(&mut self, now: f64, data: &[u8]) {
        let identity = self.member.as_ref().map(|member| &member.seat.identity);
        // Every process hears of every event.
        if identity
            .is_none_or(|own| data.split(|byte| *byte == b' ').next() != Some(own.as_bytes()))
        {
            return;
        }
        if self.flight.is_none() {
            self.end_oldest(now, data);
        } else if self.replacements.len() < REPLACEMENTS_MAX {
            self.replacements.push(data.to_vec());
        }
    }

    /// Acts on the events that have waited for a reply.
    pub(super) fn replace_waiting(&mut self, now: f64) {
        for data in std::mem::take(&mut self.replacements) {
            self.end_oldest(now, &data);
        }
    }

    /// Acts on the event of a newcomer: an identity, the seats of the user that its process may keep, and 16 bytes of
    /// the user. Ends the oldest seat of the user, if this process holds more.
    fn end_oldest(&mut self, now: f64, data: &[u8]) -> Option<()> {
        let mut parts = data.splitn(3, |byte| *byte == b' ');
        let (_identity, most, user) = (parts.next()?, parts.next()?, parts.next()?);
        let most: usize = std::str::from_utf8(most).ok()?.parse().ok()?;
        let user = self.column.find(Name {
            scope: Scope::User,
            digest: u128::from_be_bytes(user.try_into().ok()?),
        })?;
        let mut list = self.by_user.remove(&user)?;
        list.retain(|&one| self.is_of(one, user));
        let oldest = if list.len() > most {
            list.pop_front()
        } else {
            None
        };
        if !list.is_empty() {
            self.by_user.insert(user, list);
        }
        let ticket = oldest?;
        let at = self.tickets.find(ticket)?;
        self.counts.replaced += 1;
        if self.tickets[at].place == Place::Taking {
            self.give_up_taking(now, ticket, at);
        } else {
            self.tickets[at].is_replaced = true;
            let port = self.tickets[at].port;
            self.answers.push(Answer {
                port,
                ticket,
                code: REPLACED,
            });
        }
        Some(())
    }
}
