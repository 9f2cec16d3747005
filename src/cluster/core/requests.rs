//! Requests of JavaScript, and the events of the cluster.

use super::super::code::{CLOSED, UNREACHABLE};
use super::super::events::Read;
use super::super::notice::Notice;
use super::super::reply::Reply;
use super::super::request::{Outcome, Request};
use super::super::settings::Policy;
use super::Core;

impl Core {
    /// Adds a request; its outcome comes later. Returns its ticket.
    pub fn request(&mut self, now: f64, port: u32, request: Request) -> u64 {
        if self.closing.is_some() || self.is_closed {
            return self.requests.refuse(port, CLOSED);
        }
        // While the first place on the server is asked for, requests wait for it. Once a link has failed, nobody waits.
        let can_ask = self.link.is_some() && self.member.is_some() && !self.trouble;
        if self.has_failed && !can_ask {
            return self.requests.refuse(port, UNREACHABLE);
        }
        let wait_ms = self.settings.admit_timeout_ms;
        self.requests.add(now, wait_ms, port, request)
    }

    pub(super) fn send_requests(&mut self) {
        if self.trouble || self.link.is_none() || self.closing.is_some() {
            return;
        }
        let is_strict = self.settings.policy == Policy::Closed;
        while let Some(member) = &self.member
            && let Some(command) = self.requests.next(&self.space, &member.seat, is_strict)
        {
            let number = self.calls.send(command);
            self.requests.sent(number);
        }
    }

    /// Returns the outcomes since the last call.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        self.requests.take_outcomes()
    }

    /// Returns the news since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Notes a new connection of the listener.
    pub fn listens(&mut self) {
        self.events.unsure();
    }

    /// Returns the next thing that the listener reads.
    #[must_use]
    pub fn next_read(&self) -> Read {
        match self.member {
            Some(_) => self.events.next(),
            None => Read::Nothing,
        }
    }

    /// Notes a problem of the listener, which reads nothing until it has a new connection.
    pub fn unheard(&mut self, problem: &str) {
        // A code stays at the beginning.
        self.unheard = if problem.starts_with("ERR_") {
            problem.to_owned()
        } else {
            format!("events are not read: {problem}")
        };
    }

    /// Takes a reply to the listener; `false` if it is not understood.
    pub fn read(&mut self, now: f64, read: &Read, reply: &Reply) -> bool {
        let Some(news) = self.events.read(read, reply) else {
            return false;
        };
        if matches!(read, Read::After(_)) {
            self.unheard.clear();
        }
        if news.has_gap {
            self.missed(now);
        }
        for event in news.events {
            self.counts.events += 1;
            if event.kind == b's' {
                self.beats.next_ms = now;
            } else if event.kind == b't' {
                self.replace(now, &event.data);
            } else {
                self.notices.push(Notice::Event {
                    kind: event.kind,
                    data: event.data,
                });
            }
        }
        true
    }
}
