//! Clean-up at the end of an environment: everything that a worker holds is given back, however the
//! worker ends.
//!
//! Owns one list of cores per thread, and one clean-up hook per environment.

use napi::bindgen_prelude::Env;
use napi::sys;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::{Rc, Weak};

/// A core that must give something back when its environment ends.
pub(super) trait EndsWithEnvironment {
    /// Gives everything back. Later calls find the core empty.
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

/// Calls `core.end()` when this thread's environment ends, unless the core is gone by then.
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
