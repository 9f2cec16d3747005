//! A file in memory, and locks of single bytes of it: the only `unsafe` code of this folder.
//!
//! Owns the descriptor and the mapping. Knows nothing of what the file holds.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Returns the user whose files this process makes.
pub fn user() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Locks bytes of a file for this open file, or unlocks them. `length` 0 is to the end of all files.
///
/// The lock is one of the open file and not of the process (`F_OFD_SETLK`): no other descriptor of
/// the same file ends it when it is closed, and the kernel ends it with the last copy of this one,
/// however the process ends. The descriptor is closed by `exec`, so a child that the process starts
/// keeps no copy.
///
/// # Errors
/// Another open file holds a lock on one of the bytes, or the file system knows no locks.
pub fn lock(file: &File, from: i64, length: i64, locks: bool) -> io::Result<()> {
    let kind = if locks { libc::F_WRLCK } else { libc::F_UNLCK };
    // SAFETY: `flock` is a struct of integers, for which zeros are valid.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = from as libc::off_t;
    range.l_len = length as libc::off_t;
    // SAFETY: the descriptor is open while `file` is borrowed, and the kernel only reads `range`.
    let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A file in memory, shared with other processes: only atomics are handed out.
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to no thread, and is read and written through atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of a file, which has at least this size and never shrinks while it is
    /// mapped. A file of this user that somebody shrinks all the same ends the process (`SIGBUS`),
    /// as any debugger of this user can.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub fn new(file: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses; it replaces no other one.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Returns `count` words of 8 bytes from byte `at` on.
    ///
    /// # Panics
    /// If they are not all in the file, or `at` is no multiple of 8.
    #[must_use]
    pub fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at.is_multiple_of(8) && at + count * 8 <= self.bytes);
        // SAFETY: within the mapping, which lives as long as `self`; aligned, since a mapping begins
        // with a page; any bits are a valid atomic, and nobody accesses the memory otherwise.
        unsafe { std::slice::from_raw_parts(self.start.add(at).cast().as_ptr(), count) }
    }

    /// Returns `count` cells of 4 bytes from byte `at` on.
    ///
    /// # Panics
    /// If they are not all in the file, or `at` is no multiple of 4.
    #[must_use]
    pub fn cells(&self, at: usize, count: usize) -> &[AtomicU32] {
        assert!(at.is_multiple_of(4) && at + count * 4 <= self.bytes);
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts(self.start.add(at).cast().as_ptr(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
