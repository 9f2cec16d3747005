//! The end of an environment: what a worker holds goes with it, however it ends.

use napi::bindgen_prelude::Env;
use napi::sys;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::{Rc, Weak};

/// What holds something that others count on getting back.
pub(super) trait EndsWithEnvironment {
    /// The environment has ended: gives everything back. What is called later finds nothing.
    fn end(&mut self);
}

thread_local! {
    static LIVE: RefCell<Vec<Weak<RefCell<dyn EndsWithEnvironment>>>> = const { RefCell::new(Vec::new()) };
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C" fn ended(_data: *mut c_void) {
    HOOKED.set(false);
    for core in LIVE.take() {
        if let Some(core) = core.upgrade()
            && let Ok(mut core) = core.try_borrow_mut()
        {
            core.end();
        }
    }
}

/// EndsWithEnvironment `core` with this thread's environment, unless it is gone by then.
pub(super) fn end_with<T: EndsWithEnvironment + 'static>(env: &Env, core: &Rc<RefCell<T>>) {
    let core = Rc::downgrade(core);
    LIVE.with_borrow_mut(|live| {
        live.retain(|core| core.strong_count() > 0);
        live.push(core);
    });
    if !HOOKED.replace(true) {
        // SAFETY: the hook takes no data and runs once, on this thread, at the end of `env`.
        unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(ended), std::ptr::null_mut()) };
    }
}
