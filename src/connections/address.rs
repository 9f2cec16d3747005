//! Client addresses in canonical form: two notations of one address compare equal.
//!
//! Owns parsing, and the network that stands for a client. Does not own the choice of the address
//! behind proxies (`forwarded`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A client's address: 128 bits (IPv4 as `::ffff:a.b.c.d`), or unknown.
///
/// The unknown address is `::`, which no client can have.
// Packed: the 16-byte alignment of u128 would cost 12 bytes in every slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(Rust, packed(4))]
pub struct Address(u128);

/// Unknown.
impl Default for Address {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// The first 96 bits of an IPv4-mapped address.
const MAPPED: u128 = 0xffff;
/// The first 96 bits of an IPv4 address behind a translator: `64:ff9b::/96`.
const TRANSLATED: u128 = 0x0064_ff9b << 64;

impl Address {
    /// The address of every client whose address cannot be parsed.
    pub const UNKNOWN: Self = Self(0);

    /// Parses IPv4 and IPv6 in every usual notation: bracketed, with a port, with a zone,
    /// IPv4-mapped in dotted or hexadecimal form. Returns [`Address::UNKNOWN`] for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let host = if let Some(rest) = text.strip_prefix('[') {
            match rest.split_once(']') {
                Some((host, "")) => host,
                Some((host, port)) if is_port(port) => host,
                _ => return Self::UNKNOWN,
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) if host.contains('.') && !port.contains(':') => {
                    if !is_port(&text[host.len()..]) {
                        return Self::UNKNOWN;
                    }
                    host
                }
                _ => text,
            }
        };
        if let Ok(v4) = host.parse::<Ipv4Addr>() {
            return Self::from_ip(IpAddr::V4(v4));
        }
        let host = host.split_once('%').map_or(host, |(host, _zone)| host);
        host.parse::<Ipv6Addr>()
            .map_or(Self::UNKNOWN, |v6| Self::from_ip(IpAddr::V6(v6)))
    }

    /// Parses UTF-16 units as [`Address::parse`] does.
    #[must_use]
    pub fn from_units(units: &[u16]) -> Self {
        // Longer than any notation with a zone name and a port.
        let mut ascii = [0u8; 128];
        let Some(ascii) = ascii.get_mut(..units.len()) else {
            return Self::UNKNOWN;
        };
        for (byte, &unit) in ascii.iter_mut().zip(units) {
            *byte = if unit < 0x80 { unit as u8 } else { 0 };
        }
        std::str::from_utf8(ascii).map_or(Self::UNKNOWN, Self::parse)
    }

    /// Converts a parsed IP address.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> Self {
        let v6 = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self(u128::from(v6))
    }

    /// Returns the IP address, IPv4 for a mapped one; `None` if unknown.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        (self != Self::UNKNOWN).then(|| Ipv6Addr::from(self.0).to_canonical())
    }

    /// Returns the bits of the IPv4 address that counts the client: its own, or the one inside of an
    /// address of a translator (`64:ff9b::/96`, RFC 6052), behind which all of IPv4 may be.
    ///
    /// Such an address stays IPv6 for [`Address::ip`]: trust in an IPv4 network is no trust in a
    /// translated address, which a neighbour in the same IPv6 network could take.
    #[must_use]
    pub fn v4(self) -> Option<u32> {
        matches!(self.0 >> 32, MAPPED | TRANSLATED).then_some(self.0 as u32)
    }

    /// Returns the first `bits` of an IPv6 address, since a client of IPv6 has a whole network.
    ///
    /// `None` for IPv4, for the unknown address, and for link-local (`fe80::/10`) and unique local
    /// addresses (`fc00::/7`): all machines of a LAN share their network.
    #[must_use]
    pub fn prefix(self, bits: u8) -> Option<Self> {
        let is_local = self.0 >> 118 == 0xfe80 >> 6 || self.0 >> 121 == 0xfc00 >> 9;
        (self.v4().is_none() && !is_local && self != Self::UNKNOWN)
            .then(|| Self(self.0 & (u128::MAX << (128 - u32::from(bits.clamp(1, 128))))))
    }

    /// Returns the bits that count the client: two notations of one address have the same.
    #[must_use]
    pub fn bits(self) -> u128 {
        match self.v4() {
            Some(v4) => MAPPED << 32 | u128::from(v4),
            None => self.0,
        }
    }

    /// Returns the network that stands for a client: its prefix, or else its address.
    #[must_use]
    pub fn network(self, bits: u8) -> Self {
        match self.v4() {
            Some(v4) => Self(MAPPED << 32 | u128::from(v4)),
            None => self.prefix(bits).unwrap_or(self),
        }
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| !port.starts_with('+') && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_notations_of_an_address_are_equal() {
        let expected = Address::parse("1.2.3.4");
        for text in [
            "::ffff:1.2.3.4",
            "::ffff:102:304",
            "0000:0000:0000:0000:0000:ffff:0102:0304",
            "::FFFF:1.2.3.4%eth0",
            "1.2.3.4:8080",
            "[::ffff:1.2.3.4]:443",
            " 1.2.3.4 ",
        ] {
            assert_eq!(Address::parse(text), expected, "{text}");
        }
        assert_eq!(expected.ip().unwrap().to_string(), "1.2.3.4");
        assert_ne!(Address::parse("2001:db8::1.2.3.4"), expected);
    }

    #[test]
    fn text_that_is_not_an_address_is_unknown() {
        for text in [
            "",
            "unknown",
            "1.2.3",
            "1.2.3.4:x",
            "1.2.3.4:+5",
            "[::1",
            "[::1]x",
            "::1::",
            "256.1.1.1",
            "1.2.3.4, 5.6.7.8",
        ] {
            assert_eq!(Address::parse(text), Address::UNKNOWN, "{text}");
        }
    }

    #[test]
    fn a_mapped_address_never_falls_into_an_ipv6_prefix() {
        assert_eq!(Address::parse("::ffff:1.2.3.4").prefix(56), None);
        assert_eq!(
            Address::parse("2001:db8:0:1::1").prefix(64),
            Address::parse("2001:db8:0:1:ffff::9").prefix(64)
        );
    }

    #[test]
    fn a_translated_address_counts_as_the_ipv4_address_in_it() {
        let inner = Address::parse("192.0.2.1");
        for text in [
            "64:ff9b::192.0.2.1",
            "64:ff9b::c000:201",
            "[64:FF9B::c000:201]:80",
        ] {
            let translated = Address::parse(text);
            assert_eq!(translated.v4(), inner.v4(), "{text}");
            assert_eq!(translated.prefix(64), None);
            assert_eq!(translated.network(64), inner);
            assert_eq!(translated.ip().unwrap().to_string(), "64:ff9b::c000:201");
        }
        for text in [
            "64:ff9b:1::192.0.2.1",
            "64:ff9b::1:192.0.2.1",
            "::192.0.2.1",
        ] {
            assert_eq!(Address::parse(text).v4(), None, "{text}");
            assert!(Address::parse(text).prefix(64).is_some());
        }
    }

    #[test]
    fn a_local_address_has_no_prefix() {
        for text in [
            "fe80::1",
            "febf:ffff::1",
            "fe80::1%eth0",
            "fc00::1",
            "fdff:1:2:3::4",
        ] {
            let address = Address::parse(text);
            assert_eq!(address.prefix(64), None, "{text}");
            assert_eq!(address.network(64), address);
        }
        for text in [
            "fe7f::1",
            "fec0::1",
            "fbff::1",
            "fe00::1",
            "2001:db8::1",
            "::1",
        ] {
            assert!(Address::parse(text).prefix(64).is_some(), "{text}");
        }
        assert_eq!(Address::UNKNOWN.prefix(64), None);
        assert_eq!(Address::UNKNOWN.network(64), Address::UNKNOWN);
    }
}
