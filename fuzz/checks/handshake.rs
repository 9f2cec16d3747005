//! Checks what the core reads of a handshake, for the fuzz target and for `tests/fuzz.rs`. The input
//! holds the header's lines as a client sends them; lines of one name are joined, as hosts do.

use portcullis::connections::{Address, TrustedProxies};
use portcullis::tokens::{Algorithm, Algorithms, KeySet, KeySource, Policy, Scratch, Verifier};
use std::sync::LazyLock;

static PROXIES: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let mut proxies = TrustedProxies::default();
    assert!(proxies.add("10.0.0.0/8"), "10.0.0.0/8 is a network");
    proxies
});

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let allowed = Algorithms::of(&[Algorithm::HS256]);
    let key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA";
    let set = format!(r#"{{"keys":[{{"kty":"oct","k":"{key}"}}]}}"#);
    let keys = KeySet::load(&set, allowed, KeySource::Chosen, 100);
    let policy = Policy {
        algorithms: allowed,
        ..Policy::default()
    };
    Verifier::new(policy, keys.expect("the key is good").set, 0)
});

/// Returns the values of a field, joined.
fn field(text: &str, wanted: &str) -> String {
    let values: Vec<&str> = text
        .split('\n')
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
        .collect();
    values.join(", ")
}

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (one, other) = (field(&text, "x-forwarded-for"), field(&text, "forwarded"));
    let stranger = Address::parse("198.51.100.9");
    assert!(PROXIES.client("198.51.100.9", &one, &other) == stranger);
    assert!(PROXIES.client("10.0.0.1", &one, &other) != Address::UNKNOWN);
    // A proxy that writes a line of its own behind those of the client is believed.
    let appended = format!("{text}\nX-Forwarded-For: 198.51.100.9");
    let joined = field(&appended, "x-forwarded-for");
    assert!(PROXIES.client("10.0.0.1", &joined, "") == stranger);
    // No token passes without a signature, and both ways of judging agree on it.
    for name in ["authorization", "sec-websocket-protocol"] {
        for token in field(&text, name).split([' ', ',']) {
            let outcome = VERIFIER.verify(token.as_bytes(), 0.0, &mut Scratch::default());
            assert!(outcome.is_err(), "nobody signed it");
            assert!(!VERIFIER.explain(token.as_bytes(), 0.0).is_empty());
        }
    }
}
