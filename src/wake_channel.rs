//! The socket that wakes an event loop: a thread of ours writes a byte, and the loop reads it. No
//! thread calls into JavaScript.

/// The writer's end of a wake socket.
#[derive(Debug)]
pub struct WakeChannel {
    #[cfg(unix)]
    socket: std::os::unix::net::UnixStream,
}

/// The loop's end of a wake socket. It is closed with this value unless it is taken.
#[derive(Debug)]
pub struct LoopEnd {
    #[cfg(unix)]
    socket: std::os::unix::net::UnixStream,
}

impl LoopEnd {
    /// Returns the descriptor, which the caller owns from then on.
    #[cfg(unix)]
    #[must_use]
    pub fn into_descriptor(self) -> i32 {
        std::os::fd::IntoRawFd::into_raw_fd(self.socket)
    }

    /// There is no such socket on this platform.
    #[cfg(not(unix))]
    #[must_use]
    pub fn into_descriptor(self) -> i32 {
        -1
    }
}

impl WakeChannel {
    /// Opens the socket. Returns the writer's end and the loop's.
    #[cfg(unix)]
    #[must_use]
    pub fn new() -> Option<(Self, LoopEnd)> {
        let (socket, other) = std::os::unix::net::UnixStream::pair().ok()?;
        socket.set_nonblocking(true).ok()?;
        other.set_nonblocking(true).ok()?;
        Some((Self { socket }, LoopEnd { socket: other }))
    }

    /// There is no such socket on this platform.
    #[cfg(not(unix))]
    #[must_use]
    pub fn new() -> Option<(Self, LoopEnd)> {
        None
    }

    /// Wakes the loop. A full socket holds a wake-up already; a closed one has no reader.
    pub fn wake(&mut self) {
        #[cfg(unix)]
        let _ = std::io::Write::write(&mut self.socket, &[1]);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_end_of_the_loop_is_closed_unless_it_is_taken() {
        let (mut channel, end) = WakeChannel::new().unwrap();
        drop(end);
        assert!(channel.socket.write(&[1]).is_err(), "nobody can read it");
    }
}
