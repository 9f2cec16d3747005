//! Bans for `ts/connections`.
//!
//! An address is the bits of an IPv4 address, or a text. The numbers of a ban cross in an array that
//! JavaScript shares once: start, end, failures, bans in a row, cause.

use super::args::{Args, address};
use super::bound::{BoundFunction, NumberFunction, bind, bound_function};
use super::environment::{EndsWithEnvironment, end_with};
use super::memory::{Element, InvalidCall, Memory};
use crate::bans::{Ban, BanList, Cause, Settings};
use crate::clock::process_now_ms;
use napi::Result;
use napi::bindgen_prelude::{Env, Object};
use napi::sys;
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt::Write;
use std::rc::Rc;

/// Answer to a ban of an address that is never banned.
const NEVER: f64 = -1.0;

struct Core {
    /// `None` once the environment has ended: its share of a name is given back.
    list: Option<BanList>,
    numbers: Option<Memory<f64>>,
}

impl EndsWithEnvironment for Core {
    fn end(&mut self) {
        self.list = None;
        self.numbers = None;
    }
}

type Outcome<T> = std::result::Result<T, InvalidCall>;

impl Core {
    fn list(&mut self) -> Outcome<&mut BanList> {
        self.list
            .as_mut()
            .ok_or(InvalidCall(c"the environment has ended"))
    }

    fn write(&self, numbers: &[f64]) -> Outcome<()> {
        let Some(memory) = &self.numbers else {
            return Err(InvalidCall(c"call share() first"));
        };
        for (cell, number) in memory.cells().iter().zip(numbers) {
            f64::store(cell, *number);
        }
        Ok(())
    }

    /// Writes a ban; returns 1, or `none` without one.
    fn answer(&self, ban: Option<Ban>, none: f64) -> Outcome<f64> {
        let Some(ban) = ban else {
            return Ok(none);
        };
        self.write(&numbers(&ban))?;
        Ok(1.0)
    }
}

fn numbers(ban: &Ban) -> [f64; 5] {
    [
        ban.since_ms as f64,
        ban.until_ms as f64,
        f64::from(ban.failures),
        f64::from(ban.bans),
        f64::from(ban.cause as u8),
    ]
}

/// Returns the time in an argument, in whole milliseconds.
fn now(args: &Args, at: usize) -> i64 {
    args.number(at) as i64
}

bound_function!(Share of Core, c"share", |core, args| {
    core.numbers = Some(args.memory(0)?);
    Ok(0.0)
});

bound_function!(Left of Core, c"leftMs", |core, args| {
    let (address, now) = (address(args, 0)?, now(args, 1));
    Ok(core.list()?.left_ms(address, now) as f64)
});

bound_function!(Find of Core, c"find", |core, args| {
    let (address, now) = (address(args, 0)?, now(args, 1));
    let ban = core.list()?.find(address, now);
    core.answer(ban, 0.0)
});

bound_function!(Fail of Core, c"fail", |core, args| {
    let (address, now) = (address(args, 0)?, now(args, 1));
    let ban = core.list()?.fail(address, now);
    core.answer(ban, 0.0)
});

bound_function!(BanFor of Core, c"ban", |core, args| {
    let (address, for_ms, now) = (address(args, 0)?, args.number(1) as i64, now(args, 2));
    let ban = core.list()?.ban(address, for_ms, now);
    core.answer(ban, NEVER)
});

bound_function!(Learn of Core, c"learn", |core, args| {
    let (address, now) = (address(args, 0)?, now(args, 1));
    let Some([since, until, failures, bans, ..]) = core.numbers.as_ref().map(Memory::cells) else {
        return Err(InvalidCall(c"call share() first"));
    };
    let ban = Ban {
        network: address,
        since_ms: f64::load(since) as i64,
        until_ms: f64::load(until) as i64,
        failures: f64::load(failures) as u32,
        bans: f64::load(bans) as u32,
        cause: Cause::Cluster,
    };
    let ban = core.list()?.learn(ban, now);
    core.answer(ban, 0.0)
});

bound_function!(Lift of Core, c"lift", |core, args| {
    let (address, now) = (address(args, 0)?, now(args, 1));
    let ban = core.list()?.lift(address, now);
    core.answer(ban, 0.0)
});

bound_function!(Counts of Core, c"counts", |core, args| {
    let now = now(args, 0);
    let counts = core.list()?.counts(now);
    core.write(&[
        counts.active as f64,
        counts.addresses as f64,
        counts.failures as f64,
        counts.banned as f64,
        counts.lifted as f64,
        counts.evicted as f64,
    ])?;
    Ok(0.0)
});

bound_function!(ProcessNow of Core, c"processNowMs", |_core, _args| Ok(process_now_ms()));

/// Returns the network that counts for an address, as text; empty for one that is never banned.
struct Network;
impl BoundFunction for Network {
    type Core = Core;
    const NAME: &'static CStr = c"network";
    fn call(core: &mut Core, args: &Args) -> Outcome<sys::napi_value> {
        let address = address(args, 0)?;
        let list = core.list()?;
        let text = list
            .network(address)
            .map_or(String::new(), |network| list.text(network));
        Ok(args.new_string(text.as_bytes()))
    }
}

/// Returns the latest active bans, the latest first: a line for each, of network and numbers.
struct List;
impl BoundFunction for List {
    type Core = Core;
    const NAME: &'static CStr = c"list";
    fn call(core: &mut Core, args: &Args) -> Outcome<sys::napi_value> {
        let now = now(args, 0);
        let most = args.uint32(1)? as usize;
        let list = core.list()?;
        let mut text = String::new();
        for ban in list.list(most, now) {
            text.push_str(&list.text(ban.network));
            for number in numbers(&ban) {
                // Writing to a string never fails.
                let _ = write!(text, " {number}");
            }
            text.push('\n');
        }
        Ok(args.new_string(text.as_bytes()))
    }
}

/// Opens the bans of that name, or bans of its own. `numbers` are failures, window, first ban, longest
/// ban, time until bans are forgotten (ms), most addresses, bits of the IPv6 prefix.
#[napi(
    catch_unwind,
    ts_return_type = "{ share(numbers: Float64Array): number; leftMs(ip: string | number, nowMs: number): number; find(ip: string | number, nowMs: number): number; fail(ip: string | number, nowMs: number): number; ban(ip: string | number, forMs: number, nowMs: number): number; learn(ip: string | number, nowMs: number): number; lift(ip: string | number, nowMs: number): number; counts(nowMs: number): number; network(ip: string | number): string; list(nowMs: number, most: number): string; processNowMs(): number }"
)]
pub fn create_bans<'env>(
    env: &'env Env,
    name: Option<String>,
    numbers: Vec<f64>,
) -> Result<Object<'env>> {
    let [
        failures,
        window,
        ban,
        max_ban,
        forget,
        max_addresses,
        prefix_bits,
    ] = numbers[..]
    else {
        return Err(napi::Error::from_reason("expected seven numbers"));
    };
    let settings = Settings {
        failures: failures as u32,
        window_ms: window as u32,
        ban_ms: ban as u32,
        max_ban_ms: max_ban as u32,
        forget_ms: forget as u32,
        max_addresses: max_addresses as usize,
        prefix_bits: prefix_bits as u8,
    };
    let list = BanList::open(name.as_deref(), settings)
        .map_err(|error| napi::Error::from_reason(format!("{}: {error}", error.code())))?;
    let core = Rc::new(RefCell::new(Core {
        list: Some(list),
        numbers: None,
    }));
    end_with(env, &core);
    let object = Object::new(env)?;
    bind::<Share>(env, &object, &core)?;
    bind::<Left>(env, &object, &core)?;
    bind::<Find>(env, &object, &core)?;
    bind::<Fail>(env, &object, &core)?;
    bind::<BanFor>(env, &object, &core)?;
    bind::<Learn>(env, &object, &core)?;
    bind::<Lift>(env, &object, &core)?;
    bind::<Counts>(env, &object, &core)?;
    bind::<Network>(env, &object, &core)?;
    bind::<List>(env, &object, &core)?;
    bind::<ProcessNow>(env, &object, &core)?;
    Ok(object)
}
