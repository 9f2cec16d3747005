//! Any bytes as `X-Forwarded-For` and `Forwarded`. Run: cargo +nightly fuzz run forwarded
#![no_main]

#[path = "../checks/forwarded.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::check(bytes));
