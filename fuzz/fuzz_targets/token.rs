//! Any bytes as a token, and any bytes as the header of a signed one. Run: cargo +nightly fuzz run
//! token
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use portcullis::tokens::{
    Algorithm, Algorithms, KeySet, KeySource, Policy, Scratch, TypRule, Verifier,
};
use std::sync::LazyLock;

const SECRET: [u8; 32] = [7; 32];

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let set = format!(
        r#"{{"keys":[{{"kty":"oct","k":"{}","kid":"a"}}]}}"#,
        URL_SAFE_NO_PAD.encode(SECRET)
    );
    let allowed = Algorithms::of(&[Algorithm::HS256]);
    let keys = KeySet::load(&set, allowed, KeySource::Chosen, 100)
        .ok()
        .expect("a key");
    let policy = Policy {
        algorithms: allowed,
        typ: TypRule::Any,
        critical: vec!["x".into()],
        max_token_bytes: 1 << 16,
        ..Policy::default()
    };
    Verifier::new(policy, keys.set, 0)
});

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = Scratch::default();
    let outcome = VERIFIER.verify(bytes, 0.0, &mut scratch);
    assert_eq!(outcome.is_ok(), VERIFIER.explain(bytes, 0.0).is_empty());
    assert!(outcome.is_err(), "nobody signed it");

    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(bytes),
        URL_SAFE_NO_PAD.encode(r#"{"exp":1}"#)
    );
    let key = jsonwebtoken::EncodingKey::from_secret(&SECRET);
    let signature =
        jsonwebtoken::crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256)
            .expect("a signature");
    let token = format!("{text}.{signature}");
    let outcome = VERIFIER.verify(token.as_bytes(), 0.0, &mut scratch);
    assert_eq!(
        outcome.is_ok(),
        VERIFIER.explain(token.as_bytes(), 0.0).is_empty()
    );
    if outcome.is_ok() {
        let header: serde_json::Value =
            serde_json::from_slice(bytes).expect("a header that passed is JSON");
        assert_eq!(header["alg"], "HS256");
    }
});
