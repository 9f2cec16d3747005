//! What comes in from outside: the failures that validators report, and the scanners that find them.
//!
//! Owns no memory of JavaScript and knows no Node-API. A failure is an outcome, hence a value.

mod address;
mod failure;
mod json;
pub mod token;

pub use address::is_public;
pub use failure::Failure;
pub use json::{DEPTH_MAX, JsonLimits, Refusal, Report, Scanner, Segment};
