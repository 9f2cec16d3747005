//! Typed arrays that JavaScript allocated and Rust borrows.
//!
//! Invariants: JavaScript owns the memory; a strong reference keeps it alive for as long as Rust
//! borrows it, and Rust never frees it. Borrowed memory belongs to a `SharedArrayBuffer`, which can
//! neither be detached nor shrink, so the address and the length stay valid whatever JavaScript
//! does. Another thread of JavaScript may write to it at any time, so Rust accesses it with relaxed
//! atomics only and keeps no reference to a plain element.

use napi::sys;
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A wrong call from JavaScript; thrown with the code `ERR_INVALID_ARG_TYPE`.
pub(super) struct InvalidCall(pub(super) &'static CStr);

/// Returns the address and the number of elements of a typed array.
pub(super) fn typed_array<T: Element>(
    env: sys::napi_env,
    value: sys::napi_value,
) -> std::result::Result<(*mut T, usize), InvalidCall> {
    // SAFETY: null asks for no buffer.
    unsafe { array_and_buffer(env, value, std::ptr::null_mut()) }
}

/// Returns the address and the number of elements of a typed array, and writes its buffer to
/// `buffer`.
///
/// # Safety
/// `buffer` is null or valid for a write.
unsafe fn array_and_buffer<T: Element>(
    env: sys::napi_env,
    value: sys::napi_value,
    buffer: *mut sys::napi_value,
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
            buffer,
            std::ptr::null_mut(),
        )
    };
    if status != sys::Status::napi_ok || kind != T::KIND {
        return Err(InvalidCall(T::EXPECTED));
    }
    Ok((data.cast(), length))
}

/// An element type of a typed array.
pub(super) trait Element: Copy + 'static {
    /// The atomic type of the same size and alignment.
    type Atomic: 'static;
    const KIND: sys::napi_typedarray_type;
    const EXPECTED: &'static CStr;
    fn load(cell: &Self::Atomic) -> Self;
    fn store(cell: &Self::Atomic, value: Self);
}

macro_rules! element {
    ($type:ty, $atomic:ty, $kind:ident, $expected:literal, $from:expr, $to:expr) => {
        impl Element for $type {
            type Atomic = $atomic;
            const KIND: sys::napi_typedarray_type = sys::TypedarrayType::$kind;
            const EXPECTED: &'static CStr = $expected;
            fn load(cell: &Self::Atomic) -> Self {
                $from(cell.load(Ordering::Relaxed))
            }
            fn store(cell: &Self::Atomic, value: Self) {
                cell.store($to(value), Ordering::Relaxed);
            }
        }
    };
    ($type:ty, $atomic:ty, $kind:ident, $expected:literal) => {
        element!(
            $type,
            $atomic,
            $kind,
            $expected,
            std::convert::identity,
            std::convert::identity
        );
    };
}

element!(u8, AtomicU8, uint8_array, c"expected a Uint8Array");
element!(u16, AtomicU16, uint16_array, c"expected a Uint16Array");
element!(u32, AtomicU32, uint32_array, c"expected a Uint32Array");
element!(
    f64,
    AtomicU64,
    float64_array,
    c"expected a Float64Array",
    f64::from_bits,
    f64::to_bits
);

/// Shared memory that JavaScript allocated.
pub(super) struct Memory<T> {
    env: sys::napi_env,
    reference: sys::napi_ref,
    data: *mut T,
    length: usize,
}

impl<T: Element> Memory<T> {
    /// Borrows the memory of a typed array until the result is dropped. Refuses an array whose
    /// buffer is not a `SharedArrayBuffer`.
    pub(super) fn borrow(
        env: sys::napi_env,
        value: sys::napi_value,
    ) -> std::result::Result<Self, InvalidCall> {
        let mut buffer = std::ptr::null_mut();
        // SAFETY: the out-pointer is valid.
        let (data, length) = unsafe { array_and_buffer::<T>(env, value, &raw mut buffer)? };
        if !is_shared(env, buffer) {
            return Err(InvalidCall(c"expected an array of a SharedArrayBuffer"));
        }
        if length == 0 || !data.cast::<AtomicU64>().is_aligned() {
            return Err(InvalidCall(
                c"expected an array that begins at a multiple of 8",
            ));
        }
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

    /// Returns the elements.
    pub(super) fn cells(&self) -> &[T::Atomic] {
        // SAFETY: the strong reference keeps the array alive, and its buffer cannot be detached or
        // shrink. `Atomic` has the size of `T`, and the data is aligned to 8. All threads access
        // the memory as atomics: Rust here, and JavaScript by its memory model.
        unsafe { std::slice::from_raw_parts(self.data.cast(), self.length) }
    }

    /// Copies the first `count` elements to `words`, in units of 8 bytes, and returns the copy;
    /// `None` if there are fewer.
    pub(super) fn copy<'words>(
        &self,
        count: usize,
        words: &'words mut Vec<u64>,
    ) -> Option<&'words [T]> {
        let size = size_of::<T>();
        // SAFETY: as in `cells`; the division leaves out a last part of a word.
        let all: &[AtomicU64] =
            unsafe { std::slice::from_raw_parts(self.data.cast(), self.length * size / 8) };
        let source = all.get(..count.checked_mul(size)?.div_ceil(8))?;
        words.clear();
        words.extend(source.iter().map(|word| word.load(Ordering::Relaxed)));
        // SAFETY: the words hold at least `count` elements, are aligned to 8, and any bits are a
        // valid number.
        Some(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) })
    }
}

impl<T> Memory<T> {
    /// Returns address and length, for memory that another thread reads with atomics.
    pub(super) fn raw_parts(&self) -> (*mut T, usize) {
        (self.data, self.length)
    }
}

/// Returns whether the buffer of a typed array is a `SharedArrayBuffer`. Node-API counts it as no
/// array buffer on Node and on Bun. Bun 1.3.0 counts it as one: there its class decides.
fn is_shared(env: sys::napi_env, buffer: sys::napi_value) -> bool {
    let mut is_array_buffer = true;
    // SAFETY: the out-pointer is valid; a wrong value yields an error status.
    let status = unsafe { sys::napi_is_arraybuffer(env, buffer, &raw mut is_array_buffer) };
    status == sys::Status::napi_ok
        && (!is_array_buffer
            || (is_instance(env, buffer, c"SharedArrayBuffer")
                && !is_instance(env, buffer, c"ArrayBuffer")))
}

/// Returns whether a value is an instance of the global class of that name.
fn is_instance(env: sys::napi_env, value: sys::napi_value, class: &CStr) -> bool {
    let (mut global, mut constructor) = (std::ptr::null_mut(), std::ptr::null_mut());
    let mut is_instance = false;
    // SAFETY: the out-pointers are valid, the name ends with NUL; a failed call leaves null, which
    // the next one refuses with an error status.
    unsafe {
        sys::napi_get_global(env, &raw mut global) == sys::Status::napi_ok
            && sys::napi_get_named_property(env, global, class.as_ptr(), &raw mut constructor)
                == sys::Status::napi_ok
            && sys::napi_instanceof(env, value, constructor, &raw mut is_instance)
                == sys::Status::napi_ok
            && is_instance
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: dropped on the JavaScript thread, by a finalizer or by the clean-up of the
        // environment.
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }
}
