//! Compares the JSON scanner with `serde_json`, on any bytes. Run: cargo +nightly fuzz run json
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::validators::{JsonLimits, Scanner};

fuzz_target!(|bytes: &[u8]| {
    let mut scanner = Scanner::new();
    // With every rule: nothing panics, and a text that passes is JSON.
    match scanner.scan(bytes, &JsonLimits::default()) {
        Ok(_) => assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok()),
        Err(refusal) => {
            assert!(refusal.offset <= bytes.len());
            let _path = scanner.path(bytes);
        }
    }
    // Without the rules that serde_json does not have: the same outcome.
    let limits = JsonLimits {
        max_depth: 127,
        max_key_bytes: usize::MAX,
        unique_keys: false,
        safe_keys: false,
        ..JsonLimits::default()
    };
    let ours = scanner.scan(bytes, &limits).is_ok();
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    assert_eq!(ours, theirs);
});
