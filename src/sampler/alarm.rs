//! How the watcher sleeps: until a time, until it is called, or until a loop wakes that is asleep.
//!
//! Whom to wait for is said by a bell, which rings at the moment at which the loop wakes. That is
//! worth it for a loop that wakes rarely: a busy one would wake two threads each time.

use std::sync::Arc;

pub(super) use kernel::Alarm;
pub use kernel::Descriptor;

/// Rings once when something wakes a loop that sleeps in its epoll.
pub trait Bell: Send {
    /// Arms it anew, unless it is armed and has not rung. `false` where that cannot be done.
    fn arm(&mut self, epoll: u64) -> bool;
    /// What can be read once it has rung, until it is armed anew.
    fn rung(&self) -> Arc<Descriptor>;
}

#[cfg(target_os = "linux")]
mod kernel {
    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::Duration;

    /// What can be waited for.
    pub type Descriptor = OwnedFd;

    /// Wakes the watcher.
    #[derive(Debug)]
    pub struct Alarm(OwnedFd);

    impl Alarm {
        pub fn new() -> std::io::Result<Self> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Ok(Self(eventfd(0, flags)?))
        }

        /// Ends the sleep, or the next one.
        pub fn ring(&self) {
            // It fails only when it was rung so often that it cannot count: it rings.
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }

        /// Sleeps for that long at most. Returns whose bells have rung.
        pub fn sleep(&self, bells: &[(u64, Arc<Descriptor>)], wait: Duration) -> Vec<u64> {
            let polled = bells.iter().map(|(_, rung)| &**rung);
            let mut polled: Vec<PollFd<'_>> = std::iter::once(&self.0)
                .chain(polled)
                .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
                .collect();
            let wait = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            };
            if poll(&mut polled, Some(&wait)).unwrap_or(0) == 0 {
                return Vec::new();
            }
            if !polled[0].revents().is_empty() {
                let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
            }
            let woken = polled[1..].iter().zip(bells);
            woken
                .filter(|(polled, _)| !polled.revents().is_empty())
                .map(|(_, (id, _))| *id)
                .collect()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::time::Duration;

    /// There is none.
    pub type Descriptor = std::convert::Infallible;

    /// Wakes the watcher.
    #[derive(Debug, Default)]
    pub struct Alarm {
        is_rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Alarm {
        pub fn new() -> std::io::Result<Self> {
            Ok(Self::default())
        }

        /// Ends the sleep, or the next one.
        pub fn ring(&self) {
            *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.changed.notify_all();
        }

        /// Sleeps for that long at most.
        pub fn sleep(&self, _bells: &[(u64, Arc<Descriptor>)], wait: Duration) -> Vec<u64> {
            let is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut is_rung, _) = self
                .changed
                .wait_timeout_while(is_rung, wait, |is_rung| !*is_rung)
                .unwrap_or_else(PoisonError::into_inner);
            *is_rung = false;
            Vec::new()
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::clock::process_now_ms;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn it_rings_once_before_or_during_a_sleep() {
        let alarm = Alarm::new().unwrap();
        let start = process_now_ms();
        alarm.ring();
        alarm.ring();
        assert!(alarm.sleep(&[], LONG).is_empty());
        std::thread::scope(|scope| {
            scope.spawn(|| alarm.ring());
            assert!(alarm.sleep(&[], LONG).is_empty());
        });
        assert!(process_now_ms() - start < 15_000.0);
        let start = process_now_ms();
        alarm.sleep(&[], Duration::from_millis(20));
        assert!(process_now_ms() - start >= 20.0);
    }

    #[test]
    fn it_is_woken_by_a_bell_and_says_whose() {
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let bell = |count| Arc::new(rustix::event::eventfd(count, flags).unwrap());
        let alarm = Alarm::new().unwrap();
        assert_eq!(alarm.sleep(&[(3, bell(0)), (7, bell(1))], LONG), [7]);
        alarm.ring();
        assert!(alarm.sleep(&[(3, bell(0))], LONG).is_empty());
    }
}
