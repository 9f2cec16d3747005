//! The boundary to JavaScript: translates, decides nothing.
//!
//! Hot functions are plain Node-API functions bound to their core by a data pointer: they cost
//! a tenth of a class method. They take numbers and strings and return one number. Everything
//! larger goes through typed arrays that JavaScript allocated and handed over once; JavaScript
//! owns that memory, a strong reference keeps it alive, and Rust never frees it.
//!
//! A panic becomes a JavaScript error, in every function here.

mod args;
mod bound;
mod connections;
mod environment;
mod forwarded;
mod memory;
mod metrics;
mod resources;
mod token_policy;
mod tokens;
mod validators;
