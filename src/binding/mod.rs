//! The boundary to JavaScript. It translates values and makes no decisions.
//!
//! Hot functions are plain Node-API functions bound to their core by a data pointer, which costs a
//! tenth of a class method. They take numbers and strings and return one number. Everything larger
//! goes through typed arrays that JavaScript allocates and shares once: JavaScript owns that
//! memory, a strong reference keeps it alive, and Rust never frees it. Only arrays of a
//! `SharedArrayBuffer` are taken, since nothing can detach those.
//!
//! Invariants: only this module holds `unsafe` and knows Node-API; a panic in any function becomes
//! a JavaScript error.

mod args;
mod bans;
mod bound;
mod cluster;
mod connections;
mod environment;
mod ffi;
mod forwarded;
mod limiter;
mod memory;
mod metrics;
mod resources;
mod token_policy;
mod tokens;
mod validators;
