//! Models that loom runs in every order of their threads: `npm run loom`.
//!
//! `totals` compiles the core's own arithmetic (`src/connections/totals.rs`) over loom's atomic.
//! `registry` models the protocol of `src/sampler/mod.rs`, whose statics, sockets and waits with a
//! timeout loom does not know. The index of seats itself is built on `dashmap`, into which loom cannot
//! see: its threaded property tests are in `src/connections/table.rs`.
#![cfg(all(loom, test))]

mod registry;
mod totals;
