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

use super::call::{
    Asked, BUCKETS, BatchRates, Command, Contents, EXEMPT, LOOK, MOVE, Seat, Space, TAKE, UNKNOWN,
    WALK, owned,
};
use super::code::{
    ABANDONED, CLOSED, CODES, DRAINING, GRANTED, IP_RATE, OVERLOAD, TAKING, UNREACHABLE, USER_RATE,
    WAIT,
};
use super::column::{Column, Key, Name, Scope};
use super::events::{Events, Read};
use super::notice::{Drain, Notice};
use super::observer::{Observer, Suspect};
use super::reject_cache::{self, RejectCache};
use super::reply::{BeatReply, JoinReply, Reply};
use super::request::{Outcome, Request, Requests};
use super::script::{Script, holds};
use super::settings::{ClusterLimits, Policy, Settings};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use names::Names;
use std::collections::{HashMap, VecDeque};

mod ahead;
mod moves;
mod names;
mod naming;
mod takeover;

/// Clients that may wait.
const WAITING_MAX: usize = 65_536;
/// Keys of one call that publishes.
const PUBLISH_MAX: usize = 1000;
/// Keys of which one batch gives seats back.
const RELEASES_MAX: usize = 1024;
/// Generations that are over which a member remembers.
const OLD_GENERATIONS_MAX: usize = 40;
const AUDIT_MS: f64 = 1000.0;
/// Seconds in which an audit has seen every key.
const AUDIT_PARTS: usize = 60;
/// Pause between two calls that clean, ms.
const CHORE_MS: f64 = 5.0;
/// Beats without a reply after which the connection is made anew.
const SILENT_BEATS: u32 = 3;
/// Part of the lease after which a member no longer believes that it is alive to the others.
const OWN_LEASE: f64 = 0.8;

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
    /// The answer: [`GRANTED`], a code of a limit, or one of the codes above.
    pub code: i32,
}

/// Work for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a command; its reply comes with this number.
    Call(u64, Command),
    /// Drops the connection and makes a new one.
    Reconnect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    /// Waits for the next batch.
    Waiting,
    /// Named by the call under way.
    Flying,
    /// It has its seat, and waits for the end of the one that it replaces.
    Taking,
    /// Admitted.
    Held,
}

struct Ticket {
    generation: u32,
    place: Place,
    port: u32,
    keys: [Option<Key>; 4],
    flags: u8,
    /// Ticket of the seat that moves, of a [`MOVE`]; else 0.
    base: u64,
    /// True once a newcomer replaces it.
    is_replaced: bool,
    /// False once nobody waits for the answer: it was answered by the policy, or given back.
    is_awaited: bool,
    /// True if it counts as held, whatever the call under way brings.
    is_held: bool,
}

struct Flight {
    /// Number of the message under which it was sent last; `None` if it has to be sent (again).
    sent: Option<u64>,
    contents: Contents,
    /// True if it was unanswered when the server became unreachable.
    is_suspect: bool,
}

/// A place on the server.
struct Member {
    seat: Seat,
    run: String,
    /// Number of the last numbered call that was answered.
    answered: u64,
    /// Number of the last beat, and of the last that was answered.
    beat: u64,
    beat_answered: u64,
    is_active: bool,
    /// Time at which it joined a generation that is younger than a lease; `None` once it has settled.
    settling: Option<f64>,
    /// Time at which the last answered beat was sent.
    alive_ms: f64,
}

enum Chore {
    Walk {
        generation: String,
        from: u32,
        ended: Vec<(u32, Vec<u8>)>,
    },
    Forget {
        generation: String,
        from: u32,
    },
}

/// Counts since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Admissions that the server granted.
    pub granted: u64,
    /// Admissions that the server refused.
    pub refused: u64,
    /// Admissions that were refused since the server had just refused the same key.
    pub cached: u64,
    /// Admissions from seats that were held ahead.
    pub ahead: u64,
    /// Admissions that the policy granted.
    pub local: u64,
    /// Admissions that the policy refused.
    pub unreachable: u64,
    /// Calls that were answered.
    pub calls: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Keys that were published.
    pub published: u64,
    /// Keys that an audit found different.
    pub drift: u64,
    /// Times that the member's place was lost.
    pub lost: u64,
    /// Members that this one declared dead.
    pub declared: u64,
    /// Newcomers that were granted the seat of an older connection.
    pub takeovers: u64,
    /// Connections and waiting newcomers of this process that a newcomer has replaced.
    pub replaced: u64,
    /// Bugs of the network's thread that were contained.
    pub contained: u64,
    /// Events that were read.
    pub events: u64,
    /// Times that events were missed, or may have been.
    pub gaps: u64,
}

/// One member; see the head of this file.
pub struct Core {
    settings: Settings,
    space: Space,
    column: Column,
    tickets: Vec<Ticket>,
    free: Vec<u32>,
    waiting: VecDeque<u64>,
    waiting_count: usize,
    /// Tickets in the order in which they asked, with their deadlines.
    deadlines: VecDeque<(f64, u64)>,
    answers: Vec<Answer>,
    actions: Vec<Action>,
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
    beats: VecDeque<(u64, u64, f64)>,
    next_beat_ms: f64,
    observer: Observer,
    suspects: VecDeque<Suspect>,
    chore: Option<Chore>,
    chore_sent: Option<u64>,
    next_chore_ms: f64,
    /// Time at which `poll` will be called by itself.
    planned_ms: f64,
    rejects: RejectCache,
    /// True once a client has wanted a seat that is held ahead, since the last batch.
    is_ahead_wanted: bool,
    next_ahead_ms: f64,
    next_tell_ms: f64,
    release_ms: Option<f64>,
    next_audit_ms: f64,
    audit_from: Key,
    last_reply_ms: f64,
    next_message: u64,
    members: u32,
    /// Members of a settled cluster: those of a young generation may still be on their way.
    settled_members: u32,
    revision: u32,
    closing: Option<f64>,
    leave_sent: Option<u64>,
    is_closed: bool,
    counts: Counts,
    state: State,
    since_ms: f64,
    random: u64,
    problem: String,
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
    takers: Vec<u64>,
    next_look_ms: f64,
    names: Names,
}

impl Core {
    /// Creates a member that is not connected.
    #[must_use]
    pub fn new(settings: Settings, now: f64) -> Self {
        let space = Space::new(&settings.prefix, &settings.name);
        Self {
            space,
            column: Column::default(),
            tickets: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            waiting_count: 0,
            deadlines: VecDeque::new(),
            answers: Vec::new(),
            actions: Vec::new(),
            link: None,
            trouble: false,
            has_failed: false,
            member: None,
            flight: None,
            joining: None,
            joins: 0,
            lost_generation: String::new(),
            old_generations: Vec::new(),
            beats: VecDeque::new(),
            next_beat_ms: now,
            observer: Observer::new(settings.lease_ms, settings.beat_ms),
            suspects: VecDeque::new(),
            chore: None,
            chore_sent: None,
            next_chore_ms: now,
            planned_ms: f64::INFINITY,
            rejects: RejectCache::new(settings.reject_cache_ms),
            is_ahead_wanted: false,
            next_ahead_ms: now,
            next_tell_ms: now,
            release_ms: None,
            next_audit_ms: now + AUDIT_MS,
            audit_from: 0,
            last_reply_ms: f64::NEG_INFINITY,
            next_message: 0,
            members: 0,
            settled_members: 0,
            revision: settings.revision,
            limits: settings.limits,
            drain: Drain::default(),
            requests: Requests::default(),
            events: Events::default(),
            notices: Vec::new(),
            over: 0,
            by_user: HashMap::default(),
            takers: Vec::new(),
            next_look_ms: now,
            names: Names::default(),
            closing: None,
            leave_sent: None,
            is_closed: false,
            counts: Counts::default(),
            state: State::Joining,
            since_ms: now,
            random: settings.entropy[0] | 1,
            problem: String::new(),
            settings,
        }
    }

    // --- Clients -----------------------------------------------------------------------------

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
        if is_up && self.waiting_count + self.takers.len() >= WAITING_MAX {
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
        let ticket = self.issue(port, [address, prefix, user, anonymous], flags, 0);
        if self.find(ticket).is_some_and(|at| self.take_ahead(at)) {
            return (ticket, GRANTED);
        }
        self.wait_or_decide(now, ticket, is_up)
    }

    /// Lets a new ticket wait for the server, or decides by the policy.
    fn wait_or_decide(&mut self, now: f64, ticket: u64, is_up: bool) -> (u64, i32) {
        if is_up {
            self.waiting.push_back(ticket);
            self.waiting_count += 1;
            self.deadlines
                .push_back((now + self.settings.admit_timeout_ms, ticket));
            return (ticket, WAIT);
        }
        let code = self.decide(ticket);
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
    fn note_refusal(&mut self, now: f64, one: &Asked, code: i32) {
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

    fn issue(&mut self, port: u32, keys: [Option<Key>; 4], flags: u8, base: u64) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.tickets.push(Ticket {
                generation: 0,
                place: Place::Free,
                port,
                keys: [None; 4],
                flags: 0,
                base: 0,
                is_replaced: false,
                is_awaited: false,
                is_held: false,
            });
            (self.tickets.len() - 1) as u32
        });
        let ticket = &mut self.tickets[at as usize];
        // 20 bits, so that a ticket is a whole number of JavaScript; never 0.
        ticket.generation = (ticket.generation % 0xf_ffff) + 1;
        ticket.place = Place::Waiting;
        ticket.port = port;
        ticket.keys = keys;
        ticket.flags = flags;
        ticket.base = base;
        ticket.is_replaced = false;
        ticket.is_awaited = true;
        ticket.is_held = false;
        u64::from(ticket.generation) << 32 | u64::from(at)
    }

    fn find(&self, ticket: u64) -> Option<usize> {
        let at = (ticket & 0xffff_ffff) as usize;
        let found = self.tickets.get(at)?;
        (found.place != Place::Free && u64::from(found.generation) == ticket >> 32).then_some(at)
    }

    /// Gives a seat back, or ends the wait for one.
    pub fn release(&mut self, now: f64, ticket: u64) {
        let Some(at) = self.find(ticket) else {
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
                self.waiting_count -= 1;
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
    fn release_by(&mut self, due_ms: f64) {
        let due = self.release_ms.unwrap_or(f64::INFINITY);
        self.release_ms = Some(due.min(due_ms));
    }

    /// Counts a seat that the server knows as held no longer, which is told with the next batch.
    fn withdraw(&mut self, at: usize) {
        self.hold(at, false);
        self.release_by(0.0);
    }

    /// Frees a ticket.
    fn dispose(&mut self, at: usize) {
        self.tickets[at].place = Place::Free;
        for key in self.tickets[at].keys.into_iter().flatten() {
            self.column.leave(key);
        }
        self.free.push(at as u32);
    }

    /// Counts the seat of a ticket as held, or as held no longer.
    fn hold(&mut self, at: usize, is_more: bool) {
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
    fn hold_key(&mut self, key: Key, is_more: bool) {
        self.column.hold(key, is_more);
        if !is_more {
            self.rejects.free(self.column.name(key));
            if self.column.held(key) == 0 {
                self.by_user.remove(&key);
            }
        }
    }

    /// Decides by the policy. A ticket that is refused is freed, unless a call names it.
    fn decide(&mut self, ticket: u64) -> i32 {
        let Some(at) = self.find(ticket) else {
            return UNREACHABLE;
        };
        if self.tickets[at].place == Place::Taking {
            // The newcomer replaces no connection from now on; its seat counts as not held yet.
            self.withdraw(at);
        }
        let is_granted = match self.settings.policy {
            Policy::Closed => false,
            Policy::Open => true,
            Policy::Share => self.has_share(at),
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
        let members = self.settled_members.max(self.settings.expected_members);
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

    /// Answers everybody who waits, by the policy.
    fn answer_all(&mut self) {
        while let Some((_, ticket)) = self.deadlines.pop_front() {
            if let Some(at) = self.find(ticket)
                && self.tickets[at].is_awaited
            {
                self.answer_by_policy(ticket, at);
            }
        }
        self.waiting.clear();
        self.waiting_count = 0;
        self.takers.clear();
    }

    fn answer_by_policy(&mut self, ticket: u64, at: usize) {
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
            self.decide(ticket)
        };
        self.answers.push(Answer { port, ticket, code });
    }

    /// Answers clients whose time is over.
    fn expire(&mut self, now: f64) {
        while let Some(&(due, ticket)) = self.deadlines.front() {
            let found = self.find(ticket).filter(|&at| self.tickets[at].is_awaited);
            let Some(at) = found else {
                self.deadlines.pop_front();
                continue;
            };
            if due > now {
                break;
            }
            // A server that answers is only too slow for so many: the others may still be in time.
            if now - self.last_reply_ms < self.settings.admit_timeout_ms && !self.trouble {
                self.deadlines.pop_front();
                self.refuse_late(now, ticket, at);
                continue;
            }
            self.fail("no answer within admitTimeoutMs");
        }
        if let Some(member) = &self.member
            && member.is_active
            && !self.trouble
            && now - member.alive_ms > OWN_LEASE * self.settings.lease_ms
        {
            self.fail("no beat within the lease");
        }
    }

    fn refuse_late(&mut self, now: f64, ticket: u64, at: usize) {
        if self.tickets[at].place == Place::Taking {
            return self.give_up_taking(now, ticket, at);
        }
        let port = self.tickets[at].port;
        self.tickets[at].is_awaited = false;
        if self.tickets[at].place == Place::Waiting {
            self.waiting_count -= 1;
            self.dispose(at);
        }
        self.answers.push(Answer {
            port,
            ticket,
            code: OVERLOAD,
        });
    }

    /// The server cannot be asked: nobody waits any longer.
    fn fail(&mut self, problem: &str) {
        self.requests.fail(false);
        self.trouble = true;
        self.has_failed = true;
        problem.clone_into(&mut self.problem);
        if let Some(flight) = &mut self.flight {
            flight.is_suspect = true;
        }
        self.answer_all();
    }

    // --- The link ----------------------------------------------------------------------------

    /// Notes a new connection, to the server process `run`.
    pub fn connected(&mut self, now: f64, run: &str) {
        self.counts.connects += 1;
        self.link = Some(run.to_owned());
        self.names.unsure();
        self.beats.clear();
        self.next_beat_ms = now;
        self.drop_chore();
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
            self.lose(&generation.clone(), &generation);
        }
        if self.member.is_none() {
            self.trouble = false;
        }
    }

    /// Notes that the connection is gone, or could not be made.
    pub fn disconnected(&mut self, problem: &str) {
        self.link = None;
        self.joining = None;
        self.names.unsure();
        self.drop_chore();
        self.leave_sent = None;
        self.beats.clear();
        self.fail(problem);
    }

    /// Gives up the clean-up under way: a call of it may not have run, and an index must not be given
    /// out again while a bucket names it.
    fn drop_chore(&mut self) {
        self.chore = None;
        self.chore_sent = None;
    }

    /// Gives the place on the server up, and joins anew.
    fn lose(&mut self, lost: &str, old: &str) {
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
        self.suspects.clear();
        self.observer.clear();
        self.drop_chore();
        self.column.forget();
        self.requests.fail(false);
        self.events.unsure();
        self.rejects.clear();
        self.answer_all();
        if let Some(flight) = self.flight.take() {
            self.end_flight(&flight.contents);
        }
        if self.link.is_some() {
            self.trouble = false;
        }
    }

    /// Frees the tickets and keys of a call that is over.
    fn end_flight(&mut self, contents: &Contents) {
        if let Contents::Batch { asked, .. } = contents {
            for one in asked {
                if let Some(at) = self.find(one.ticket) {
                    if self.tickets[at].is_held {
                        self.tickets[at].place = Place::Held;
                    } else {
                        self.dispose(at);
                    }
                }
            }
        }
        for key in contents.kept() {
            // A count that was told in vain is told again.
            self.column.put_back(key);
            self.column.leave(key);
        }
    }

    // --- Work ---------------------------------------------------------------------------------

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
        }
        if self.closing.is_some_and(|until| now >= until) {
            self.finish();
        }
        self.note_state(now);
        std::mem::take(&mut self.actions)
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
        (may_send && (self.waiting_count > 0 || self.ahead_to_ask(now) > 0))
            || self.due_ms(now) < self.planned_ms
    }

    /// Returns the time of the next call of `poll`, unless something happens before.
    #[must_use]
    pub fn due_ms(&self, now: f64) -> f64 {
        let mut due = (now + 1000.0).min(self.requests.due_ms());
        if let Some(&(at, _)) = self.deadlines.front() {
            due = due.min(at);
        }
        if let Some(until) = self.closing {
            due = due.min(until);
        }
        if self.link.is_none() {
            return due;
        }
        due = due.min(self.next_beat_ms);
        if self.trouble || self.closing.is_some() {
            return due;
        }
        if self.flight.is_none() && self.member.as_ref().is_some_and(|member| member.is_active) {
            due = due
                .min(self.release_ms.unwrap_or(due))
                .min(self.next_audit_ms);
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
        if self.chore_sent.is_none() && (self.chore.is_some() || !self.suspects.is_empty()) {
            due = due.min(self.next_chore_ms);
        }
        if let Some(member) = &self.member {
            due = due.min(member.alive_ms + OWN_LEASE * self.settings.lease_ms + 0.5);
        }
        due
    }

    fn message(&mut self) -> u64 {
        self.next_message += 1;
        self.next_message
    }

    fn call(&mut self, command: Command) -> u64 {
        let number = self.message();
        self.actions.push(Action::Call(number, command));
        number
    }

    fn reconnect(&mut self, problem: &str) {
        self.actions.clear();
        self.actions.push(Action::Reconnect);
        self.disconnected(problem);
    }

    /// Returns the next of a sequence of random numbers (splitmix64), for pauses only.
    fn next_random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Sends a beat when it is due: in every state, publishing included.
    fn send_beat(&mut self, now: f64) {
        if now < self.next_beat_ms {
            return;
        }
        let jitter = 0.8 + 0.4 * self.next_random();
        self.next_beat_ms = now + self.settings.beat_ms * jitter;
        if let Some((_, sent)) = self.joining
            && now - sent > self.settings.beat_ms * f64::from(SILENT_BEATS)
        {
            return self.reconnect("no answer to join");
        }
        if self.beats.len() >= SILENT_BEATS as usize {
            return self.reconnect("no answer to three beats");
        }
        let rotation = (self.next_random() * 4096.0) as u32;
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
        let number = self.call(command);
        self.beats.push_back((number, beat, now));
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

    fn send_join(&mut self, now: f64) {
        let Some(run) = self.link.clone() else {
            return;
        };
        if self.joining.is_some() || self.trouble || self.closing.is_some() {
            return;
        }
        let [a, b, c, d] = self.settings.entropy;
        let attempt = self.next_message;
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
        let number = self.call(Command {
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

    /// Chooses the next numbered call, if there is one to make.
    fn next_flight(&mut self, now: f64) -> Option<Flight> {
        let member = self.member.as_ref()?;
        let is_active = member.is_active;
        if self.closing.is_some() {
            return None;
        }
        let contents = if !is_active {
            if self.has_news() {
                self.publish()
            } else {
                Contents::Activate
            }
        } else if self.trouble {
            return None;
        } else if self.is_over() || self.tells_keys(now) {
            self.next_tell_ms = now + self.settings.release_delay_ms;
            self.publish()
        } else {
            self.batch(now).or_else(|| self.audit(now))?
        };
        Some(Flight {
            sent: None,
            contents,
            is_suspect: false,
        })
    }

    fn publish(&mut self) -> Contents {
        let taken = self.column.take_dirty(PUBLISH_MAX);
        self.release_ms = None;
        self.counts.published += taken.len() as u64;
        Contents::Publish {
            counts: taken
                .into_iter()
                .map(|(key, held, _)| (key, held))
                .collect(),
            seats: self.seats_to_tell(),
            anonymous: self.column.anonymous.held,
            is_audit: false,
        }
    }

    fn batch(&mut self, now: f64) -> Option<Contents> {
        let is_up = self.current() == State::Up;
        let looks = is_up && !self.takers.is_empty() && now >= self.next_look_ms;
        let asks = is_up && (self.waiting_count > 0 || looks || self.ahead_to_ask(now) > 0);
        let releases_due = self.release_ms.is_some_and(|due| due <= now);
        if !(asks || releases_due && self.has_news()) {
            if releases_due {
                self.release_ms = None;
            }
            return None;
        }
        let mut asked = Vec::new();
        if looks {
            self.look(now, &mut asked);
        }
        while asks
            && asked.len() < self.settings.batch_max
            && let Some(ticket) = self.waiting.pop_front()
        {
            // A client that left has freed its ticket.
            let Some(at) = self
                .find(ticket)
                .filter(|&at| self.tickets[at].place == Place::Waiting)
            else {
                continue;
            };
            self.waiting_count -= 1;
            let found = &mut self.tickets[at];
            found.place = Place::Flying;
            asked.push(Asked {
                ticket,
                keys: found.keys,
                flags: found.flags,
            });
        }
        if is_up {
            self.ask_ahead(now, &mut asked);
        }
        let mut releases = Vec::new();
        for (key, held, told) in self.column.take_dirty(RELEASES_MAX) {
            if held < told {
                releases.push((key, told - held));
            } else {
                self.column.put_back(key);
                self.column.leave(key);
            }
        }
        let (seats, anonymous) = (self.seats_to_release(), self.column.anonymous.to_release());
        self.release_ms = self
            .has_news()
            .then_some(now + self.settings.release_delay_ms);
        if releases.is_empty() && asked.is_empty() && seats == 0 && anonymous == 0 {
            self.release_ms = None;
            return None;
        }
        let contents = Contents::Batch {
            releases,
            seats,
            anonymous,
            asked,
            rates: BatchRates {
                of_network: self.limits.ip_rate[0] > 0.0,
                of_user: self.limits.user_rate[0] > 0.0,
                is_strict: self.settings.policy == Policy::Closed,
            },
        };
        // The keys of releases are in use already.
        if let Contents::Batch { asked, .. } = &contents {
            for key in asked.iter().flat_map(|one| one.keys.into_iter().flatten()) {
                self.column.keep(key);
            }
        }
        Some(contents)
    }

    /// Publishes a part of the counts that agree: the server may have lost a bucket.
    fn audit(&mut self, now: f64) -> Option<Contents> {
        if now < self.next_audit_ms {
            return None;
        }
        self.next_audit_ms = now + AUDIT_MS;
        let part = (self.column.len() / AUDIT_PARTS + 1).min(PUBLISH_MAX);
        let (counts, next) = self.column.slice(self.audit_from, part);
        self.audit_from = next;
        (!counts.is_empty()).then_some(Contents::Publish {
            counts,
            seats: self.column.seats.told,
            anonymous: self.column.anonymous.told,
            is_audit: true,
        })
    }

    /// Sends the call under way, unless it is sent on this connection already.
    fn send_flight(&mut self) {
        let (Some(member), Some(flight)) = (&self.member, &self.flight) else {
            return;
        };
        if flight.sent.is_some() || (self.trouble && member.is_active) {
            return;
        }
        let command =
            flight
                .contents
                .command(member.answered + 1, &self.space, &member.seat, &self.column);
        let number = self.call(command);
        if let Some(flight) = &mut self.flight {
            flight.sent = Some(number);
        }
    }

    fn send_leave(&mut self) {
        let Some(member) = &self.member else {
            return;
        };
        let command = Command {
            script: Script::Leave,
            keys: vec![self.space.meta(), self.space.events()],
            args: owned(&member.seat),
        };
        self.leave_sent = Some(self.call(command));
    }

    /// Declares members dead and cleans up after them: one call at a time, and not more than one in
    /// [`CHORE_MS`].
    fn send_chore(&mut self, now: f64) {
        if self.chore_sent.is_some() || now < self.next_chore_ms || self.trouble {
            return;
        }
        let Some(member) = &self.member else {
            return;
        };
        let generation = member.seat.generation.clone();
        let command = if let Some(suspect) = self.suspects.pop_front() {
            Command {
                script: Script::Dead,
                keys: vec![self.space.meta(), self.space.events()],
                args: vec![
                    generation.into_bytes(),
                    suspect.index.to_string().into_bytes(),
                    suspect.owner,
                    suspect.beat,
                ],
            }
        } else {
            match &mut self.chore {
                None => return,
                Some(Chore::Walk { from, ended, .. }) if *from >= BUCKETS => {
                    let mut args = vec![generation.into_bytes()];
                    for (index, owner) in std::mem::take(ended) {
                        args.push(index.to_string().into_bytes());
                        args.push(owner);
                    }
                    self.chore = None;
                    Command {
                        script: Script::Clean,
                        keys: vec![self.space.meta()],
                        args,
                    }
                }
                Some(Chore::Walk {
                    generation, from, ..
                }) => {
                    let keys = self.space.walk(generation, *from);
                    let args = vec![generation.clone().into_bytes()];
                    *from += WALK;
                    Command {
                        script: Script::Walk,
                        keys,
                        args,
                    }
                }
                Some(Chore::Forget { generation, from }) => {
                    let keys = self.space.walk(generation, *from);
                    *from += WALK;
                    let is_last = *from >= BUCKETS;
                    let args = vec![
                        generation.clone().into_bytes(),
                        u8::from(is_last).to_string().into_bytes(),
                    ];
                    if is_last {
                        self.chore = None;
                    }
                    Command {
                        script: Script::Forget,
                        keys,
                        args,
                    }
                }
            }
        };
        self.next_chore_ms = now + CHORE_MS;
        self.chore_sent = Some(self.call(command));
    }

    // --- Replies ------------------------------------------------------------------------------

    /// Takes the reply to message `number`.
    pub fn replied(&mut self, now: f64, number: u64, reply: Reply) {
        // First: whoever has waited too long is answered by the policy, whatever the server says.
        self.expire(now);
        self.counts.calls += 1;
        if self.chore_sent == Some(number) {
            self.chore_sent = None;
            match reply.text() {
                Some(b"+1") => self.counts.declared += 1,
                Some([b'+', ..]) => {}
                _ => self.drop_chore(),
            }
        } else if self.leave_sent == Some(number) {
            self.finish();
        } else if self.joining.is_some_and(|(sent, _)| sent == number) {
            self.joining = None;
            self.joined(now, &reply);
        } else if let Some(at) = self.beats.iter().position(|&(sent, ..)| sent == number) {
            if let Some((_, beat, sent_ms)) = self.beats.remove(at) {
                self.beaten(now, beat, sent_ms, &reply);
            }
        } else if self
            .flight
            .as_ref()
            .is_some_and(|flight| flight.sent == Some(number))
        {
            self.landed(now, &reply);
        } else if self.named(number, &reply) {
            // It has told what it has to.
        } else if self.requests.replied(number, &reply) {
            self.is_lost(&reply);
        }
        self.note_state(now);
    }

    /// Acts on a reply that says that the place on the server is lost; `true` if it does.
    fn is_lost(&mut self, reply: &Reply) -> bool {
        let Some(text) = reply.text() else {
            return false;
        };
        let generation = self
            .member
            .as_ref()
            .map(|member| member.seat.generation.clone())
            .unwrap_or_default();
        match text {
            b"GEN" => self.lose("", &generation),
            b"FENCED" => self.lose("", ""),
            b"LOST" => self.lose(&generation, &generation),
            _ => return false,
        }
        true
    }

    fn joined(&mut self, now: f64, reply: &Reply) {
        let Some(run) = self.link.clone() else {
            return;
        };
        let Some(reply) = JoinReply::of(reply) else {
            let problem = reply.problem();
            return self.reconnect(&problem);
        };
        self.last_reply_ms = now;
        let identity = self.identity();
        self.joins += 1;
        self.members = reply.members.max(1);
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
        self.next_beat_ms = now + self.settings.beat_ms * self.next_random();
    }

    fn beaten(&mut self, now: f64, beat: u64, sent_ms: f64, reply: &Reply) {
        if self.is_lost(reply) {
            return;
        }
        let Some(reply) = BeatReply::of(reply) else {
            let problem = reply.problem();
            return self.fail(&problem);
        };
        let Some(member) = &mut self.member else {
            return;
        };
        // Earlier beats were answered before, or never will be.
        self.beats.retain(|&(_, other, _)| other > beat);
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
        }
        if now - member.alive_ms <= OWN_LEASE * lease_ms {
            self.trouble = false;
            self.problem.clear();
        }
        // Soon enough for the end of settling.
        if let Some(since) = member.settling {
            let left = (lease_ms - reply.age_ms).min(lease_ms - (now - since));
            self.next_beat_ms = self
                .next_beat_ms
                .min(now + left.max(self.settings.beat_ms / 4.0));
        }
        let generation = member.seat.generation.clone();
        self.old_generations.clone_from(&reply.old_generations);
        let suspects = self.observer.see(now, &reply.seen);
        for suspect in suspects {
            if !self
                .suspects
                .iter()
                .any(|known| known.index == suspect.index)
            {
                self.suspects.push_back(suspect);
            }
        }
        if reply.is_cleaner && self.chore.is_none() {
            if !reply.ended.is_empty() {
                self.chore = Some(Chore::Walk {
                    generation,
                    from: 0,
                    ended: reply.ended,
                });
            } else if let Some(old) = reply.old_generations.first() {
                self.chore = Some(Chore::Forget {
                    generation: old.clone(),
                    from: 0,
                });
            }
        }
    }

    /// Takes the reply to the call under way.
    fn landed(&mut self, now: f64, reply: &Reply) {
        if self.is_lost(reply) {
            return;
        }
        let results = match reply.text() {
            Some([b'+', results @ ..]) => results.to_vec(),
            _ => {
                // An error of the server: the call has changed nothing, and is made again.
                let problem = reply.problem();
                if let Some(flight) = &mut self.flight {
                    flight.sent = None;
                }
                return self.fail(&problem);
            }
        };
        let (Some(member), Some(flight)) = (&mut self.member, self.flight.take()) else {
            return;
        };
        self.last_reply_ms = now;
        member.answered += 1;
        match &flight.contents {
            Contents::Activate => member.is_active = true,
            Contents::Publish {
                counts,
                seats,
                anonymous,
                is_audit,
            } => {
                for &(key, count) in counts {
                    self.column.confirm_all(key, count);
                }
                self.column.seats.told = *seats;
                self.column.anonymous.told = *anonymous;
                let found = std::str::from_utf8(&results).unwrap_or_default();
                let mut found = found.split(' ').map(|text| text.parse().unwrap_or(0));
                let (differing, over) = (found.next().unwrap_or(0), found.next().unwrap_or(0));
                if *is_audit && differing > 0 {
                    self.counts.drift += differing;
                    self.notices.push(Notice::Drift(differing));
                }
                if over > 0 {
                    self.notices.push(Notice::Over(self.over, over));
                }
            }
            Contents::Batch {
                releases,
                seats,
                anonymous,
                asked,
                ..
            } => {
                for &(key, count) in releases {
                    self.column.confirm_released(key, count);
                }
                self.column.seats.told -= (*seats).min(self.column.seats.told);
                self.column.anonymous.told -= (*anonymous).min(self.column.anonymous.told);
                let (codes, waits) = results.split_at(asked.len().min(results.len()));
                let mut waits = waits.chunks_exact(3);
                for (one, &result) in asked.iter().zip(codes) {
                    let mut code = i32::from(result) - i32::from(b'0');
                    if code == IP_RATE || code == USER_RATE {
                        let wait = waits.next().unwrap_or(&[0, 0, 1]);
                        let ms = i32::from_be_bytes([0, wait[0], wait[1], wait[2]]);
                        code += CODES * ms.clamp(1, i32::MAX / CODES - 1);
                    }
                    self.decided(now, one, code);
                }
            }
        }
        // Tickets are settled by `decided`; the keys of the call are free.
        for key in flight.contents.kept() {
            self.column.leave(key);
        }
        if self.has_news() {
            self.release_ms
                .get_or_insert(now + self.settings.release_delay_ms);
        }
    }

    /// Takes the server's decision on one admission.
    fn decided(&mut self, now: f64, one: &Asked, code: i32) {
        if one.ticket == 0 {
            return self.decided_ahead(now, code);
        }
        if one.flags & LOOK != 0 {
            return self.looked(one.ticket, code);
        }
        // A newcomer that waits has its seat.
        let is_taking = code == TAKING;
        let is_granted = code == GRANTED || is_taking;
        if !is_granted {
            self.note_refusal(now, one, code);
        }
        let Some(at) = self.find(one.ticket) else {
            return;
        };
        // Seats that were asked for ahead may have filled the total: they are for such a client.
        if code == i32::from(reject_cache::TOTAL) && self.gives_ahead(at) {
            self.counts.granted += 1;
            let port = self.tickets[at].port;
            self.answers.push(Answer {
                port,
                ticket: one.ticket,
                code: GRANTED,
            });
            return;
        }
        let is_move = one.flags & MOVE != 0;
        let is_wanted = self.tickets[at].is_awaited;
        if is_granted {
            for key in one.keys.into_iter().flatten() {
                self.column.grant(key, is_wanted);
            }
            if !is_move {
                self.column.seats.told += 1;
            }
            if one.keys[3].is_some() {
                self.column.anonymous.told += 1;
            }
        }
        let mut code = code;
        if is_wanted && is_taking {
            self.tickets[at].is_held = true;
            self.column.seats.held += 1;
            self.note_held(at);
            return self.await_takeover(now, one.ticket, at);
        }
        if is_wanted {
            self.tickets[at].is_awaited = false;
            let port = self.tickets[at].port;
            if is_granted {
                self.counts.granted += 1;
                self.tickets[at].is_held = true;
                if !is_move {
                    self.column.seats.held += 1;
                }
                if one.keys[3].is_some() {
                    self.column.anonymous.held += 1;
                }
                self.note_held(at);
                code = self.settle_move(at, true);
            } else {
                self.counts.refused += 1;
            }
            self.answers.push(Answer {
                port,
                ticket: one.ticket,
                code,
            });
        }
        // A seat that the policy gave stays, whatever the server says; one that nobody wants any more
        // is released by the difference of the counts.
        if self.tickets[at].is_held {
            self.tickets[at].place = Place::Held;
        } else {
            self.dispose(at);
        }
    }

    // --- Beside the seats ---------------------------------------------------------------------

    /// Adds a request; its outcome comes later. Returns its ticket.
    pub fn request(&mut self, now: f64, port: u32, request: Request) -> u64 {
        if self.closing.is_some() || self.is_closed {
            return self.requests.refuse(port, CLOSED);
        }
        if self.trouble || self.link.is_none() || self.member.is_none() {
            return self.requests.refuse(port, UNREACHABLE);
        }
        let wait_ms = self.settings.admit_timeout_ms;
        self.requests.add(now, wait_ms, port, request)
    }

    fn send_requests(&mut self) {
        if self.trouble || self.link.is_none() || self.closing.is_some() {
            return;
        }
        let is_strict = self.settings.policy == Policy::Closed;
        while let Some(member) = &self.member
            && let Some(command) = self.requests.next(&self.space, &member.seat, is_strict)
        {
            let number = self.call(command);
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

    /// Takes a reply to the listener; `false` if it is not understood.
    pub fn read(&mut self, now: f64, read: &Read, reply: &Reply) -> bool {
        let Some(news) = self.events.read(read, reply) else {
            return false;
        };
        if news.has_gap {
            self.missed(now);
        }
        for event in news.events {
            self.counts.events += 1;
            if event.kind == b's' {
                self.next_beat_ms = now;
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

    /// Events were missed: the state is read again.
    fn missed(&mut self, now: f64) {
        self.counts.gaps += 1;
        self.next_beat_ms = now;
        self.notices.push(Notice::Gap);
    }

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

    /// Takes what a beat tells besides the members.
    fn informed(&mut self, now: f64, generation: &str, reply: &BeatReply) {
        self.take_limits(reply.revision, &reply.limits);
        let (number, left_ms, reason) = &reply.drain;
        if *number >= self.drain.number {
            self.drain = Drain {
                number: *number,
                until_ms: now + left_ms,
                reason: reason.clone(),
            };
        }
        if self.events.beaten(generation, reply.events) {
            self.missed(now);
        }
        let over = reply.total.saturating_sub(self.limits.total);
        if over > 0 && self.over == 0 {
            self.notices.push(Notice::Over(over, 0));
        }
        self.over = over;
    }

    // --- State --------------------------------------------------------------------------------

    fn current(&self) -> State {
        if self.is_closed {
            return State::Closed;
        }
        let Some(member) = &self.member else {
            return if self.trouble || (self.link.is_none() && self.has_failed) {
                State::Unreachable
            } else {
                State::Joining
            };
        };
        if self.trouble || self.link.is_none() {
            State::Unreachable
        } else if !member.is_active {
            State::Joining
        } else if member.settling.is_some() {
            State::Settling
        } else if self.is_over() || self.flight.as_ref().is_some_and(|flight| flight.is_suspect) {
            State::Unreachable
        } else {
            State::Up
        }
    }

    fn note_state(&mut self, now: f64) {
        let state = self.current();
        if state != self.state {
            self.state = state;
            self.since_ms = now;
        }
    }

    /// Returns the state as of the last call.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the time of the last change of state.
    #[must_use]
    pub fn since_ms(&self) -> f64 {
        self.since_ms
    }

    /// Returns the last problem, empty if there is none.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns the members of the cluster, as far as known.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Returns the revision of the limits in force.
    #[must_use]
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// True if the limits in force are not those that this member declared.
    #[must_use]
    pub fn limits_differ(&self) -> bool {
        self.limits != self.settings.limits
    }

    /// Returns the limits in force.
    #[must_use]
    pub fn limits(&self) -> [f64; 11] {
        self.limits.numbers()
    }

    /// Returns the time that is left of the drain, and its reason.
    #[must_use]
    pub fn drain(&self, now: f64) -> (f64, &str) {
        (self.drain.left_ms(now), &self.drain.reason)
    }

    /// Returns the seats that this member holds, and those that the server knows.
    #[must_use]
    pub fn seats(&self) -> (u32, u32) {
        (self.column.seats.held, self.column.seats.told)
    }

    /// Returns the clients that wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting_count as u32
    }

    /// Returns the counts since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the answers since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Leaves the cluster: seats are told as free, then the place is given up, at the latest at
    /// `until`.
    pub fn close(&mut self, until: f64) {
        if self.closing.is_none() && !self.is_closed {
            self.closing = Some(until);
            self.answer_all();
            if self.link.is_none() || self.trouble || self.member.is_none() {
                self.finish();
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
            self.lose("", "");
        }
        self.problem = format!("a bug in the cluster's {part} was contained");
        self.note_state(now);
    }

    /// Closes the member after a bug: it refuses from now on.
    pub fn abandon(&mut self, now: f64) {
        self.finish();
        self.note_state(now);
        "a bug in the cluster's thread was contained".clone_into(&mut self.problem);
    }

    fn finish(&mut self) {
        self.requests.fail(true);
        self.is_closed = true;
        self.closing = None;
        self.answer_all();
        self.state = State::Closed;
    }

    /// True once the member has left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}
