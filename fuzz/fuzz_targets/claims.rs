//! Any bytes as signed claims: claims that pass are an object that `serde_json` and the
//! `jsonwebtoken` crate accept. Run: cargo +nightly fuzz run claims
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Validation, crypto, decode};
use libfuzzer_sys::fuzz_target;
use portcullis::tokens::{Algorithm, Algorithms, KeySet, KeySource, Policy, Scratch, Verifier};
use std::sync::LazyLock;

const SECRET: [u8; 32] = [7; 32];
const NOW: f64 = 1e9;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let set = format!(
        r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#,
        URL_SAFE_NO_PAD.encode(SECRET)
    );
    let allowed = Algorithms::of(&[Algorithm::HS256]);
    let keys = KeySet::load(&set, allowed, KeySource::Chosen, 100)
        .ok()
        .expect("a key");
    let policy = Policy {
        algorithms: allowed,
        audiences: vec!["me".into()],
        required: vec!["x".into()],
        max_token_bytes: 1 << 20,
        ..Policy::default()
    };
    Verifier::new(policy, keys.set, 0)
});

fuzz_target!(|bytes: &[u8]| {
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(bytes)
    );
    let signature = crypto::sign(
        text.as_bytes(),
        &EncodingKey::from_secret(&SECRET),
        jsonwebtoken::Algorithm::HS256,
    )
    .expect("a signature");
    let token = format!("{text}.{signature}");
    let mut scratch = Scratch::default();
    let outcome = VERIFIER.verify(token.as_bytes(), NOW, &mut scratch);
    let all = VERIFIER.explain(token.as_bytes(), NOW);
    assert_eq!(outcome.is_ok(), all.is_empty());
    match outcome {
        Err(refused) => assert!(all.contains(&refused)),
        Ok(_) => {
            assert_eq!(scratch.payload(), bytes);
            let claims: serde_json::Value =
                serde_json::from_slice(bytes).expect("claims that passed are JSON");
            assert!(
                claims["exp"].as_f64().is_some_and(|exp| exp > NOW) && claims.get("x").is_some()
            );
            // The crate reads the clock itself.
            let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
            validation.validate_exp = false;
            validation.set_audience(&["me"]);
            decode::<serde_json::Value>(&token, &DecodingKey::from_secret(&SECRET), &validation)
                .expect("the crate accepts it");
        }
    }
});
