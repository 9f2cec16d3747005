//! What comes in from outside: the failures that validators report, and the scanners that find them.
//!
//! Owns no memory of JavaScript and knows no Node-API. A failure is an outcome, hence a value.

mod failure;
pub mod token;

pub use failure::Failure;
