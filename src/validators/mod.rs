//! Validation of input: the failures, the JSON scanner, and public addresses.
//!
//! Does not own memory of JavaScript, and knows no Node-API. A failure is an outcome, hence a
//! value. Headers, URLs and the form of tokens are validated in TypeScript, where a native call
//! would cost more than the work.

mod failure;
mod json;
mod public_address;

pub use failure::Failure;
pub use json::{DEPTH_MAX, JsonLimits, Refusal, Report, Scanner, Segment};
pub use public_address::is_public;
