//! The two ways between a watched thread and the watcher: a mailbox of atomics for answers and
//! notices, and a socket for wake-ups.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The thread's last answer and the watcher's pending notices. Times are the bits of an `f64`.
#[derive(Debug, Default)]
pub struct Mailbox {
    answered_ms: AtomicU64,
    notices: AtomicU32,
}

/// The level has changed.
pub const NOTICE_LEVEL: u32 = 1;
/// A stall is over.
pub const NOTICE_STALL: u32 = 2;
/// The figures of the heap are needed.
pub const NOTICE_HEAP: u32 = 4;

impl Mailbox {
    /// Called when the loop turns. Returns the pending notices and clears them.
    pub fn answer(&self, now_ms: f64) -> u32 {
        // Release: the watcher that sees this answer sees everything the thread stored before it.
        self.answered_ms.store(now_ms.to_bits(), Ordering::Release);
        self.notices.swap(0, Ordering::AcqRel)
    }

    pub(super) fn add_notice(&self, notice: u32) {
        self.notices.fetch_or(notice, Ordering::AcqRel);
    }

    pub(super) fn answered_ms(&self) -> f64 {
        f64::from_bits(self.answered_ms.load(Ordering::Acquire))
    }
}

/// The watcher's end of the wake socket.
#[derive(Debug)]
pub(super) struct WakeChannel {
    #[cfg(unix)]
    socket: std::os::unix::net::UnixStream,
}

impl WakeChannel {
    /// Opens the socket. Returns the watcher's end, and the descriptor of the loop's end.
    #[cfg(unix)]
    pub(super) fn new() -> Option<(Self, i32)> {
        use std::os::fd::IntoRawFd;
        let (socket, other) = std::os::unix::net::UnixStream::pair().ok()?;
        socket.set_nonblocking(true).ok()?;
        other.set_nonblocking(true).ok()?;
        Some((Self { socket }, other.into_raw_fd()))
    }

    #[cfg(not(unix))]
    pub(super) fn new() -> Option<(Self, i32)> {
        None
    }

    /// Wakes the loop. A full socket holds a wake-up already; a closed one has no reader.
    pub(super) fn wake(&mut self) {
        #[cfg(unix)]
        let _ = std::io::Write::write(&mut self.socket, &[1]);
    }
}
