//! The thread that frees the seats of processes that have ended.

use super::table::HostTable;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Interval of the looks. A look is one call of the kernel for each other process.
const LOOK: Duration = Duration::from_millis(250);
const STACK_BYTES: usize = 128 * 1024;

/// A thread that ends with this value.
pub struct Watch {
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(table: Arc<HostTable>) -> io::Result<Self> {
        let (ends, ended) = channel::<()>();
        let look = move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                table.file().reclaim();
            }
        };
        let thread = Builder::new()
            .name("portcullis-host".into())
            .stack_size(STACK_BYTES)
            .spawn(look)?;
        Ok(Self {
            ends: Some(ends),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends = None;
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic half-way through anything that others need.
            let _ = thread.join();
        }
    }
}
