//! A bell that rings when a loop wakes that sleeps in an epoll, however soon it has taken what woke it.
//!
//! `poll(2)` on the epoll does not do: it looks again once it is woken, by then the loop has taken
//! its event, and it sleeps on. The kernel's asynchronous I/O (`IOCB_CMD_POLL`, Linux 4.19, io_submit(2))
//! completes by the very wake-up, and counts that in an eventfd, where it stays. It takes nothing
//! from the epoll and costs the loop no call.

use crate::sampler::{Bell, Descriptor};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// `struct iocb` of `linux/aio_abi.h`; the two fields that depend on the byte order are one, and 0.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key_and_flags: u64,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct IoEvent {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Iocb>() == 64 && size_of::<IoEvent>() == 32);

const IOCB_CMD_POLL: u16 = 5;
const IOCB_FLAG_RESFD: u32 = 1;
/// One is under way, and one more may be over and not fetched.
const EVENTS: usize = 2;

/// An I/O context with one request at a time.
struct EpollBell {
    context: libc::c_ulong,
    rung: Arc<OwnedFd>,
    is_armed: bool,
}

/// A bell; `None` where the kernel has none, or a sandbox forbids it.
pub(super) fn bell() -> Option<Box<dyn Bell>> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let rung = Arc::new(eventfd(0, flags).ok()?);
    let mut context: libc::c_ulong = 0;
    // SAFETY: io_setup(2) writes one context identifier, which has to be 0 before.
    let failed = unsafe { libc::syscall(libc::SYS_io_setup, EVENTS, &raw mut context) };
    (failed == 0).then(|| -> Box<dyn Bell> {
        Box::new(EpollBell {
            context,
            rung,
            is_armed: false,
        })
    })
}

impl Bell for EpollBell {
    fn arm(&mut self, epoll: u64) -> bool {
        if rustix::io::read(&*self.rung, &mut [0u8; 8]).is_ok() {
            self.is_armed = false;
        }
        if self.is_armed {
            return true;
        }
        let mut over = [IoEvent::default(); EVENTS];
        // SAFETY: io_getevents(2) writes as many events as there is room for, and waits for none.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                0 as libc::c_long,
                EVENTS as libc::c_long,
                over.as_mut_ptr(),
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        let (Ok(descriptor), Ok(eventfd)) =
            (u32::try_from(epoll), u32::try_from(self.rung.as_raw_fd()))
        else {
            return false;
        };
        let mut request = Iocb {
            opcode: IOCB_CMD_POLL,
            descriptor,
            buffer: u64::from(rustix::event::PollFlags::IN.bits()),
            flags: IOCB_FLAG_RESFD,
            eventfd,
            ..Iocb::default()
        };
        let mut requests = [&raw mut request];
        // SAFETY: io_submit(2) copies the one request, which names no memory, before it returns. A
        // descriptor that is not open, or no epoll, is an error or an event that nobody minds.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context,
                1 as libc::c_long,
                requests.as_mut_ptr(),
            )
        };
        self.is_armed = submitted == 1;
        self.is_armed
    }

    fn rung(&self) -> Arc<Descriptor> {
        Arc::clone(&self.rung)
    }
}

impl Drop for EpollBell {
    fn drop(&mut self) {
        // SAFETY: the context is this bell's own, and used no more. What is under way is cancelled.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::process_now_ms;
    use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn has_rung(bell: &dyn Bell, ms: i64) -> bool {
        let rung = bell.rung();
        let wait = Timespec {
            tv_sec: ms / 1000,
            tv_nsec: ms % 1000 * 1_000_000,
        };
        poll(&mut [PollFd::new(&*rung, PollFlags::IN)], Some(&wait)).unwrap() > 0
    }

    #[test]
    fn it_rings_for_events_that_the_loop_has_taken_at_once() {
        let Some(mut bell) = bell() else {
            // A sandbox without io_setup: the watcher looks by the clock there.
            return;
        };
        let (mut writer, mut reader) = UnixStream::pair().unwrap();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let data = epoll::EventData::new_u64(7);
        epoll::add(&epoll, &reader, data, epoll::EventFlags::IN).unwrap();
        let number = epoll.as_raw_fd() as u64;
        let start = process_now_ms();
        for _ in 0..100 {
            assert!(bell.arm(number) && bell.arm(number));
            assert!(!has_rung(&*bell, 0));
            writer.write_all(&[1]).unwrap();
            let mut events = Vec::with_capacity(1);
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
            reader.read_exact(&mut [0]).unwrap();
            // Nothing is ready any more, and it rings all the same.
            assert!(has_rung(&*bell, 20_000));
        }
        assert!(bell.arm(number) && !has_rung(&*bell, 5));
        assert!(process_now_ms() - start < 20_000.0);
    }

    #[test]
    fn what_is_no_descriptor_is_refused_and_a_bell_that_is_armed_can_be_dropped() {
        for _ in 0..100 {
            let Some(mut bell) = bell() else { return };
            assert!(!bell.arm(u64::MAX) && !bell.arm(0x7fff_ffff) && !bell.arm(1 << 31));
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            assert!(bell.arm(epoll.as_raw_fd() as u64));
            drop(epoll);
        }
    }
}
