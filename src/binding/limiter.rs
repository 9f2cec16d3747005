//! Rate limiters for `ts/limiter`.
//!
//! A key is its length in shared memory, or a string. The numbers of an answer cross in an array
//! that JavaScript shares once: remaining cost, time until the reset, time until a retry, and the
//! place of a refused key.

use super::args::Args;
use super::bound::{NumberFunction, bind, bound_function};
use super::environment::{EndsWithEnvironment, end_with};
use super::memory::{Element, InvalidCall, Memory};
use crate::clock::process_now_ms;
use crate::limiter::{Answer, Kind, Limiter, Noted, Quota, Reading, Settings, Spent};
use napi::Result;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

struct Core {
    settings: Settings,
    /// `None` once the environment has ended: its share of a name is given back.
    limiter: Option<Limiter>,
    answer: Option<Memory<f64>>,
    /// Shared memory for short keys.
    text: Option<Memory<u16>>,
    /// Copy of the latest short key: another thread could change it during a call.
    key: Vec<u64>,
}

impl EndsWithEnvironment for Core {
    fn end(&mut self) {
        self.limiter = None;
        self.answer = None;
        self.text = None;
        self.key = Vec::new();
    }
}

type Outcome<T> = std::result::Result<T, InvalidCall>;

const ENDED: InvalidCall = InvalidCall(c"the environment has ended");

impl Core {
    fn limiter(&mut self) -> Outcome<&mut Limiter> {
        self.limiter.as_mut().ok_or(ENDED)
    }

    /// Calls `run` with the limiter and the key in the first argument.
    fn with_key<R>(
        &mut self,
        args: &Args,
        run: impl FnOnce(&mut Limiter, &[u16]) -> R,
    ) -> Outcome<R> {
        let limiter = self.limiter.as_mut().ok_or(ENDED)?;
        let Ok(length) = args.uint32(0) else {
            return args
                .with_utf16(0, |key| key.map(|key| run(limiter, key)))
                .ok_or(InvalidCall(c"key must be a string"));
        };
        self.text
            .as_ref()
            .and_then(|text| text.copy(length as usize, &mut self.key))
            .map(|key| run(limiter, key))
            .ok_or(InvalidCall(c"key is longer than the shared text"))
    }

    fn write(&self, reading: Reading, retry_after_ms: f64) -> Outcome<()> {
        let Some([remaining, reset, retry, ..]) = self.answer.as_ref().map(Memory::cells) else {
            return Err(InvalidCall(c"call share() first"));
        };
        f64::store(remaining, reading.remaining);
        f64::store(reset, reading.reset_ms);
        f64::store(retry, retry_after_ms);
        Ok(())
    }

    fn answer(&self, answer: Answer) -> Outcome<f64> {
        self.write(answer.reading, answer.retry_after_ms)?;
        Ok(f64::from(u8::from(answer.admitted)))
    }

    fn refusal(&self, answer: Answer, noted: Noted) -> Outcome<f64> {
        self.write(answer.reading, answer.retry_after_ms)?;
        if let Some([_, _, _, place, ..]) = self.answer.as_ref().map(Memory::cells) {
            f64::store(place, noted.place as f64);
        }
        Ok(f64::from(
            2 * u8::from(noted.is_new) + 4 * u8::from(noted.is_told),
        ))
    }
}

/// Returns the time in an argument, or that of the process.
fn now(args: &Args, at: usize) -> f64 {
    let now = args.number(at);
    if now.is_nan() { process_now_ms() } else { now }
}

bound_function!(Share of Core, c"share", |core, args| {
    let answer = args.memory(0)?;
    let text = args.memory(1)?;
    core.answer = Some(answer);
    core.text = Some(text);
    Ok(0.0)
});

// Without a cost, it is 1 at the time of the process: each argument costs up to 15 ns on Bun.
bound_function!(Take of Core, c"take", |core, args| {
    let (cost, now) = if args.count() < 2 {
        (1.0, process_now_ms())
    } else {
        (f64::from(args.uint32(1)?), now(args, 2))
    };
    let taken = core.with_key(args, |limiter, key| limiter.take(key, cost, now))?;
    match taken.noted {
        None => core.answer(taken.answer),
        Some(noted) => core.refusal(taken.answer, noted),
    }
});

// Writes the keys that were refused most often, in five numbers each: place, refusals, their error,
// time since the latest one, pseudonym. Returns the number of keys.
bound_function!(Refused of Core, c"refusedKeys", |core, args| {
    let rows = args.memory::<f64>(0)?;
    let now = now(args, 1);
    let (rows, _) = rows.cells().as_chunks::<5>();
    let keys = core.limiter()?.refused_keys(rows.len());
    for ([place, refused, error, age, pseudonym], key) in rows.iter().zip(&keys) {
        f64::store(place, key.place as f64);
        f64::store(refused, key.refused as f64);
        f64::store(error, key.error as f64);
        f64::store(age, (now - key.latest).max(0.0));
        f64::store(pseudonym, f64::from(key.pseudonym));
    }
    Ok(keys.len() as f64)
});

bound_function!(Peek of Core, c"peek", |core, args| {
    let (cost, now) = (f64::from(args.uint32(1)?), now(args, 2));
    let answer = core.with_key(args, |limiter, key| limiter.peek(key, cost, now))?;
    core.answer(answer)
});

bound_function!(Penalty of Core, c"penalty", |core, args| {
    let (points, now) = (f64::from(args.uint32(1)?), now(args, 2));
    let reading = core.with_key(args, |limiter, key| limiter.penalty(key, points, now))?;
    core.write(reading, 0.0)?;
    Ok(0.0)
});

bound_function!(Reward of Core, c"reward", |core, args| {
    let (points, now) = (f64::from(args.uint32(1)?), now(args, 2));
    let reading = core.with_key(args, |limiter, key| limiter.reward(key, points, now))?;
    core.write(reading, 0.0)?;
    Ok(0.0)
});

bound_function!(GiveBack of Core, c"giveBack", |core, args| {
    let spent = Spent {
        cost: f64::from(args.uint32(1)?),
        at: now(args, 2),
        whole_at: args.number(3),
    };
    let now = now(args, 4);
    let reading = core.with_key(args, |limiter, key| limiter.give_back(key, spent, now))?;
    core.write(reading, 0.0)?;
    Ok(0.0)
});

bound_function!(Block of Core, c"block", |core, args| {
    let (ms, now) = (f64::from(args.uint32(1)?), now(args, 2));
    core.with_key(args, |limiter, key| limiter.block(key, now + ms, now))?;
    Ok(0.0)
});

bound_function!(Reset of Core, c"reset", |core, args| {
    let known = core.with_key(args, Limiter::reset)?;
    Ok(f64::from(u8::from(known)))
});

// Leaves the limiters of its name, for a limiter that nobody uses any more. What still runs counts by itself.
bound_function!(Release of Core, c"release", |core, _args| {
    if core.limiter.is_some() {
        core.limiter = Some(Limiter::new(&core.settings));
    }
    Ok(0.0)
});

bound_function!(Clear of Core, c"clear", |core, _args| {
    core.limiter()?.clear();
    Ok(0.0)
});

bound_function!(Counts of Core, c"counts", |core, _args| {
    let counts = core.limiter()?.counts();
    let Some([keys, evicted, bytes, ..]) = core.answer.as_ref().map(Memory::cells) else {
        return Err(InvalidCall(c"call share() first"));
    };
    f64::store(keys, counts.keys as f64);
    f64::store(evicted, counts.evicted as f64);
    f64::store(bytes, counts.bytes as f64);
    Ok(0.0)
});

bound_function!(ProcessNow of Core, c"processNowMs", |_core, _args| Ok(process_now_ms()));

/// Creates a rate limiter, or opens the one of that name. `kind` is 0 for GCRA, 1 for sliding
/// windows, 2 for fixed windows; `numbers` are limit, window in ms, burst and most keys.
#[napi(
    catch_unwind,
    ts_return_type = "{ share(answer: Float64Array, text: Uint16Array): number; take(key: string | number, cost?: number, nowMs?: number): number; peek(key: string | number, cost: number, nowMs?: number): number; penalty(key: string | number, points: number, nowMs?: number): number; reward(key: string | number, points: number, nowMs?: number): number; giveBack(key: string | number, cost: number, atMs: number, wholeAtMs: number, nowMs?: number): number; block(key: string | number, forMs: number, nowMs?: number): number; reset(key: string | number): number; release(): number; clear(): number; counts(): number; refusedKeys(rows: Float64Array, nowMs?: number): number; processNowMs(): number }"
)]
pub fn create_limiter<'env>(
    env: &'env Env,
    name: Option<String>,
    kind: u32,
    numbers: Vec<f64>,
) -> Result<Object<'env>> {
    let [limit, window_ms, burst, max_keys] = numbers[..] else {
        return Err(napi::Error::from_reason("expected four numbers"));
    };
    let settings = Settings {
        kind: match kind {
            0 => Kind::Gcra,
            1 => Kind::SlidingWindow,
            _ => Kind::FixedWindow,
        },
        quota: Quota {
            limit,
            window_ms,
            burst,
        },
        max_keys: max_keys as usize,
    };
    let limiter = match name {
        Some(name) => Limiter::open(&name, &settings)
            .map_err(|error| napi::Error::from_reason(format!("{}: {error}", error.code())))?,
        None => Limiter::new(&settings),
    };
    let core = Rc::new(RefCell::new(Core {
        settings,
        limiter: Some(limiter),
        answer: None,
        text: None,
        key: Vec::new(),
    }));
    end_with(env, &core);
    let object = Object::new(env)?;
    bind::<Share>(env, &object, &core)?;
    bind::<Take>(env, &object, &core)?;
    bind::<Peek>(env, &object, &core)?;
    bind::<Penalty>(env, &object, &core)?;
    bind::<GiveBack>(env, &object, &core)?;
    bind::<Reward>(env, &object, &core)?;
    bind::<Block>(env, &object, &core)?;
    bind::<Reset>(env, &object, &core)?;
    bind::<Release>(env, &object, &core)?;
    bind::<Clear>(env, &object, &core)?;
    bind::<Counts>(env, &object, &core)?;
    bind::<Refused>(env, &object, &core)?;
    bind::<ProcessNow>(env, &object, &core)?;
    Ok(object)
}
