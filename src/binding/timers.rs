//! The timing wheel for `ts/timers`.

use super::bound::{Args, Bound, Memory, Wrong, bind};
use crate::timers::{MAX_DEADLINE_MS, Wheel};
use napi::Result;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

#[derive(Default)]
struct Timers {
    wheel: Wheel,
    due: Option<Memory<u32>>,
}

/// A timing wheel as four functions: `share(due)` hands over the array for due slots,
/// `arm(slot, whenMs)`, `cancel(slot)`, `advance(nowMs)` returns how many slots are in it,
/// `next()` the earliest deadline or -1.
#[napi(
    catch_unwind,
    ts_return_type = "{ share(due: Uint32Array): number; arm(slot: number, whenMs: number): number; cancel(slot: number): number; advance(nowMs: number): number; next(): number }"
)]
pub fn create_wheel<'env>(env: &'env Env) -> Result<Object<'env>> {
    let object = Object::new(env)?;
    let core = Rc::new(RefCell::new(Timers::default()));
    bind::<Share>(env, &object, &core)?;
    bind::<Arm>(env, &object, &core)?;
    bind::<Cancel>(env, &object, &core)?;
    bind::<Advance>(env, &object, &core)?;
    bind::<Next>(env, &object, &core)?;
    Ok(object)
}

fn millis(number: f64) -> u64 {
    // `as` saturates and takes NaN for 0; the wheel clamps further.
    (number as u64).min(MAX_DEADLINE_MS)
}

struct Share;
impl Bound for Share {
    type Core = Timers;
    const NAME: &'static CStr = c"share";
    fn call(core: &mut Timers, args: &Args) -> std::result::Result<f64, Wrong> {
        core.due = Some(args.memory(0)?);
        Ok(0.0)
    }
}

struct Arm;
impl Bound for Arm {
    type Core = Timers;
    const NAME: &'static CStr = c"arm";
    fn call(core: &mut Timers, args: &Args) -> std::result::Result<f64, Wrong> {
        let slot = args.index(0)?;
        if slot >= 1 << 22 {
            return Err(Wrong(c"expected a slot below 2^22"));
        }
        core.wheel.arm(slot, millis(args.number(1)));
        Ok(0.0)
    }
}

struct Cancel;
impl Bound for Cancel {
    type Core = Timers;
    const NAME: &'static CStr = c"cancel";
    fn call(core: &mut Timers, args: &Args) -> std::result::Result<f64, Wrong> {
        Ok(f64::from(u8::from(core.wheel.cancel(args.index(0)?))))
    }
}

struct Advance;
impl Bound for Advance {
    type Core = Timers;
    const NAME: &'static CStr = c"advance";
    fn call(core: &mut Timers, args: &Args) -> std::result::Result<f64, Wrong> {
        let Timers { wheel, due } = core;
        let Some(due) = due else {
            return Err(Wrong(c"share() the array for due slots first"));
        };
        Ok(wheel.advance(millis(args.number(0)), due.slice()) as f64)
    }
}

struct Next;
impl Bound for Next {
    type Core = Timers;
    const NAME: &'static CStr = c"next";
    fn call(core: &mut Timers, _args: &Args) -> std::result::Result<f64, Wrong> {
        Ok(core.wheel.next_deadline().map_or(-1.0, |when| when as f64))
    }
}
