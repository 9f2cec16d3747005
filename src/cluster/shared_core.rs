//! The core of a member behind its mutex: what a call leaves behind, answers and news, goes to the
//! threads that wait for it.

use super::call::Space;
use super::connect::{Connector, Endpoint};
use super::core::{Answer, Core, Counters, State};
use super::notice::Notice;
use super::port::{Mail, Port};
use super::request::Outcome;
use super::settings::Settings;
use crate::clock::process_now_ms;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Figures of a member.
#[derive(Debug, Clone)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Time since the last change of state, ms.
    pub since_ms: f64,
    /// Members of the cluster.
    pub members: u32,
    /// Members of the cluster when it had settled last, or more of them that were seen since.
    pub known_members: u32,
    /// Seats that this process holds.
    pub seats: u32,
    /// Seats of this process that the server knows.
    pub told: u32,
    /// Clients that wait for an answer.
    pub waiting: u32,
    /// Revision of the limits in force.
    pub revision: u32,
    /// True if those are not the declared ones.
    pub limits_differ: bool,
    /// The limits in force, in the order in which they cross.
    pub limits: [f64; 11],
    /// Time that is left of a drain of all members, ms.
    pub drain_ms: f64,
    /// Reason of that drain.
    pub drain_reason: String,
    /// Last problem, empty if there is none.
    pub problem: String,
    /// Counts since the start.
    pub counts: Counters,
}

/// One JavaScript thread that shares the member.
#[derive(Clone)]
struct Thread {
    id: u32,
    /// Its own number of the member.
    member: u32,
    port: Arc<Port>,
}

struct Guarded {
    core: Core,
    threads: Vec<Thread>,
    last_id: u32,
    told: State,
}

/// One member of this process, which its JavaScript threads and the network's thread share.
pub(super) struct SharedCore {
    pub(super) key: String,
    pub(super) endpoint: Endpoint,
    /// Key of the stream of events.
    pub(super) events_key: Vec<u8>,
    pub(super) connector: Connector,
    pub(super) settings: Settings,
    guarded: Mutex<Guarded>,
    pub(super) changed: Notify,
}

impl SharedCore {
    pub(super) fn new(
        key: String,
        endpoint: Endpoint,
        connector: Connector,
        settings: Settings,
    ) -> Self {
        let core = Core::new(settings.clone(), process_now_ms());
        let told = core.state();
        Self {
            events_key: Space::new(&settings.prefix, &settings.name).events(),
            key,
            endpoint,
            connector,
            settings,
            guarded: Mutex::new(Guarded {
                core,
                threads: Vec::new(),
                last_id: 0,
                told,
            }),
            changed: Notify::new(),
        }
    }

    /// Adds a thread with its own number of the member; returns the id by which it asks.
    pub(super) fn add_thread(&self, member: u32, port: Arc<Port>) -> u32 {
        let mut guarded = self.lock();
        guarded.last_id += 1;
        let id = guarded.last_id;
        guarded.threads.push(Thread { id, member, port });
        id
    }

    /// Removes a thread; `true` if it was the last one.
    pub(super) fn remove_thread(&self, id: u32) -> bool {
        let mut guarded = self.lock();
        guarded.threads.retain(|thread| thread.id != id);
        guarded.threads.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Guarded> {
        // Panics are contained: the core begins anew, or refuses everybody.
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a panic of a part of this thread, which its caller begins anew. A panic that held the lock may have left the
    /// core half-way.
    pub(super) fn contain(&self, part: &str) {
        let is_suspect = self.guarded.is_poisoned();
        self.guarded.clear_poison();
        let contained = catch_unwind(AssertUnwindSafe(|| {
            self.turn(|core, now| core.contain(now, part, is_suspect));
        }));
        if contained.is_err() {
            self.abandon();
        }
        self.changed.notify_one();
    }

    /// Closes the member: it refuses everybody from now on.
    pub(super) fn abandon(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.turn(|core, now| core.abandon(now));
        }));
    }

    /// Calls `act` with the core; delivers the answers, and tells a change of state.
    pub(super) fn turn<R>(&self, act: impl FnOnce(&mut Core, f64) -> R) -> R {
        let mut guarded = self.lock();
        let result = act(&mut guarded.core, process_now_ms());
        let answers = guarded.core.take_answers();
        let outcomes = guarded.core.take_outcomes();
        let notices = guarded.core.take_notices();
        let state = guarded.core.state();
        let has_changed = state != guarded.told;
        guarded.told = state;
        let is_quiet = answers.is_empty() && outcomes.is_empty() && notices.is_empty();
        if is_quiet && !has_changed {
            return result;
        }
        let threads = guarded.threads.clone();
        if has_changed {
            // Under the lock: whoever reads a state in the figures finds its event in the port.
            for thread in &threads {
                thread.port.push(thread.member, 0, state as i32);
            }
        }
        drop(guarded);
        deliver(&threads, outcomes, &notices);
        for Answer { port, ticket, code } in answers {
            if let Some(thread) = threads.iter().find(|thread| thread.id == port) {
                thread.port.push(thread.member, ticket, code);
            }
        }
        result
    }

    /// Calls `act` for a client. Wakes the thread only if it would act too late by itself: each wake is
    /// a system call here and a turn there, and while a call is under way its reply does both.
    pub(super) fn act<R>(&self, act: impl FnOnce(&mut Core, f64) -> R) -> R {
        let (result, is_urgent) = self.turn(|core, now| {
            let result = act(core, now);
            (result, core.is_urgent(now))
        });
        if is_urgent {
            self.changed.notify_one();
        }
        result
    }

    /// Returns the figures of the member.
    pub(super) fn status(&self) -> Status {
        let guarded = self.lock();
        let core = &guarded.core;
        let now = process_now_ms();
        let (drain_ms, drain_reason) = core.drain(now);
        let (seats, told) = core.seats();
        Status {
            state: core.state(),
            since_ms: now - core.since_ms(),
            members: core.members(),
            known_members: core.known_members(),
            seats,
            told,
            waiting: core.waiting(),
            revision: core.revision(),
            limits_differ: core.limits_differ(),
            limits: core.limits(),
            drain_ms,
            drain_reason: drain_reason.to_owned(),
            problem: core.problem().to_owned(),
            counts: core.counts(),
        }
    }
}

/// Hands outcomes to the threads that asked, and news to all.
fn deliver(threads: &[Thread], outcomes: Vec<Outcome>, notices: &[Notice]) {
    for outcome in outcomes {
        if let Some(thread) = threads.iter().find(|thread| thread.id == outcome.port) {
            thread.port.mail(Mail {
                member: thread.member,
                ticket: outcome.ticket,
                code: outcome.code,
                parts: outcome.parts,
            });
        }
    }
    for notice in notices {
        for thread in threads {
            thread.port.mail(Mail {
                member: thread.member,
                ticket: 0,
                code: 0,
                parts: notice.parts(),
            });
        }
    }
}
