//! The hot calls of connection tables as C functions, for hosts that call those faster than Node-API (`bun:ffi`).
//!
//! Owns the functions and the list of tables that each thread lets them use. No symbol is exported: JavaScript gets the
//! addresses from [`hot_calls`]. A call names its table by a number and not by a pointer, so that no argument can lead to
//! memory that is no table: a table that was garbage collected, that has another thread or whose worker has ended is
//! [`GONE`]. A closed table is there, as for Node-API.

use super::memory::InvalidCall;
use napi_derive::napi;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Weak;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The table is gone; by Node-API the same call explains it.
const GONE: i32 = -1;
/// An argument, or a cell of shared memory, is wrong; by Node-API the same call explains it.
const INVALID: i32 = -2;
/// A bug was contained.
const PANICKED: i32 = -3;
/// Tables of one thread. The lower part of a number is a place in the list of them.
const PLACES: usize = 1 << 16;

/// A table, as the functions below use it.
pub(super) trait HotCalls {
    fn take(&mut self) -> Result<(), InvalidCall>;
    fn settle(&mut self) -> bool;
    fn release(&mut self, slot: u32) -> Result<bool, InvalidCall>;
    fn message(&mut self, slot: u32, now: f64) -> Result<u8, InvalidCall>;
}

type Core = RefCell<dyn HotCalls>;

thread_local! {
    /// Tables by place, each with its serial number.
    static OPEN: RefCell<Vec<(u32, Weak<Core>)>> = const { RefCell::new(Vec::new()) };
}

/// Serial numbers are unique in the process: a number from another thread finds nothing here.
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// Lets this thread's calls use a table. Returns `serial * 2^16 + place`, or -1 if there are too many tables.
pub(super) fn open(core: Weak<Core>) -> f64 {
    OPEN.with_borrow_mut(|open| {
        let free = open.iter().position(|(_, core)| core.strong_count() == 0);
        let place = free.unwrap_or(open.len());
        if place >= PLACES {
            return -1.0;
        }
        let serial = SERIAL.fetch_add(1, Relaxed);
        match open.get_mut(place) {
            Some(entry) => *entry = (serial, core),
            None => open.push((serial, core)),
        }
        f64::from(serial) * PLACES as f64 + place as f64
    })
}

/// Calls `call` with a table of this thread.
#[inline(always)]
fn with(
    place: u32,
    serial: u32,
    call: impl FnOnce(&mut dyn HotCalls) -> Result<i32, InvalidCall>,
) -> i32 {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // A thread that is ending has no list any more.
        OPEN.try_with(|open| {
            let open = open.try_borrow().ok()?;
            let (owner, core) = open.get(place as usize)?;
            let core = core.upgrade().filter(|_| *owner == serial)?;
            let mut core = core.try_borrow_mut().ok()?;
            Some(call(&mut *core))
        })
    }));
    match outcome {
        Ok(Ok(Some(Ok(answer)))) => answer,
        Ok(Ok(Some(Err(_)))) => INVALID,
        Ok(_) => GONE,
        Err(_) => PANICKED,
    }
}

/// Takes a seat, as `take` of Node-API does; 0 once the answer is in the cells of the call.
extern "C" fn take(place: u32, serial: u32) -> i32 {
    with(place, serial, |core| core.take().map(|()| 0))
}

/// Looks at the noted slots.
extern "C" fn settle(place: u32, serial: u32) -> i32 {
    with(place, serial, |core| Ok(i32::from(core.settle())))
}

/// Gives the seat of an open slot back: 1, or 0 for any other slot.
extern "C" fn release(place: u32, serial: u32, slot: u32) -> i32 {
    with(place, serial, |core| {
        core.settle();
        core.release(slot).map(i32::from)
    })
}

/// Spends a message of an open slot: 0, or the number of the exceeded rate.
extern "C" fn message(place: u32, serial: u32, slot: u32, now: f64) -> i32 {
    with(place, serial, |core| {
        core.settle();
        core.message(slot, now).map(i32::from)
    })
}

/// Returns the addresses of the C functions `take`, `settle`, `release` and `message`, as `ts/native/ffi.ts` calls them.
#[napi(catch_unwind)]
#[must_use]
pub fn hot_calls() -> Vec<f64> {
    let addresses = [
        take as *const () as usize,
        settle as *const () as usize,
        release as *const () as usize,
        message as *const () as usize,
    ];
    addresses.map(|address| address as f64).to_vec()
}
