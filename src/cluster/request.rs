//! Calls beside the numbered ones: questions, events, rates. None of them changes a count of seats, so
//! none needs a number. A late copy of a command does nothing, and one of a rate spends it twice.
//!
//! Owns the requests until they are answered. Does not own the link or the state (`core`).

use super::call::{Command, Seat, Space};
use super::code::{BUSY, CLOSED, CONFLICT, DONE, FAILED, FULL, UNREACHABLE};
use super::column::{Name, Scope};
use super::reply::Reply;
use super::script::Script;
use std::collections::VecDeque;

/// Requests that may wait.
const WAITING_MAX: usize = 65_536;
/// Calls that may be under way, besides those that spend rates.
const CALLS_MAX: usize = 64;
/// Rates that one call spends.
const TAKES_MAX: usize = 256;
/// Buckets of one call that asks for names.
const ONLINE: u32 = 256;
/// Waits of requests that nobody's client waits for, in waits of a client.
const PATIENCE: f64 = 4.0;

/// A request of a JavaScript thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Closes the connections of a user on all members; `data` is the event's.
    Kick {
        /// Digest of the user's name.
        user: u128,
        /// Data of the event.
        data: Vec<u8>,
    },
    /// Asks for the members that hold connections of a user.
    Who {
        /// Digest of the user's name.
        user: u128,
    },
    /// Asks for all members.
    Nodes,
    /// Refuses newcomers on all members for a time, or admits them again (0 ms).
    Drain {
        /// Time, ms.
        ms: f64,
        /// Reason.
        reason: Vec<u8>,
    },
    /// Replaces the limits, if `revision` is in force.
    Limits {
        /// Revision that the caller knows.
        revision: u32,
        /// Limits, in the order in which they cross.
        numbers: [f64; 11],
    },
    /// Adds revocations: expiry in ms since 1970 and text of each; `data` is the event's, empty for none.
    Revoke {
        /// Most revocations that the server holds.
        most: u32,
        /// Time of the caller's clock, ms since 1970.
        now_ms: f64,
        /// Data of the event.
        data: Vec<u8>,
        /// The revocations.
        entries: Vec<(f64, Vec<u8>)>,
    },
    /// Asks for the names of users that have a seat, from a bucket on.
    Online {
        /// The bucket.
        from: u32,
        /// Names wanted.
        most: u32,
    },
    /// Asks for some revocations from a cursor on.
    Revocations {
        /// Cursor of the server; empty for the first part.
        cursor: Vec<u8>,
    },
    /// Spends a rate.
    Take {
        /// Digest of the key.
        key: u128,
        /// Time for each unit, ms.
        interval_ms: f64,
        /// Units at once.
        burst: f64,
        /// Units.
        cost: f64,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Port of the JavaScript thread that asked.
    pub port: u32,
    /// Ticket of the request.
    pub ticket: u64,
    /// [`DONE`], or a code above or of `core`.
    pub code: i32,
    /// The parts of the answer.
    pub parts: Vec<Vec<u8>>,
}

struct Waiting {
    port: u32,
    ticket: u64,
    due_ms: f64,
    request: Request,
}

/// A call under way: its number, and the requests that it answers.
struct Flight {
    number: u64,
    tickets: Vec<(u32, u64, f64)>,
    is_take: bool,
    is_drain: bool,
}

/// The requests of a member.
#[derive(Default)]
pub(super) struct Requests {
    last: u64,
    waiting: VecDeque<Waiting>,
    takes: VecDeque<Waiting>,
    flights: Vec<Flight>,
    outcomes: Vec<Outcome>,
}

impl Requests {
    /// Adds a request; returns its ticket.
    pub(super) fn add(&mut self, now: f64, wait_ms: f64, port: u32, request: Request) -> u64 {
        self.last += 1;
        let ticket = self.last;
        let is_take = matches!(request, Request::Take { .. });
        let patience = if is_take { 1.0 } else { PATIENCE };
        let queue = if is_take {
            &mut self.takes
        } else {
            &mut self.waiting
        };
        if queue.len() >= WAITING_MAX {
            self.answer(port, ticket, BUSY, Vec::new());
        } else {
            queue.push_back(Waiting {
                port,
                ticket,
                due_ms: now + wait_ms * patience,
                request,
            });
        }
        ticket
    }

    /// Answers a request that cannot be sent.
    pub(super) fn refuse(&mut self, port: u32, code: i32) -> u64 {
        self.last += 1;
        self.answer(port, self.last, code, Vec::new());
        self.last
    }

    fn answer(&mut self, port: u32, ticket: u64, code: i32, parts: Vec<Vec<u8>>) {
        self.outcomes.push(Outcome {
            port,
            ticket,
            code,
            parts,
        });
    }

    pub(super) fn take_outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Answers all: the link is lost, or the member leaves.
    pub(super) fn fail(&mut self, is_closed: bool) {
        let code = if is_closed { CLOSED } else { UNREACHABLE };
        let flying = std::mem::take(&mut self.flights);
        let flying = flying.into_iter().flat_map(|flight| flight.tickets);
        let waiting = std::mem::take(&mut self.waiting);
        let takes = std::mem::take(&mut self.takes);
        let waiting = waiting.into_iter().chain(takes);
        let all: Vec<_> = flying
            .map(|(port, ticket, _)| (port, ticket))
            .chain(waiting.map(|one| (one.port, one.ticket)))
            .collect();
        for (port, ticket) in all {
            self.answer(port, ticket, code, Vec::new());
        }
    }

    /// Answers those that have waited too long; their calls may still run.
    pub(super) fn expire(&mut self, now: f64) {
        let mut late = Vec::new();
        for queue in [&mut self.waiting, &mut self.takes] {
            while queue.front().is_some_and(|one| one.due_ms <= now) {
                late.extend(queue.pop_front().map(|one| (one.port, one.ticket)));
            }
        }
        for flight in &mut self.flights {
            for (port, ticket, due_ms) in &mut flight.tickets {
                // Ticket 0: answered already.
                if *due_ms <= now && *ticket != 0 {
                    late.push((*port, std::mem::take(ticket)));
                }
            }
        }
        for (port, ticket) in late {
            self.answer(port, ticket, UNREACHABLE, Vec::new());
        }
    }

    /// Returns the time at which the next request has waited too long.
    pub(super) fn due_ms(&self) -> f64 {
        let queued = [self.waiting.front(), self.takes.front()];
        let queued = queued.into_iter().flatten().map(|one| one.due_ms);
        let flying = self.flights.iter().flat_map(|flight| {
            let awaited = flight.tickets.iter().filter(|(_, ticket, _)| *ticket != 0);
            awaited.map(|(.., due_ms)| *due_ms)
        });
        queued.chain(flying).fold(f64::INFINITY, f64::min)
    }

    /// Returns the next call to make, if there is one; `sent` must tell its number.
    pub(super) fn next(&mut self, space: &Space, seat: &Seat, is_strict: bool) -> Option<Command> {
        let is_taking = self.flights.iter().any(|flight| flight.is_take);
        if !is_taking && !self.takes.is_empty() {
            let count = self.takes.len().min(TAKES_MAX);
            let taken: Vec<Waiting> = self.takes.drain(..count).collect();
            let command = take_command(&taken, space, seat, is_strict);
            self.flights.push(Flight {
                number: 0,
                tickets: tickets_of(&taken),
                is_take: true,
                is_drain: false,
            });
            return Some(command);
        }
        if self.flights.len() >= CALLS_MAX {
            return None;
        }
        let one = self.waiting.pop_front()?;
        // Never used twice, since an identity is not.
        let id = text(format!("{}:{}", seat.identity, one.ticket));
        let command = command_of(&one.request, space, seat, id);
        self.flights.push(Flight {
            number: 0,
            is_take: false,
            is_drain: matches!(one.request, Request::Drain { .. }),
            tickets: tickets_of(&[one]),
        });
        Some(command)
    }

    /// Notes the number of the latest call of `next`.
    pub(super) fn sent(&mut self, number: u64) {
        if let Some(flight) = self.flights.last_mut() {
            flight.number = number;
        }
    }

    /// True for the number of a call that begins or ends a drain.
    pub(super) fn is_drain(&self, number: u64) -> bool {
        let mut flights = self.flights.iter();
        flights.any(|flight| flight.number == number && flight.is_drain)
    }

    /// Takes the reply to a call; `false` if the number is no request's.
    pub(super) fn replied(&mut self, number: u64, reply: &Reply) -> bool {
        let Some(at) = self.flights.iter().position(|one| one.number == number) else {
            return false;
        };
        let flight = self.flights.swap_remove(at);
        let (code, parts) = outcome_of(reply);
        let width = if flight.is_take && code == DONE { 4 } else { 0 };
        for (at, (port, ticket, _)) in flight.tickets.into_iter().enumerate() {
            if ticket == 0 {
                continue;
            }
            let own = match width {
                0 => Some(parts.as_slice()),
                _ => parts.get(at * width..(at + 1) * width),
            };
            match own {
                Some(own) => self.answer(port, ticket, code, own.to_vec()),
                None => self.answer(port, ticket, FAILED, vec![b"a short reply".to_vec()]),
            }
        }
        true
    }
}

fn tickets_of(waiting: &[Waiting]) -> Vec<(u32, u64, f64)> {
    let tickets = waiting.iter();
    tickets
        .map(|one| (one.port, one.ticket, one.due_ms))
        .collect()
}

fn outcome_of(reply: &Reply) -> (i32, Vec<Vec<u8>>) {
    if let Some(list) = reply.list() {
        let parts = list
            .iter()
            .map(|part| part.text().unwrap_or_default().to_vec());
        return (DONE, parts.collect());
    }
    match reply.text() {
        Some(b"CONFLICT") => (CONFLICT, Vec::new()),
        Some(b"FULL") => (FULL, Vec::new()),
        // The place on the server is lost: nothing was done.
        Some(b"GEN") => (UNREACHABLE, Vec::new()),
        _ => (FAILED, vec![reply.problem().into_bytes()]),
    }
}

fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn take_command(taken: &[Waiting], space: &Space, seat: &Seat, is_strict: bool) -> Command {
    let mut keys = vec![space.meta()];
    let mut args = vec![text(&seat.generation), text(u8::from(is_strict))];
    for one in taken {
        let Request::Take {
            key,
            interval_ms,
            burst,
            cost,
        } = one.request
        else {
            continue;
        };
        let name = Name {
            scope: Scope::Rate,
            digest: key,
        };
        let key = space.rate(&seat.secret, name);
        // One number for one key: a batch must see what it has spent itself.
        let place = match keys.iter().position(|known| *known == key) {
            Some(at) => at + 1,
            None => {
                keys.push(key);
                keys.len()
            }
        };
        args.extend([text(place), text(interval_ms), text(burst), text(cost)]);
    }
    Command {
        script: Script::Take,
        keys,
        args,
    }
}

/// `id` tells a late copy of a command from the next command.
fn command_of(request: &Request, space: &Space, seat: &Seat, id: Vec<u8>) -> Command {
    let mut keys = vec![space.meta(), space.events()];
    let generation = text(&seat.generation);
    let (script, args) = match request {
        Request::Kick { user, data } => {
            let (field, bucket) = space.user(seat, *user);
            keys.push(bucket);
            (Script::Kick, vec![generation, field, data.clone(), id])
        }
        Request::Who { user } => {
            let (field, bucket) = space.user(seat, *user);
            keys.push(bucket);
            (Script::Who, vec![generation, field])
        }
        Request::Nodes => (Script::Nodes, vec![generation]),
        Request::Drain { ms, reason } => (
            Script::Drain,
            vec![generation, text(ms), reason.clone(), id],
        ),
        Request::Limits { revision, numbers } => {
            let mut args = vec![generation, text(revision)];
            args.extend(numbers.map(text));
            (Script::Limits, args)
        }
        Request::Revoke {
            most,
            now_ms,
            data,
            entries,
        } => {
            keys.push(space.revocations());
            let mut args = vec![text(most), data.clone(), text(now_ms)];
            for (expiry, entry) in entries {
                args.extend([text(expiry), entry.clone()]);
            }
            (Script::Revoke, args)
        }
        Request::Revocations { cursor } => {
            keys.push(space.revocations());
            let cursor = if cursor.is_empty() { b"0" } else { &cursor[..] };
            (Script::Revocations, vec![cursor.to_vec()])
        }
        Request::Online { from, most } => {
            keys.extend(space.online(&seat.generation, *from, ONLINE));
            (Script::Online, vec![generation, text(most)])
        }
        // Sent together by `take_command`.
        Request::Take { .. } => (Script::Take, Vec::new()),
    };
    Command { script, keys, args }
}
