//! Answers without the server: by the policy while it cannot be asked, and to clients whose time is over.

use super::super::call::{EXEMPT, MOVE, UNKNOWN};
use super::super::code::{CLOSED, OVERLOAD, UNREACHABLE};
use super::super::column::Key;
use super::super::settings::Policy;
use super::member::OWN_LEASE;
use super::tickets::Place;
use super::{Answer, Core};

impl Core {
    /// Decides by the policy. A ticket that is refused is freed, unless a call names it.
    pub(super) fn decide(&mut self, now: f64, ticket: u64) -> i32 {
        let Some(at) = self.tickets.find(ticket) else {
            return UNREACHABLE;
        };
        if self.tickets[at].place == Place::Taking {
            // The newcomer replaces no connection from now on; its seat counts as not held yet.
            self.withdraw(at);
        }
        let is_granted = match self.settings.policy {
            Policy::Closed => false,
            Policy::Open => true,
            Policy::Share => self.has_share(at) && self.spend_share(now, at),
        };
        let is_flying = self.tickets[at].place == Place::Flying;
        self.tickets[at].is_awaited = false;
        if is_granted {
            self.counts.local += 1;
            self.hold(at, true);
            if !is_flying {
                self.tickets[at].place = Place::Held;
            }
            return self.settle_move(at, is_flying);
        }
        self.counts.unreachable += 1;
        if !is_flying {
            self.dispose(at);
        }
        UNREACHABLE
    }

    /// True if the client's keys are below this member's share of the limits.
    fn has_share(&self, at: usize) -> bool {
        let members = self.sharing_members();
        if members == 0 {
            return false;
        }
        let share = |limit: u32| match limit {
            0 | u32::MAX => limit,
            _ => (limit / members).max(1),
        };
        let limits = &self.limits;
        let ticket = &self.tickets[at];
        let is_exempt = ticket.flags & EXEMPT != 0;
        let is_move = ticket.flags & MOVE != 0;
        let address = if ticket.flags & UNKNOWN != 0 {
            limits.unknown
        } else {
            limits.address
        };
        let below =
            |key: Option<Key>, limit| key.is_none_or(|key| self.column.held(key) < share(limit));
        let [ip, prefix, user, anonymous] = ticket.keys;
        (is_move || self.column.seats.held < share(limits.total))
            && (is_exempt
                || (below(ip, address)
                    && below(prefix, limits.prefix)
                    && below(anonymous, limits.anonymous_address)))
            && below(user, limits.user)
            && (anonymous.is_none() || self.column.anonymous.held < share(limits.anonymous))
    }

    /// Returns the members among which the limits are shared; 0 if that is unknown.
    fn sharing_members(&self) -> u32 {
        self.settled_members.max(self.settings.expected_members)
    }

    /// Spends the client's connect rates, both or none; `false` if this member's share of one is spent.
    fn spend_share(&mut self, now: f64, at: usize) -> bool {
        let ticket = &self.tickets[at];
        if ticket.flags & (EXEMPT | MOVE) != 0 {
            return true;
        }
        let [address, prefix, user, _] = ticket.keys;
        let keys = [prefix.or(address), user].map(|key| key.map(|key| self.column.name(key)));
        let rates = [self.limits.ip_rate, self.limits.user_rate];
        self.shares.spend(now, self.sharing_members(), rates, keys)
    }

    /// Answers everybody who waits, by the policy.
    pub(super) fn answer_all(&mut self, now: f64) {
        while let Some((_, ticket)) = self.waiting.next_deadline() {
            if let Some(at) = self.tickets.find(ticket)
                && self.tickets[at].is_awaited
            {
                self.answer_by_policy(now, ticket, at);
            }
        }
        self.waiting.clear();
        self.takers.clear();
        self.replacements.clear();
    }

    fn answer_by_policy(&mut self, now: f64, ticket: u64, at: usize) {
        let port = self.tickets[at].port;
        let code = if self.closing.is_some() || self.is_closed {
            self.tickets[at].is_awaited = false;
            if self.tickets[at].place == Place::Taking {
                self.withdraw(at);
            }
            if self.tickets[at].place != Place::Flying {
                self.dispose(at);
            }
            CLOSED
        } else {
            self.decide(now, ticket)
        };
        self.answers.push(Answer { port, ticket, code });
    }

    /// Answers clients whose time is over.
    pub(super) fn expire(&mut self, now: f64) {
        while let Some((due, ticket)) = self.waiting.deadline() {
            let found = self
                .tickets
                .find(ticket)
                .filter(|&at| self.tickets[at].is_awaited);
            let Some(at) = found else {
                self.waiting.next_deadline();
                continue;
            };
            if due > now {
                break;
            }
            // A server that answers is only too slow for so many: the others may still be in time.
            if now - self.last_reply_ms < self.settings.admit_timeout_ms && !self.trouble {
                self.waiting.next_deadline();
                self.refuse_late(now, ticket, at);
                continue;
            }
            self.fail(now, "no answer within admitTimeoutMs");
        }
        if let Some(member) = &self.member
            && member.is_active
            && !self.trouble
            && now - member.alive_ms > OWN_LEASE * self.settings.lease_ms
        {
            self.fail(now, "no beat within the lease");
        }
    }

    fn refuse_late(&mut self, now: f64, ticket: u64, at: usize) {
        if self.tickets[at].place == Place::Taking {
            return self.give_up_taking(now, ticket, at);
        }
        let port = self.tickets[at].port;
        self.tickets[at].is_awaited = false;
        if self.tickets[at].place == Place::Waiting {
            self.waiting.leave();
            self.dispose(at);
        }
        self.answers.push(Answer {
            port,
            ticket,
            code: OVERLOAD,
        });
    }

    /// The server cannot be asked: nobody waits any longer.
    pub(super) fn fail(&mut self, now: f64, problem: &str) {
        self.requests.fail(false);
        self.trouble = true;
        self.has_failed = true;
        problem.clone_into(&mut self.problem);
        if let Some(flight) = &mut self.flight {
            flight.is_suspect = true;
        }
        self.answer_all(now);
    }
}
