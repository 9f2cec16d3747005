//! The one thread that reads the operating system, for the whole process and all of its JavaScript
//! threads. It starts with the first member and ends with the last.
//!
//! ```text
//!  JS thread ── join ──▶ ┌──────── hub (one mutex) ────────┐
//!                        │ members, samples by root, totals│◀── sampler thread: looks at loops every
//!  JS thread ── leave ─▶ └─────────────────────────────────┘    20 ms, samples the process every second
//! ```
//! It never calls JavaScript: it writes into cells that JavaScript reads, and wakes a loop by a byte
//! into a socket which that loop reads. A cell has one writer; a member's cells are touched only
//! while the hub is locked, and `leave` takes the member out under the same lock, so that memory is
//! never read after its owner is gone. Lines of the log are written with the hub unlocked: a full
//! pipe must not hold a JavaScript thread.

pub mod cell;
mod hub;
mod log;
mod member;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
mod pulse;
mod report;
mod system;

pub use log::Target;
pub use pulse::{NEWS_HEAP, NEWS_LEVEL, NEWS_STALL, Pulse};
pub use report::{Report, StallRecord, ThreadReport};

use crate::clock::process_now_ms;
use crate::resources::{Thresholds, Transition};
use hub::{Host, Hub, Own, SAMPLE_MS};
use log::Log;
use member::Member;
use pulse::Channel;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Memory that a JavaScript thread shares with the watcher.
pub trait Cells: Send {
    /// Reads a cell.
    fn load(&self, at: usize) -> f64;
    /// Writes a cell of the watcher's.
    fn store(&self, at: usize, value: f64);
}

/// How a thread wants to be watched.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in reports.
    pub name: String,
    /// Before `/proc` and `/sys`; empty but in tests.
    pub root: String,
    /// Limit of the resident set.
    pub max_heap_bytes: f64,
    /// Levels of memory.
    pub thresholds: Thresholds,
    /// From how long on a block is a stall; `None` to watch no loop.
    pub stall_ms: Option<f64>,
}

static HUB: Mutex<Option<Hub>> = Mutex::new(None);
/// Told when members come or go, and when the thread has ended.
static CHANGED: Condvar = Condvar::new();

fn hub() -> MutexGuard<'static, Option<Hub>> {
    // A panic within is contained, and leaves nothing half done that matters.
    let mut hub = HUB.lock().unwrap_or_else(PoisonError::into_inner);
    hub.get_or_insert_default();
    hub
}

/// A member that has joined.
#[derive(Debug)]
pub struct Ticket {
    /// Its number, for the functions of this module.
    pub id: u64,
    /// Where it answers.
    pub pulse: Arc<Pulse>,
    /// The loop's end of the socket, which is the caller's now; `None` where there are none.
    pub descriptor: Option<i32>,
}

/// Puts the calling thread under watch. Reads the process once before it returns, so that its
/// figures are there.
///
/// # Errors
/// Where the watcher's thread cannot be started.
pub fn join(config: Config, cells: Box<dyn Cells>, log: Option<Target>) -> std::io::Result<Ticket> {
    let now = process_now_ms();
    let pulse = Arc::new(Pulse::default());
    let channel = config.stall_ms.and_then(|_| Channel::new());
    let (channel, descriptor) = match channel {
        Some((channel, descriptor)) => (Some(channel), Some(descriptor)),
        None => (None, None),
    };
    let mut guard = hub();
    let hub = guard.get_or_insert_default();
    if !hub.is_running {
        hub.own = Own::default();
        hub.thread = Some(
            std::thread::Builder::new()
                .name("portcullis".into())
                .stack_size(STACK_BYTES)
                .spawn(run)?,
        );
        hub.is_running = true;
    }
    hub.next_id += 1;
    let id = hub.next_id;
    let mut member = Member::new(id, config, cells, Arc::clone(&pulse), channel, now);
    member.log_to(log.map(Log::new));
    hub.members.push(member);
    hub.sample(now);
    CHANGED.notify_all();
    Ok(Ticket {
        id,
        pulse,
        descriptor,
    })
}

const STACK_BYTES: usize = 256 * 1024;
/// How long `leave` waits for the thread: longer only if a log cannot be written to.
const LEAVE_MS: u64 = 30;

/// Ends the watch over a member. The last one ends the thread, too.
pub fn leave(id: u64) {
    let mut guard = hub();
    let hub = guard.get_or_insert_default();
    let Some(at) = hub.members.iter().position(|member| member.id == id) else {
        return;
    };
    let totals = hub.members.swap_remove(at).totals();
    match &mut hub.past {
        Some(past) => {
            past.requests += totals.requests;
            past.stalls += totals.stalls;
            past.stalled_ms += totals.stalled_ms;
            past.delays.merge(&totals.delays);
        }
        past => *past = Some(totals),
    }
    let used = |host: &Host| hub.members.iter().any(|member| member.root() == host.root);
    hub.hosts.retain(used);
    if !hub.members.is_empty() {
        return;
    }
    CHANGED.notify_all();
    let (mut guard, _) = CHANGED
        .wait_timeout_while(guard, Duration::from_millis(LEAVE_MS), |hub| {
            hub.as_ref()
                .is_some_and(|hub| hub.is_running && hub.members.is_empty())
        })
        .unwrap_or_else(PoisonError::into_inner);
    let ended = guard
        .as_mut()
        .filter(|hub| !hub.is_running)
        .and_then(|hub| hub.thread.take());
    drop(guard);
    // The addon may be unloaded with the thread's last user: it must be gone by then.
    if let Some(thread) = ended {
        let _ = thread.join();
    }
}

/// Names what may be in flight; `false` unless `at` is the next number, from 1.
#[must_use]
pub fn label(id: u64, at: usize, text: &str) -> bool {
    with(id, |member| member.label(at, text)).unwrap_or(false)
}

/// The stalls of a member after number `after`.
#[must_use]
pub fn stalls(id: u64, after: u64) -> Vec<StallRecord> {
    with(id, |member| {
        member
            .ring
            .iter()
            .filter(|record| record.id > after)
            .cloned()
            .collect()
    })
    .unwrap_or_default()
}

/// The changes of level since this was last asked, with their times.
#[must_use]
pub fn transitions(id: u64) -> Vec<(f64, Transition)> {
    with(id, |member| member.transitions.drain(..).collect()).unwrap_or_default()
}

fn with<R>(id: u64, act: impl FnOnce(&mut Member) -> R) -> Option<R> {
    hub()
        .as_mut()?
        .members
        .iter_mut()
        .find(|member| member.id == id)
        .map(act)
}

/// Everything about a member; `None` once it has left.
#[must_use]
pub fn report(id: u64) -> Option<Report> {
    let now_ms = process_now_ms();
    let mut guard = hub();
    let hub = guard.as_mut()?;
    let at = hub.members.iter().position(|member| member.id == id)?;
    hub.report(at, now_ms)
}

fn run() {
    let mut guard = hub();
    while let Some(hub) = guard.as_mut().filter(|hub| !hub.members.is_empty()) {
        let now = process_now_ms();
        let outcome = catch_unwind(AssertUnwindSafe(|| hub.tick(now)));
        let (lines, due_ms) = outcome.unwrap_or((Vec::new(), now + SAMPLE_MS));
        if !lines.is_empty() {
            guard = write(guard, now, lines);
            continue;
        }
        let wait = Duration::from_secs_f64((due_ms - process_now_ms()).clamp(0.5, SAMPLE_MS) / 1e3);
        guard = CHANGED
            .wait_timeout(guard, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    if let Some(hub) = guard.as_mut() {
        hub.is_running = false;
    }
    CHANGED.notify_all();
}

type Guard = MutexGuard<'static, Option<Hub>>;

/// Writes lines with the hub unlocked. Each log is put back unless its member has left meanwhile.
fn write(mut guard: Guard, now_ms: f64, lines: Vec<(u64, String)>) -> Guard {
    for (id, line) in lines {
        let find = |guard: &mut Guard| -> Option<usize> {
            guard
                .as_ref()?
                .members
                .iter()
                .position(|member| member.id == id)
        };
        let log = find(&mut guard).and_then(|at| guard.as_mut()?.members.get_mut(at)?.take_log());
        drop(guard);
        let log = log.map(|mut log| {
            log.write(now_ms, &line);
            log
        });
        guard = hub();
        if let Some(at) = find(&mut guard)
            && let Some(member) = guard.as_mut().and_then(|hub| hub.members.get_mut(at))
        {
            member.log_to(log);
        }
    }
    guard
}
