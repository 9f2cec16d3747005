//! Typed arrays that JavaScript allocated and Rust borrows.

use napi::sys;
use std::ffi::{CStr, c_void};

/// A call that JavaScript made wrongly; thrown with the code `ERR_INVALID_ARG_TYPE`.
pub(super) struct InvalidCall(pub(super) &'static CStr);

/// Where a typed array lies, and how many elements it has.
pub(super) fn typed_array<T: Element>(
    env: sys::napi_env,
    value: sys::napi_value,
) -> std::result::Result<(*mut T, usize), InvalidCall> {
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
        return Err(InvalidCall(T::EXPECTED));
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
    ) -> std::result::Result<Self, InvalidCall> {
        let (data, length) = typed_array::<T>(env, value)?;
        let mut reference = std::ptr::null_mut();
        // SAFETY: `value` is a live typed array of this call; a strong reference keeps it so.
        let status = unsafe { sys::napi_create_reference(env, value, 1, &raw mut reference) };
        if status != sys::Status::napi_ok {
            // Without the reference the array could be collected under us.
            return Err(InvalidCall(c"the array cannot be kept"));
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
    pub(super) fn raw_parts(&self) -> (*mut T, usize) {
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
