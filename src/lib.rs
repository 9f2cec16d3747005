//! The native core of Portcullis: data structures without I/O that take time as an argument. Only
//! the binding, the sampler and the network of the cluster call the clock.
//!
//! ```text
//!  4  binding        the only module that knows Node-API
//!  3  cluster        seats that are counted over all processes; the thread that asks the server
//!  3  host           seats that are counted over all processes of one host
//!  3  bans           addresses that failed too often
//!  2  connections    admission, seats and leases; idle connections
//!  2  tokens         verification of signed tokens
//!  2  sampler        the thread that reads the operating system
//!  1  validators     failures of input, the JSON scanner, public addresses
//!  1  resources      memory and CPU of the process, stalls of event loops
//!  1  limiter        rate limits by any key
//!  1  metrics        requests by time and by route, active users, exposition
//!  0  clock, error, wake_channel
//! ```
//! A module may import modules of a lower rank only; `tests/architecture.rs` checks this.

pub mod bans;
pub mod clock;
pub mod cluster;
pub mod connections;
pub mod error;
pub mod host;
pub mod limiter;
pub mod metrics;
pub mod resources;
pub mod sampler;
pub mod tokens;
pub mod validators;
pub mod wake_channel;

#[cfg(feature = "binding")]
mod binding;
