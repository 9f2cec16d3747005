//! The core of Portcullis: pure data structures that take time as an argument.
//!
//! ```text
//!  4  binding        the only place that knows Node-API
//!  2  connections    admission: who may have a seat, and who has gone quiet
//!  1  timers         which deadline is due
//!  0  error
//! ```
//! A module may use those of a lower rank only; `tests/architecture.rs` holds that.

pub mod connections;
pub mod error;
pub mod timers;

#[cfg(feature = "binding")]
mod binding;
