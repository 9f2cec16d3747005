//! The state of one member: what it asks the server, what it believes, and what it answers to its
//! clients. Time and replies are arguments; nothing here reads a clock or a socket.
//!
//! ```text
//!  joining -> settling -> up <-> unreachable
//!     ^___________|________|__________|          the generation, the index or a call is lost
//! ```
//!
//! # Invariants
//! - A client is answered once, and no later than `admit_timeout_ms` after it asked, if `poll` is
//!   called when it is due.
//! - One numbered call is under way at a time; it is sent again until it is answered or the
//!   member's place on the server is lost.
//! - While the member is up, the server knows of every seat that it holds.
//!
//! # Parts
//! `tickets`, `waiting`, `calls`, `member`, `chores`, `audit` and `names` own data and know nothing of the core. The other
//! modules are its steps, by subject: they lead from one part to the next.

use super::call::Space;
use super::column::{Column, Key};
use super::events::Events;
use super::notice::{Drain, Notice};
use super::observer::Observer;
use super::reject_cache::RejectCache;
use super::reply::Reply;
use super::request::Requests;
use super::settings::{ClusterLimits, Settings};
use audit::Audit;
use calls::{Calls, Flight};
use chores::Chores;
use member::{Beats, Member, OWN_LEASE};
use presence::Names;
use random::Random;
use shares::RateShares;
use std::collections::{HashMap, VecDeque};
use tickets::Tickets;
use waiting::{Taker, Waiting};

// The parts that own data.
mod audit;
mod calls;
mod chores;
mod counters;
mod member;
mod presence;
mod random;
mod shares;
mod tickets;
mod waiting;

// The steps of the core, by subject.
mod admission;
mod ahead;
mod batches;
mod membership;
mod moves;
mod policy;
mod presence_calls;
mod requests;
mod status;
mod takeover;

pub use calls::Action;
pub use counters::Counters;

/// The state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no place on the server yet, or has not told what it holds.
    Joining = 0,
    /// Other members may still have to tell what they hold.
    Settling = 1,
    /// The server decides.
    Up = 2,
    /// The server does not answer.
    Unreachable = 3,
    /// The member has left.
    Closed = 4,
}

/// A client that asks for a seat.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Bits of the address that counts it; 0 if it is unknown.
    pub address: u128,
    /// Bits of its IPv6 prefix.
    pub prefix: Option<u128>,
    /// Digest of the user's name.
    pub user: Option<u128>,
    /// True if the limits of its address do not refuse it.
    pub is_exempt: bool,
}

/// The answer to a client that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Port of the JavaScript thread that asked.
    pub port: u32,
    /// The client's ticket.
    pub ticket: u64,
    /// [`super::GRANTED`], a code of a limit, or another code of `code`.
    pub code: i32,
}

/// One member; see the head of this file.
pub struct Core {
    settings: Settings,
    space: Space,
    column: Column,
    tickets: Tickets,
    waiting: Waiting,
    answers: Vec<Answer>,
    calls: Calls,
    /// Run id of the server, while connected.
    link: Option<String>,
    trouble: bool,
    has_failed: bool,
    member: Option<Member>,
    flight: Option<Flight>,
    /// Number of the join under way.
    joining: Option<(u64, f64)>,
    joins: u64,
    /// A generation that has lost something, and those that are over and may not be deleted yet: a server that has
    /// lost what it knew of them is told.
    lost_generation: String,
    old_generations: Vec<String>,
    beats: Beats,
    observer: Observer,
    chores: Chores,
    /// Time at which `poll` will be called by itself.
    planned_ms: f64,
    rejects: RejectCache,
    /// True once a client has wanted a seat that is held ahead, since the last batch.
    is_ahead_wanted: bool,
    next_ahead_ms: f64,
    next_tell_ms: f64,
    release_ms: Option<f64>,
    audit: Audit,
    last_reply_ms: f64,
    members: u32,
    /// Members of a settled cluster: those of a young generation may still be on their way.
    settled_members: u32,
    /// The same, or more of them that were seen since.
    known_members: u32,
    revision: u32,
    closing: Option<f64>,
    leave_sent: Option<u64>,
    is_closed: bool,
    counts: Counters,
    state: State,
    since_ms: f64,
    random: Random,
    problem: String,
    /// Problem of the reader of events, empty while it reads.
    unheard: String,
    /// The limits in force.
    limits: ClusterLimits,
    drain: Drain,
    requests: Requests,
    events: Events,
    notices: Vec<Notice>,
    over: u32,
    /// Tickets of each user in the order of their admission, if the oldest may be replaced. Some have ended.
    by_user: HashMap<Key, VecDeque<u64>, ahash::RandomState>,
    /// Tickets that wait for the end of the seats that they replace. Some have ended.
    takers: Vec<Taker>,
    /// Events of newcomers that came while a call was under way: its reply may tell of the newcomers themselves.
    replacements: Vec<Vec<u8>>,
    next_look_ms: f64,
    names: Names,
    shares: RateShares,
}

impl Core {
    /// Creates a member that is not connected.
    #[must_use]
    pub fn new(settings: Settings, now: f64) -> Self {
        let space = Space::new(&settings.prefix, &settings.name);
        Self {
            space,
            column: Column::default(),
            tickets: Tickets::default(),
            waiting: Waiting::default(),
            answers: Vec::new(),
            calls: Calls::default(),
            link: None,
            trouble: false,
            has_failed: false,
            member: None,
            flight: None,
            joining: None,
            joins: 0,
            lost_generation: String::new(),
            old_generations: Vec::new(),
            beats: Beats::new(now),
            observer: Observer::new(settings.lease_ms, settings.beat_ms),
            chores: Chores::new(now),
            planned_ms: f64::INFINITY,
            rejects: RejectCache::new(settings.reject_cache_ms),
            is_ahead_wanted: false,
            next_ahead_ms: now,
            next_tell_ms: now,
            release_ms: None,
            audit: Audit::new(now),
            last_reply_ms: f64::NEG_INFINITY,
            members: 0,
            settled_members: 0,
            known_members: 0,
            revision: settings.revision,
            limits: settings.limits,
            drain: Drain::default(),
            requests: Requests::default(),
            events: Events::default(),
            notices: Vec::new(),
            over: 0,
            by_user: HashMap::default(),
            takers: Vec::new(),
            replacements: Vec::new(),
            next_look_ms: now,
            names: Names::default(),
            shares: RateShares::default(),
            closing: None,
            leave_sent: None,
            is_closed: false,
            counts: Counters::default(),
            state: State::Joining,
            since_ms: now,
            random: Random::new(settings.entropy[0]),
            problem: String::new(),
            unheard: String::new(),
            settings,
        }
    }

    /// Returns the work that is due now.
    pub fn poll(&mut self, now: f64) -> Vec<Action> {
        self.expire(now);
        self.requests.expire(now);
        if self.link.is_some() && !self.is_closed {
            self.send_beat(now);
            self.send_numbered(now);
            self.send_requests();
            self.send_names(now);
            self.send_chore(now);
        } else {
            self.forget_names(now);
        }
        let is_over = |until| now >= until || !self.may_have_place();
        if self.closing.is_some_and(is_over) {
            self.finish(now);
        }
        self.note_state(now);
        self.calls.take()
    }

    /// Returns the time of the next call of `poll`, as `due_ms`; `is_urgent` compares with it.
    pub fn plan(&mut self, now: f64) -> f64 {
        self.planned_ms = self.due_ms(now);
        self.planned_ms
    }

    /// True if `poll` has work before the planned time.
    #[must_use]
    pub fn is_urgent(&self, now: f64) -> bool {
        let may_send = self.flight.is_none() && self.link.is_some();
        (may_send && (self.waiting.count() > 0 || self.ahead_to_ask(now) > 0))
            || self.due_ms(now) < self.planned_ms
    }

    /// Returns the time of the next call of `poll`, unless something happens before.
    #[must_use]
    pub fn due_ms(&self, now: f64) -> f64 {
        let mut due = (now + 1000.0).min(self.requests.due_ms());
        if let Some((at, _)) = self.waiting.deadline() {
            due = due.min(at);
        }
        if let Some(until) = self.closing {
            due = due.min(until);
        }
        if self.link.is_none() {
            return due;
        }
        due = due.min(self.beats.next_ms);
        if self.trouble || self.closing.is_some() {
            return due;
        }
        if self.flight.is_none() && self.member.as_ref().is_some_and(|member| member.is_active) {
            due = due
                .min(self.release_ms.unwrap_or(due))
                .min(self.audit.due_ms());
            if self.ahead_max() > 0 && self.column.has_keys_over() {
                due = due.min(self.next_tell_ms);
            }
            if !self.takers.is_empty() && self.current() == State::Up {
                due = due.min(self.next_look_ms);
            }
        }
        if self.member.as_ref().is_some_and(|member| member.is_active) {
            due = due.min(self.names.due_ms());
        }
        due = due.min(self.chores.due_ms());
        if let Some(member) = &self.member {
            due = due.min(member.alive_ms + OWN_LEASE * self.settings.lease_ms + 0.5);
        }
        due
    }

    fn reconnect(&mut self, now: f64, problem: &str) {
        self.calls.reconnect();
        self.disconnected(now, problem);
    }

    fn send_numbered(&mut self, now: f64) {
        if self.link.is_none() {
            return;
        }
        if self.member.is_none() {
            return self.send_join(now);
        }
        if self.flight.is_none() {
            self.flight = self.next_flight(now);
        }
        self.send_flight();
        if self.closing.is_some() && self.flight.is_none() && self.leave_sent.is_none() {
            self.send_leave();
        }
    }

    /// Declares members dead and cleans up after them: one call at a time.
    fn send_chore(&mut self, now: f64) {
        let Some(member) = self.member.as_ref().filter(|_| !self.trouble) else {
            return;
        };
        let generation = &member.seat.generation;
        if let Some(command) = self.chores.next(now, &self.space, generation) {
            let number = self.calls.send(command);
            self.chores.sent(number);
        }
    }

    /// Takes the reply to message `number`.
    pub fn replied(&mut self, now: f64, number: u64, reply: Reply) {
        // First: whoever has waited too long is answered by the policy, whatever the server says.
        self.expire(now);
        self.counts.calls += 1;
        if let Some(has_declared) = self.chores.replied(number, &reply) {
            self.counts.declared += u64::from(has_declared);
        } else if self.leave_sent == Some(number) {
            self.finish(now);
        } else if self.joining.is_some_and(|(sent, _)| sent == number) {
            self.joining = None;
            self.joined(now, &reply);
        } else if let Some((beat, sent_ms)) = self.beats.take(number) {
            self.beaten(now, beat, sent_ms, &reply);
        } else if self
            .flight
            .as_ref()
            .is_some_and(|flight| flight.sent == Some(number))
        {
            self.landed(now, &reply);
        } else if self.named(now, number, &reply) {
            // It has told what it has to.
        } else {
            // The drain takes effect before the caller learns of its outcome.
            if self.requests.is_drain(number) {
                self.drained(now, &reply);
            }
            if self.requests.replied(number, &reply) {
                self.is_lost(now, &reply);
            }
        }
        self.note_state(now);
    }

    /// True if the member has a place on the server, or may get one by the join that is under way.
    fn may_have_place(&self) -> bool {
        self.member.is_some() || self.joining.is_some()
    }

    /// Leaves the cluster: seats are told as free, then the place is given up, at the latest after `patience_ms`.
    pub fn close(&mut self, now: f64, patience_ms: f64) {
        if self.closing.is_none() && !self.is_closed {
            self.closing = Some(now + patience_ms);
            self.answer_all(now);
            if self.link.is_none() || self.trouble || !self.may_have_place() {
                self.finish(now);
            }
        }
    }

    /// Goes on after a bug in a part of the network's thread, which has begun anew: the stream is read again. With
    /// `is_suspect`, the bug was in the core: the member joins anew and tells everything that it holds.
    pub fn contain(&mut self, now: f64, part: &str, is_suspect: bool) {
        self.counts.contained += 1;
        self.events.unsure();
        self.missed(now);
        if is_suspect && self.member.is_some() {
            self.lose(now, "", "");
        }
        self.problem = format!("a bug in the cluster's {part} was contained");
        self.note_state(now);
    }

    /// Closes the member after a bug: it refuses from now on.
    pub fn abandon(&mut self, now: f64) {
        self.finish(now);
        self.note_state(now);
        "a bug in the cluster's thread was contained".clone_into(&mut self.problem);
    }

    fn finish(&mut self, now: f64) {
        self.requests.fail(true);
        self.is_closed = true;
        self.closing = None;
        self.answer_all(now);
        self.state = State::Closed;
    }

    /// True once the member has left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns the answers since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }
}
