//! Checks forwarded headers, for the fuzz target and for `tests/fuzz.rs`. The input holds
//! `X-Forwarded-For` in its first line and `Forwarded` in its second.

use portcullis::connections::{Address, TrustedProxies};
use std::sync::LazyLock;

static PROXIES: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let mut proxies = TrustedProxies::default();
    for network in [
        "10.0.0.0/8",
        "192.0.2.7",
        "2001:db8::/32",
        "::ffff:172.16.0.0/108",
    ] {
        assert!(proxies.add(network), "{network} is a network");
    }
    proxies
});

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(2, '\n');
    let (one, other) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let proxy = "10.0.0.1";
    let stranger = Address::parse("198.51.100.9");
    let client = |peer, one: &str, other: &str| PROXIES.client(peer, one, other);
    // Headers of an untrusted peer, or of one without an address, change nothing.
    for peer in ["198.51.100.9", ""] {
        assert!(client(peer, one, other) == Address::parse(peer));
    }
    // Behind a proxy there is an address: that of a header, or the proxy's own.
    for (one, other) in [(one, other), (one, ""), ("", other)] {
        assert!(client(proxy, one, other) != Address::UNKNOWN);
    }
    // A client's own entries come first, and change nothing behind the entry of its proxy.
    assert!(client(proxy, &format!("{one}, 198.51.100.9"), "") == stranger);
    assert!(client(proxy, "", &format!("{other}, for=198.51.100.9")) == stranger);
    // Nor do they if the proxy behind is trusted.
    assert!(client(proxy, &format!("{one},198.51.100.9,10.9.9.9"), "") == stranger);
    // Any text is an address or none; one that is printed is the same again.
    let address = Address::parse(one);
    if let Some(ip) = address.ip() {
        assert!(Address::parse(&ip.to_string()) == address);
    }
    if one.is_ascii() && one.len() <= 128 {
        let units: Vec<u16> = one.encode_utf16().collect();
        assert!(Address::from_units(&units) == address);
    }
}
