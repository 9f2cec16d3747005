//! Tells the names of users to the server, and takes them back; see `names`.

use super::super::call::Command;
use super::super::code::GRANTED;
use super::super::column::{Name, Scope};
use super::super::reply::Reply;
use super::super::script::Script;
use super::Core;
use super::names::{AGAIN_MS, FIRST_MS, Known, LOOK_MS, NEVER};

/// Names of one call.
const NAMES_MAX: usize = 256;

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
