//! The native core of Portcullis: data structures without I/O that take time as an argument. Only
//! the binding and the sampler call the clock.
//!
//! ```text
//!  3  binding        the only module that knows Node-API
//!  2  connections    admission, seats and leases; idle connections
//!  2  tokens         verification of signed tokens
//!  2  sampler        the thread that reads the operating system
//!  1  validators     failures of input, the JSON scanner, public addresses
//!  1  resources      memory and CPU of the process, stalls of event loops
//!  1  metrics        requests by time and by route, active users, exposition
//!  0  clock, error
//! ```
//! A module may import modules of a lower rank only; `tests/architecture.rs` checks this.

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
