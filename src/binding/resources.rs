//! The watch over one JavaScript thread, for `ts/resources`.
//!
//! The cells are a `SharedArrayBuffer` that JavaScript made: one writer a cell, read on the other
//! side with relaxed atomics, since each is a figure of its own. The watcher's thread touches them
//! only between `join` and `leave`; the reference that keeps them alive is dropped after `leave`,
//! by `close()`, by the object's finalizer, or when the environment ends, whichever comes first.

use super::bound::Memory;
use crate::clock::process_now_ms;
use crate::resources::{Limit, Quantiles, Thresholds, system_call_name};
use crate::sampler::{self, Cells, Config, Pulse, StallRecord, Target, cell};
use napi::bindgen_prelude::{Env, JsValue, Result, Unknown};
use napi::sys;
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells as the watcher sees them.
struct Shared {
    cells: *const AtomicU64,
}

// SAFETY: the memory is that of a `SharedArrayBuffer`, made to be read by other threads. It outlives
// this: `Core` drops its reference only after `leave` has dropped this.
unsafe impl Send for Shared {}

impl Cells for Shared {
    fn load(&self, at: usize) -> f64 {
        assert!(at < cell::NAMES.len());
        // SAFETY: `Core::open` has seen that there are as many cells; a `Float64Array` is aligned to 8.
        // Relaxed: no cell says anything about another.
        f64::from_bits(unsafe { &*self.cells.add(at) }.load(Ordering::Relaxed))
    }

    fn store(&self, at: usize, value: f64) {
        assert!(at < cell::NAMES.len());
        // SAFETY: as above.
        unsafe { &*self.cells.add(at) }.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// A member and the memory it shares.
struct Core {
    id: u64,
    pulse: Arc<Pulse>,
    _cells: Memory<f64>,
}

impl Drop for Core {
    fn drop(&mut self) {
        // Before the memory goes, which is dropped next.
        sampler::leave(self.id);
    }
}

type Slot = Rc<RefCell<Option<Core>>>;

thread_local! {
    static LIVE: RefCell<Vec<Weak<RefCell<Option<Core>>>>> = const { RefCell::new(Vec::new()) };
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// A worker that ends, however it ends, is watched no longer.
unsafe extern "C" fn end_of_environment(_data: *mut c_void) {
    HOOKED.set(false);
    for core in LIVE.take() {
        if let Some(core) = core.upgrade()
            && let Ok(mut core) = core.try_borrow_mut()
        {
            core.take();
        }
    }
}

/// How to watch a thread.
#[napi(object)]
pub struct WatchConfig {
    /// Its name in reports.
    pub name: String,
    /// Before `/proc` and `/sys`.
    pub root: String,
    /// Limit of the resident set.
    pub max_heap_bytes: f64,
    /// Percent.
    pub warning: f64,
    /// Percent.
    pub critical: f64,
    /// From how long on a block is a stall; absent to watch no loop.
    pub stall_ms: Option<f64>,
    /// Absent for no log, empty for standard error.
    pub log: Option<String>,
}

/// A stall.
#[napi(object)]
pub struct StallFigures {
    pub id: f64,
    pub thread: String,
    /// By the process's clock.
    pub since_ms: f64,
    pub duration_ms: f64,
    pub noticed_after_ms: f64,
    pub cause: String,
    pub system_call: Option<String>,
    pub on_cpu: Option<f64>,
    pub waiting: Option<f64>,
    pub label: String,
    pub in_flight: f64,
}

/// A change of level.
#[napi(object)]
pub struct LevelChange {
    pub at_ms: f64,
    pub from: u8,
    pub to: u8,
    pub percent: f64,
}

/// A limit of memory.
#[napi(object)]
pub struct LimitFigures {
    pub source: String,
    pub limit: f64,
    pub used: f64,
    pub percent: f64,
    pub level: u32,
}

/// Delays in milliseconds.
#[napi(object)]
pub struct DelayFigures {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
    pub count: f64,
}

/// Shares of time waited for a resource, in percent.
#[napi(object)]
pub struct PressureFigures {
    pub some10: f64,
    pub some60: f64,
    pub full10: Option<f64>,
    pub is_own: bool,
}

/// One thread under watch.
#[napi(object)]
pub struct ThreadFigures {
    pub name: String,
    pub in_flight: f64,
    pub cpu: Option<f64>,
    pub utilization: Option<f64>,
    pub stalls: f64,
}

/// Everything that is known; what is absent is not.
#[napi(object)]
pub struct WatchFigures {
    pub now_ms: f64,
    pub sampled_at_ms: f64,
    pub cpu_at_ms: f64,
    pub rss: Option<f64>,
    pub anonymous: Option<f64>,
    pub working_set: Option<f64>,
    pub total: Option<f64>,
    pub available: Option<f64>,
    pub binding: Option<LimitFigures>,
    pub limits: Vec<LimitFigures>,
    pub cgroup_version: Option<u8>,
    pub oom_kills: Option<f64>,
    pub level: u8,
    pub cpus: Option<f64>,
    pub quota_cpus: Option<f64>,
    pub allowed_cpus: Option<f64>,
    pub used_cpus: Option<f64>,
    pub cpu_percent: Option<f64>,
    pub throttled_percent: Option<f64>,
    pub memory_pressure: Option<PressureFigures>,
    pub cpu_pressure: Option<PressureFigures>,
    pub io_pressure: Option<PressureFigures>,
    pub thread_cpu: Option<f64>,
    pub utilization: Option<f64>,
    pub delays: Option<DelayFigures>,
    pub process_delays: Option<DelayFigures>,
    pub lifetime_delays: Option<DelayFigures>,
    pub is_watched: bool,
    pub is_seen: bool,
    pub stalls: f64,
    pub stall: Option<StallFigures>,
    pub pauses: u32,
    pub threads: Vec<ThreadFigures>,
    pub process_requests: f64,
    pub process_stalls: f64,
    pub process_stalled_ms: f64,
    pub own_cpu: Option<f64>,
}

impl From<StallRecord> for StallFigures {
    fn from(record: StallRecord) -> Self {
        let StallRecord {
            id,
            thread,
            stall,
            label,
            in_flight,
        } = record;
        Self {
            id: id as f64,
            thread,
            since_ms: stall.since_ms,
            duration_ms: stall.duration_ms,
            noticed_after_ms: stall.noticed_after_ms,
            cause: stall.cause.name().into(),
            system_call: stall.system_call.map(|number| {
                system_call_name(number).map_or_else(|| number.to_string(), str::to_owned)
            }),
            on_cpu: stall.on_cpu,
            waiting: stall.waiting,
            label,
            in_flight,
        }
    }
}

impl From<Limit> for LimitFigures {
    fn from(limit: Limit) -> Self {
        Self {
            source: limit.bound.name().into(),
            limit: limit.limit,
            used: limit.used,
            percent: limit.percent(),
            level: limit.level as u32,
        }
    }
}

impl From<Quantiles> for DelayFigures {
    fn from(quantiles: Quantiles) -> Self {
        Self {
            p50: quantiles.p50,
            p90: quantiles.p90,
            p99: quantiles.p99,
            p999: quantiles.p999,
            max: quantiles.max,
            mean: quantiles.mean,
            count: quantiles.count as f64,
        }
    }
}

/// The names of the cells, in their order.
#[napi(catch_unwind)]
pub fn resource_cells() -> Vec<&'static str> {
    cell::NAMES.to_vec()
}

/// The watch over the thread that makes it.
#[napi]
pub struct ResourceWatch {
    core: Slot,
    descriptor: Option<i32>,
}

#[napi]
impl ResourceWatch {
    /// Puts this thread under watch.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: &Env,
        #[napi(ts_arg_type = "Float64Array")] cells: Unknown<'_>,
        config: WatchConfig,
    ) -> Result<Self> {
        let cells = Memory::<f64>::borrow(env.raw(), cells.raw())
            .map_err(|wrong| napi::Error::from_reason(wrong.0.to_string_lossy()))?;
        let (place, length) = cells.place();
        if length < cell::NAMES.len() {
            return Err(napi::Error::from_reason("expected more cells"));
        }
        let log = match config.log.as_deref() {
            None => None,
            Some("") => Some(Target::Stderr),
            Some(path) => Some(Target::file(path)?),
        };
        let shared = Shared {
            cells: place.cast_const().cast(),
        };
        let config = Config {
            name: config.name,
            root: config.root,
            max_heap_bytes: config.max_heap_bytes,
            thresholds: Thresholds {
                warning: config.warning,
                critical: config.critical,
            },
            stall_ms: config.stall_ms,
        };
        let ticket = sampler::join(config, Box::new(shared), log)?;
        let core = Rc::new(RefCell::new(Some(Core {
            id: ticket.id,
            pulse: ticket.pulse,
            _cells: cells,
        })));
        LIVE.with_borrow_mut(|live| {
            live.retain(|core| core.strong_count() > 0);
            live.push(Rc::downgrade(&core));
        });
        if !HOOKED.replace(true) {
            // SAFETY: the hook takes no data and runs once, on this thread, at the end of `env`.
            unsafe {
                sys::napi_add_env_cleanup_hook(
                    env.raw(),
                    Some(end_of_environment),
                    std::ptr::null_mut(),
                )
            };
        }
        Ok(Self {
            core,
            descriptor: ticket.descriptor,
        })
    }

    fn id(&self) -> Option<u64> {
        self.core.borrow().as_ref().map(|core| core.id)
    }

    /// The loop's end of the socket that wakes it, which is the caller's from then on; -1 for none.
    #[napi(catch_unwind)]
    pub fn take_descriptor(&mut self) -> i32 {
        self.descriptor.take().unwrap_or(-1)
    }

    /// The loop turns. Returns what is new: 1 a level, 2 a stall, 4 the heap is to be measured.
    #[napi(catch_unwind)]
    pub fn answer(&self) -> u32 {
        match self.core.borrow().as_ref() {
            Some(core) => core.pulse.answer(process_now_ms()),
            None => 0,
        }
    }

    /// Names what may be in flight; `false` unless `at` is the next number.
    #[napi(catch_unwind)]
    pub fn label(&self, at: u32, text: String) -> bool {
        self.id()
            .is_some_and(|id| sampler::label(id, at as usize, &text))
    }

    /// The stalls after number `after`, the oldest first.
    #[napi(catch_unwind)]
    pub fn stalls(&self, after: f64) -> Vec<StallFigures> {
        let stalls = self.id().map(|id| sampler::stalls(id, after as u64));
        stalls
            .unwrap_or_default()
            .into_iter()
            .map(Into::into)
            .collect()
    }

    /// The changes of level since this was last asked.
    #[napi(catch_unwind)]
    pub fn levels(&self) -> Vec<LevelChange> {
        let changes = self.id().map(sampler::transitions).unwrap_or_default();
        let change = |(at_ms, transition): (f64, crate::resources::Transition)| LevelChange {
            at_ms,
            from: transition.from as u8,
            to: transition.to as u8,
            percent: transition.percent,
        };
        changes.into_iter().map(change).collect()
    }

    /// The process's clock, in which times are given.
    #[napi(catch_unwind)]
    pub fn now_ms(&self) -> f64 {
        process_now_ms()
    }

    /// Everything; nothing once it is closed.
    #[napi(catch_unwind)]
    pub fn figures(&self) -> Option<WatchFigures> {
        let report = sampler::report(self.id()?)?;
        let sample = &report.sample;
        let bytes = |figure: Option<u64>| figure.map(|bytes| bytes as f64);
        let pressure = |at: usize| {
            sample.pressure[at].map(|(pressure, is_own)| PressureFigures {
                some10: pressure.some_10,
                some60: pressure.some_60,
                full10: pressure.full_10,
                is_own,
            })
        };
        let threads = report.threads.iter().map(|thread| ThreadFigures {
            name: thread.name.clone(),
            in_flight: thread.in_flight,
            cpu: thread.cpu,
            utilization: thread.utilization,
            stalls: thread.stalls as f64,
        });
        Some(WatchFigures {
            now_ms: report.now_ms,
            sampled_at_ms: sample.at_ms,
            cpu_at_ms: sample.cpu_at_ms,
            rss: bytes(sample.rss),
            anonymous: bytes(sample.anonymous),
            working_set: bytes(sample.working_set),
            total: bytes(sample.total),
            available: bytes(sample.available),
            binding: report.limit.map(Into::into),
            limits: sample.limits.iter().copied().map(Into::into).collect(),
            cgroup_version: sample.cgroup_version,
            oom_kills: bytes(sample.oom_kills),
            level: report.level as u8,
            cpus: sample.cpus.map(f64::from),
            quota_cpus: sample.quota_cpus,
            allowed_cpus: sample.allowed_cpus(),
            used_cpus: sample.used_cpus,
            cpu_percent: sample.cpu_percent(),
            throttled_percent: sample.throttled_percent,
            memory_pressure: pressure(0),
            cpu_pressure: pressure(1),
            io_pressure: pressure(2),
            thread_cpu: report.thread_cpu,
            utilization: report.utilization,
            delays: report.delays.map(Into::into),
            process_delays: report.process_delays.map(Into::into),
            lifetime_delays: report.lifetime_delays.map(Into::into),
            is_watched: report.sight.0,
            is_seen: report.sight.1,
            stalls: report.stalls as f64,
            stall: report.stall.map(Into::into),
            pauses: report.pauses,
            threads: threads.collect(),
            process_requests: report.process_requests,
            process_stalls: report.process_stalls as f64,
            process_stalled_ms: report.process_stalled_ms,
            own_cpu: report.own_cpu,
        })
    }

    /// Ends the watch. May be called again.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.core.borrow_mut().take();
    }
}
