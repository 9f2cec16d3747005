//! Decides whether an address is on the public internet, by IANA's special-purpose registries.
//!
//! A request that a server makes on behalf of a client must not reach the server's own network, in
//! whatever form the address is written: IPv6 forms that contain an IPv4 address are not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public: first address and prefix length.
const V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Azure's platform address.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, and all reserved addresses above it.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Networks within `2000::/3`, the unicast space, that are not public.
const V6: &[(Ipv6Addr, u32)] = &[
    // IETF protocol assignments, including Teredo.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4, which contains an IPv4 address.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// True if `text` is an IPv4 or IPv6 address of the public internet, in usual notation.
#[must_use]
pub fn is_public(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(ip)) => !V4
            .iter()
            .any(|&(net, bits)| (ip.to_bits() ^ net.to_bits()) >> (32 - bits) == 0),
        Ok(IpAddr::V6(ip)) => {
            ip.to_bits() >> 125 == 1
                && !V6
                    .iter()
                    .any(|&(net, bits)| (ip.to_bits() ^ net.to_bits()) >> (128 - bits) == 0)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn public_addresses_are_distinguished_from_all_others() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001:81b::200e",
            "2003::1",
        ] {
            assert!(is_public(ip), "{ip}");
        }
        for ip in [
            "",
            "localhost",
            "1.1.1",
            "01.1.1.1",
            "0x7f.1",
            "2130706433",
            "1.1.1.1:80",
            "[2606:4700::1111]",
            "fe80::1%eth0",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "::ffff:127.0.0.1",
            "::1.1.1.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip), "{ip}");
        }
    }
}
