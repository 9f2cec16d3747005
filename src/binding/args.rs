//! The arguments of a bound function: numbers, strings and borrowed bytes.

use super::memory::{Element, InvalidCall, Memory, typed_array};
use napi::sys;
use std::ffi::c_void;

/// The most arguments a bound function takes.
const ARGS_MAX: usize = 4;

/// The arguments of one call.
pub(super) struct Args {
    env: sys::napi_env,
    values: [sys::napi_value; ARGS_MAX],
    count: usize,
}

impl Args {
    /// The arguments of the running call, and the data pointer of its function.
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
        // SAFETY: out-pointers are valid and the array holds `count` values.
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

    fn value(&self, at: usize) -> sys::napi_value {
        if at < self.count {
            self.values[at]
        } else {
            std::ptr::null_mut()
        }
    }

    /// A number; NaN where the argument is none.
    pub(super) fn number(&self, at: usize) -> f64 {
        let mut number = f64::NAN;
        let value = self.value(at);
        if !value.is_null() {
            // SAFETY: `env` and `value` are those of the running call.
            unsafe { sys::napi_get_value_double(self.env, value, &raw mut number) };
        }
        number
    }

    /// A whole number below 2^32.
    pub(super) fn uint32(&self, at: usize) -> std::result::Result<u32, InvalidCall> {
        let number = self.number(at);
        // There and back: `fract` is a library call on the baseline of x86-64.
        let whole = number as u32;
        if f64::from(whole).to_bits() == number.to_bits() {
            Ok(whole)
        } else {
            Err(InvalidCall(c"expected a whole number from 0 to 4294967295"))
        }
    }

    /// Calls `with` with the UTF-16 units of a string argument; `None` where it is not a string.
    ///
    /// Both engines copy these faster than they encode UTF-8, and no two strings share them.
    pub(super) fn with_utf16<R>(&self, at: usize, with: impl FnOnce(Option<&[u16]>) -> R) -> R {
        const INLINE: usize = 64;
        let mut inline = [0u16; INLINE];
        let Some(length) = self.copy_units(at, &mut inline) else {
            return with(None);
        };
        if length < INLINE - 1 {
            return with(Some(&inline[..length]));
        }
        // It may have been cut: ask for the whole length first.
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

    /// Calls `with` with the bytes of a Uint8Array argument.
    ///
    /// The array must not lie in shared memory, which another thread could change meanwhile.
    pub(super) fn with_bytes<R>(
        &self,
        at: usize,
        with: impl FnOnce(&[u8]) -> R,
    ) -> std::result::Result<R, InvalidCall> {
        let (data, length) = typed_array::<u8>(self.env, self.value(at))?;
        if length == 0 {
            return Ok(with(&[]));
        }
        // SAFETY: Node-API vouches for `length` bytes at `data`, and no JavaScript runs on this
        // thread, the only one that can reach them, until `with` returns.
        Ok(with(unsafe {
            std::slice::from_raw_parts(data.cast_const(), length)
        }))
    }

    /// Copies a string argument of `units` UTF-16 units into `buffer` as UTF-8, with U+FFFD for
    /// half surrogate pairs; whether it is a string.
    ///
    /// ASCII, which is what as many bytes as units tell, is copied as Latin-1: for both engines
    /// that is a plain copy, while their encoding to UTF-8 is several times slower.
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
        // SAFETY: the buffer has room for that many bytes, which includes a final NUL.
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
        // SAFETY: so many bytes were written.
        unsafe { buffer.set_len(length) };
        true
    }

    /// How many units were copied, less than the buffer holds; `None` where it is not a string.
    fn copy_units(&self, at: usize, buffer: &mut [u16]) -> Option<usize> {
        let mut length = 0;
        // SAFETY: the buffer is as long as the call is told; a null or wrong value yields an
        // error status.
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

    /// Copies the UTF-16 units of a string argument to `buffer`, which becomes as long as they are, but
    /// no longer than `most + 1`; `false` where it is not a string.
    pub(super) fn copy_utf16(&self, at: usize, buffer: &mut Vec<u16>, most: usize) -> bool {
        // One unit tells that there is more, one is the terminator's.
        buffer.resize(most + 2, 0);
        let length = self.copy_units(at, buffer);
        buffer.truncate(length.unwrap_or(0));
        length.is_some()
    }

    /// A number for JavaScript.
    pub(super) fn new_number(&self, number: f64) -> sys::napi_value {
        let mut value = std::ptr::null_mut();
        // SAFETY: `env` is that of the running call.
        unsafe { sys::napi_create_double(self.env, number, &raw mut value) };
        value
    }

    /// A string for JavaScript.
    pub(super) fn new_string(&self, text: &[u8]) -> sys::napi_value {
        let mut value = std::ptr::null_mut();
        let (data, length) = (text.as_ptr().cast(), text.len() as isize);
        // SAFETY: the text is `length` bytes long; both engines copy it. Bytes of ASCII are the same
        // in both encodings, and the first is the cheaper one.
        unsafe {
            if text.is_ascii() {
                sys::napi_create_string_latin1(self.env, data, length, &raw mut value);
            } else {
                sys::napi_create_string_utf8(self.env, data, length, &raw mut value);
            }
        }
        value
    }

    /// Borrows the memory of a typed array argument for as long as the process lives.
    pub(super) fn memory<T: Element>(
        &self,
        at: usize,
    ) -> std::result::Result<Memory<T>, InvalidCall> {
        Memory::borrow(self.env, self.value(at))
    }
}
