//! The arguments of a bound function: numbers, strings and borrowed bytes.
//!
//! Owns the conversion of Node-API values. Does not own memory that outlives a call (`memory`).

use super::memory::{Element, InvalidCall, Memory, typed_array};
use crate::connections::Address;
use napi::sys;
use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr};

/// The most arguments of a bound function.
const ARGS_MAX: usize = 6;

/// The arguments of one call.
pub(super) struct Args {
    env: sys::napi_env,
    values: [sys::napi_value; ARGS_MAX],
    count: usize,
}

impl Args {
    /// Returns the arguments of the running call, and the data pointer of its function.
    // Inlined, so that the arguments are not copied once more.
    #[inline(always)]
    pub(super) fn of_call(
        env: sys::napi_env,
        info: sys::napi_callback_info,
    ) -> (Self, *mut c_void) {
        let mut args = Self {
            env,
            values: [std::ptr::null_mut(); ARGS_MAX],
            count: ARGS_MAX,
        };
        let mut data = std::ptr::null_mut::<c_void>();
        // SAFETY: the out-pointers are valid and the array holds `count` values.
        unsafe {
            sys::napi_get_cb_info(
                env,
                info,
                &raw mut args.count,
                args.values.as_mut_ptr(),
                std::ptr::null_mut(),
                &raw mut data,
            )
        };
        (args, data)
    }

    /// Arguments of the call.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn value(&self, at: usize) -> sys::napi_value {
        if at < self.count {
            self.values[at]
        } else {
            std::ptr::null_mut()
        }
    }

    /// Returns a number; NaN if the argument is not a number.
    pub(super) fn number(&self, at: usize) -> f64 {
        let mut number = f64::NAN;
        let value = self.value(at);
        if !value.is_null() {
            // SAFETY: `env` and `value` belong to the running call.
            unsafe { sys::napi_get_value_double(self.env, value, &raw mut number) };
        }
        number
    }

    /// Returns a whole number below 2^32.
    pub(super) fn uint32(&self, at: usize) -> std::result::Result<u32, InvalidCall> {
        let number = self.number(at);
        // Converted and back: `fract` is a library call on the baseline of x86-64.
        let whole = number as u32;
        if f64::from(whole).to_bits() == number.to_bits() {
            Ok(whole)
        } else {
            Err(InvalidCall(c"expected a whole number from 0 to 4294967295"))
        }
    }

    /// Calls `with` with the UTF-16 units of a string argument; with `None` if it is not a string.
    ///
    /// Both engines copy UTF-16 faster than they encode UTF-8, and different strings always have
    /// different units.
    pub(super) fn with_utf16<R>(&self, at: usize, with: impl FnOnce(Option<&[u16]>) -> R) -> R {
        const INLINE: usize = 64;
        let mut inline = [0u16; INLINE];
        let Some(length) = self.copy_units(at, &mut inline) else {
            return with(None);
        };
        if length < INLINE - 1 {
            return with(Some(&inline[..length]));
        }
        // The copy may be cut off: ask for the whole length first.
        let mut length = 0;
        // SAFETY: a null buffer asks for the length only.
        unsafe {
            sys::napi_get_value_string_utf16(
                self.env,
                self.value(at),
                std::ptr::null_mut(),
                0,
                &raw mut length,
            )
        };
        let mut heap = vec![0u16; length + 1];
        let length = self.copy_units(at, &mut heap).unwrap_or(0);
        with(Some(&heap[..length]))
    }

    /// Calls `with` with the bytes of a `Uint8Array` argument.
    ///
    /// The array must not lie in shared memory, which another thread could change during the call.
    pub(super) fn with_bytes<R>(
        &self,
        at: usize,
        with: impl FnOnce(&[u8]) -> R,
    ) -> std::result::Result<R, InvalidCall> {
        let (data, length) = typed_array::<u8>(self.env, self.value(at))?;
        if length == 0 {
            return Ok(with(&[]));
        }
        // SAFETY: Node-API guarantees `length` bytes at `data`. Only this thread can reach them,
        // and no JavaScript runs on it until `with` returns.
        Ok(with(unsafe {
            std::slice::from_raw_parts(data.cast_const(), length)
        }))
    }

    /// Copies a string argument of `units` UTF-16 units into `buffer` as UTF-8, with U+FFFD in
    /// place of lone surrogates. Returns `false` if it is not a string.
    ///
    /// A string with as many UTF-8 bytes as UTF-16 units is ASCII. It is copied as Latin-1, which
    /// is a plain copy for both engines; their UTF-8 encoders are several times slower.
    pub(super) fn copy_utf8(&self, at: usize, units: usize, buffer: &mut Vec<u8>) -> bool {
        let value = self.value(at);
        let mut length = 0;
        // SAFETY: a null buffer asks for the length only; a wrong value yields an error status.
        let status = unsafe {
            sys::napi_get_value_string_utf8(
                self.env,
                value,
                std::ptr::null_mut(),
                0,
                &raw mut length,
            )
        };
        if status != sys::Status::napi_ok {
            return false;
        }
        let copy = if length == units {
            sys::napi_get_value_string_latin1
        } else {
            sys::napi_get_value_string_utf8
        };
        buffer.clear();
        buffer.reserve(length + 1);
        // SAFETY: the buffer has room for `length + 1` bytes, which includes the final NUL.
        let status = unsafe {
            copy(
                self.env,
                value,
                buffer.as_mut_ptr().cast(),
                length + 1,
                &raw mut length,
            )
        };
        if status != sys::Status::napi_ok || length > buffer.capacity() {
            return false;
        }
        // SAFETY: `length` bytes were written, which is at most the capacity.
        unsafe { buffer.set_len(length) };
        true
    }

    /// Returns the number of units copied, less than `buffer` holds; `None` if the argument is not
    /// a string.
    fn copy_units(&self, at: usize, buffer: &mut [u16]) -> Option<usize> {
        let mut length = 0;
        // SAFETY: the call gets the length of the buffer; a null or wrong value yields an error
        // status.
        let status = unsafe {
            sys::napi_get_value_string_utf16(
                self.env,
                self.value(at),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut length,
            )
        };
        (status == sys::Status::napi_ok).then_some(length)
    }

    /// Copies the UTF-16 units of a string argument to `buffer`, but at most `most + 1` of them.
    /// Returns `false` if it is not a string.
    pub(super) fn copy_utf16(&self, at: usize, buffer: &mut Vec<u16>, most: usize) -> bool {
        // One unit shows that there are more, and one is for the terminator.
        buffer.resize(most + 2, 0);
        let length = self.copy_units(at, buffer);
        buffer.truncate(length.unwrap_or(0));
        length.is_some()
    }

    /// Creates a JavaScript number.
    pub(super) fn new_number(&self, number: f64) -> sys::napi_value {
        let mut value = std::ptr::null_mut();
        // SAFETY: `env` belongs to the running call.
        unsafe { sys::napi_create_double(self.env, number, &raw mut value) };
        value
    }

    /// Creates a JavaScript string from UTF-8.
    pub(super) fn new_string(&self, text: &[u8]) -> sys::napi_value {
        let mut value = std::ptr::null_mut();
        let (data, length) = (text.as_ptr().cast(), text.len() as isize);
        // SAFETY: `text` has `length` bytes, and both engines copy them. ASCII is the same in both
        // encodings; Latin-1 is the cheaper one.
        unsafe {
            if text.is_ascii() {
                sys::napi_create_string_latin1(self.env, data, length, &raw mut value);
            } else {
                sys::napi_create_string_utf8(self.env, data, length, &raw mut value);
            }
        }
        value
    }

    /// Borrows the memory of a typed array argument until the result is dropped.
    pub(super) fn memory<T: Element>(
        &self,
        at: usize,
    ) -> std::result::Result<Memory<T>, InvalidCall> {
        Memory::borrow(self.env, self.value(at))
    }
}

/// Reads an address: the bits of an IPv4 address, or a text.
pub(super) fn address(args: &Args, at: usize) -> std::result::Result<Address, InvalidCall> {
    match args.uint32(at) {
        Ok(bits) => Ok(Address::from_ip(IpAddr::V4(Ipv4Addr::from_bits(bits)))),
        Err(_) => args
            .with_utf16(at, |units| units.map(Address::from_units))
            .ok_or(InvalidCall(c"ip must be a string")),
    }
}
