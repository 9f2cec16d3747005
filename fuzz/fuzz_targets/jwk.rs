//! Any text as a key set: it is refused or loaded, and no token passes without a valid signature.
//! Run: cargo +nightly fuzz run jwk
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tokens::{Algorithm, Algorithms, KeySet, KeySource, Policy, Scratch, Verifier};

fuzz_target!(|text: &str| {
    for source in [KeySource::Chosen, KeySource::Published, KeySource::Fetched] {
        for allowed in [
            &Algorithm::ALL[..],
            &[Algorithm::HS256],
            &[Algorithm::RS256],
            &[Algorithm::ES512],
            &[Algorithm::EdDSA],
        ] {
            let allowed = Algorithms::of(allowed);
            if let Ok(loaded) = KeySet::load(text, allowed, source, 100) {
                assert!((1..=100).contains(&loaded.set.len()));
                let verifier = Verifier::new(
                    Policy {
                        algorithms: allowed,
                        ..Policy::default()
                    },
                    loaded.set,
                    0,
                );
                let token = b"eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
                assert!(
                    verifier
                        .verify(token, 0.0, &mut Scratch::default())
                        .is_err()
                );
            }
        }
    }
});
