//! Bans: addresses that failed too often are refused for a time.
//!
//! Owns the count of failures and the bans of one manager, or of all threads that open one name.
//! Does not decide what a failure is, and does not read a clock.
//!
//! ```text
//!  unknown -> counted -> banned -> lapsed -> unknown
//!                ^                   |
//!                +-------------------+    the next ban is longer
//! ```
//!
//! # Invariants
//! - An address is in exactly one of the two orders of a table: that of active bans or that of all
//!   other addresses.
//! - A failure of a banned address changes nothing.

mod list;
mod table;
#[cfg(test)]
mod tests;

pub use list::BanList;
pub use table::{Ban, Cause, Counts, Settings};
