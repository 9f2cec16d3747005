//! Compares token verification with the `jsonwebtoken` crate: its `decode` accepts every token that
//! passes here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Validation, crypto, decode, get_current_timestamp};
use portcullis::tokens::{
    Algorithm, Algorithms, ClaimName, KeySet, KeySource, Policy, Scratch, Verifier,
};
use proptest::prelude::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn signed(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_secret(SECRET);
    let signature =
        crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).expect("a signature");
    format!("{text}.{signature}").into_bytes()
}

fn keys(text: &str, algorithm: Algorithm) -> KeySet {
    let loaded = KeySet::load(text, Algorithms::of(&[algorithm]), KeySource::Chosen, 100);
    assert!(loaded.is_ok(), "the keys are good");
    loaded.map_or_else(|_| KeySet::empty(), |loaded| loaded.set)
}

fn hmac_keys() -> KeySet {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    keys(
        &format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#),
        Algorithm::HS256,
    )
}

/// The same policy for both.
fn policies(with_parties: bool, tolerance: u64) -> (Policy, Validation) {
    let mut policy = Policy {
        algorithms: Algorithms::of(&[Algorithm::HS256]),
        tolerance_seconds: tolerance as f64,
        max_token_bytes: 8192,
        ..Policy::default()
    };
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.leeway = tolerance;
    validation.validate_nbf = true;
    if with_parties {
        policy.issuers = vec!["is".into(), "it".into()];
        policy.audiences = vec!["me".into()];
        validation.set_issuer(&["is", "it"]);
        validation.set_audience(&["me"]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    }
    (policy, validation)
}

fn crate_accepts(token: &[u8], validation: &Validation) -> bool {
    decode::<serde_json::Value>(token, &DecodingKey::from_secret(SECRET), validation)
        .is_ok_and(|data| data.claims.is_object())
}

fn we_accept(token: &[u8], policy: Policy, now: f64) -> bool {
    let verifier = Verifier::new(policy, hmac_keys(), 0);
    let mut scratch = Scratch::default();
    let first = verifier.verify(token, now, &mut scratch);
    if let Ok(found) = &first
        && let Some(place) = found.subject.clone()
    {
        let claims: serde_json::Value = serde_json::from_slice(scratch.payload()).expect("JSON");
        assert_eq!(
            claims["sub"].as_str().map(str::as_bytes),
            scratch.payload().get(place)
        );
    }
    // The second verification finds the header remembered.
    assert_eq!(first, verifier.verify(token, now, &mut scratch));
    assert_eq!(first.is_ok(), verifier.explain(token, now).is_empty());
    if let Err(refused) = &first {
        let all = verifier.explain(token, now);
        assert!(all.contains(refused), "{refused:?} is not among {all:?}");
    }
    first.is_ok()
}

fn header() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(r#"{"alg":"HS256","typ":"JWT"}"#.to_owned()),
        1 => Just(r#"{"alg":"HS256"}"#.to_owned()),
        1 => Just(r#"{"alg":"HS256","kid":"a","x5t":"b","cty":"c"}"#.to_owned()),
        1 => Just(r#"{"alg":"HS256","crit":["a"],"a":1}"#.to_owned()),
        1 => Just(r#"{"alg":"HS384"}"#.to_owned()),
        1 => Just(r#"{"alg":"none"}"#.to_owned()),
        1 => Just(r#"{"alg":"HS256","alg":"HS256"}"#.to_owned()),
        1 => Just(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#.to_owned()),
        1 => "[ -~]{0,20}",
    ]
}

/// A valid or invalid value of a claim. Dates keep a distance from now, since the two clocks
/// differ.
fn value(now: u64) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (1u64..1000).prop_map(move |past| (now - 1000 - past).to_string()),
        4 => (1u64..1000).prop_map(move |future| (now + 1000 + future).to_string()),
        1 => Just(format!("{}.5", now + 5000)),
        1 => Just(format!("{}e0", now + 5000)),
        1 => Just("1e400".to_owned()),
        1 => Just("-5".to_owned()),
        1 => Just("null".to_owned()),
        2 => prop::sample::select(vec!["\"is\"", "\"it\"", "\"me\"", "\"other\"", "\"m\\u0065\"", "[\"me\"]", "[\"x\",\"me\"]", "[\"x\"]", "[]", "[5]", "[\"me\",5]", "{}", "true", "\"\\ud800\""]).prop_map(str::to_owned),
    ]
}

fn claims(now: u64) -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "exp",
        "exp",
        "nbf",
        "iat",
        "iss",
        "iss",
        "aud",
        "aud",
        "sub",
        "jti",
        "own",
        "\\u0065xp",
    ]);
    prop::collection::vec((name, value(now)), 0..7).prop_map(move |mut members| {
        // Most tokens get a valid `exp`; otherwise nearly all would be refused as expired.
        if members.len() % 3 != 0 {
            members.push(("exp", (now + 5000).to_string()));
        }
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn tokens_that_pass_here_pass_in_the_crate(header in header(), claims in claims(get_current_timestamp()), with_parties in any::<bool>(), tolerance in 0u64..300) {
        let token = signed(header.as_bytes(), claims.as_bytes());
        let (policy, validation) = policies(with_parties, tolerance);
        if we_accept(&token, policy, get_current_timestamp() as f64) {
            prop_assert!(crate_accepts(&token, &validation), "{header} {claims}");
        }
    }

    #[test]
    fn ordinary_tokens_get_the_same_outcome_from_both(exp in -5000i64..5000, nbf in prop::option::of(-5000i64..5000), iss in prop::sample::select(vec!["is", "it", "no"]), aud in prop::sample::select(vec!["\"me\"", "[\"x\",\"me\"]", "\"x\"", "[]"]), tolerance in 0u64..300) {
        let now = get_current_timestamp();
        let apart = |offset: i64| offset.unsigned_abs().abs_diff(tolerance) > 5;
        prop_assume!(apart(exp) && nbf.is_none_or(apart));
        let at = |offset: i64| now.saturating_add_signed(offset);
        let nbf = nbf.map_or(String::new(), |nbf| format!(",\"nbf\":{}", at(nbf)));
        let claims = format!("{{\"exp\":{},\"iss\":\"{iss}\",\"aud\":{aud}{nbf}}}", at(exp));
        let token = signed(br#"{"alg":"HS256","typ":"JWT"}"#, claims.as_bytes());
        let (policy, validation) = policies(true, tolerance);
        prop_assert_eq!(we_accept(&token, policy, now as f64), crate_accepts(&token, &validation), "{}", claims);
    }

    #[test]
    fn a_changed_token_is_refused(claims in claims(get_current_timestamp()), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut token = signed(br#"{"alg":"HS256","typ":"JWT"}"#, claims.as_bytes());
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        let (policy, _) = policies(false, 0);
        prop_assert!(!we_accept(&token, policy, get_current_timestamp() as f64));
    }

    #[test]
    fn arbitrary_bytes_are_refused(token in prop::collection::vec(any::<u8>(), 0..300)) {
        let (policy, _) = policies(false, 0);
        prop_assert!(!we_accept(&token, policy, 0.0));
    }

    #[test]
    fn signed_arbitrary_bytes_cause_no_panic(header in prop::collection::vec(any::<u8>(), 0..60), claims in prop::collection::vec(any::<u8>(), 0..200)) {
        let token = signed(&header, &claims);
        let (policy, validation) = policies(false, 0);
        prop_assert!(!we_accept(&token, policy, 0.0) || crate_accepts(&token, &validation));
    }

    #[test]
    fn any_text_is_a_key_set_or_is_refused(text in "[ -~]{0,200}") {
        let _ = KeySet::load(&text, Algorithms::of(&Algorithm::ALL), KeySource::Fetched, 100);
    }

    #[test]
    fn keys_with_arbitrary_members_cause_no_panic(
        kty in prop::sample::select(vec!["oct", "RSA", "EC", "OKP", "x"]),
        crv in prop::sample::select(vec!["P-256", "P-384", "P-521", "Ed25519", "X25519", ""]),
        alg in prop::sample::select(vec!["HS256", "RS256", "ES256", "EdDSA", "none"]),
        numbers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 4),
    ) {
        let [n, e, x, k] = [0, 1, 2, 3].map(|at| URL_SAFE_NO_PAD.encode(&numbers[at]));
        let text = format!(r#"{{"keys":[{{"kty":"{kty}","crv":"{crv}","alg":"{alg}","n":"{n}","e":"{e}","x":"{x}","y":"{x}","k":"{k}"}}]}}"#);
        let _ = KeySet::load(&text, Algorithms::of(&Algorithm::ALL), KeySource::Chosen, 100);
    }
}

#[test]
fn required_claims_are_reported_by_index() {
    let (mut policy, _) = policies(false, 0);
    policy.required = vec!["a".into(), "b".into()];
    policy.required_registered = 1 << ClaimName::Id.number();
    let verifier = Verifier::new(policy, hmac_keys(), 0);
    let all = |claims: &str| {
        let token = signed(br#"{"alg":"HS256"}"#, claims.as_bytes());
        let missing = verifier.explain(&token, 0.0);
        missing
            .iter()
            .filter_map(|refused| refused.claim)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        all("{}"),
        [
            ClaimName::Expiry,
            ClaimName::Id,
            ClaimName::Required(0),
            ClaimName::Required(1)
        ]
    );
    assert_eq!(
        all(r#"{"exp":1,"jti":"x","b":null}"#),
        [ClaimName::Required(0)]
    );
    assert_eq!(all(r#"{"exp":1,"jti":"x","a":0,"b":0}"#), []);
}

#[test]
fn a_new_key_set_applies_to_remembered_headers() {
    let (policy, _) = policies(false, 0);
    let verifier = Verifier::new(policy, hmac_keys(), 0);
    let token = signed(br#"{"alg":"HS256"}"#, br#"{"exp":1}"#);
    let mut scratch = Scratch::default();
    assert!(verifier.verify(&token, 0.0, &mut scratch).is_ok());
    assert_eq!(scratch.payload(), br#"{"exp":1}"#);
    assert!(verifier.verify(&token, 1.0, &mut scratch).is_err());
    assert_eq!(scratch.payload(), b"", "nothing is left of an expired one");
    let other = URL_SAFE_NO_PAD.encode([7; 32]);
    verifier.set_keys(keys(
        &format!(r#"{{"keys":[{{"kty":"oct","k":"{other}"}}]}}"#),
        Algorithm::HS256,
    ));
    assert!(verifier.verify(&token, 0.0, &mut scratch).is_err());
    assert_eq!(scratch.payload(), b"");
}
