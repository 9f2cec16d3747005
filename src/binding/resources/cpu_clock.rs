//! The CPU clock of a thread, which costs the watcher a fifth of a read of `/proc`.

use crate::sampler::CpuClock;

/// Returns the CPU clock of the calling thread; `None` where there is none of that form.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) fn current() -> Option<CpuClock> {
    use core::ffi::{c_int, c_long, c_ulong};

    #[repr(C)]
    struct Timespec {
        seconds: c_long,
        nanoseconds: c_long,
    }
    unsafe extern "C" {
        fn pthread_self() -> c_ulong;
        fn pthread_getcpuclockid(thread: c_ulong, clock: *mut c_int) -> c_int;
        fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    }

    let mut clock = 0;
    // SAFETY: `pthread_t` is an unsigned long on Linux, in glibc by its own word and in musl as a
    // pointer; the calling thread exists, and `clock` is a place for a `clockid_t`, which is an int.
    let failed = unsafe { pthread_getcpuclockid(pthread_self(), &raw mut clock) };
    if failed != 0 {
        return None;
    }
    Some(Box::new(move || {
        let mut time = Timespec {
            seconds: 0,
            nanoseconds: 0,
        };
        // SAFETY: `time` is a `struct timespec`, two longs where a pointer has 64 bits. The clock is
        // a number that holds the thread's id: of a thread that has ended it is an error.
        let failed = unsafe { clock_gettime(clock, &raw mut time) };
        let nanoseconds = u64::try_from(time.nanoseconds).ok()?;
        let whole = u64::try_from(time.seconds)
            .ok()?
            .checked_mul(1_000_000_000)?;
        (failed == 0).then(|| whole + nanoseconds)
    }))
}

/// Returns the CPU clock of the calling thread; `None` where there is none of that form.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(super) fn current() -> Option<CpuClock> {
    None
}
