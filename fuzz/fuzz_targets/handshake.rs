//! Any bytes as the headers of a handshake. Run: cargo +nightly fuzz run handshake
#![no_main]

#[path = "../checks/handshake.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::check(bytes));
