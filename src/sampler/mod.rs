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

mod log;
mod member;
mod system;

pub use log::Target;
pub use member::{NEWS_HEAP, NEWS_LEVEL, NEWS_STALL, Pulse};

use crate::clock::process_now_ms;
use crate::resources::{
    Delays, IDLE_LOOK_MS, Level, Limit, Quantiles, Sample, Sampling, Stall, Thresholds, Transition,
};
use log::Log;
use member::{Channel, Member, Totals};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use system::System;

/// Memory that a JavaScript thread shares with the watcher.
pub trait Cells: Send {
    /// Reads a cell.
    fn load(&self, at: usize) -> f64;
    /// Writes a cell of the watcher's.
    fn store(&self, at: usize, value: f64);
}

/// The cells, by who writes them. NaN is "no value yet".
pub mod cell {
    /// JavaScript: requests in flight.
    pub const IN_FLIGHT: usize = 0;
    /// JavaScript: requests that began, in all.
    pub const REQUESTS: usize = 1;
    /// JavaScript: requests and messages that began, in all.
    pub const BEGUN: usize = 2;
    /// JavaScript: label of what began last; 0 for none.
    pub const LABEL: usize = 3;
    /// JavaScript: bytes of its heap in use.
    pub const HEAP_USED: usize = 4;
    /// JavaScript: bytes at which its engine gives up.
    pub const HEAP_LIMIT: usize = 5;
    /// Watcher: 0 ok, 1 warning, 2 critical.
    pub const LEVEL: usize = 6;
    /// Watcher: percent of the binding limit in use.
    pub const PERCENT: usize = 7;
    /// Watcher: resident bytes of the process.
    pub const RSS: usize = 8;
    /// Watcher: percent of the allowed CPUs in use.
    pub const CPU_PERCENT: usize = 9;
    /// Watcher: requests in flight on other threads.
    pub const OTHERS_IN_FLIGHT: usize = 10;
    /// Watcher: when it sampled last, by the process's clock.
    pub const SAMPLED_AT: usize = 11;
    /// Watcher: since when the loop is blocked; NaN while it is not.
    pub const STALLED_SINCE: usize = 12;
    /// Their names, in their order.
    pub const NAMES: [&str; 13] = [
        "IN_FLIGHT",
        "REQUESTS",
        "BEGUN",
        "LABEL",
        "HEAP_USED",
        "HEAP_LIMIT",
        "LEVEL",
        "PERCENT",
        "RSS",
        "CPU_PERCENT",
        "OTHERS_IN_FLIGHT",
        "SAMPLED_AT",
        "STALLED_SINCE",
    ];
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

/// A stall, and what was in flight when it was noticed.
#[derive(Debug, Clone)]
pub struct StallRecord {
    /// Counts a member's stalls, from 1.
    pub id: u64,
    /// The member's name.
    pub thread: String,
    /// What happened.
    pub stall: Stall,
    /// What had begun last; empty if nothing was said.
    pub label: String,
    /// Requests in flight.
    pub in_flight: f64,
}

/// Everything about one member, at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The process's clock.
    pub now_ms: f64,
    /// The process and its container.
    pub sample: Sample,
    /// The limit that binds.
    pub limit: Option<Limit>,
    /// The level of memory.
    pub level: Level,
    /// The share of one core that the thread has used, 0 to 1.
    pub thread_cpu: Option<f64>,
    /// The share of time in which the loop was not in poll, 0 to 1.
    pub utilization: Option<f64>,
    /// Delays of its loop in the last minute.
    pub delays: Option<Quantiles>,
    /// The same of all threads, those that have ended left out.
    pub process_delays: Option<Quantiles>,
    /// Delays of all loops that there were, of all time.
    pub lifetime_delays: Option<Quantiles>,
    /// Whether the loop is watched, and whether the kernel shows the thread.
    pub sight: (bool, bool),
    /// Stalls of this thread.
    pub stalls: u64,
    /// The one under way.
    pub stall: Option<StallRecord>,
    /// Times at which everything was stopped.
    pub pauses: u32,
    /// Threads under watch.
    pub threads: Vec<ThreadReport>,
    /// Of all threads, those that have ended included.
    pub process_requests: f64,
    /// Stalls of all threads, those that have ended included.
    pub process_stalls: u64,
    /// Milliseconds of all stalls.
    pub process_stalled_ms: f64,
    /// The watcher's own CPU since its last sample, share of one core.
    pub own_cpu: Option<f64>,
}

/// A member as others see it.
#[derive(Debug, Clone)]
pub struct ThreadReport {
    /// Its name.
    pub name: String,
    /// Requests in flight.
    pub in_flight: f64,
    /// Share of one core.
    pub cpu: Option<f64>,
    /// Share of time out of poll.
    pub utilization: Option<f64>,
    /// Stalls so far.
    pub stalls: u64,
}

/// Between two samples, and while memory is short or no CPU figure is there yet.
const SAMPLE_MS: f64 = 1000.0;
const SAMPLE_SOON_MS: f64 = 250.0;

/// The process and container below one root.
struct Host {
    system: System,
    sampling: Sampling,
    sample: Sample,
    due_ms: f64,
}

#[derive(Default)]
struct Hub {
    members: Vec<Member>,
    hosts: Vec<Host>,
    past: Option<Totals>,
    next_id: u64,
    is_running: bool,
    thread: Option<JoinHandle<()>>,
    own: Own,
}

/// What the watcher knows of itself.
#[derive(Default)]
struct Own {
    wait_ms: f64,
    on_cpu_ns: u64,
    at_ms: f64,
    cpu: Option<f64>,
}

impl Own {
    /// On the watcher's thread only.
    fn refresh(&mut self) -> Option<u64> {
        let scheduled = system::own_scheduled()?;
        self.wait_ms = scheduled.waited_ns as f64 / 1e6;
        Some(scheduled.on_cpu_ns)
    }

    fn measure(&mut self, now_ms: f64) {
        let Some(on_cpu_ns) = self.refresh() else {
            return;
        };
        if self.at_ms > 0.0 && now_ms > self.at_ms {
            self.cpu =
                Some(on_cpu_ns.saturating_sub(self.on_cpu_ns) as f64 / 1e6 / (now_ms - self.at_ms));
        }
        (self.on_cpu_ns, self.at_ms) = (on_cpu_ns, now_ms);
    }
}

/// A look that is later than this may have wanted a CPU.
const LATE_MS: f64 = 5.0;

static HUB: Mutex<Option<Hub>> = Mutex::new(None);
/// Told when the members change, and when the thread has ended.
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
    let used = |host: &Host| {
        hub.members
            .iter()
            .any(|member| member.system == host.system)
    };
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
    let mut lives = Delays::new(now_ms);
    let mut ever = hub
        .past
        .as_ref()
        .map_or_else(|| Delays::new(now_ms), |past| past.delays.clone());
    for member in &hub.members {
        lives.merge(&member.delays);
        ever.merge(&member.delays);
    }
    let past = |figure: fn(&Totals) -> f64| hub.past.as_ref().map_or(0.0, figure);
    let sum = |figure: fn(&Totals) -> f64| {
        past(figure)
            + hub
                .members
                .iter()
                .map(|member| figure(&member.totals()))
                .sum::<f64>()
    };
    let (process_requests, process_stalled_ms) = (
        sum(|totals| totals.requests),
        sum(|totals| totals.stalled_ms),
    );
    let process_stalls = sum(|totals| totals.stalls as f64) as u64;
    let threads = hub.members.iter().map(|member| ThreadReport {
        name: member.config.name.clone(),
        in_flight: member.load(cell::IN_FLIGHT),
        cpu: member.thread_cpu,
        utilization: member.utilization,
        stalls: member.stalls,
    });
    let threads = threads.collect();
    let own_cpu = hub.own.cpu;
    let member = hub.members.get_mut(at)?;
    let host = hub.hosts.iter().find(|host| host.system == member.system)?;
    Some(Report {
        now_ms,
        sample: host.sample.clone(),
        limit: member.limit,
        level: member.level(),
        thread_cpu: member.thread_cpu,
        utilization: member.utilization,
        delays: member.delays.last_minute(now_ms),
        process_delays: lives.last_minute(now_ms),
        lifetime_delays: ever.lifetime(),
        sight: member.sight(),
        stalls: member.stalls,
        stall: member.current(),
        pauses: member.pauses(),
        threads,
        process_requests,
        process_stalls,
        process_stalled_ms,
        own_cpu,
    })
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

impl Hub {
    /// Does what is due. Returns lines to write, and when to come again.
    fn tick(&mut self, now_ms: f64) -> (Vec<(u64, String)>, f64) {
        let mut lines = Vec::new();
        for member in self
            .members
            .iter_mut()
            .filter(|member| member.look_due_ms <= now_ms + 0.1)
        {
            // A late look asks whether the watcher itself had no CPU.
            if now_ms - member.look_due_ms > LATE_MS {
                self.own.refresh();
            }
            let host = self.hosts.iter().find(|host| host.system == member.system);
            let throttled_ms = host.map_or(0.0, |host| {
                if member.is_suspect(now_ms) {
                    host.sampling.throttled_ns(&host.system) as f64 / 1e6
                } else {
                    host.sample.throttled_ms
                }
            });
            let found = member.look(now_ms, self.own.wait_ms, throttled_ms);
            lines.extend(found.into_iter().map(|line| (member.id, line)));
        }
        // With a look, if one is to come: a wake-up costs more than either.
        if self
            .hosts
            .iter()
            .any(|host| host.due_ms <= now_ms + IDLE_LOOK_MS)
        {
            self.sample(now_ms);
            self.own.measure(now_ms);
        }
        let looks = self.members.iter().map(|member| member.look_due_ms);
        let due_ms = self
            .hosts
            .iter()
            .map(|host| host.due_ms)
            .chain(looks)
            .fold(f64::INFINITY, f64::min);
        (lines, due_ms)
    }

    fn sample(&mut self, now_ms: f64) {
        for member in &self.members {
            if !self.hosts.iter().any(|host| host.system == member.system) {
                self.hosts.push(Host {
                    system: member.system.clone(),
                    sampling: Sampling::default(),
                    sample: Sample::default(),
                    due_ms: now_ms,
                });
            }
        }
        let in_flight: f64 = self
            .members
            .iter()
            .map(|member| member.load(cell::IN_FLIGHT))
            .sum();
        for host in &mut self.hosts {
            host.sample = host.sampling.sample(&host.system, now_ms);
            let mut is_short = host.sample.used_cpus.is_none();
            for member in self
                .members
                .iter_mut()
                .filter(|member| member.system == host.system)
            {
                let others = in_flight - member.load(cell::IN_FLIGHT);
                member.sampled(&host.sample, others);
                is_short |= member.level() > Level::Ok;
            }
            host.due_ms = now_ms + if is_short { SAMPLE_SOON_MS } else { SAMPLE_MS };
        }
    }
}
