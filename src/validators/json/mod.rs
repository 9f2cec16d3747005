//! Validates JSON before it is parsed: one pass over the bytes, without recursion and without a
//! copy.
//!
//! If a scan passes, the engine's `JSON.parse` cannot fail on the same text, cannot allocate beyond
//! the limits, and no two parsers can read it differently.
//!
//! Does not own values: the engine parses the text. Invariant: the memory of a scan stays within
//! the size of the input plus 72 KiB (see `keys`).

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
