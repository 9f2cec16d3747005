//! The core of Portcullis: pure data structures that take time as an argument (`clock` is read by the binding alone).
//!
//! ```text
//!  4  binding        the only place that knows Node-API
//!  3  kpi            active users, metrics as text
//!  2  connections    admission: who may have a seat, and who has gone quiet
//!  1  validators     what comes in from outside: failures and scanners
//!  2  sampler        the thread that reads the operating system, alone
//!  1  resources      what the process uses and may use; stalls of its event loops
//!  0  clock, error
//! ```
//! A module may use those of a lower rank only; `tests/architecture.rs` holds that.

pub mod clock;
pub mod connections;
pub mod error;
pub mod kpi;
pub mod resources;
pub mod sampler;
pub mod validators;

#[cfg(feature = "binding")]
mod binding;

// It knows no Node-API: its tests run with those of the core.
#[cfg(all(test, target_os = "linux", not(feature = "binding")))]
#[path = "binding/resources/bell.rs"]
mod bell;
