//! The socket that wakes an event loop: a thread of ours writes a byte, and the loop reads it. No
//! thread calls into JavaScript.

/// The writer's end of a wake socket.
#[derive(Debug)]
pub struct WakeChannel {
    #[cfg(unix)]
    socket: std::os::unix::net::UnixStream,
}

impl WakeChannel {
    /// Opens the socket. Returns the writer's end, and the descriptor of the loop's end.
    #[cfg(unix)]
    #[must_use]
    pub fn new() -> Option<(Self, i32)> {
        use std::os::fd::IntoRawFd;
        let (socket, other) = std::os::unix::net::UnixStream::pair().ok()?;
        socket.set_nonblocking(true).ok()?;
        other.set_nonblocking(true).ok()?;
        Some((Self { socket }, other.into_raw_fd()))
    }

    /// There is no such socket on this platform.
    #[cfg(not(unix))]
    #[must_use]
    pub fn new() -> Option<(Self, i32)> {
        None
    }

    /// Wakes the loop. A full socket holds a wake-up already; a closed one has no reader.
    pub fn wake(&mut self) {
        #[cfg(unix)]
        let _ = std::io::Write::write(&mut self.socket, &[1]);
    }
}
