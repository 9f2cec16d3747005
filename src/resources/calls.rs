//! Names of the system calls in which a server's thread may be found asleep.

/// True if the system call waits for events on an epoll.
#[must_use]
pub fn is_epoll(number: u32) -> bool {
    matches!(
        system_call_name(number),
        Some("epoll_wait" | "epoll_pwait" | "epoll_pwait2")
    )
}

/// True if the system call waits for another thread.
#[must_use]
pub fn is_futex(number: u32) -> bool {
    system_call_name(number) == Some("futex")
}

/// Returns the name; `None` for a call that is not listed, and on architectures other than x86-64
/// and AArch64. A table, hence the length.
#[must_use]
pub fn system_call_name(number: u32) -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let names: &[(u32, &str)] = &[
        (0, "read"),
        (1, "write"),
        (4, "stat"),
        (7, "poll"),
        (17, "pread64"),
        (18, "pwrite64"),
        (19, "readv"),
        (20, "writev"),
        (23, "select"),
        (34, "pause"),
        (35, "nanosleep"),
        (42, "connect"),
        (43, "accept"),
        (44, "sendto"),
        (45, "recvfrom"),
        (46, "sendmsg"),
        (47, "recvmsg"),
        (61, "wait4"),
        (73, "flock"),
        (74, "fsync"),
        (75, "fdatasync"),
        (82, "rename"),
        (87, "unlink"),
        (202, "futex"),
        (217, "getdents64"),
        (230, "clock_nanosleep"),
        (232, "epoll_wait"),
        (247, "waitid"),
        (257, "openat"),
        (270, "pselect6"),
        (271, "ppoll"),
        (281, "epoll_pwait"),
        (288, "accept4"),
        (332, "statx"),
        (426, "io_uring_enter"),
        (441, "epoll_pwait2"),
    ];
    #[cfg(target_arch = "aarch64")]
    let names: &[(u32, &str)] = &[
        (22, "epoll_pwait"),
        (32, "flock"),
        (35, "unlinkat"),
        (38, "renameat"),
        (56, "openat"),
        (61, "getdents64"),
        (63, "read"),
        (64, "write"),
        (65, "readv"),
        (66, "writev"),
        (67, "pread64"),
        (68, "pwrite64"),
        (72, "pselect6"),
        (73, "ppoll"),
        (79, "newfstatat"),
        (82, "fsync"),
        (83, "fdatasync"),
        (95, "waitid"),
        (98, "futex"),
        (101, "nanosleep"),
        (115, "clock_nanosleep"),
        (202, "accept"),
        (203, "connect"),
        (206, "sendto"),
        (207, "recvfrom"),
        (211, "sendmsg"),
        (212, "recvmsg"),
        (242, "accept4"),
        (260, "wait4"),
        (291, "statx"),
        (426, "io_uring_enter"),
        (441, "epoll_pwait2"),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let names: &[(u32, &str)] = &[];
    names
        .iter()
        .find(|(known, _)| *known == number)
        .map(|(_, name)| *name)
}
