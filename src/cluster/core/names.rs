//! Names of the users that have a seat here, for `online()` (`presence: 'names'`).
//!
//! Counts say who is online; names only show them. So a name that is told too late, twice or in vain
//! does no harm: whoever reads names asks the counts. A name is told soon after its user has a seat,
//! again within a minute, since the server may have lost it, and taken back some seconds after the
//! last seat here. Names of a process that dies are taken back with its entries.
//!
//! # Invariants
//! - A user stands in the queue once, as long as the name is known here.
//! - One call is under way at a time.

use super::super::call::Command;
use super::super::code::GRANTED;
use super::super::column::{Name, Scope};
use super::super::reply::Reply;
use super::super::script::Script;
use super::Core;
use std::collections::{HashMap, VecDeque};

/// Time from a user's first seat to the call that tells the name, ms.
const FIRST_MS: f64 = 100.0;
/// Time between two looks whether a user is still here, ms.
const LOOK_MS: f64 = 10_000.0;
/// Time after which a name is told again, ms.
const AGAIN_MS: f64 = 60_000.0;
/// Times of names that were never told, and of those that may have been.
const NEVER: f64 = f64::NEG_INFINITY;
const MAYBE: f64 = f64::MIN;
/// Names of one call.
const NAMES_MAX: usize = 256;

struct Known {
    text: Box<str>,
    /// Time at which the name was told last.
    told_ms: f64,
}

/// The names of one process.
#[derive(Default)]
pub(super) struct Names {
    known: HashMap<u128, Known, ahash::RandomState>,
    /// Users that were seen for the first time, and those that are known, by the time of the next look.
    fresh: VecDeque<(f64, u128)>,
    later: VecDeque<(f64, u128)>,
    /// Number of the call under way, and its users.
    flight: Option<(u64, Vec<u128>)>,
}

impl Names {
    /// Forgets what the server knows: everything is told again.
    pub(super) fn forget(&mut self, now: f64) {
        self.flight = None;
        self.later.clear();
        self.fresh = self.known.keys().map(|&user| (now, user)).collect();
        for known in self.known.values_mut() {
            known.told_ms = NEVER;
        }
    }

    /// Notes that the call under way may not have run.
    pub(super) fn unsure(&mut self) {
        let users = self.flight.take().map(|(_, users)| users);
        for user in users.into_iter().flatten() {
            if let Some(known) = self.known.get_mut(&user) {
                known.told_ms = MAYBE;
            }
        }
    }

    /// Returns the time of the next look.
    pub(super) fn due_ms(&self) -> f64 {
        if self.flight.is_some() {
            return f64::INFINITY;
        }
        let first = [self.fresh.front(), self.later.front()];
        first
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, |due, one| due.min(one.0))
    }

    /// Returns the next user that is due.
    fn next(&mut self, now: f64) -> Option<u128> {
        let queues = [&mut self.fresh, &mut self.later];
        queues.into_iter().find_map(|queue| {
            let is_due = queue.front().is_some_and(|one| one.0 <= now);
            if is_due { queue.pop_front() } else { None }.map(|one| one.1)
        })
    }
}

impl Core {
    /// Notes the name of a user who has asked for a seat, if names are kept.
    pub fn learn(&mut self, now: f64, user: u128, name: &[u16], code: i32) {
        if !self.settings.keeps_names || code > GRANTED || self.names.known.contains_key(&user) {
            return;
        }
        let text = String::from_utf16_lossy(name).into_boxed_str();
        let told_ms = NEVER;
        self.names.known.insert(user, Known { text, told_ms });
        self.names.fresh.push_back((now + FIRST_MS, user));
    }

    /// Tells names that are due, and takes those back whose users have no seat here.
    pub(super) fn send_names(&mut self, now: f64) {
        if self.names.flight.is_some() || self.trouble || self.closing.is_some() {
            return;
        }
        let Some(member) = self.member.as_ref().filter(|member| member.is_active) else {
            return;
        };
        let seat = member.seat.clone();
        let mut users = Vec::new();
        let mut keys = vec![self.space.meta()];
        let mut args = vec![seat.generation.clone().into_bytes()];
        while users.len() < NAMES_MAX
            && let Some(user) = self.names.next(now)
        {
            let name = Name {
                scope: Scope::User,
                digest: user,
            };
            let key = self.column.find(name);
            let is_here = key.is_some_and(|key| self.column.held(key) > 0);
            let Some(known) = self.names.known.get_mut(&user) else {
                continue;
            };
            if key.is_some() {
                // One that asks, or whose seat is being given back, has a key and no seat.
                let pause = if is_here { LOOK_MS } else { FIRST_MS };
                let queue = if is_here {
                    &mut self.names.later
                } else {
                    &mut self.names.fresh
                };
                queue.push_back((now + pause, user));
                if !is_here || now - known.told_ms < AGAIN_MS {
                    continue;
                }
                known.told_ms = now;
            }
            let text = if is_here {
                known.text.clone().into_string()
            } else {
                let was_told = known.told_ms > NEVER;
                self.names.known.remove(&user);
                if !was_told {
                    continue;
                }
                String::new()
            };
            let (field, bucket) = self.space.user(&seat, user);
            keys.extend([self.space.names_of(&seat, &field), bucket]);
            args.extend([field, text.into_bytes()]);
            users.push(user);
        }
        if users.is_empty() {
            return;
        }
        let script = Script::Names;
        let number = self.call(Command { script, keys, args });
        self.names.flight = Some((number, users));
    }

    /// Takes the reply to a call of names; `false` if the number is another call's.
    pub(super) fn named(&mut self, number: u64, reply: &Reply) -> bool {
        if self.names.flight.as_ref().is_none_or(|one| one.0 != number) {
            return false;
        }
        if reply.text() == Some(b"+") {
            self.names.flight = None;
        } else {
            // Told again with the next look.
            self.names.unsure();
            self.is_lost(reply);
        }
        true
    }
}
