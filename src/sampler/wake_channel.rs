//! How a watched thread and the watcher reach each other: an answer one way, a wake-up the other.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What a thread tells the watcher when it answers. Times are bits of an `f64`.
#[derive(Debug, Default)]
pub struct Mailbox {
    answered_ms: AtomicU64,
    news: AtomicU32,
}

/// The level has changed.
pub const NOTICE_LEVEL: u32 = 1;
/// A stall is over.
pub const NOTICE_STALL: u32 = 2;
/// The heap's figures are wanted.
pub const NOTICE_HEAP: u32 = 4;

impl Mailbox {
    /// The loop turns. Returns, and forgets, what is new.
    pub fn answer(&self, now_ms: f64) -> u32 {
        // Release: what the thread has stored before is seen by who sees the answer.
        self.answered_ms.store(now_ms.to_bits(), Ordering::Release);
        self.news.swap(0, Ordering::AcqRel)
    }

    pub(super) fn tell(&self, news: u32) {
        self.news.fetch_or(news, Ordering::AcqRel);
    }

    pub(super) fn answered_ms(&self) -> f64 {
        f64::from_bits(self.answered_ms.load(Ordering::Acquire))
    }
}

/// The watcher's end of the socket that a loop reads.
#[derive(Debug)]
pub(super) struct WakeChannel {
    #[cfg(unix)]
    socket: std::os::unix::net::UnixStream,
}

impl WakeChannel {
    /// Both ends: ours, and the descriptor of the loop's.
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

    /// Wakes the loop. A full socket holds a wake already, a closed one has nobody to wake.
    pub(super) fn wake(&mut self) {
        #[cfg(unix)]
        let _ = std::io::Write::write(&mut self.socket, &[1]);
    }
}
