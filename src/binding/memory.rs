//! Typed arrays that JavaScript allocated and Rust borrows.
//!
//! Invariant: JavaScript owns the memory; a strong reference keeps it alive for as long as Rust
//! borrows it, and Rust never frees it.

use napi::sys;
use std::ffi::{CStr, c_void};

/// A wrong call from JavaScript; thrown with the code `ERR_INVALID_ARG_TYPE`.
pub(super) struct InvalidCall(pub(super) &'static CStr);

/// Returns the address and the number of elements of a typed array.
pub(super) fn typed_array<T: Element>(
    env: sys::napi_env,
    value: sys::napi_value,
) -> std::result::Result<(*mut T, usize), InvalidCall> {
    let (mut kind, mut length, mut data) = (0, 0, std::ptr::null_mut::<c_void>());
    // SAFETY: the out-pointers are valid; a null or wrong value yields an error status.
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
        return Err(InvalidCall(T::EXPECTED));
    }
    Ok((data.cast(), length))
}

/// An element type of a typed array.
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

/// Memory that JavaScript allocated and keeps in a private field, so that no other code can detach
/// it. It is accessed on its own JavaScript thread only, and never while JavaScript runs.
pub(super) struct Memory<T> {
    env: sys::napi_env,
    reference: sys::napi_ref,
    data: *mut T,
    length: usize,
}

impl<T: Element> Memory<T> {
    /// Borrows the memory of a typed array until the result is dropped.
    pub(super) fn borrow(
        env: sys::napi_env,
        value: sys::napi_value,
    ) -> std::result::Result<Self, InvalidCall> {
        let (data, length) = typed_array::<T>(env, value)?;
        let mut reference = std::ptr::null_mut();
        // SAFETY: `value` is a live typed array of this call; the strong reference keeps it alive.
        let status = unsafe { sys::napi_create_reference(env, value, 1, &raw mut reference) };
        if status != sys::Status::napi_ok {
            // Without the reference, the array could be garbage collected during the borrow.
            return Err(InvalidCall(c"the array cannot be referenced"));
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
    /// Returns address and length, for memory that another thread reads with atomics.
    pub(super) fn raw_parts(&self) -> (*mut T, usize) {
        (self.data, self.length)
    }

    pub(super) fn slice(&mut self) -> &mut [T] {
        // SAFETY: the strong reference keeps the array alive, it cannot be detached, and no
        // JavaScript runs while the exclusive borrow lasts (bound functions call no JavaScript).
        unsafe { std::slice::from_raw_parts_mut(self.data, self.length) }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: dropped on the JavaScript thread, by a finalizer or by the clean-up of the
        // environment.
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }
}
