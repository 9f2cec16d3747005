//! Rate limits by any key: three algorithms over one bounded table of keyed hashes.
//!
//! Owns the algorithms, the table and the limiters that threads share by name. Does not read a
//! clock. Invariant: a refused cost changes nothing.

mod algorithm;
mod event_count;
mod fixed_window;
mod gcra;
mod key;
mod rate_limiter;
mod sliding_window;
mod table;
#[cfg(test)]
mod tests;

pub use algorithm::{Answer, Quota, Reading};
pub use event_count::{EventCount, Events};
pub use rate_limiter::{Counts, Kind, Limiter, Settings};
