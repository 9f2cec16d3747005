//! The list of failures for `scripts/failures.mjs`, and the validators for `ts/validators`.

use super::args::Args;
use super::bound::{NumberFunction, bind, bound_function};
use super::memory::{Element, InvalidCall, Memory};
use crate::validators::{Failure, JsonLimits, Refusal, Report, Scanner, Segment, is_public};
use napi::Result;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::atomic::AtomicU8;

/// One failure, for the generated files.
#[napi(object)]
pub struct FailureRow {
    /// Stable code.
    pub code: String,
    /// HTTP status of the answer.
    pub status: u32,
    /// Meaning, in one sentence.
    pub meaning: String,
    /// Remedy, in one sentence.
    pub remedy: String,
}

/// Returns all failures, in the order of their numbers from 1.
#[napi(catch_unwind)]
#[must_use]
pub fn failure_rows() -> Vec<FailureRow> {
    Failure::ALL
        .iter()
        .map(|failure| FailureRow {
            code: failure.code().into(),
            status: u32::from(failure.status()),
            meaning: failure.meaning().into(),
            remedy: failure.remedy().into(),
        })
        .collect()
}

/// Capacity of the copy buffer that is kept for the next string, bytes: up to here, a string is not
/// copied to fresh pages each time.
const KEPT: usize = 2 << 20;
/// Index of the first limit in the scratch; the cells before it hold the outcome of a scan.
const LIMITS_FROM: usize = 8;

/// A JSON scanner and the memory it shares with JavaScript.
struct JsonScanner {
    scanner: Scanner,
    limits: JsonLimits,
    scratch: Option<Memory<f64>>,
    path: Option<Memory<u8>>,
    text: Option<Memory<u8>>,
    /// Copy of the latest short text: another thread could change it during the scan.
    short: Vec<u64>,
    copy: Vec<u8>,
}

/// Creates a JSON scanner.
///
/// `scan(input, length)` scans a string of `length` UTF-16 units, or the first `length` bytes of a
/// `Uint8Array`. It returns 0 or the number of the failure; the scratch then holds offset, limit, length of the path, values,
/// depth, and three flags. The path is JSON text.
///
/// `scanShared(length)` scans the first `length` bytes of the shared `text`. For short input,
/// writing it there costs less than passing it as an argument.
///
/// `scanPart(part, length, from, total)` scans a long ASCII string part by part, so that a refusal
/// saves the copy of the rest; `part` begins with `length` bytes of it. It returns what `scan`
/// returns, or -1 if the next part is needed, or -2 if only `scan` of the whole string can decide.
#[napi(
    catch_unwind,
    ts_return_type = "{ share(scratch: Float64Array, path: Uint8Array, text: Uint8Array): number; setLimits(): number; scan(input: string | Uint8Array, length: number): number; scanShared(length: number): number; scanPart(part: Uint8Array, length: number, from: number, total: number): number }"
)]
pub fn create_json_scanner<'env>(env: &'env Env) -> Result<Object<'env>> {
    let core = Rc::new(RefCell::new(JsonScanner {
        scanner: Scanner::new(),
        limits: JsonLimits::default(),
        scratch: None,
        path: None,
        text: None,
        short: Vec::new(),
        copy: Vec::new(),
    }));
    let object = Object::new(env)?;
    bind::<Share>(env, &object, &core)?;
    bind::<SetLimits>(env, &object, &core)?;
    bind::<Scan>(env, &object, &core)?;
    bind::<ScanShared>(env, &object, &core)?;
    bind::<ScanPart>(env, &object, &core)?;
    Ok(object)
}

bound_function!(Share of JsonScanner, c"share", |core, args| {
    core.scratch = Some(args.memory(0)?);
    core.path = Some(args.memory(1)?);
    core.text = Some(args.memory(2)?);
    Ok(0.0)
});

bound_function!(SetLimits of JsonScanner, c"setLimits", |core, _args| {
    let Some(scratch) = &core.scratch else {
        return Err(InvalidCall(c"call share() first"));
    };
    let numbers: Vec<f64> = scratch.cells().iter().map(f64::load).collect();
    let Some(&[
        max_bytes,
        max_depth,
        max_values,
        max_keys,
        max_items,
        max_string_bytes,
        max_key_bytes,
        unique_keys,
        safe_keys,
        finite_numbers,
        safe_integers,
        whole_characters,
        no_nul,
        no_byte_order_mark,
    ]) = numbers.get(LIMITS_FROM..)
    else {
        return Err(InvalidCall(c"the scratch array has the wrong length"));
    };
    core.limits = JsonLimits {
        max_bytes: max_bytes as usize,
        max_depth: max_depth as usize,
        max_values: max_values as usize,
        max_keys: max_keys as usize,
        max_items: max_items as usize,
        max_string_bytes: max_string_bytes as usize,
        max_key_bytes: max_key_bytes as usize,
        unique_keys: unique_keys > 0.0,
        safe_keys: safe_keys > 0.0,
        finite_numbers: finite_numbers > 0.0,
        safe_integers: safe_integers > 0.0,
        whole_characters: whole_characters > 0.0,
        no_nul: no_nul > 0.0,
        no_byte_order_mark: no_byte_order_mark > 0.0,
    };
    Ok(0.0)
});

bound_function!(Scan of JsonScanner, c"scan", |core, args| {
    let units = args.uint32(1)? as usize;
    let mut copy = std::mem::take(&mut core.copy);
    let result = if args.copy_utf8(0, units, &mut copy) {
        let outcome = core.scanner.scan(&copy, &core.limits);
        Ok(core.write_outcome(&copy, outcome))
    } else {
        args.with_bytes(0, |bytes| {
            let bytes = &bytes[..bytes.len().min(units)];
            let outcome = core.scanner.scan(bytes, &core.limits);
            core.write_outcome(bytes, outcome)
        })
    };
    copy.clear();
    copy.shrink_to(KEPT);
    core.copy = copy;
    result
});

bound_function!(ScanShared of JsonScanner, c"scanShared", |core, args| {
    let length = args.uint32(0)? as usize;
    let Some(text) = &core.text else {
        return Err(InvalidCall(c"call share() first"));
    };
    // Taken out of the core, which `write_outcome` borrows while it reads these bytes.
    let mut short = std::mem::take(&mut core.short);
    let result = match text.copy(length, &mut short) {
        Some(bytes) => {
            let outcome = core.scanner.scan(bytes, &core.limits);
            Ok(core.write_outcome(bytes, outcome))
        }
        None => Err(InvalidCall(c"the length is greater than that of the shared text")),
    };
    core.short = short;
    result
});

/// Results of `scanPart` other than failures.
const NEXT_PART: f64 = -1.0;
const WHOLE: f64 = -2.0;

bound_function!(ScanPart of JsonScanner, c"scanPart", |core, args| {
    let units = args.uint32(1)? as usize;
    let from = args.uint32(2)? as usize;
    let total = args.uint32(3)? as usize;
    let mut copy = std::mem::take(&mut core.copy);
    let mut outcome = Ok(());
    if from == 0 {
        copy.clear();
        // Pages that are never written cost nothing.
        copy.reserve_exact(total);
        outcome = core.scanner.begin(total, &core.limits);
    }
    if copy.len() != from {
        return Err(InvalidCall(c"expected the next part of the string"));
    }
    args.with_bytes(0, |bytes| copy.extend_from_slice(&bytes[..bytes.len().min(units)]))?;
    let is_last = copy.len() >= total;
    let step = outcome.and_then(|()| core.scanner.resume(&copy, &core.limits, is_last));
    let result = match step {
        Ok(step) if step.is_more() => {
            core.copy = copy;
            return Ok(NEXT_PART);
        }
        Ok(step) => match step.report() {
            Some(report) => core.write_outcome(&copy, Ok(report)),
            None => return Ok(WHOLE),
        },
        Err(refusal) => core.write_outcome(&copy, Err(refusal)),
    };
    copy.clear();
    copy.shrink_to(KEPT);
    core.copy = copy;
    Ok(result)
});

impl JsonScanner {
    /// Writes the outcome of a scan into the shared memory. Returns 0 or the number of the failure.
    fn write_outcome(
        &mut self,
        bytes: &[u8],
        outcome: std::result::Result<Report, Refusal>,
    ) -> f64 {
        let Some(scratch) = &self.scratch else {
            return 0.0;
        };
        let scratch = scratch.cells();
        let set = |at: usize, value: f64| {
            if let Some(cell) = scratch.get(at) {
                f64::store(cell, value);
            }
        };
        let report = match outcome {
            Ok(report) => report,
            Err(refusal) => {
                let path = self.scanner.path(bytes);
                let length = self
                    .path
                    .as_ref()
                    .map_or(0, |memory| write_path(&path, memory.cells()));
                set(0, refusal.offset as f64);
                set(1, refusal.limit.map_or(-1.0, |limit| limit as f64));
                set(2, length as f64);
                return f64::from(refusal.failure as u8);
            }
        };
        set(3, report.values as f64);
        set(4, report.depth as f64);
        set(5, f64::from(u8::from(report.is_ascii)));
        set(6, f64::from(u8::from(report.has_unsafe_integers)));
        set(7, f64::from(u8::from(report.has_nul)));
        0.0
    }
}

/// Writes a path as a JSON array, as many segments as fit. Returns its length in bytes.
fn write_path(path: &[Segment], room: &[AtomicU8]) -> usize {
    let mut text = Vec::with_capacity(room.len().min(256));
    text.push(b'[');
    for segment in path {
        let before = text.len();
        if before > 1 {
            text.push(b',');
        }
        match segment {
            Segment::Index(index) => text.extend_from_slice(index.to_string().as_bytes()),
            Segment::Key(key) => {
                text.push(b'"');
                for byte in key.bytes() {
                    match byte {
                        b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
                        0..0x20 => text.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                        _ => text.push(byte),
                    }
                }
                text.push(b'"');
            }
        }
        if text.len() >= room.len() {
            text.truncate(before);
            break;
        }
    }
    text.push(b']');
    match room.get(..text.len()) {
        Some(room) => {
            for (cell, byte) in room.iter().zip(&text) {
                u8::store(cell, *byte);
            }
            text.len()
        }
        None => 0,
    }
}

/// Returns whether `ip` is an address of the public internet.
#[napi(catch_unwind)]
#[must_use]
pub fn is_public_ip(ip: String) -> bool {
    is_public(&ip)
}
