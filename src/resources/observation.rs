//! One observation of a watched thread: its state and its counters at a moment. The watcher makes it,
//! the stall watch judges it.

use super::parse::Scheduled;

/// Where the loop's thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadState {
    /// Asleep in the loop's own poll.
    Poll,
    /// On a CPU, or waiting for one.
    Running,
    /// Asleep elsewhere: the system call, if it is in one.
    Asleep(Option<u32>),
    /// The kernel does not say.
    Unknown,
}

/// One look at a thread.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// When.
    pub at_ms: f64,
    /// Where the thread is.
    pub state: ThreadState,
    /// Its scheduler figures, where the kernel gives them.
    pub scheduled: Option<Scheduled>,
    /// When the loop last answered.
    pub answered_ms: f64,
    /// Changes with every request and message that begins.
    pub begun: u64,
    /// How long the watcher itself has waited for a CPU, in all.
    pub own_wait_ms: f64,
    /// How long the quota has denied the CPU, in all.
    pub throttled_ms: f64,
}
