//! The one thread that reads the operating system, for the whole process and all its JavaScript
//! threads. It starts with the first watched thread and ends with the last.
//!
//! ```text
//!  JS thread ── join ──▶ ┌────── registry (one mutex) ─────┐
//!                        │ threads, samples by root, totals│◀── watcher: observes loops every
//!  JS thread ── leave ─▶ └─────────────────────────────────┘    20 ms, samples every second
//! ```
//! The watcher never calls JavaScript: it writes into cells that JavaScript reads, and wakes a loop
//! by a byte into a socket that the loop reads.
//!
//! # Invariants
//! - A cell has one writer.
//! - The cells of a thread are accessed only while the registry is locked, and `leave` removes the
//!   thread under the same lock: memory is never accessed after its owner is gone.
//! - Neither the watcher nor a JavaScript thread writes lines of a log: a full pipe blocks only the
//!   thread of that log.

pub mod cell;
mod config;
mod log;
mod mailbox;
mod portable;
mod registry;
mod report;
mod stall_record;
mod system;
mod watched_thread;

pub use cell::Cells;
pub use config::Config;
pub use log::Target;
pub use mailbox::{Mailbox, NOTICE_HEAP, NOTICE_LEVEL, NOTICE_STALL};
pub use report::{Report, ThreadReport};
pub use stall_record::StallRecord;
pub use system::{CpuClock, process_files};

use crate::clock::process_now_ms;
use crate::resources::Transition;
use crate::wake_channel::{LoopEnd, WakeChannel};
use log::Log;
use registry::{Host, OwnUsage, Registry, SAMPLE_MS};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use watched_thread::WatchedThread;

/// Returns the sources of figures on Linux by name, for the bench that compares their cost.
#[cfg(target_os = "linux")]
#[must_use]
pub fn sources() -> Vec<(&'static str, Box<dyn crate::resources::Source + Send>)> {
    vec![
        ("own reading", Box::new(system::Kernel::new(""))),
        ("sysinfo", Box::new(portable::Portable::new())),
        ("both, as in use", Box::new(portable::Combined::new())),
    ]
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);
/// Notified when threads join or leave, and when the watcher has ended.
static CHANGED: Condvar = Condvar::new();

fn registry() -> MutexGuard<'static, Option<Registry>> {
    // The watcher catches panics, and none of them leaves the registry in an invalid state.
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.get_or_insert_default();
    registry
}

/// A thread that has joined.
#[derive(Debug)]
pub struct Registration {
    /// Its number, for the functions of this module.
    pub id: u64,
    /// The mailbox in which it answers.
    pub mailbox: Arc<Mailbox>,
    /// The loop's end of the wake socket; `None` if there is none.
    pub loop_end: Option<LoopEnd>,
}

/// Starts to watch the calling thread. Samples the process once before it returns, so that figures
/// are there at once. `clock` is the CPU clock of the calling thread, if there is one.
///
/// # Errors
/// The watcher's thread, or the log's, cannot be started.
pub fn join(
    config: Config,
    cells: Box<dyn Cells>,
    log: Option<Target>,
    clock: Option<CpuClock>,
) -> std::io::Result<Registration> {
    let now = process_now_ms();
    let mailbox = Arc::new(Mailbox::default());
    let channel = config.stall_ms.and_then(|_| WakeChannel::new());
    let (channel, loop_end) = channel.unzip();
    let log = log.map(Log::start).transpose()?;
    let mut guard = registry();
    let registry = guard.get_or_insert_default();
    if !registry.is_running {
        registry.own = OwnUsage::default();
        registry.watcher = Some(
            std::thread::Builder::new()
                .name("portcullis".into())
                .stack_size(STACK_BYTES)
                .spawn(run)?,
        );
        registry.is_running = true;
    }
    registry.next_id += 1;
    let id = registry.next_id;
    let mut thread = WatchedThread::new(id, config, cells, Arc::clone(&mailbox), channel, now);
    thread.has_clock(clock);
    thread.log_to(log);
    registry.threads.push(thread);
    registry.sample(now);
    CHANGED.notify_all();
    Ok(Registration {
        id,
        mailbox,
        loop_end,
    })
}

const STACK_BYTES: usize = 256 * 1024;
/// Longest time that `leave` waits for the watcher to end.
const LEAVE_MS: u64 = 30;

/// Stops watching a thread. The last one to leave ends the watcher.
pub fn leave(id: u64) {
    let log = removed(id);
    // With the registry unlocked, since it waits for the last lines.
    drop(log);
}

/// Removes a thread, and returns its log.
fn removed(id: u64) -> Option<Log> {
    let mut guard = registry();
    let registry = guard.get_or_insert_default();
    let at = registry.threads.iter().position(|thread| thread.id == id)?;
    let log = registry.threads[at].take_log();
    registry.remember(at);
    let used = |host: &Host| {
        registry
            .threads
            .iter()
            .any(|thread| thread.root() == host.root)
    };
    registry.hosts.retain(used);
    if registry.threads.is_empty() {
        wait_for_end(guard);
    }
    log
}

/// Waits until the watcher has ended, for at most [`LEAVE_MS`].
fn wait_for_end(guard: Guard) {
    CHANGED.notify_all();
    let (mut guard, _) = CHANGED
        .wait_timeout_while(guard, Duration::from_millis(LEAVE_MS), |registry| {
            registry
                .as_ref()
                .is_some_and(|registry| registry.is_running && registry.threads.is_empty())
        })
        .unwrap_or_else(PoisonError::into_inner);
    let ended = guard
        .as_mut()
        .filter(|registry| !registry.is_running)
        .and_then(|registry| registry.watcher.take());
    drop(guard);
    // The addon may be unloaded with the last thread that uses it: the watcher must have ended by
    // then.
    if let Some(watcher) = ended {
        let _ = watcher.join();
    }
}

/// Adds a label for requests in flight; returns `false` unless `at` is the next number, from 1.
#[must_use]
pub fn label(id: u64, at: usize, text: &str) -> bool {
    with(id, |thread| thread.label(at, text)).unwrap_or(false)
}

/// Returns the stalls of a thread after number `after`.
#[must_use]
pub fn stalls(id: u64, after: u64) -> Vec<StallRecord> {
    with(id, |thread| {
        thread
            .ring
            .iter()
            .filter(|record| record.id > after)
            .cloned()
            .collect()
    })
    .unwrap_or_default()
}

/// Returns the changes of level since the last call, with their times.
#[must_use]
pub fn transitions(id: u64) -> Vec<(f64, Transition)> {
    with(id, |thread| thread.transitions.drain(..).collect()).unwrap_or_default()
}

fn with<R>(id: u64, act: impl FnOnce(&mut WatchedThread) -> R) -> Option<R> {
    registry()
        .as_mut()?
        .threads
        .iter_mut()
        .find(|thread| thread.id == id)
        .map(act)
}

/// Returns all figures of a thread; `None` once it has left.
#[must_use]
pub fn report(id: u64) -> Option<Report> {
    let now_ms = process_now_ms();
    let mut guard = registry();
    let registry = guard.as_mut()?;
    let at = registry.threads.iter().position(|thread| thread.id == id)?;
    registry.report(at, now_ms)
}

fn run() {
    let mut guard = registry();
    while let Some(registry) = guard
        .as_mut()
        .filter(|registry| !registry.threads.is_empty())
    {
        let now = process_now_ms();
        let outcome = catch_unwind(AssertUnwindSafe(|| registry.tick(now)));
        let due_ms = outcome.unwrap_or(now + SAMPLE_MS);
        let wait = Duration::from_secs_f64((due_ms - process_now_ms()).clamp(0.5, SAMPLE_MS) / 1e3);
        guard = CHANGED
            .wait_timeout(guard, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    if let Some(registry) = guard.as_mut() {
        registry.is_running = false;
    }
    CHANGED.notify_all();
}

type Guard = MutexGuard<'static, Option<Registry>>;
