//! The watch over one JavaScript thread, for `ts/resources`.
//!
//! The cells are a `SharedArrayBuffer` that JavaScript allocated. Each cell has one writer and is
//! read on the other side with relaxed atomics, since no cell depends on another. The cells of the
//! watcher come first; `figures()` writes those behind them, on the JavaScript thread. The watcher's
//! thread accesses them only between `join` and `leave`. The reference that keeps them alive is
//! dropped after `leave`: by `close()`, by the finalizer, or at the end of the environment,
//! whichever comes first.

mod cpu_clock;
mod figures;

use super::environment::{EndsWithEnvironment, end_with};
use super::memory::Memory;
use crate::clock::process_now_ms;
use crate::error::NO_THREAD;
use crate::resources::Thresholds;
use crate::sampler::{self, Cells, Config, Mailbox, Target, cell};
use crate::wake_channel::LoopEnd;
use figures::{FigureTables, LevelChange, StallFigures};
use napi::bindgen_prelude::{Env, JsValue, Result, Unknown};
use napi_derive::napi;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The cells as the watcher accesses them.
struct Shared {
    cells: *const AtomicU64,
}

// SAFETY: `Memory::borrow` has checked that the memory belongs to a `SharedArrayBuffer`, which other
// threads may access and nothing can detach. It outlives this value: `Core` drops its reference only after `leave` has dropped this.
unsafe impl Send for Shared {}

impl Cells for Shared {
    fn load(&self, at: usize) -> f64 {
        assert!(at < cell::NAMES.len());
        // SAFETY: `ResourceWatch::new` checked that there are as many cells; a `Float64Array` is
        // aligned to 8. Relaxed: no cell depends on another.
        f64::from_bits(unsafe { &*self.cells.add(at) }.load(Ordering::Relaxed))
    }

    fn store(&self, at: usize, value: f64) {
        assert!(at < cell::NAMES.len());
        // SAFETY: as in `load`.
        unsafe { &*self.cells.add(at) }.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// A watched thread and the memory it shares.
struct Core {
    id: u64,
    mailbox: Arc<Mailbox>,
    cells: Memory<f64>,
}

impl Drop for Core {
    fn drop(&mut self) {
        // Before the memory is released, which is dropped next.
        sampler::leave(self.id);
    }
}

type Slot = Rc<RefCell<Option<Core>>>;

/// A worker that ends is no longer watched.
impl EndsWithEnvironment for Option<Core> {
    fn end(&mut self) {
        self.take();
    }
}

/// How to watch a thread.
#[napi(object)]
pub struct WatchConfig {
    /// Name of the thread in reports.
    pub name: String,
    /// Prefix of `/proc` and `/sys`; empty except in tests.
    pub root: String,
    /// Limit of the resident set, bytes.
    pub max_heap_bytes: f64,
    /// Warning threshold, percent.
    pub warning: f64,
    /// Critical threshold, percent.
    pub critical: f64,
    /// Shortest block that counts as a stall, ms; absent to watch no event loop.
    pub stall_ms: Option<f64>,
    /// Path of the log; absent for no log, empty for standard error.
    pub log: Option<String>,
}

/// Returns the names of the cells, in their order.
#[napi(catch_unwind)]
pub fn resource_cells() -> Vec<&'static str> {
    cell::NAMES.to_vec()
}

/// The watch over the thread that creates it.
#[napi]
pub struct ResourceWatch {
    core: Slot,
    loop_end: Option<LoopEnd>,
}

#[napi]
impl ResourceWatch {
    /// Starts to watch this thread.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: &Env,
        #[napi(ts_arg_type = "Float64Array")] cells: Unknown<'_>,
        config: WatchConfig,
    ) -> Result<Self> {
        let cells = Memory::<f64>::borrow(env.raw(), cells.raw())
            .map_err(|wrong| napi::Error::from_reason(wrong.0.to_string_lossy()))?;
        let (place, length) = cells.raw_parts();
        if length < cell::NAMES.len() + figures::LENGTH {
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
        let registration = sampler::join(config, Box::new(shared), log, cpu_clock::current())
            .map_err(|error| {
                napi::Error::from_reason(format!(
                    "{NO_THREAD}: the monitor's thread cannot be started: {error}"
                ))
            })?;
        let core = Rc::new(RefCell::new(Some(Core {
            id: registration.id,
            mailbox: registration.mailbox,
            cells,
        })));
        end_with(env, &core);
        Ok(Self {
            core,
            loop_end: registration.loop_end,
        })
    }

    fn id(&self) -> Option<u64> {
        self.core.borrow().as_ref().map(|core| core.id)
    }

    /// Returns the loop's end of the wake socket, once; -1 if there is none. The caller owns it
    /// from then on.
    #[napi(catch_unwind)]
    pub fn take_descriptor(&mut self) -> i32 {
        self.loop_end.take().map_or(-1, LoopEnd::into_descriptor)
    }

    /// Called when the loop turns. Returns the pending notices: 1 level, 2 stall, 4 measure the
    /// heap.
    #[napi(catch_unwind)]
    pub fn answer(&self) -> u32 {
        match self.core.borrow().as_ref() {
            Some(core) => core.mailbox.answer(process_now_ms()),
            None => 0,
        }
    }

    /// Adds a label for requests in flight; returns `false` unless `at` is the next number.
    #[napi(catch_unwind)]
    pub fn label(&self, at: u32, text: String) -> bool {
        self.id()
            .is_some_and(|id| sampler::label(id, at as usize, &text))
    }

    /// Returns the stalls after number `after`, the oldest first.
    #[napi(catch_unwind)]
    pub fn stalls(&self, after: f64) -> Vec<StallFigures> {
        let stalls = self.id().map(|id| sampler::stalls(id, after as u64));
        stalls
            .unwrap_or_default()
            .into_iter()
            .map(Into::into)
            .collect()
    }

    /// Returns the changes of level since the last call.
    #[napi(catch_unwind)]
    pub fn levels(&self) -> Vec<LevelChange> {
        let changes = self.id().map(sampler::transitions).unwrap_or_default();
        changes.into_iter().map(Into::into).collect()
    }

    /// Returns the time of the process's clock, ms.
    #[napi(catch_unwind)]
    pub fn now_ms(&self) -> f64 {
        process_now_ms()
    }

    /// Writes all figures into the cells at their places, and returns those of which there is a
    /// varying number; absent once the watch is closed.
    #[napi(catch_unwind)]
    pub fn figures(&self) -> Option<FigureTables> {
        let core = self.core.borrow();
        let core = core.as_ref()?;
        let report = sampler::report(core.id)?;
        let mut places = core.cells.cells()[cell::NAMES.len()..].iter();
        figures::write(&report, |value| {
            if let Some(place) = places.next() {
                place.store(value.to_bits(), Ordering::Relaxed);
            }
        });
        Some(report.into())
    }

    /// Ends the watch. May be called again.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.core.borrow_mut().take();
    }
}
