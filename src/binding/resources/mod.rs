//! The watch over one JavaScript thread, for `ts/resources`.
//!
//! The cells are a `SharedArrayBuffer` that JavaScript made: one writer a cell, read on the other
//! side with relaxed atomics, since each is a figure of its own. The watcher's thread touches them
//! only between `join` and `leave`; the reference that keeps them alive is dropped after `leave`,
//! by `close()`, by the object's finalizer, or when the environment ends, whichever comes first.

mod figures;

use super::environment::{EndsWithEnvironment, end_with};
use super::memory::Memory;
use crate::clock::process_now_ms;
use crate::resources::Thresholds;
use crate::sampler::{self, Cells, Config, Mailbox, Target, cell};
use figures::{LevelChange, StallFigures, WatchFigures};
use napi::bindgen_prelude::{Env, JsValue, Result, Unknown};
use napi_derive::napi;
use std::cell::RefCell;
use std::rc::Rc;
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
    mailbox: Arc<Mailbox>,
    _cells: Memory<f64>,
}

impl Drop for Core {
    fn drop(&mut self) {
        // Before the memory goes, which is dropped next.
        sampler::leave(self.id);
    }
}

type Slot = Rc<RefCell<Option<Core>>>;

/// A worker is watched no longer.
impl EndsWithEnvironment for Option<Core> {
    fn end(&mut self) {
        self.take();
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
        let (place, length) = cells.raw_parts();
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
        let registration = sampler::join(config, Box::new(shared), log)?;
        let core = Rc::new(RefCell::new(Some(Core {
            id: registration.id,
            mailbox: registration.mailbox,
            _cells: cells,
        })));
        end_with(env, &core);
        Ok(Self {
            core,
            descriptor: registration.descriptor,
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
            Some(core) => core.mailbox.answer(process_now_ms()),
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
        changes.into_iter().map(Into::into).collect()
    }

    /// The process's clock, in which times are given.
    #[napi(catch_unwind)]
    pub fn now_ms(&self) -> f64 {
        process_now_ms()
    }

    /// Everything; nothing once it is closed.
    #[napi(catch_unwind)]
    pub fn figures(&self) -> Option<WatchFigures> {
        Some(sampler::report(self.id()?)?.into())
    }

    /// EndsWithEnvironment the watch. May be called again.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.core.borrow_mut().take();
    }
}
