//! The way from the network's thread to one JavaScript thread: answers in a ring, and a byte in a
//! socket that the event loop reads.

use crate::wake_channel::{LoopEnd, WakeChannel};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Notices that a thread may have left unread: one that is too slow misses events, and is told so.
const NOTICES_MAX: usize = 65_536;

/// The outcome of a request, or news.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The thread's own number of the member.
    pub member: u32,
    /// Ticket of the request; 0 for news.
    pub ticket: u64,
    /// The outcome.
    pub code: i32,
    /// The parts; the first of news is their kind.
    pub parts: Vec<Vec<u8>>,
}

/// The end of one JavaScript thread.
pub struct Port {
    answers: Mutex<Vec<[f64; 3]>>,
    mails: Mutex<Vec<Mail>>,
    channel: Mutex<WakeChannel>,
    /// True while a byte is under way that the loop has not read.
    is_woken: AtomicBool,
}

impl Port {
    /// Opens a port. Returns it with the loop's end of its socket; `None` on a platform without such
    /// a socket.
    #[must_use]
    pub fn open() -> Option<(Self, LoopEnd)> {
        let (channel, end) = WakeChannel::new()?;
        let port = Self {
            answers: Mutex::default(),
            mails: Mutex::default(),
            channel: Mutex::new(channel),
            is_woken: AtomicBool::new(false),
        };
        Some((port, end))
    }

    /// Adds an answer, and wakes the loop unless it is about to look.
    pub(super) fn push(&self, member: u32, ticket: u64, code: i32) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push([f64::from(member), ticket as f64, f64::from(code)]);
        self.wake();
    }

    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.channel
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wake();
        }
    }

    /// Adds mail, and wakes the loop unless it is about to look.
    pub(super) fn mail(&self, mail: Mail) {
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        if mail.ticket != 0 || mails.len() < NOTICES_MAX {
            mails.push(mail);
        } else if mails.len() == NOTICES_MAX {
            mails.push(Mail {
                parts: vec![b"gap".to_vec()],
                ..mail
            });
        }
        drop(mails);
        self.wake();
    }

    /// Takes all mail.
    #[must_use]
    pub fn take_mail(&self) -> Vec<Mail> {
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *mails)
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
