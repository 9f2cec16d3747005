//! Answers to clients and outcomes of requests, as they cross to JavaScript. Numbers from 1 to 10 are those of the
//! limits.

/// Answer: the client is admitted.
pub const GRANTED: i32 = 0;
/// Answer: the server decides; the answer comes later.
pub const WAIT: i32 = -1;
/// Answer: the server cannot be asked, and the policy refuses.
pub const UNREACHABLE: i32 = 64;
/// Answer: all members refuse newcomers.
pub const DRAINING: i32 = 1;
/// An answer that a rate gives is its code plus this times the ms until it admits again.
pub const CODES: i32 = 128;
/// Answer: too many clients wait.
pub const OVERLOAD: i32 = 65;
/// Answer: the member has left.
pub const CLOSED: i32 = 66;
/// Answer: the seat was given back before the answer came.
pub const ABANDONED: i32 = 67;
/// To the holder of a seat: a newcomer of the same user replaces it.
pub const REPLACED: i32 = 68;
/// From the server: the newcomer has its seat, and waits for the end of the one that it replaces.
pub(super) const TAKING: i32 = 11;

/// Answer: the connect rate of the network is exceeded.
pub const IP_RATE: i32 = 8;
/// Answer: the connect rate of the user is exceeded.
pub const USER_RATE: i32 = 9;
/// Answer: the request was carried out.
pub const DONE: i32 = 0;
/// Answer: another revision of the limits is in force.
pub const CONFLICT: i32 = 70;
/// Answer: no more revocations can be held.
pub const FULL: i32 = 71;
/// Answer: the server refused; the first part is its text.
pub const FAILED: i32 = 72;
/// Answer: too many requests wait.
pub const BUSY: i32 = 73;
