//! One observation of a watched thread: its state and its counters at one time. The sampler makes
//! it, the stall watch judges it.

use super::parse::Scheduled;

/// The state of the loop's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadState {
    /// Asleep in the loop's own poll.
    Poll,
    /// On a CPU, or ready to run.
    Running,
    /// Asleep elsewhere, with the number of the system call if it is in one.
    Asleep(Option<u32>),
    /// The kernel does not show it.
    Unknown,
}

/// One observation of a thread.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// Time, by the process's clock.
    pub at_ms: f64,
    /// State of the thread.
    pub state: ThreadState,
    /// Scheduler figures of the thread, if the kernel shows them.
    pub scheduled: Option<Scheduled>,
    /// Time of the loop's last answer.
    pub answered_ms: f64,
    /// Requests and messages begun so far.
    pub begun: u64,
    /// Time that the watcher itself has waited for a CPU so far.
    pub own_wait_ms: f64,
    /// Time for which the quota has denied the CPU so far.
    pub throttled_ms: f64,
    /// CPU time of the engine's garbage collector threads so far, while the thread may wait for
    /// them.
    pub collectors_ns: Option<u64>,
}
