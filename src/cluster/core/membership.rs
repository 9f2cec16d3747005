//! The member's place on the server: it joins over a connection, keeps its place by beats, loses it and
//! leaves.

use super::super::call::{Command, Seat, owned};
use super::super::notice::{Drain, Notice};
use super::super::reply::{BeatReply, JoinReply, Reply, drain_of};
use super::super::script::{Script, holds};
use super::super::settings::ClusterLimits;
use super::Core;
use super::member::{Member, OWN_LEASE};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Beats without a reply after which the connection is made anew.
const SILENT_BEATS: u32 = 3;
/// Generations that are over which a member remembers.
const OLD_GENERATIONS_MAX: usize = 40;

impl Core {
    /// Notes a new connection, to the server process `run`.
    pub fn connected(&mut self, now: f64, run: &str) {
        self.counts.connects += 1;
        self.link = Some(run.to_owned());
        self.names.unsure();
        self.names.hurry(now);
        self.beats.clear();
        self.beats.next_ms = now;
        self.chores.give_up();
        self.joining = None;
        self.leave_sent = None;
        if let Some(flight) = &mut self.flight {
            flight.sent = None;
        }
        let other = self
            .member
            .as_ref()
            .filter(|member| member.run != run && holds("run"))
            .map(|member| member.seat.generation.clone());
        if let Some(generation) = other {
            // Another process serves: it may lack the last writes of the one before.
            self.lose(now, &generation.clone(), &generation);
        }
        if self.member.is_none() {
            self.trouble = false;
        }
    }

    /// Notes that the connection is gone, or could not be made.
    pub fn disconnected(&mut self, now: f64, problem: &str) {
        self.link = None;
        self.joining = None;
        self.names.unsure();
        self.chores.give_up();
        self.leave_sent = None;
        self.beats.clear();
        self.fail(now, problem);
    }

    /// Gives the place on the server up, and joins anew.
    pub(super) fn lose(&mut self, now: f64, lost: &str, old: &str) {
        self.counts.lost += 1;
        lost.clone_into(&mut self.lost_generation);
        if !old.is_empty() && !self.old_generations.iter().any(|known| known == old) {
            self.old_generations.push(old.to_owned());
            let most = self.old_generations.len().min(OLD_GENERATIONS_MAX);
            self.old_generations
                .drain(..self.old_generations.len() - most);
        }
        self.member = None;
        self.beats.clear();
        self.observer.clear();
        self.chores.clear();
        self.column.forget();
        self.requests.fail(false);
        self.events.unsure();
        self.rejects.clear();
        self.answer_all(now);
        if let Some(flight) = self.flight.take() {
            self.end_flight(&flight.contents);
        }
        if self.link.is_some() {
            self.trouble = false;
        }
    }

    /// Acts on a reply that says that the place on the server is lost; `true` if it does.
    pub(super) fn is_lost(&mut self, now: f64, reply: &Reply) -> bool {
        let Some(text) = reply.text() else {
            return false;
        };
        let generation = self
            .member
            .as_ref()
            .map(|member| member.seat.generation.clone())
            .unwrap_or_default();
        match text {
            b"GEN" => self.lose(now, "", &generation),
            b"FENCED" => self.lose(now, "", ""),
            b"LOST" => self.lose(now, &generation, &generation),
            _ => return false,
        }
        true
    }

    /// Sends a beat when it is due: in every state, publishing included.
    pub(super) fn send_beat(&mut self, now: f64) {
        if now < self.beats.next_ms {
            return;
        }
        let jitter = 0.8 + 0.4 * self.random.next();
        self.beats.next_ms = now + self.settings.beat_ms * jitter;
        if let Some((_, sent)) = self.joining
            && now - sent > self.settings.beat_ms * f64::from(SILENT_BEATS)
        {
            return self.reconnect(now, "no answer to join");
        }
        if self.beats.under_way() >= SILENT_BEATS as usize {
            return self.reconnect(now, "no answer to three beats");
        }
        let rotation = (self.random.next() * 4096.0) as u32;
        let Some(member) = &mut self.member else {
            return;
        };
        member.beat += 1;
        let mut args = owned(&member.seat);
        args.extend(
            [
                member.beat,
                member.beat_answered,
                member.answered,
                u64::from(rotation),
            ]
            .map(|number| number.to_string().into_bytes()),
        );
        let beat = member.beat;
        let command = Command {
            script: Script::Beat,
            keys: vec![self.space.meta()],
            args,
        };
        let number = self.calls.send(command);
        self.beats.sent(number, beat, now);
    }

    /// Asks for a place on the server.
    pub(super) fn send_join(&mut self, now: f64) {
        let Some(run) = self.link.clone() else {
            return;
        };
        if self.joining.is_some() || self.trouble || self.closing.is_some() {
            return;
        }
        let [a, b, c, d] = self.settings.entropy;
        let attempt = self.calls.count();
        // Those in force, not the declared ones: a server that has lost everything learns them again.
        let limits = self.limits.numbers();
        let identity = self.identity();
        let mut args = vec![
            identity.into_bytes(),
            self.settings.node.clone().into_bytes(),
            run.into_bytes(),
            // A new one with each attempt: no two generations are ever the same.
            // Short, since the name of each bucket carries it.
            BASE64_URL_SAFE_NO_PAD
                .encode(
                    (a.rotate_left(7) ^ b ^ attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                        .to_be_bytes(),
                )
                .into_bytes(),
            [c.to_be_bytes(), d.to_be_bytes()].concat(),
            self.lost_generation.clone().into_bytes(),
            self.old_generations.join(",").into_bytes(),
            self.revision.to_string().into_bytes(),
        ];
        args.extend(limits.map(|limit| limit.to_string().into_bytes()));
        args.extend([
            self.settings.node_name.clone().into_bytes(),
            self.drain.number.to_string().into_bytes(),
            self.drain.left_ms(now).ceil().to_string().into_bytes(),
            self.drain.reason.clone().into_bytes(),
        ]);
        let number = self.calls.send(Command {
            script: Script::Join,
            keys: vec![self.space.meta()],
            args,
        });
        self.joining = Some((number, now));
    }

    /// Returns the identity of the next life: never used twice.
    fn identity(&self) -> String {
        format!("{}.{}", self.settings.node, self.joins)
    }

    /// Takes the reply to the join.
    pub(super) fn joined(&mut self, now: f64, reply: &Reply) {
        let Some(run) = self.link.clone() else {
            return;
        };
        let Some(reply) = JoinReply::of(reply) else {
            let problem = reply.problem();
            return self.reconnect(now, &problem);
        };
        self.last_reply_ms = now;
        let identity = self.identity();
        self.joins += 1;
        self.members = reply.members.max(1);
        self.known_members = self.known_members.max(self.members);
        self.take_limits(reply.revision, &reply.limits);
        self.notices.push(Notice::Joined);
        let is_young = reply.age_ms < self.settings.lease_ms;
        self.lost_generation.clear();
        self.column.forget();
        self.names.forget(now);
        self.member = Some(Member {
            seat: Seat {
                generation: reply.generation,
                index: reply.index,
                identity,
                secret: reply.secret,
            },
            run,
            answered: 0,
            beat: 0,
            beat_answered: 0,
            is_active: false,
            settling: (is_young && holds("settle")).then_some(now),
            alive_ms: now,
        });
        self.beats.next_ms = now + self.settings.beat_ms * self.random.next();
    }

    /// Takes the reply to a beat.
    pub(super) fn beaten(&mut self, now: f64, beat: u64, sent_ms: f64, reply: &Reply) {
        if self.is_lost(now, reply) {
            return;
        }
        let Some(reply) = BeatReply::of(reply) else {
            let problem = reply.problem();
            return self.fail(now, &problem);
        };
        let Some(member) = &mut self.member else {
            return;
        };
        // Earlier beats were answered before, or never will be.
        self.beats.forget_before(beat);
        member.beat_answered = member.beat_answered.max(beat);
        member.alive_ms = member.alive_ms.max(sent_ms);
        self.members = reply.members.max(1);
        let generation = member.seat.generation.clone();
        self.informed(now, &generation, &reply);
        let Some(member) = &mut self.member else {
            return;
        };
        let lease_ms = self.settings.lease_ms;
        if let Some(since) = member.settling
            && member.is_active
            && (reply.age_ms >= lease_ms || now - since >= lease_ms)
            && reply.joining == 0
        {
            member.settling = None;
        }
        if member.settling.is_none() {
            self.settled_members = self.members;
            self.known_members = self.members;
        }
        self.known_members = self.known_members.max(self.members);
        if now - member.alive_ms <= OWN_LEASE * lease_ms {
            self.trouble = false;
            self.problem.clear();
        }
        // Soon enough for the end of settling.
        if let Some(since) = member.settling {
            let left = (lease_ms - reply.age_ms).min(lease_ms - (now - since));
            self.beats.next_ms = self
                .beats
                .next_ms
                .min(now + left.max(self.settings.beat_ms / 4.0));
        }
        let generation = member.seat.generation.clone();
        self.old_generations.clone_from(&reply.old_generations);
        self.chores.suspect(self.observer.see(now, &reply.seen));
        if reply.is_cleaner {
            self.chores
                .take_on(generation, reply.ended, reply.old_generations.first());
        }
    }

    /// Takes the reply to a call that begins or ends a drain.
    pub(super) fn drained(&mut self, now: f64, reply: &Reply) {
        if let Some(drain) = reply.list().and_then(drain_of) {
            self.take_drain(now, &drain);
        }
    }

    fn take_drain(&mut self, now: f64, (number, left_ms, reason): &(u64, f64, String)) {
        if *number < self.drain.number {
            return;
        }
        let until_ms = now + left_ms;
        // The time left of one drain only shrinks: the server's clock may be set back.
        let is_known = *number == self.drain.number && *reason == self.drain.reason;
        self.drain = Drain {
            number: *number,
            until_ms: if is_known {
                until_ms.min(self.drain.until_ms)
            } else {
                until_ms
            },
            reason: reason.clone(),
        };
    }

    /// Takes what a beat tells besides the members.
    fn informed(&mut self, now: f64, generation: &str, reply: &BeatReply) {
        self.take_limits(reply.revision, &reply.limits);
        self.take_drain(now, &reply.drain);
        if self.events.beaten(generation, reply.events) {
            self.missed(now);
        }
        let over = reply.total.saturating_sub(self.limits.total);
        if over > 0 && self.over == 0 {
            self.notices.push(Notice::Over(over, 0));
        }
        self.over = over;
        if over > 0 && self.seats_to_release() > 0 {
            self.release_by(now);
        }
    }

    /// Puts limits into effect that the server tells.
    fn take_limits(&mut self, revision: u32, numbers: &[f64; 11]) {
        let limits = ClusterLimits::of(numbers);
        if revision == self.revision && limits == self.limits {
            return;
        }
        self.revision = revision;
        self.limits = limits;
        self.rejects.clear();
        self.notices.push(Notice::Limits {
            revision,
            numbers: *numbers,
        });
    }

    /// Events were missed: the state is read again.
    pub(super) fn missed(&mut self, now: f64) {
        self.counts.gaps += 1;
        self.beats.next_ms = now;
        self.notices.push(Notice::Gap);
    }

    /// Gives the place on the server back.
    pub(super) fn send_leave(&mut self) {
        let Some(member) = &self.member else {
            return;
        };
        let command = Command {
            script: Script::Leave,
            keys: vec![self.space.meta(), self.space.events()],
            args: owned(&member.seat),
        };
        self.leave_sent = Some(self.calls.send(command));
    }
}
