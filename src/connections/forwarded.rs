//! The client's address behind trusted proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Owns the list of trusted networks ([`TrustedProxies`]). Both headers are read from the right,
//! where the nearest proxy wrote, up to the first untrusted address. An unreadable entry ends the
//! walk; the last address before it then counts as the client's.
//!
//! Lists are split at commas without regard to quotes: no address contains a comma, and an opening
//! quote sent by a client must not swallow the entries that its proxy appended. Empty elements are
//! ignored (RFC 9110, section 5.6.1.2).
//!
//! Invariant: the headers of an untrusted peer change nothing.

use super::Address;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// Bytes of a header that are read, from its end.
const HEADER_BYTES_MAX: usize = 4096;
/// Proxies that are followed.
const HOPS_MAX: usize = 32;
/// The peer of a Unix socket, which has no address. No address is written like this.
const UNIX: &str = "unix";

/// The networks of the server's own proxies.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Adds a network (`10.0.0.0/8`), a single address, or `unix` for the peers of Unix sockets;
    /// returns `false` for any other text.
    pub fn add(&mut self, text: &str) -> bool {
        let text = text.trim();
        if text == UNIX {
            self.unix = true;
            return true;
        }
        let network = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .filter(|network| !is_cut_short(network));
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

    /// True if a socket's peer, an address or `unix`, is a trusted proxy.
    #[must_use]
    pub fn trusts_peer(&self, peer: &str) -> bool {
        (self.unix && peer == UNIX) || self.trusts(Address::parse(peer))
    }

    /// Returns the client behind `peer`. If both headers are present they must agree, else `peer`
    /// counts: a proxy writes one of them and may pass the other on as the client sent it.
    ///
    /// The result is unknown if `peer` counts and has no address.
    #[must_use]
    pub fn client(&self, peer: &str, x_forwarded_for: &str, forwarded: &str) -> Address {
        let is_trusted = self.trusts_peer(peer);
        let peer = Address::parse(peer);
        if !is_trusted {
            return peer;
        }
        match (has_no_element(x_forwarded_for), has_no_element(forwarded)) {
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

    /// Returns the client that a header with one address names, such as `X-Real-IP`. `peer` counts
    /// if it is untrusted, or if the value is anything but one address.
    #[must_use]
    pub fn client_of_header(&self, peer: &str, value: &str) -> Address {
        let client = Address::parse(value);
        if client != Address::UNKNOWN && self.trusts_peer(peer) {
            client
        } else {
            Address::parse(peer)
        }
    }

    fn walk(&self, peer: Address, header: &str, read: fn(&str) -> Address) -> Address {
        let mut client = peer;
        // The cut may fall inside an address: the piece before the first comma is never read.
        let cut = header.len() > HEADER_BYTES_MAX;
        let hops = tail(header).rsplit(',');
        let whole = hops.clone().count() - usize::from(cut);
        for hop in hops
            .take(whole)
            .filter(|hop| !has_no_element(hop))
            .take(HOPS_MAX)
        {
            let address = read(hop);
            if address == Address::UNKNOWN {
                return client;
            }
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }
}

/// True for an IPv4-mapped address with the prefix of an IPv4 network: as IPv6, `::ffff:10.0.0.0/8` is `::/8`, which does
/// not hold 10.0.0.1.
fn is_cut_short(network: &IpNet) -> bool {
    matches!(network, IpNet::V6(v6) if v6.prefix_len() < 96 && v6.addr().to_ipv4_mapped().is_some())
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

/// True for a list without an element, or for an empty element: spaces, tabs and commas only.
fn has_no_element(list: &str) -> bool {
    list.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b','))
}

/// Parses one element of `Forwarded` (RFC 7239): `for=192.0.2.1;proto=http`. An element with two
/// `for` is malformed (section 4): a proxy that copies text of the client into its element, such as
/// `host`, would let the client add a second one.
fn element(text: &str) -> Address {
    let mut client = None;
    let mut rest = Some(text);
    while let Some(text) = rest {
        let pair;
        (pair, rest) = split_pair(text);
        // The grammar allows pairs to be empty.
        if pair.trim().is_empty() {
            continue;
        }
        let Some((name, Some(value))) = pair
            .trim()
            .split_once('=')
            .map(|(name, value)| (name, bare(value)))
        else {
            return Address::UNKNOWN;
        };
        if name.eq_ignore_ascii_case("for") && client.replace(Address::parse(value)).is_some() {
            return Address::UNKNOWN;
        }
    }
    client.unwrap_or(Address::UNKNOWN)
}

/// Splits at the first semicolon outside of a quoted string.
fn split_pair(text: &str) -> (&str, Option<&str>) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// Returns a value without the quotes around it; `None` if it has others, which are not escaped.
fn bare(value: &str) -> Option<&str> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then_some(value);
    };
    let inner = rest.strip_suffix('"')?;
    let mut is_escaped = false;
    for byte in inner.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return None,
            _ => {}
        }
    }
    (!is_escaped).then_some(inner)
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
        let client = trust().client(peer, x_forwarded_for, forwarded);
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
    fn empty_elements_are_ignored() {
        for header in [
            "1.2.3.4,",
            "1.2.3.4, ,\t,",
            ",1.2.3.4",
            ",, 1.2.3.4 ,, 10.0.0.2,,",
        ] {
            assert_eq!(client("10.0.0.1", header, ""), "1.2.3.4", "{header}");
        }
        for header in [
            "for=1.2.3.4,",
            "for=1.2.3.4;,",
            ",;for=1.2.3.4;;proto=http; ,",
        ] {
            assert_eq!(client("10.0.0.1", "", header), "1.2.3.4", "{header}");
        }
        // They are no hops, and a list of them is no header.
        let header = format!("1.2.3.4{}10.0.0.2", ",".repeat(3000));
        assert_eq!(client("10.0.0.1", &header, ""), "1.2.3.4");
        assert_eq!(client("10.0.0.1", " , ", "for=1.2.3.4"), "1.2.3.4");
        assert_eq!(client("10.0.0.1", "1.2.3.4", ","), "1.2.3.4");
        assert_eq!(client("10.0.0.1", ",", ""), "10.0.0.1");
    }

    #[test]
    fn an_element_with_two_clients_is_malformed() {
        for element in [
            "for=6.6.6.6;for=1.2.3.4",
            "for=1.2.3.4;for=1.2.3.4",
            "For=6.6.6.6;proto=http;FOR=\"1.2.3.4\"",
            // A client's `Host` that its proxy copies, quoted or not, and escaped or not.
            "host=x;for=6.6.6.6;for=1.2.3.4",
            "host=x\";for=6.6.6.6;y=\";for=1.2.3.4",
            "host=\"x\";for=6.6.6.6;y=\"\";for=1.2.3.4",
            "host=\"x\";for=6.6.6.6;y=\";for=\"1.2.3.4\"",
            "host=\"x;for=1.2.3.4",
            "host=\"x\\\";for=1.2.3.4",
        ] {
            assert_eq!(client("10.0.0.1", "", element), "10.0.0.1", "{element}");
            let chain = format!("for=6.6.6.6, {element}, for=10.0.0.2");
            assert_eq!(client("10.0.0.1", "", &chain), "10.0.0.2", "{chain}");
        }
        for element in [
            "host=\"x;for=6.6.6.6\";for=1.2.3.4",
            "host=\"x\\\";for=6.6.6.6\";for=\"1.2.3.4:80\";by=_p",
        ] {
            assert_eq!(client("10.0.0.1", "", element), "1.2.3.4", "{element}");
        }
    }

    #[test]
    fn the_peer_of_a_unix_socket_is_trusted_by_name() {
        assert_eq!(client("unix", "1.2.3.4", ""), "");
        let mut trust = TrustedProxies::default();
        assert!(trust.add("unix"));
        let client = |peer, header| trust.client(peer, header, "").ip().map(|ip| ip.to_string());
        assert_eq!(client("unix", "1.2.3.4").as_deref(), Some("1.2.3.4"));
        assert_eq!(client("unix", "garbage"), None);
        // A client whose address is not known is no peer of a Unix socket.
        for peer in ["", "UNIX", "::", "nonsense"] {
            assert_eq!(client(peer, "1.2.3.4"), None, "{peer}");
        }
        assert_eq!(client("10.0.0.1", "1.2.3.4").as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn a_header_of_one_address_is_read_from_trusted_peers_only() {
        let client = |peer, value| {
            let client = trust().client_of_header(peer, value);
            client.ip().map_or(String::new(), |ip| ip.to_string())
        };
        assert_eq!(client("10.0.0.1", "1.2.3.4"), "1.2.3.4");
        assert_eq!(client("10.0.0.1", " [2400::9]:80 "), "2400::9");
        assert_eq!(client("203.0.113.5", "1.2.3.4"), "203.0.113.5");
        for value in ["", "unknown", "1.2.3.4, 5.6.7.8", "1.2.3.4,"] {
            assert_eq!(client("10.0.0.1", value), "10.0.0.1", "{value}");
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
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "proxy",
            "10.0.0.1:80",
            "::ffff:10.0.0.0/8",
        ] {
            assert!(!trust.add(wrong), "{wrong}");
        }
        assert!(trust.add("::ffff:10.0.0.0/104"));
        assert!(trust.trusts(Address::parse("10.1.2.3")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_walk_panic(one in ".{0,200}", other in "[for=\",;:. 0-9\\[\\]]{0,200}") {
            let _ = trust().client("10.0.0.1", &one, &other);
            let _ = trust().client("10.0.0.1", "", &one);
        }

        /// Properties: text that a client sent cannot change the result, whether its proxy appends
        /// to the list or copies the text into a parameter of its own element.
        #[test]
        fn a_clients_text_names_nobody_else(text in "[for=\",;:. 0-9\\\\]{0,40}", escaped in any::<bool>(), quoted in any::<bool>()) {
            prop_assert_eq!(client("10.0.0.1", "", &format!("{text},for=1.2.3.4")), "1.2.3.4");
            prop_assert_eq!(client("10.0.0.1", &format!("{text},1.2.3.4"), ""), "1.2.3.4");
            let copied = if escaped { text.replace('\\', "\\\\").replace('"', "\\\"") } else { text };
            let quote = if quoted || escaped { "\"" } else { "" };
            // A comma would end the proxy's element: no host holds one.
            let copied = copied.replace(',', "");
            for own in ["for=1.2.3.4", "for=\"1.2.3.4\""] {
                let element = format!("host={quote}{copied}{quote};{own}");
                prop_assert!(["1.2.3.4", "10.0.0.1"].contains(&&*client("10.0.0.1", "", &element)), "{}", element);
                if escaped {
                    prop_assert_eq!(client("10.0.0.1", "", &element), "1.2.3.4");
                }
            }
        }
    }
}
