//! Bound functions: Node-API functions that hold a core in their data pointer.
//!
//! A call costs a tenth of a call to a class method. Owns the binding, the trampoline and the
//! conversion of errors and panics. Invariant: a bound function calls no JavaScript, so the core
//! has one user at a time.

use super::args::Args;
use super::memory::InvalidCall;
use napi::bindgen_prelude::{Env, Object};
use napi::{JsValue, Result, Status, sys};
use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// A bound function that returns a number.
pub(super) trait NumberFunction {
    type Core: 'static;
    const NAME: &'static CStr;
    fn call(core: &mut Self::Core, args: &Args) -> std::result::Result<f64, InvalidCall>;
}

/// Declares a bound function that returns a number.
macro_rules! bound_function {
    (
        $(#[$doc:meta])*
        $type:ident of $core_type:ty, $name:literal, |$core:ident, $args:ident| $body:expr
    ) => {
        $(#[$doc])*
        struct $type;
        impl NumberFunction for $type {
            type Core = $core_type;
            const NAME: &'static CStr = $name;
            fn call(
                $core: &mut $core_type,
                $args: &Args,
            ) -> std::result::Result<f64, InvalidCall> {
                $body
            }
        }
    };
}
pub(super) use bound_function;

/// A bound function that may return any value.
pub(super) trait BoundFunction {
    type Core: 'static;
    const NAME: &'static CStr;
    fn call(
        core: &mut Self::Core,
        args: &Args,
    ) -> std::result::Result<sys::napi_value, InvalidCall>;
}

impl<B: NumberFunction> BoundFunction for B {
    type Core = B::Core;
    const NAME: &'static CStr = B::NAME;
    fn call(
        core: &mut Self::Core,
        args: &Args,
    ) -> std::result::Result<sys::napi_value, InvalidCall> {
        Ok(args.new_number(<B as NumberFunction>::call(core, args)?))
    }
}

/// Adds the function `B` to `object`, bound to `core`; the function shares ownership of the core.
pub(super) fn bind<B: BoundFunction>(
    env: &Env,
    object: &Object,
    core: &Rc<RefCell<B::Core>>,
) -> Result<()> {
    let data = Rc::into_raw(Rc::clone(core)).cast_mut().cast::<c_void>();
    let mut function = std::ptr::null_mut();
    // SAFETY: `data` stays valid until `drop_core`, which runs when the function is garbage
    // collected.
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

unsafe extern "C" fn drop_core<B: BoundFunction>(
    _env: sys::napi_env,
    data: *mut c_void,
    _hint: *mut c_void,
) {
    // SAFETY: `data` came from `Rc::into_raw` of the same type in `bind`, and this runs once.
    drop(unsafe { Rc::from_raw(data.cast::<RefCell<B::Core>>()) });
}

unsafe extern "C" fn trampoline<B: BoundFunction>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let (args, data) = Args::of_call(env, info);
    // SAFETY: the running function holds a share of its core.
    let core = unsafe { &*data.cast::<RefCell<B::Core>>() };
    let outcome = catch_unwind(AssertUnwindSafe(|| match core.try_borrow_mut() {
        Ok(mut core) => B::call(&mut core, &args),
        Err(_) => Err(InvalidCall(c"the core is busy")),
    }));
    let mut result = std::ptr::null_mut();
    // SAFETY: `env` belongs to the running call.
    unsafe {
        match outcome {
            Ok(Ok(value)) => {
                result = value;
                sys::Status::napi_ok
            }
            Ok(Err(InvalidCall(message))) => {
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
