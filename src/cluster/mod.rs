//! Seats that are counted over all processes, on one Redis or Valkey server.
//!
//! Owns a member for each manager name ([`Member`]), and the one thread that talks to the servers.
//! The thread starts with the first member and ends with the last. Does not own the seats of this
//! process (`connections`), which are checked first.
//!
//! ```text
//!  JS thread ── ask, release ──▶ core (one mutex) ◀── poll, replied ── link: on the one thread
//!       ▲                                │
//!       └── answers in a ring, a byte in a socket
//! ```
//!
//! # Invariants
//! - `core` reads no clock and no socket; `link` and `listener` make no decision.
//! - The server holds a column of counts for each process, and a process writes only its own: a
//!   process that dies takes its seats with it.
//! - No thread calls into JavaScript.

mod call;
mod code;
mod column;
mod connect;
mod core;
mod evaluate;
mod events;
mod exchange;
#[cfg(test)]
mod faults;
mod link;
mod listener;
mod net;
mod notice;
mod observer;
mod port;
mod reject_cache;
mod reply;
mod request;
mod resolve;
mod rights;
mod script;
mod settings;
mod shared_core;
mod tasks;
mod tls;
mod wire;

pub use self::call::Command;
pub use self::code::{
    ABANDONED, BUSY, CLOSED, CODES, CONFLICT, DONE, DRAINING, FAILED, FULL, GRANTED, OVERLOAD,
    UNREACHABLE, WAIT,
};
pub use self::connect::{Endpoint, check_endpoint};
pub use self::core::{Action, Answer, Client, Core, Counters, State};
pub use self::events::Read;
pub use self::net::{JoinError, Member, join};
pub use self::notice::Notice;
pub use self::port::{Mail, Port};
pub use self::reply::Reply;
pub use self::request::{Outcome, Request};
pub use self::script::{SCRIPTS, Script};
pub use self::settings::{ClusterLimits, Policy, Settings};
pub use self::shared_core::Status;
pub use self::tls::TlsOptions;

#[cfg(test)]
mod tests;
