//! Who may connect, who holds which seat, and who has gone quiet.
//!
//! Owns: the process-wide seat counts ([`SeatIndex`], the process's or one table's own) and one table of slots per JS thread ([`Table`]).
//! Does not own: sockets, clocks, messages.
//!
//! ```text
//!  free -> reserved (lease) -> live -> free      each return to `free` bumps the generation
//! ```
//!
//! # Invariants
//! - A slot that is not free holds exactly one seat in every count it was admitted to.
//! - All limits are checked and all seats taken in one step, or none: the entries of address,
//!   prefix and user are held, in that order, until the totals have been taken.
//! - A stale handle (slot and generation) changes nothing.

mod address;
mod counts;
mod forwarded;
mod limits;
mod rate;
mod seats;
mod table;
mod user_key;

pub use address::Address;
pub use counts::{Local, Shared, Sharing};
pub use forwarded::TrustedProxies;
pub use limits::{Limits, Refusal, RefusalCode};
pub use rate::Rate;
pub use seats::{Admission, Scope, SeatIndex, open};
pub use table::{State, Table};
pub use user_key::UserKey;
