//! The client's address behind trusted proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Owns the list of trusted networks ([`TrustedProxies`]). Both headers are read from the right,
//! where the nearest proxy wrote, up to the first untrusted address. An unreadable entry ends the
//! walk; the last address before it then counts as the client's.
//!
//! Lists are split at commas without regard to quotes: no address contains a comma, and an opening
//! quote sent by a client must not swallow the entries that its proxy appended.
//!
//! Invariant: the headers of an untrusted peer change nothing.

use super::Address;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// Bytes of a header that are read, from its end.
const HEADER_BYTES_MAX: usize = 4096;
/// Proxies that are followed.
const HOPS_MAX: usize = 32;

/// The networks of the server's own proxies.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

impl TrustedProxies {
    /// Adds a network (`10.0.0.0/8`) or a single address; returns `false` if the text is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let text = text.trim();
        let network = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if let Some(network) = network {
            self.networks.push(plain(network));
        }
        network.is_some()
    }

    /// True if `address` belongs to a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: Address) -> bool {
        address
            .ip()
            .is_some_and(|ip| self.networks.iter().any(|network| network.contains(&ip)))
    }

    /// Returns the client behind `peer`. If both headers are present they must agree, else `peer`
    /// counts: a proxy writes one of them and may pass the other on as the client sent it.
    #[must_use]
    pub fn client(&self, peer: Address, x_forwarded_for: &str, forwarded: &str) -> Address {
        if !self.trusts(peer) {
            return peer;
        }
        match (x_forwarded_for.is_empty(), forwarded.is_empty()) {
            (true, true) => peer,
            (false, true) => self.walk(peer, x_forwarded_for, Address::parse),
            (true, false) => self.walk(peer, forwarded, element),
            (false, false) => {
                let one = self.walk(peer, x_forwarded_for, Address::parse);
                let other = self.walk(peer, forwarded, element);
                if one == other { one } else { peer }
            }
        }
    }

    fn walk(&self, peer: Address, header: &str, read: fn(&str) -> Address) -> Address {
        let mut client = peer;
        // The cut may fall inside an address: the piece before the first comma is never read.
        let cut = header.len() > HEADER_BYTES_MAX;
        let mut rest = tail(header);
        for _ in 0..HOPS_MAX {
            let (before, hop) = match rest.rsplit_once(',') {
                Some((before, hop)) => (Some(before), hop),
                None if cut => return client,
                None => (None, rest),
            };
            let address = read(hop);
            if address == Address::UNKNOWN {
                return client;
            }
            client = address;
            match before {
                Some(before) if self.trusts(client) => rest = before,
                _ => return client,
            }
        }
        client
    }
}

/// Converts an IPv4-mapped network to IPv4, the form in which addresses are compared.
fn plain(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return IpNet::V4(v4);
    }
    network
}

fn tail(header: &str) -> &str {
    let mut start = header.len().saturating_sub(HEADER_BYTES_MAX);
    while !header.is_char_boundary(start) {
        start += 1;
    }
    &header[start..]
}

/// Parses one element of `Forwarded` (RFC 7239): `for=192.0.2.1;proto=http`.
fn element(text: &str) -> Address {
    for pair in text.split(';') {
        let Some((name, value)) = pair.trim().split_once('=') else {
            return Address::UNKNOWN;
        };
        if name.eq_ignore_ascii_case("for") {
            let bare = match value.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"'),
                None => Some(value),
            };
            return bare.map_or(Address::UNKNOWN, Address::parse);
        }
    }
    Address::UNKNOWN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trust() -> TrustedProxies {
        let mut trust = TrustedProxies::default();
        for network in ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"] {
            assert!(trust.add(network));
        }
        trust
    }

    fn client(peer: &str, x_forwarded_for: &str, forwarded: &str) -> String {
        let client = trust().client(Address::parse(peer), x_forwarded_for, forwarded);
        client.ip().map_or(String::new(), |ip| ip.to_string())
    }

    #[test]
    fn headers_of_an_untrusted_peer_are_not_read() {
        assert_eq!(
            client("203.0.113.5", "1.2.3.4", "for=1.2.3.4"),
            "203.0.113.5"
        );
        assert_eq!(client("", "1.2.3.4", ""), "");
    }

    #[test]
    fn the_walk_ends_at_the_first_untrusted_address_from_the_right() {
        assert_eq!(
            client("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.9.9.9", ""),
            "1.2.3.4"
        );
        assert_eq!(client("::ffff:10.0.0.1", "1.2.3.4:555", ""), "1.2.3.4");
        assert_eq!(client("10.0.0.1", "10.0.0.2,10.0.0.3", ""), "10.0.0.2");
        let chain =
            "for=6.6.6.6, For=\"[2400::9]:4711\";proto=https, proto=http;for=\"[2001:db8::1]\"";
        assert_eq!(client("10.0.0.1", "", chain), "2400::9");
    }

    #[test]
    fn an_unreadable_entry_ends_the_walk() {
        assert_eq!(
            client("10.0.0.1", "1.2.3.4, garbage, 10.0.0.2", ""),
            "10.0.0.2"
        );
        assert_eq!(client("10.0.0.1", "1.2.3.4,", ""), "10.0.0.1");
        for forwarded in [
            "for=unknown",
            "for=_hidden",
            "for=\"1.2.3.4",
            "by=1.2.3.4",
            ";",
            "for",
        ] {
            assert_eq!(client("10.0.0.1", "", forwarded), "10.0.0.1", "{forwarded}");
        }
    }

    #[test]
    fn an_open_quote_from_the_client_does_not_hide_the_proxys_entry() {
        assert_eq!(
            client("10.0.0.1", "", "for=\"6.6.6.6, for=1.2.3.4"),
            "1.2.3.4"
        );
    }

    #[test]
    fn two_headers_that_disagree_are_both_ignored() {
        assert_eq!(client("10.0.0.1", "1.2.3.4", "for=1.2.3.4"), "1.2.3.4");
        assert_eq!(client("10.0.0.1", "1.2.3.4", "for=6.6.6.6"), "10.0.0.1");
    }

    #[test]
    fn long_headers_are_read_from_their_end_only() {
        let chain = "10.0.0.2,".repeat(1000) + "10.0.0.3";
        assert_eq!(client("10.0.0.1", &chain, ""), "10.0.0.2");
        let spaces = format!("1.2.3.4{}, 10.0.0.3", " ".repeat(5000));
        assert_eq!(client("10.0.0.1", &spaces, ""), "10.0.0.3");
    }

    #[test]
    fn a_network_is_an_address_or_a_cidr() {
        let mut trust = TrustedProxies::default();
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "proxy", "10.0.0.1:80"] {
            assert!(!trust.add(wrong), "{wrong}");
        }
        assert!(trust.add("::ffff:10.0.0.0/104"));
        assert!(trust.trusts(Address::parse("10.1.2.3")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_walk_panic(one in ".{0,200}", other in "[for=\",;:. 0-9\\[\\]]{0,200}") {
            let _ = trust().client(Address::parse("10.0.0.1"), &one, &other);
            let _ = trust().client(Address::parse("10.0.0.1"), "", &one);
        }
    }
}
