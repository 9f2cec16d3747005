//! The way from the network's thread to one JavaScript thread: answers in a ring, and a byte in a
//! socket that the event loop reads.

use crate::wake_channel::WakeChannel;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The end of one JavaScript thread.
pub struct Port {
    answers: Mutex<Vec<[f64; 3]>>,
    channel: Mutex<WakeChannel>,
    /// True while a byte is under way that the loop has not read.
    is_woken: AtomicBool,
}

impl Port {
    /// Opens a port. Returns it with the descriptor of the loop's end of its socket; `None` on a
    /// platform without such a socket.
    #[must_use]
    pub fn open() -> Option<(Self, i32)> {
        let (channel, descriptor) = WakeChannel::new()?;
        let port = Self {
            answers: Mutex::default(),
            channel: Mutex::new(channel),
            is_woken: AtomicBool::new(false),
        };
        Some((port, descriptor))
    }

    /// Adds an answer, and wakes the loop unless it is about to look.
    pub(super) fn push(&self, member: u32, ticket: u64, code: i32) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push([f64::from(member), ticket as f64, f64::from(code)]);
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.channel
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wake();
        }
    }

    /// Takes at most `max` answers: member, ticket and code. A ticket of 0 is a change of state.
    #[must_use]
    pub fn take(&self, max: usize) -> Vec<[f64; 3]> {
        // Before the look: an answer that comes after it wakes the loop again.
        self.is_woken.store(false, Ordering::Release);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() <= max {
            return std::mem::take(&mut *answers);
        }
        answers.drain(..max).collect()
    }
}
