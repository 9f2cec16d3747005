//! The connection table for `ts/connections`.
//!
//! A handle is one number: `generation * 2^22 + slot`. A refusal is its negated code. Limits,
//! columns, the noted slots, and arguments and answer of the hot calls cross in typed arrays that
//! JavaScript shares once. `ffi` calls the hot ones without Node-API.

use super::args::{Args, address};
use super::bound::{BoundFunction, NumberFunction, bind, bound_function};
use super::cluster::ledger_of;
use super::environment::{EndsWithEnvironment, end_with};
use super::ffi;
use super::memory::{Element, InvalidCall, Memory};
use crate::clock::process_now_ms;
use crate::connections::{
    Address, Admitted, EXEMPT, Limits, Mode, Newcomer, Outcome, Rate, Refusal, RefusalCode, Scope,
    SeatIndex, State, Table, open,
};
use crate::host::open_host;
use napi::bindgen_prelude::{Env, Object};
use napi::{Result, sys};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::{Rc, Weak};
use std::sync::atomic::AtomicU64;

const SLOT_BITS: u32 = 22;
/// Added to a noted slot whose lease is opened; a slot alone is released.
const OPENED: u32 = 1 << SLOT_BITS;
const FULL: f64 = -100.0;
const NEED_TIME: f64 = -101.0;
/// Answer for a handle that names no lease.
const STALE: f64 = -104.0;
/// Subtracted from the negated code of a limit, where -1 is another answer.
const OWN_CODES: f64 = 200.0;
/// Added to a slot whose user is over the limit: an older connection has to close.
const CLAIMS: f64 = (1 << SLOT_BITS) as f64;
/// Added to the number of idle slots where more leases may have expired.
const MORE: f64 = 65_536.0;

// Cells of the call, the arguments of `take` and its answer.
/// 1 to hold the seat as a lease, 0 to open it at once.
const IS_LEASE: usize = 0;
/// The bits of an IPv4 address; [`BY_VALUE`], or [`TEXT`] minus the length of a text in the second half of the shared
/// text.
const IP: usize = 1;
/// The length of a name in the shared text; [`NOBODY`] or [`BY_VALUE`].
const USER: usize = 2;
const LOOP_NOW: usize = 3;
/// NaN if it is not known.
const NOW: usize = 4;
const ANSWER: usize = 5;
const CALL_CELLS: usize = 6;
/// There is no user.
const NOBODY: f64 = -1.0;
/// The name or the address is an argument of the call.
const BY_VALUE: f64 = -2.0;
const TEXT: f64 = -3.0;
/// Units of each half of the shared text.
const TEXT_MAX: usize = 64;

struct Connections {
    /// This core, for `ffi`.
    this: Weak<RefCell<Connections>>,
    /// `None` once the environment has ended.
    table: Option<Table>,
    /// Ticket of the latest `ask`.
    ticket: u64,
    stamps: Vec<Memory<u32>>,
    scratch: Option<Memory<f64>>,
    /// Shared memory for short names.
    text: Option<Memory<u16>>,
    /// Copy of the latest short name: another thread could change it during a call.
    name: Vec<u64>,
    /// Slots opened ([`OPENED`]) and released since the last call, and their number in the first cell:
    /// opening a lease and giving back a seat need no call of their own.
    noted: Option<Memory<u32>>,
    /// Arguments and answer of `take`: numbers as values cost a call several conversions each.
    call: Option<Memory<f64>>,
    retry_after_ms: f64,
    /// First limit that would have refused the latest admission, if the limits are only observed.
    observed: Option<RefusalCode>,
    cursor: u32,
}

/// A worker that ends gives all its seats back.
impl EndsWithEnvironment for Connections {
    fn end(&mut self) {
        self.table = None;
        self.stamps.clear();
        self.scratch = None;
        self.text = None;
        self.noted = None;
        self.call = None;
    }
}

/// Numbers of all limits and of the mode.
const NUMBERS: usize = 17;
/// Place of the mode among them.
const MODE: usize = 12;

/// Reads limits in the order of `checkedLimits` in `ts/connections/limits.ts`.
fn limits(numbers: &[f64]) -> Limits {
    let limit = |at: usize| numbers.get(at).map_or(u32::MAX, |number| *number as u32);
    let rate = |at: usize| match numbers.get(at..at + 2) {
        Some(&[interval_ms, burst]) if interval_ms > 0.0 => Some(Rate { interval_ms, burst }),
        _ => None,
    };
    Limits {
        total: limit(0),
        per_ip: limit(1),
        per_prefix: limit(2),
        per_user: limit(3),
        anonymous: limit(4),
        anonymous_per_ip: limit(5),
        unknown: limit(6),
        prefix_bits: limit(7).clamp(1, 128) as u8,
        ip_rate: rate(8),
        user_rate: rate(10),
        message_user_rate: rate(13),
        message_ip_rate: rate(15),
    }
}

/// Returns the numbers that [`limits`] and [`mode`] read.
fn numbers_of(limits: &Limits, mode: Mode) -> [f64; NUMBERS] {
    let rate = |rate: Option<Rate>| rate.map_or([0.0, 0.0], |rate| [rate.interval_ms, rate.burst]);
    let [ip_ms, ip_burst] = rate(limits.ip_rate);
    let [user_ms, user_burst] = rate(limits.user_rate);
    let [message_user_ms, message_user_burst] = rate(limits.message_user_rate);
    let [message_ip_ms, message_ip_burst] = rate(limits.message_ip_rate);
    [
        limits.total.into(),
        limits.per_ip.into(),
        limits.per_prefix.into(),
        limits.per_user.into(),
        limits.anonymous.into(),
        limits.anonymous_per_ip.into(),
        limits.unknown.into(),
        limits.prefix_bits.into(),
        ip_ms,
        ip_burst,
        user_ms,
        user_burst,
        f64::from(u8::from(mode == Mode::Observe)),
        message_user_ms,
        message_user_burst,
        message_ip_ms,
        message_ip_burst,
    ]
}

fn mode(numbers: &[f64]) -> Mode {
    match numbers.get(MODE) {
        Some(&1.0) => Mode::Observe,
        _ => Mode::Enforce,
    }
}

/// Creates a connection table over the index of that name, or over an index of its own.
#[napi(
    catch_unwind,
    ts_return_type = "{ share(scratch: Float64Array, text: Uint16Array, noted: Uint32Array, call: Float64Array): number; take(user?: string, ip?: string): void; openFfi(): number; grow(stamps: Uint32Array): number; arrive(ip: string | number, loopNow: number, nowMs?: number): number; identify(handle: number, user: string | number | undefined, loopNow: number, nowMs?: number, claimable?: number): number; reserve(ip: string | number, user: string | number | undefined, loopNow: number, nowMs?: number, claimable?: number): number; admit(ip: string | number, user: string | number | undefined, loopNow?: number, nowMs?: number, claimable?: number, replaces?: number): number; observed(): number; ask(handle: number, user: string | number | undefined, isExempt: number): number; askedTicket(): number; isOver(slot: number): number; isDraining(): number; commit(handle: number): number; abort(handle: number): number; close(): number; processNowMs(): number; settle(): number; release(slot: number): number; message(slot: number, nowMs?: number): number; bindUser(slot: number, user: string): number; replaced(ticket: number): number; askMove(slot: number, user: string): number; endMove(slot: number, isGranted: number): number; sweep(nowMs: number, idleMs: number, leaseMs: number, pendingMs: number): number; idle(nowMs: number, idleMs: number): number; counts(): number; host(): number; total(): number; limits(): void; setLimits(places: number): void; setDraining(on: number): number; retryAfterMs(): number }"
)]
pub fn create_connections<'env>(
    env: &'env Env,
    name: Option<String>,
    numbers: Vec<f64>,
    cluster: Option<u32>,
    host: Option<Vec<u32>>,
) -> Result<Object<'env>> {
    let limits = limits(&numbers);
    let ledger = match cluster {
        None => None,
        Some(member) => Some(
            ledger_of(member, limits.prefix_bits)
                .ok_or_else(|| napi::Error::from_reason("the cluster is closed"))?,
        ),
    };
    let index = match (name, host) {
        (Some(name), Some(sizes)) => {
            let size = |at: usize| sizes.get(at).map_or(1, |size| *size as usize);
            open_host(&name, size(0), size(1), limits)
                .map(Scope::Host)
                .map_err(|error| napi::Error::from_reason(format!("{}: {error}", error.code())))?
        }
        (Some(name), None) => open(&name, limits)
            .map(Scope::Named)
            .map_err(|error| napi::Error::from_reason(format!("{}: {error}", error.code())))?,
        (None, _) => Scope::Own(Box::new(SeatIndex::new(limits))),
    };
    let mut table = Table::new(index);
    table.set_mode(mode(&numbers));
    if let Some(ledger) = ledger {
        table.count_in(ledger);
    }
    let core = Rc::new_cyclic(|this| {
        RefCell::new(Connections {
            this: this.clone(),
            table: Some(table),
            ticket: 0,
            stamps: Vec::new(),
            scratch: None,
            text: None,
            name: Vec::new(),
            noted: None,
            call: None,
            retry_after_ms: 0.0,
            observed: None,
            cursor: 0,
        })
    });
    end_with(env, &core);
    let object = Object::new(env)?;
    bind::<Share>(env, &object, &core)?;
    bind::<Grow>(env, &object, &core)?;
    bind::<Take>(env, &object, &core)?;
    bind::<OpenFfi>(env, &object, &core)?;
    bind::<Arrive>(env, &object, &core)?;
    bind::<Identify>(env, &object, &core)?;
    bind::<Observed>(env, &object, &core)?;
    bind::<Ask>(env, &object, &core)?;
    bind::<AskedTicket>(env, &object, &core)?;
    bind::<IsOver>(env, &object, &core)?;
    bind::<IsDraining>(env, &object, &core)?;
    bind::<Reserve>(env, &object, &core)?;
    bind::<Admit>(env, &object, &core)?;
    bind::<Commit>(env, &object, &core)?;
    bind::<Abort>(env, &object, &core)?;
    bind::<Close>(env, &object, &core)?;
    bind::<ProcessNow>(env, &object, &core)?;
    bind::<Settle>(env, &object, &core)?;
    bind::<Release>(env, &object, &core)?;
    bind::<Message>(env, &object, &core)?;
    bind::<BindUser>(env, &object, &core)?;
    bind::<Replaced>(env, &object, &core)?;
    bind::<AskMove>(env, &object, &core)?;
    bind::<EndMove>(env, &object, &core)?;
    bind::<Sweep>(env, &object, &core)?;
    bind::<Idle>(env, &object, &core)?;
    bind::<Counts>(env, &object, &core)?;
    bind::<Host>(env, &object, &core)?;
    bind::<Total>(env, &object, &core)?;
    bind::<InForce>(env, &object, &core)?;
    bind::<SetLimits>(env, &object, &core)?;
    bind::<SetDraining>(env, &object, &core)?;
    bind::<RetryAfter>(env, &object, &core)?;
    Ok(object)
}

fn pack(table: &Table, slot: u32) -> f64 {
    f64::from(table.generation(slot)) * f64::from(1 << SLOT_BITS) + f64::from(slot)
}

fn unpack(table: &Table, handle: f64) -> Option<(u32, u32)> {
    if !(0.0..9_007_199_254_740_992.0).contains(&handle) {
        return None;
    }
    let bits = handle as u64;
    let slot = (bits & ((1 << SLOT_BITS) - 1)) as u32;
    let generation = table.generation(slot);
    (u64::from(generation) == bits >> SLOT_BITS).then_some((slot, generation))
}

/// The user of a newcomer, as it crosses.
enum Name<'args> {
    Nobody,
    /// Its length in the shared text.
    Shared(u32),
    /// The argument of that number, if it is a string; else there is no user.
    ByValue(&'args Args, usize),
}

impl Connections {
    /// Takes a seat, as the cells of the call say. `args` is `(user?, ip?)`; a call without Node-API has none.
    ///
    /// Looks at the noted slots only if their number or a refusal makes it necessary. Only then: settled one by one, the
    /// counts of each are memory that no cache holds.
    fn take(&mut self, args: Option<&Args>) -> std::result::Result<(), InvalidCall> {
        if self.table()?.settles_first() {
            self.settle();
        }
        let mut answer = self.take_once(args)?;
        // A seat that was given back may be the one that is missing.
        if answer < 0.0 && answer != NEED_TIME && self.settle() {
            answer = self.take_once(args)?;
        }
        if let Some(call) = &self.call {
            f64::store(&call.cells()[ANSWER], answer);
        }
        Ok(())
    }

    fn take_once(&mut self, args: Option<&Args>) -> std::result::Result<f64, InvalidCall> {
        let (Some(table), Some(text), Some(call)) = (&self.table, &self.text, &self.call) else {
            return Err(InvalidCall(c"call share() first"));
        };
        if table.is_full() {
            return Ok(FULL);
        }
        let cell = |at: usize| f64::load(&call.cells()[at]);
        let state = match cell(IS_LEASE) {
            0.0 => State::Live,
            _ => State::Reserved,
        };
        let address = match (cell(IP), args) {
            (bits, _) if bits >= 0.0 => {
                Address::from_ip(IpAddr::V4(Ipv4Addr::from_bits(bits as u32)))
            }
            (BY_VALUE, Some(args)) => address(args, 1)?,
            (length, _) => shared_address(text, TEXT - length)?,
        };
        let user = match (cell(USER), args) {
            (NOBODY, _) => Name::Nobody,
            (BY_VALUE, Some(args)) => Name::ByValue(args, 0),
            (length, _) if length >= 0.0 => Name::Shared(length as u32),
            _ => return Err(InvalidCall(c"user is not in the shared text")),
        };
        let now = cell(NOW);
        if now.is_nan() && table.index().has_rates() {
            return Ok(NEED_TIME);
        }
        let newcomer = Newcomer {
            address,
            user: None,
            now: if now.is_nan() { 0.0 } else { now },
            claimable: 0,
            replaces: None,
        };
        let loop_now = cell(LOOP_NOW) as u32;
        self.seat(newcomer, user, state, loop_now)
    }

    /// Takes a seat for `newcomer`, whose user is `user`, and begins its lease.
    fn seat(
        &mut self,
        newcomer: Newcomer<'_>,
        user: Name<'_>,
        state: State,
        loop_now: u32,
    ) -> std::result::Result<f64, InvalidCall> {
        let Self {
            table: Some(table),
            text: Some(text),
            name,
            ..
        } = self
        else {
            return Err(InvalidCall(c"the environment has ended"));
        };
        let outcome = match user {
            Name::Nobody => table.reserve(&newcomer, state),
            Name::Shared(length) => {
                let user = Some(shared_name(text, length, name)?);
                table.reserve(&Newcomer { user, ..newcomer }, state)
            }
            Name::ByValue(args, at) => args.with_utf16(at, |user| {
                table.reserve(&Newcomer { user, ..newcomer }, state)
            }),
        };
        let outcome = outcome.map(|admitted| {
            let answer = match state {
                State::Live => {
                    f64::from(admitted.slot) + if admitted.claims { CLAIMS } else { 0.0 }
                }
                _ => {
                    table.lease(admitted.slot, loop_now);
                    pack(table, admitted.slot)
                }
            };
            (admitted, answer)
        });
        Ok(self.answer(outcome))
    }

    /// Opens the leases and gives back the seats of the noted slots, in their order; `false` if there are none.
    fn settle(&mut self) -> bool {
        let Self {
            table: Some(table),
            noted: Some(noted),
            ..
        } = self
        else {
            return false;
        };
        let Some((count, entries)) = noted.cells().split_first() else {
            return false;
        };
        let noted = u32::load(count) as usize;
        for entry in entries.iter().take(noted) {
            let entry = u32::load(entry);
            if entry >= OPENED {
                let slot = entry - OPENED;
                table.commit(slot, table.generation(slot));
            } else if let Some(generation) = table.live(entry) {
                table.release(entry, generation);
            }
        }
        u32::store(count, 0);
        noted > 0
    }

    /// Gives the seat of an open slot back.
    fn release(&mut self, slot: u32) -> std::result::Result<bool, InvalidCall> {
        let table = self.table()?;
        Ok(table
            .live(slot)
            .is_some_and(|generation| table.release(slot, generation)))
    }

    /// Spends a message of an open slot at a time, NaN for now. Returns 0, or the number of the exceeded rate.
    fn message(&mut self, slot: u32, now: f64) -> std::result::Result<u8, InvalidCall> {
        let now = if now.is_nan() { process_now_ms() } else { now };
        Ok(match self.table()?.message(slot, now) {
            Ok(()) => 0,
            Err(exceeded) => exceeded as u8,
        })
    }

    fn table(&mut self) -> std::result::Result<&mut Table, InvalidCall> {
        self.table
            .as_mut()
            .ok_or(InvalidCall(c"the environment has ended"))
    }

    /// Returns the table, and the array for arguments and results of more than one number.
    fn shared(&mut self) -> std::result::Result<(&mut Table, &[AtomicU64]), InvalidCall> {
        match (&mut self.table, &self.scratch) {
            (Some(table), Some(scratch)) => Ok((table, scratch.cells())),
            _ => Err(InvalidCall(c"call share() first")),
        }
    }

    /// Reserves or opens a connection, from `(ip, user, loopNow?, nowMs?, claimable?, replaces?)`.
    /// Returns a slot (`State::Live`), with [`CLAIMS`] if the user is over the limit; a handle
    /// (`State::Reserved`); a refusal; [`FULL`]; or [`NEED_TIME`] if there are connect rates and
    /// `nowMs` is missing.
    ///
    /// `ip` is the bits of an IPv4 address, or a text. `user` is the length of the name in shared
    /// memory, or the name. At the time `Infinity` the client is exempt ([`EXEMPT`]).
    fn admit(&mut self, args: &Args, state: State) -> std::result::Result<f64, InvalidCall> {
        let table = self.table()?;
        if table.is_full() {
            return Ok(FULL);
        }
        let address = address(args, 0)?;
        let Some(now) = rate_time(table, args, 3) else {
            return Ok(NEED_TIME);
        };
        // Checked before anything is taken: a wrong argument must not cost a seat.
        let loop_now = match state {
            State::Live => 0,
            _ => args.uint32(2)?,
        };
        let user = args.uint32(1).map_or(Name::ByValue(args, 1), Name::Shared);
        let newcomer = Newcomer {
            address,
            user: None,
            now,
            claimable: args.uint32(4).unwrap_or(0),
            replaces: args.uint32(5).ok(),
        };
        self.seat(newcomer, user, state, loop_now)
    }

    /// Takes the seat of a client that is not identified yet, from `(ip, loopNow, nowMs?)`. Returns
    /// as [`Connections::admit`].
    fn arrive(&mut self, args: &Args) -> std::result::Result<f64, InvalidCall> {
        let table = self.table()?;
        if table.is_full() {
            return Ok(FULL);
        }
        let address = address(args, 0)?;
        let loop_now = args.uint32(1)?;
        let Some(now) = rate_time(table, args, 2) else {
            return Ok(NEED_TIME);
        };
        let outcome = table.arrive(address, now).map(|admitted| {
            table.lease(admitted.slot, loop_now);
            (admitted, pack(table, admitted.slot))
        });
        Ok(self.answer(outcome))
    }

    /// Identifies the client of a pending lease, from `(handle, user, loopNow, nowMs?, claimable?)`.
    /// Returns the handle, a refusal (the seat is given back then), [`STALE`] or [`NEED_TIME`].
    fn identify(&mut self, args: &Args) -> std::result::Result<f64, InvalidCall> {
        let Self {
            table: Some(table),
            text: Some(text),
            name,
            ..
        } = self
        else {
            return Err(InvalidCall(c"the environment has ended"));
        };
        let handle = args.number(0);
        let Some((slot, generation)) = unpack(table, handle) else {
            return Ok(STALE);
        };
        let loop_now = args.uint32(2)?;
        let Some(now) = rate_time(table, args, 3) else {
            return Ok(NEED_TIME);
        };
        let claimable = args.uint32(4).unwrap_or(0);
        let outcome = match args.uint32(1) {
            Ok(length) => {
                let name = shared_name(text, length, name)?;
                table.identify(slot, generation, Some(name), now, claimable)
            }
            Err(_) => args.with_utf16(1, |user| {
                table.identify(slot, generation, user, now, claimable)
            }),
        };
        let outcome = match outcome {
            Ok(None) => return Ok(STALE),
            Ok(Some(admitted)) => {
                table.lease(slot, loop_now);
                Ok((admitted, handle))
            }
            Err(refusal) => Err(refusal),
        };
        Ok(self.answer(outcome))
    }

    /// Asks the cluster for the seat of a lease, from `(handle, user, isExempt)`. Returns 0 if it is
    /// granted, -1 if the answer comes later, a code if it is refused, or [`STALE`].
    fn ask(&mut self, args: &Args) -> std::result::Result<f64, InvalidCall> {
        let Self {
            table: Some(table),
            text: Some(text),
            name,
            ..
        } = self
        else {
            return Err(InvalidCall(c"the environment has ended"));
        };
        let Some((slot, generation)) = unpack(table, args.number(0)) else {
            return Ok(STALE);
        };
        let is_exempt = args.number(2) == 1.0;
        let asked = match args.uint32(1) {
            Ok(length) => {
                let name = shared_name(text, length, name)?;
                table.ask(slot, generation, Some(name), is_exempt)
            }
            Err(_) => args.with_utf16(1, |user| table.ask(slot, generation, user, is_exempt)),
        };
        let Some((ticket, code)) = asked else {
            return Ok(STALE);
        };
        self.ticket = ticket;
        Ok(f64::from(code))
    }

    /// Keeps the details of an outcome for JavaScript to ask for; returns the answer, or the
    /// refusal's negated code.
    fn answer(&mut self, outcome: std::result::Result<(Admitted, f64), Refusal>) -> f64 {
        match outcome {
            Ok((admitted, answer)) => {
                self.observed = admitted.observed;
                answer
            }
            Err(refusal) => {
                self.retry_after_ms = refusal.retry_after_ms;
                -f64::from(refusal.code as u8)
            }
        }
    }
}

impl ffi::HotCalls for Connections {
    fn take(&mut self) -> std::result::Result<(), InvalidCall> {
        Self::take(self, None)
    }

    fn settle(&mut self) -> bool {
        Self::settle(self)
    }

    fn release(&mut self, slot: u32) -> std::result::Result<bool, InvalidCall> {
        Self::release(self, slot)
    }

    fn message(&mut self, slot: u32, now: f64) -> std::result::Result<u8, InvalidCall> {
        Self::message(self, slot, now)
    }
}

/// Reads the time for connect rates; `None` if it is needed and missing. `Infinity` is [`EXEMPT`].
fn rate_time(table: &Table, args: &Args, at: usize) -> Option<f64> {
    let has_rates = table.index().has_rates();
    match args.number(at) {
        now if now.is_infinite() => Some(EXEMPT),
        now if has_rates && now.is_nan() => None,
        now if has_rates => Some(now),
        _ => Some(0.0),
    }
}

/// Returns the address whose text stands in the second half of the shared text.
fn shared_address(text: &Memory<u16>, length: f64) -> std::result::Result<Address, InvalidCall> {
    let cells = text
        .cells()
        .get(TEXT_MAX..)
        .and_then(|half| half.get(..length as usize))
        .filter(|cells| length >= 0.0 && cells.len() <= TEXT_MAX)
        .ok_or(InvalidCall(c"ip is not in the shared text"))?;
    let mut units = [0; TEXT_MAX];
    for (unit, cell) in units.iter_mut().zip(cells) {
        *unit = u16::load(cell);
    }
    Ok(Address::from_units(&units[..cells.len()]))
}

/// Returns a copy of the name in shared memory.
fn shared_name<'name>(
    text: &Memory<u16>,
    length: u32,
    name: &'name mut Vec<u64>,
) -> std::result::Result<&'name [u16], InvalidCall> {
    text.copy(length as usize, name)
        .ok_or(InvalidCall(c"user is longer than the shared text"))
}

/// Declares a bound function that looks at the noted slots first.
macro_rules! settled {
    ($type:ident, $name:literal, |$core:ident, $args:ident| $body:expr) => {
        bound_function!($type of Connections, $name, |$core, $args| {
            $core.settle();
            $body
        });
    };
}

settled!(Share, c"share", |core, args| {
    core.scratch = Some(args.memory(0)?);
    core.text = Some(args.memory(1)?);
    core.noted = Some(args.memory(2)?);
    let call = args.memory::<f64>(3)?;
    if call.cells().len() < CALL_CELLS {
        return Err(InvalidCall(c"the call has too few cells"));
    }
    core.call = Some(call);
    Ok(0.0)
});

/// Answers in the cells of the call.
struct Take;
impl BoundFunction for Take {
    type Core = Connections;
    const NAME: &'static CStr = c"take";
    fn call(
        core: &mut Connections,
        args: &Args,
    ) -> std::result::Result<sys::napi_value, InvalidCall> {
        core.take(Some(args))?;
        Ok(std::ptr::null_mut())
    }
}

// Returns the number by which `ffi` finds this table on this thread, or -1.
settled!(OpenFfi, c"openFfi", |core, _args| Ok(ffi::open(
    core.this.clone()
)));

settled!(Grow, c"grow", |core, args| {
    let memory = args.memory::<u32>(0)?;
    let by = memory.cells().len() as u32;
    core.table()?.grow(by);
    core.stamps.push(memory);
    Ok(0.0)
});

settled!(Reserve, c"reserve", |core, args| {
    core.admit(args, State::Reserved)
});

settled!(Admit, c"admit", |core, args| core.admit(args, State::Live));

settled!(Arrive, c"arrive", |core, args| core.arrive(args));

settled!(Identify, c"identify", |core, args| core.identify(args));

settled!(Observed, c"observed", |core, _args| Ok(core
    .observed
    .take()
    .map_or(0.0, |code| f64::from(code as u8))));

settled!(Ask, c"ask", |core, args| core.ask(args));

settled!(AskedTicket, c"askedTicket", |core, _args| Ok(
    core.ticket as f64
));

settled!(IsDraining, c"isDraining", |core, _args| Ok(f64::from(
    u8::from(core.table()?.index().is_draining())
)));

settled!(IsOver, c"isOver", |core, args| {
    let slot = args.uint32(0)?;
    Ok(f64::from(u8::from(core.table()?.is_over(slot))))
});

settled!(Commit, c"commit", |core, args| {
    let table = core.table()?;
    let outcome = unpack(table, args.number(0)).map_or(Outcome::Stale, |(slot, generation)| {
        table.commit(slot, generation)
    });
    Ok(match outcome {
        Outcome::Stale => 0.0,
        Outcome::Done => 1.0,
        Outcome::Over => 2.0,
    })
});

settled!(Abort, c"abort", |core, args| {
    let table = core.table()?;
    Ok(match unpack(table, args.number(0)) {
        Some((slot, generation))
            if table.is(slot, generation, State::Reserved)
                || table.is(slot, generation, State::Pending) =>
        {
            f64::from(u8::from(table.release(slot, generation)))
        }
        _ => 0.0,
    })
});

settled!(Close, c"close", |core, _args| {
    core.table()?.close();
    Ok(0.0)
});

settled!(ProcessNow, c"processNowMs", |_core, _args| Ok(
    process_now_ms()
));

settled!(Settle, c"settle", |_core, _args| Ok(0.0));

settled!(Release, c"release", |core, args| {
    let slot = args.uint32(0)?;
    Ok(f64::from(u8::from(core.release(slot)?)))
});

// Returns 0, or the number of the exceeded rate.
settled!(Message, c"message", |core, args| {
    let slot = args.uint32(0)?;
    Ok(f64::from(core.message(slot, args.number(1))?))
});

settled!(BindUser, c"bindUser", |core, args| {
    let slot = args.uint32(0)?;
    let table = core.table()?;
    let Some(generation) = table.live(slot) else {
        return Ok(0.0);
    };
    let outcome = args.with_utf16(1, |user| {
        user.map(|user| table.bind_user(slot, generation, user))
    });
    match outcome.ok_or(InvalidCall(c"userId must be a string"))? {
        Ok(None) => Ok(0.0),
        Ok(Some(bound)) => Ok(core.answer(Ok((bound, 1.0)))),
        Err(refusal) => Ok(core.answer(Err(refusal))),
    }
});

// Returns the open slot of a ticket, or -1; a lease of the ticket is given back.
settled!(Replaced, c"replaced", |core, args| {
    let ticket = args.number(0) as u64;
    let slot = if ticket == 0 {
        None
    } else {
        core.table()?.replaced(ticket)
    };
    Ok(slot.map_or(-1.0, f64::from))
});

// Asks the cluster to move the seat of a live slot, from `(slot, user)`. Returns 0 if it is granted, -1 if the answer comes
// later, the cluster's code, [`STALE`], or the negated code of a limit of this process minus [`OWN_CODES`]: -1 is taken.
settled!(AskMove, c"askMove", |core, args| {
    let slot = args.uint32(0)?;
    let table = core.table()?;
    let Some(generation) = table.live(slot) else {
        return Ok(STALE);
    };
    let asked = args.with_utf16(1, |user| {
        user.map(|user| table.ask_move(slot, generation, user))
    });
    match asked.ok_or(InvalidCall(c"userId must be a string"))? {
        Ok(None) => Ok(STALE),
        Ok(Some((ticket, code))) => {
            core.ticket = ticket;
            Ok(f64::from(code))
        }
        Err(refusal) => Ok(core.answer(Err(refusal)) - OWN_CODES),
    }
});

settled!(EndMove, c"endMove", |core, args| {
    let slot = args.uint32(0)?;
    let is_granted = args.number(1) == 1.0;
    let ended = core.table()?.end_move(slot, is_granted);
    Ok(f64::from(u8::from(ended)))
});

settled!(Sweep, c"sweep", |core, args| {
    let now = args.uint32(0)?;
    let idle = args.uint32(1)?;
    let lease = args.uint32(2)?;
    let pending = args.uint32(3)?;
    let Connections {
        table: Some(table),
        stamps,
        scratch: Some(scratch),
        cursor,
        ..
    } = core
    else {
        return Err(InvalidCall(c"call share() first"));
    };
    let has_more = table.expire(now, lease, pending);
    let out = scratch.cells();
    let mut slots = [0u32; 256];
    let room = out.len().min(slots.len());
    let mut count = 0;
    let mut base = 0;
    for segment in stamps.iter() {
        let segment = segment.cells();
        let end = base + segment.len() as u32;
        if *cursor < end && count < room {
            let from = (*cursor).max(base);
            let (found, next) = table.sweep(
                now,
                idle,
                from,
                &segment[(from - base) as usize..],
                &mut slots[count..room],
            );
            count += found;
            *cursor = next;
        }
        base = end;
    }
    if *cursor >= base {
        *cursor = 0;
    }
    for (out, slot) in out.iter().zip(&slots[..count]) {
        f64::store(out, f64::from(*slot));
    }
    Ok(count as f64 + if has_more { MORE } else { 0.0 })
});

// Live connections that a whole sweep would find.
settled!(Idle, c"idle", |core, args| {
    let now = args.uint32(0)?;
    let idle = args.uint32(1)?;
    let table = core
        .table
        .as_ref()
        .ok_or(InvalidCall(c"the table is closed"))?;
    let mut count = 0;
    let mut base = 0;
    for segment in core.stamps.iter() {
        let segment = segment.cells();
        count += table.count_idle(now, idle, base, segment);
        base += segment.len() as u32;
    }
    Ok(f64::from(count))
});

settled!(Total, c"total", |core, _args| Ok(f64::from(
    core.table()?.index().total()
)));

settled!(Counts, c"counts", |core, _args| {
    let (table, scratch) = core.shared()?;
    let index = table.index();
    let counts = index.counts().into_iter().chain([index.message_keys()]);
    for (out, count) in scratch.iter().zip(counts) {
        f64::store(out, f64::from(count));
    }
    Ok(f64::from(table.taken()))
});

// Returns 1 with the figures of the host in the shared array, or 0.
settled!(Host, c"host", |core, _args| {
    let (table, scratch) = core.shared()?;
    let Some(figures) = table.index().host() else {
        return Ok(0.0);
    };
    for (out, figure) in scratch.iter().zip(figures) {
        f64::store(out, f64::from(figure));
    }
    Ok(1.0)
});

// Puts the numbers of the limits in force into the shared array.
settled!(InForce, c"limits", |core, _args| {
    let (table, scratch) = core.shared()?;
    let numbers = numbers_of(&table.index().limits(), table.mode());
    for (out, number) in scratch.iter().zip(numbers) {
        f64::store(out, number);
    }
    Ok(0.0)
});

// Replaces the limits in force whose places are bits of the argument by numbers of the shared array.
settled!(SetLimits, c"setLimits", |core, args| {
    let places = args.number(0) as u32;
    let (table, scratch) = core.shared()?;
    let given: Vec<f64> = scratch.iter().map(f64::load).collect();
    let has = |place: usize| places >> place & 1 == 1;
    table.index().change_limits(&|in_force| {
        let mut numbers = numbers_of(in_force, Mode::default());
        for (place, (number, given)) in numbers.iter_mut().zip(&given).enumerate() {
            if has(place) {
                *number = *given;
            }
        }
        *in_force = limits(&numbers);
    });
    if has(MODE) {
        table.set_mode(mode(&given));
    }
    Ok(0.0)
});

settled!(SetDraining, c"setDraining", |core, args| {
    let on = args.number(0) != 0.0;
    core.table()?.index().set_draining(on);
    Ok(0.0)
});

settled!(RetryAfter, c"retryAfterMs", |core, _args| Ok(
    core.retry_after_ms
));
