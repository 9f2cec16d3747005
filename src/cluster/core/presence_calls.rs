//! Tells the names of users to the server, and takes them back; see `presence`.

use super::super::call::Command;
use super::super::code::GRANTED;
use super::super::column::{Name, Scope};
use super::super::reply::Reply;
use super::super::script::Script;
use super::Core;
use super::presence::{AGAIN_MS, Known, MAYBE, NEVER};

/// Names of one call.
const NAMES_MAX: usize = 256;
/// Calls that take a name back.
const TAKEN_BACK: u8 = 2;

impl Core {
    /// Notes the name of a user who has asked for a seat, if names are kept.
    pub fn learn(&mut self, now: f64, user: u128, name: &[u16], code: i32) {
        if !self.settings.keeps_names || code > GRANTED {
            return;
        }
        match self.names.known.get_mut(&user) {
            Some(known) if known.is_leaving => {
                known.is_leaving = false;
                known.told_ms = MAYBE;
            }
            Some(_) => return,
            None => {
                let known = Known {
                    text: String::from_utf16_lossy(name).into_boxed_str(),
                    told_ms: NEVER,
                    due_ms: 0.0,
                    is_leaving: false,
                    taken_back: 0,
                };
                self.names.known.insert(user, known);
            }
        }
        self.names.look_at(now, user, true);
    }

    /// Forgets names that are due, were never told and whose users are gone, while no name can be told.
    pub(super) fn forget_names(&mut self, now: f64) {
        while let Some(user) = self.names.next(now) {
            let is_never_told =
                (self.names.known.get(&user)).is_some_and(|one| one.told_ms == NEVER);
            let name = Name {
                scope: Scope::User,
                digest: user,
            };
            if is_never_told && self.column.find(name).is_none() {
                self.names.known.remove(&user);
            } else {
                self.names.look_at(now, user, false);
            }
        }
    }

    /// Tells names that are due, and takes those back whose users have no seat here.
    pub(super) fn send_names(&mut self, now: f64) {
        if self.names.flight.is_some() || self.closing.is_some() {
            return;
        }
        if self.trouble {
            return self.forget_names(now);
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
            let Some(text) = self.name_to_tell(now, user, key.is_some(), is_here) else {
                continue;
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
        let number = self.calls.send(Command { script, keys, args });
        self.names.flight = Some((number, users));
    }

    /// Returns the name to tell, empty to take it back; `None` for nothing. Says when to look again.
    fn name_to_tell(
        &mut self,
        now: f64,
        user: u128,
        has_key: bool,
        is_here: bool,
    ) -> Option<String> {
        let known = self.names.known.get_mut(&user)?;
        let is_told = known.told_ms > NEVER;
        if !has_key && (!is_told || known.is_leaving && known.taken_back >= TAKEN_BACK) {
            self.names.known.remove(&user);
            return None;
        }
        // One that asks, or whose seat is being given back, has a key and no seat.
        let text = if is_here && now - known.told_ms >= AGAIN_MS {
            known.told_ms = now;
            known.is_leaving = false;
            Some(known.text.clone().into_string())
        } else if has_key {
            None
        } else {
            if !known.is_leaving {
                known.taken_back = 0;
            }
            known.is_leaving = true;
            Some(String::new())
        };
        self.names.look_at(now, user, has_key && !is_here);
        text
    }

    /// Takes the reply to a call of names; `false` if the number is another call's.
    pub(super) fn named(&mut self, now: f64, number: u64, reply: &Reply) -> bool {
        if self.names.flight.as_ref().is_none_or(|one| one.0 != number) {
            return false;
        }
        if reply.text() == Some(b"+") {
            self.names.confirm();
        } else {
            // Told again with the next look.
            self.names.unsure();
            self.is_lost(now, reply);
        }
        true
    }
}
