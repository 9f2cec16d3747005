//! What comes in from outside: the failures that validators report, and the scanners that find them.
//!
//! Owns no memory of JavaScript and knows no Node-API. A failure is an outcome, hence a value.

mod failure;
mod json;
mod public_address;

pub use failure::Failure;
pub use json::{DEPTH_MAX, JsonLimits, Refusal, Report, Scanner, Segment};
pub use public_address::is_public;
