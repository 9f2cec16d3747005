//! Admission of connections: limits, seats, connect rates, client addresses, and idle detection.
//!
//! Owns the seat counts ([`SeatIndex`], of one table or of all tables with one name), the message
//! rates over several connections, and one table of slots per JavaScript thread ([`Table`]). Does not
//! own sockets, clocks, or the counts of messages: time is an argument.
//!
//! ```text
//!  free -> pending (lease) -> reserved (lease) -> live -> free
//!  free -> reserved (lease) -> live -> free          an identity is known, or none is needed
//!  free -> live -> free                              each return to `free` increments the generation
//! ```
//!
//! # Invariants
//! - A slot that is not free holds exactly one seat in every count that it belongs to.
//! - All limits of a step are checked and all its seats are taken at once, or none: the entries of
//!   address, prefix and user stay locked, in that order, until the totals have been taken.
//! - A stale handle (slot and generation) changes nothing.

mod address;
mod counts;
mod forwarded;
mod leases;
mod ledger;
mod limits;
mod message_rates;
mod rate;
mod seats;
mod slot;
mod table;
mod totals;
mod user_key;

pub use address::Address;
pub use counts::{Local, Shared, Sharing};
pub use forwarded::TrustedProxies;
pub use ledger::Ledger;
pub use limits::{Limits, Mode, NO_LIMIT, Refusal, RefusalCode};
pub use message_rates::{ExceededRate, HeldCells};
pub use rate::Rate;
pub use seats::{Admission, EXEMPT, Holder, Replaced, Scope, SeatIndex, Verdict, open};
pub use slot::State;
pub use table::{Admitted, Newcomer, Outcome, Table};
pub use user_key::UserKey;
