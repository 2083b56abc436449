//! Addresses that no webhook may go to: a customer who registers a URL must not reach, through this service, servers
//! that only this service can reach.
//!
//! The list is that of the special-purpose address registries of IANA (RFC 6890), with everything in it that is not
//! global unicast. IPv6 addresses that carry an IPv4 address are refused as well: a receiver with a public IPv4 address
//! can give that one. A NAT64 prefix that a network chose for itself looks like any other address, and cannot be
//! recognised here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, the length of its prefix in bits, and its purpose.
type Block<A> = (A, u32, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u32, what: &'static str) -> Block<Ipv4Addr> {
    (Ipv4Addr::new(a, b, c, d), bits, what)
}

const fn v6(a: u16, b: u16, c: u16, bits: u32, what: &'static str) -> Block<Ipv6Addr> {
    (Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits, what)
}

const V4: [Block<Ipv4Addr>; 16] = [
    v4(0, 0, 0, 0, 8, "an unspecified address"),
    v4(10, 0, 0, 0, 8, "a private address"),
    v4(100, 64, 0, 0, 10, "a carrier's private address"),
    v4(127, 0, 0, 0, 8, "a loopback address"),
    // 169.254.169.254, where clouds keep credentials, is one of these.
    v4(169, 254, 0, 0, 16, "a link-local address"),
    v4(172, 16, 0, 0, 12, "a private address"),
    v4(192, 0, 0, 0, 24, "an address for protocols"),
    v4(192, 0, 2, 0, 24, "a documentation address"),
    v4(192, 88, 99, 0, 24, "a 6to4 relay"),
    v4(192, 168, 0, 0, 16, "a private address"),
    v4(198, 18, 0, 0, 15, "an address for benchmarks"),
    v4(198, 51, 100, 0, 24, "a documentation address"),
    v4(203, 0, 113, 0, 24, "a documentation address"),
    v4(224, 0, 0, 0, 4, "a multicast address"),
    v4(255, 255, 255, 255, 32, "the broadcast address"),
    v4(240, 0, 0, 0, 4, "a reserved address"),
];

/// The IPv6 networks that are refused; the first one that contains an address is the reason. [`objection`] refuses
/// besides all that is not in 2000::/3.
const V6: [Block<Ipv6Addr>; 13] = [
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
        "an IPv4-mapped address",
    ),
    v6(0x64, 0xff9b, 0, 96, "a NAT64 address"),
    v6(0x64, 0xff9b, 1, 48, "a NAT64 address"),
    v6(0xfc00, 0, 0, 7, "a private (unique local) address"),
    v6(0xfe80, 0, 0, 10, "a link-local address"),
    v6(0xff00, 0, 0, 8, "a multicast address"),
    v6(0x2001, 0, 0, 32, "a Teredo address"),
    v6(0x2001, 0, 0, 23, "an address for protocols"),
    v6(0x2001, 0xdb8, 0, 32, "a documentation address"),
    v6(0x2002, 0, 0, 16, "a 6to4 address"),
    v6(0x3fff, 0, 0, 20, "a documentation address"),
];

/// Returns the reason for which nothing is sent to an address; `None` for a public one.
pub(super) fn objection(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => V4.iter().find_map(|(network, bits, what)| {
            let differs = (address.to_bits() ^ network.to_bits()).leading_zeros() < *bits;
            (!differs).then_some(*what)
        }),
        IpAddr::V6(address) => V6
            .iter()
            .find_map(|(network, bits, what)| {
                let differs = (address.to_bits() ^ network.to_bits()).leading_zeros() < *bits;
                (!differs).then_some(*what)
            })
            // What is not in 2000::/3 is not global unicast.
            .or_else(|| (address.to_bits() >> 125 != 1).then_some("a reserved address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<&'static str> {
        objection(address.parse().expect("an address"))
    }

    #[test]
    fn non_public_networks_are_refused_from_first_to_last_address() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("169.254.169.254", "169.254.169.254"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "255.255.255.255"),
            ("::", "1fff:ffff::"),
            ("::1", "::1"),
            ("::127.0.0.1", "::ffff:8.8.8.8"),
            ("64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8"),
            ("64:ff9b:1::", "64:ff9b:1:ffff::"),
            ("2001::", "2001:1ff:ffff::"),
            ("2001:db8::", "2001:db8:ffff::"),
            ("2002::", "2002:ffff::"),
            ("3fff::", "3fff:fff:ffff::"),
            ("4000::", "ffff::"),
            ("fc00::", "fdff:ffff::"),
            ("fe80::", "febf:ffff::"),
            ("ff02::1", "ff0e::1"),
        ] {
            assert!(of(first).is_some(), "{first}");
            assert!(of(last).is_some(), "{last}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700:4700::1111",
            "3ffe:ffff::1",
        ] {
            assert_eq!(of(address), None, "{address}");
        }
    }

    #[test]
    fn reason_is_the_most_specific_network() {
        assert_eq!(of("127.0.0.1"), Some("a loopback address"));
        assert_eq!(of("255.255.255.255"), Some("the broadcast address"));
        assert_eq!(of("::ffff:127.0.0.1"), Some("an IPv4-mapped address"));
        assert_eq!(of("5f00::1"), Some("a reserved address"));
    }
}
