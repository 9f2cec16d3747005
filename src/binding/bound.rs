//! Functions bound to a core, and memory borrowed from JavaScript.

use napi::bindgen_prelude::{Env, Object};
use napi::{JsValue, Result, Status, sys};
use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// The most arguments a bound function takes.
const ARGS_MAX: usize = 4;

/// The arguments of one call.
pub(super) struct Args {
    env: sys::napi_env,
    values: [sys::napi_value; ARGS_MAX],
    count: usize,
}

/// A call that JavaScript made wrongly; thrown with the code `ERR_INVALID_ARG_TYPE`.
pub(super) struct Wrong(pub(super) &'static CStr);

impl Args {
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
    pub(super) fn index(&self, at: usize) -> std::result::Result<u32, Wrong> {
        let number = self.number(at);
        // There and back: `fract` is a library call on the baseline of x86-64.
        let whole = number as u32;
        if f64::from(whole).to_bits() == number.to_bits() {
            Ok(whole)
        } else {
            Err(Wrong(c"expected a whole number from 0 to 4294967295"))
        }
    }

    /// Calls `with` with the UTF-16 units of a string argument; `None` where it is not a string.
    ///
    /// Both engines copy these faster than they encode UTF-8, and no two strings share them.
    pub(super) fn units<R>(&self, at: usize, with: impl FnOnce(Option<&[u16]>) -> R) -> R {
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
    pub(super) fn borrowed<R>(
        &self,
        at: usize,
        with: impl FnOnce(&[u8]) -> R,
    ) -> std::result::Result<R, Wrong> {
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
    pub(super) fn copy_to(&self, at: usize, buffer: &mut Vec<u16>, most: usize) -> bool {
        // One unit tells that there is more, one is the terminator's.
        buffer.resize(most + 2, 0);
        let length = self.copy_units(at, buffer);
        buffer.truncate(length.unwrap_or(0));
        length.is_some()
    }

    /// A number for JavaScript.
    pub(super) fn give_number(&self, number: f64) -> sys::napi_value {
        let mut value = std::ptr::null_mut();
        // SAFETY: `env` is that of the running call.
        unsafe { sys::napi_create_double(self.env, number, &raw mut value) };
        value
    }

    /// A string for JavaScript.
    pub(super) fn give_text(&self, text: &[u8]) -> sys::napi_value {
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
    pub(super) fn memory<T: Element>(&self, at: usize) -> std::result::Result<Memory<T>, Wrong> {
        Memory::borrow(self.env, self.value(at))
    }
}

/// Where a typed array lies, and how many elements it has.
fn typed_array<T: Element>(
    env: sys::napi_env,
    value: sys::napi_value,
) -> std::result::Result<(*mut T, usize), Wrong> {
    let (mut kind, mut length, mut data) = (0, 0, std::ptr::null_mut::<c_void>());
    // SAFETY: out-pointers are valid; a null or wrong value yields an error status.
    let status = unsafe {
        sys::napi_get_typedarray_info(
            env,
            value,
            &raw mut kind,
            &raw mut length,
            &raw mut data,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if status != sys::Status::napi_ok || kind != T::KIND {
        return Err(Wrong(T::EXPECTED));
    }
    Ok((data.cast(), length))
}

/// The element types that cross the border.
pub(super) trait Element {
    const KIND: sys::napi_typedarray_type;
    const EXPECTED: &'static CStr;
}

macro_rules! element {
    ($type:ty, $kind:ident, $expected:literal) => {
        impl Element for $type {
            const KIND: sys::napi_typedarray_type = sys::TypedarrayType::$kind;
            const EXPECTED: &'static CStr = $expected;
        }
    };
}

element!(u8, uint8_array, c"expected a Uint8Array");
element!(u16, uint16_array, c"expected a Uint16Array");
element!(u32, uint32_array, c"expected a Uint32Array");
element!(f64, float64_array, c"expected a Float64Array");

/// Memory that JavaScript allocated and keeps in a private field, so that nobody can detach it.
/// It is touched on its own JS thread only, and never while JavaScript runs.
pub(super) struct Memory<T> {
    env: sys::napi_env,
    reference: sys::napi_ref,
    data: *mut T,
    length: usize,
}

impl<T: Element> Memory<T> {
    /// Borrows the memory of a typed array for as long as this lives.
    pub(super) fn borrow(
        env: sys::napi_env,
        value: sys::napi_value,
    ) -> std::result::Result<Self, Wrong> {
        let (data, length) = typed_array::<T>(env, value)?;
        let mut reference = std::ptr::null_mut();
        // SAFETY: `value` is a live typed array of this call; a strong reference keeps it so.
        let status = unsafe { sys::napi_create_reference(env, value, 1, &raw mut reference) };
        if status != sys::Status::napi_ok {
            // Without the reference the array could be collected under us.
            return Err(Wrong(c"the array cannot be kept"));
        }
        Ok(Self {
            env,
            reference,
            data,
            length,
        })
    }
}

impl<T> Memory<T> {
    /// Where it is, for memory that another thread reads with atomics.
    pub(super) fn place(&self) -> (*mut T, usize) {
        (self.data, self.length)
    }

    pub(super) fn slice(&mut self) -> &mut [T] {
        // SAFETY: the strong reference keeps the array alive, it cannot be detached, and no
        // JavaScript runs while the exclusive borrow lasts (bound functions call nobody).
        unsafe { std::slice::from_raw_parts_mut(self.data, self.length) }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: dropped on the JS thread: by a finalizer or by the environment's clean-up.
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }
}

/// What a bound function does to its core.
pub(super) trait Bound {
    type Core: 'static;
    const NAME: &'static CStr;
    fn call(core: &mut Self::Core, args: &Args) -> std::result::Result<f64, Wrong>;
}

/// What a bound function does to its core, where its answer may be other than a number.
pub(super) trait Answers {
    type Core: 'static;
    const NAME: &'static CStr;
    fn answer(core: &mut Self::Core, args: &Args) -> std::result::Result<sys::napi_value, Wrong>;
}

impl<B: Bound> Answers for B {
    type Core = B::Core;
    const NAME: &'static CStr = B::NAME;
    fn answer(core: &mut Self::Core, args: &Args) -> std::result::Result<sys::napi_value, Wrong> {
        Ok(args.give_number(B::call(core, args)?))
    }
}

/// Puts `B` on `object`, bound to `core`; the function shares the ownership.
pub(super) fn bind<B: Answers>(
    env: &Env,
    object: &Object,
    core: &Rc<RefCell<B::Core>>,
) -> Result<()> {
    let data = Rc::into_raw(Rc::clone(core)).cast_mut().cast::<c_void>();
    let mut function = std::ptr::null_mut();
    // SAFETY: `data` stays valid until `drop_core`, which runs when the function is collected.
    let status = unsafe {
        let mut status = sys::napi_create_function(
            env.raw(),
            B::NAME.as_ptr(),
            B::NAME.to_bytes().len() as isize,
            Some(trampoline::<B>),
            data,
            &raw mut function,
        );
        if status == sys::Status::napi_ok {
            status = sys::napi_add_finalizer(
                env.raw(),
                function,
                data,
                Some(drop_core::<B>),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
        }
        if status == sys::Status::napi_ok {
            status =
                sys::napi_set_named_property(env.raw(), object.raw(), B::NAME.as_ptr(), function);
        }
        status
    };
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(napi::Error::new(
            Status::from(status),
            "cannot bind a native function",
        ))
    }
}

unsafe extern "C" fn drop_core<B: Answers>(
    _env: sys::napi_env,
    data: *mut c_void,
    _hint: *mut c_void,
) {
    // SAFETY: `data` came from `Rc::into_raw` of the same type in `bind`, and this runs once.
    drop(unsafe { Rc::from_raw(data.cast::<RefCell<B::Core>>()) });
}

unsafe extern "C" fn trampoline<B: Answers>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let mut args = Args {
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
    // SAFETY: the running function holds a share of its core.
    let core = unsafe { &*data.cast::<RefCell<B::Core>>() };
    let outcome = catch_unwind(AssertUnwindSafe(|| match core.try_borrow_mut() {
        Ok(mut core) => B::answer(&mut core, &args),
        Err(_) => Err(Wrong(c"the core is busy")),
    }));
    let mut result = std::ptr::null_mut();
    // SAFETY: `env` is that of the running call.
    unsafe {
        match outcome {
            Ok(Ok(value)) => {
                result = value;
                sys::Status::napi_ok
            }
            Ok(Err(Wrong(message))) => {
                sys::napi_throw_type_error(env, c"ERR_INVALID_ARG_TYPE".as_ptr(), message.as_ptr())
            }
            Err(_) => sys::napi_throw_error(
                env,
                c"ERR_INTERNAL".as_ptr(),
                c"a bug in the native core was contained".as_ptr(),
            ),
        }
    };
    result
}
