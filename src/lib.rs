//! The core of Portcullis: pure data structures that take time as an argument (`clock` is read by the binding alone).
//!
//! ```text
//!  3  binding        the only place that knows Node-API
//!  2  connections    admission: who may have a seat, and who has gone quiet
//!  2  tokens         signed tokens: form, keys, signature, claims, policy, revocation
//!  2  sampler        the thread that reads the operating system, alone
//!  1  validators     what comes in from outside: failures and scanners
//!  1  resources      what the process uses and may use; stalls of its event loops
//!  1  metrics        requests by time and by route, active users, metrics as text
//!  0  clock, error
//! ```
//! A module may use those of a lower rank only; `tests/architecture.rs` holds that.

pub mod clock;
pub mod connections;
pub mod error;
pub mod metrics;
pub mod resources;
pub mod sampler;
pub mod tokens;
pub mod validators;

#[cfg(feature = "binding")]
mod binding;
