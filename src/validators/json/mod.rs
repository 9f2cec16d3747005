//! Judges JSON before anybody parses it: one pass over the bytes, no recursion, no copy.
//!
//! After a pass that found nothing, the engine's `JSON.parse` cannot fail on the same text, cannot
//! be made to allocate beyond the limits, and no two readers can understand it differently.
//!
//! Memory: what a scan holds stays within the size of the input plus 64 KiB (`keys` says how).

mod keys;
mod limits;
mod number;
mod outcome;
mod scanner;
mod text;

pub use limits::{DEPTH_MAX, JsonLimits};
pub use outcome::{Refusal, Report, Segment};
pub use scanner::Scanner;

#[cfg(test)]
mod tests;
