//! Rate limits by any key: three algorithms over one bounded table of keyed hashes.
//!
//! Owns the algorithms, the table, the limiters that threads share by name, and the keys that each
//! limiter refused most often. Does not read a clock. Invariant: a refused cost changes nothing.

mod algorithm;
mod event_count;
mod fixed_window;
mod gcra;
mod key;
mod packed_window;
mod rate_limiter;
mod refused_keys;
mod sliding_window;
mod table;
#[cfg(test)]
mod tests;

pub use algorithm::{Answer, Quota, Reading, Spent};
pub use event_count::{EventCount, Events};
pub use rate_limiter::{Counts, Kind, Limiter, Settings, Taken};
pub use refused_keys::{Noted, REFUSED_KEYS, RefusedKey};
