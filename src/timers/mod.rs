//! Deadlines: a hierarchical timing wheel over numbered slots.
//!
//! Owns: which slot is due when. Does not own: what happens then, nor any clock.

mod wheel;

pub use wheel::{MAX_DEADLINE_MS, Wheel};
