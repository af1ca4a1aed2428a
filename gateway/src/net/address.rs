//! Which addresses a name may resolve to: the guard against server-side request forgery.
//!
//! Judged after resolution and on every connection. Sources: the IANA special-purpose address registries (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_config::server::AddressPolicy;

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Globally routable.
    Public,
    /// Private, shared, benchmarking or unique-local space: this organisation's own networks, pods and Services.
    Private,
    /// This machine.
    Loopback,
    /// Link-local, unspecified, multicast, broadcast, documentation, reserved, or a cloud's metadata service.
    Forbidden,
}

/// May a connection under `policy` go to `address`?
pub fn allowed(policy: AddressPolicy, address: IpAddr) -> bool {
    match (policy, class(address)) {
        (_, Class::Forbidden) => false,
        (AddressPolicy::Loopback, class) => class == Class::Loopback,
        (_, Class::Loopback) => false,
        (AddressPolicy::Public, class) => class == Class::Public,
        // A cluster may use public ranges for pods and Services.
        (AddressPolicy::Private | AddressPolicy::Cluster, Class::Public | Class::Private) => true,
    }
}

/// The kind of place `address` is. IPv4 addresses inside IPv6 ones are judged as what they lead to.
pub fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => class_v4(v4),
            None => class_v6(v6),
        },
    }
}

fn class_v4(ip: Ipv4Addr) -> Class {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        (127, ..) => Class::Loopback,
        // Oracle's and Alibaba's metadata services stand in otherwise ordinary space.
        (192, 0, 0) | (100, 100, 100) | (168, 63, 129) if is_metadata_v4(ip) => Class::Forbidden,
        // 0/8, link-local (metadata of most clouds), protocol assignments, documentation, 6to4 relay, multicast, reserved
        (0 | 224..=255, ..)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (198, 51, 100)
        | (203, 0, 113)
        | (192, 88, 99) => Class::Forbidden,
        // RFC 1918, RFC 6598 shared space, RFC 2544 benchmarking
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (198, 18 | 19, _) => {
            Class::Private
        }
        _ => Class::Public,
    }
}

fn is_metadata_v4(ip: Ipv4Addr) -> bool {
    // Oracle, Alibaba, and Azure's platform service, which stands in public space
    matches!(
        ip.octets(),
        [192, 0, 0, 192] | [100, 100, 100, 200] | [168, 63, 129, 16]
    )
}

fn class_v6(ip: Ipv6Addr) -> Class {
    let [first, second, ..] = ip.segments();
    if ip.is_loopback() {
        return Class::Loopback;
    }
    match first {
        0xfc00..=0xfdff if is_metadata_v6(ip) => Class::Forbidden,
        0xfc00..=0xfdff => Class::Private,
        // Documentation (RFC 3849 and RFC 9637), protocol assignments and Teredo (2001::/23)
        0x2001 if second == 0x0db8 || second < 0x0200 => Class::Forbidden,
        0x3fff if second < 0x1000 => Class::Forbidden,
        0x2000..=0x3fff => Class::Public,
        // Unspecified, link-local, site-local, multicast and whatever is not yet given out
        _ => Class::Forbidden,
    }
}

/// Metadata and other services of a cloud's host that stand in unique-local space.
const fn is_metadata_v6(ip: Ipv6Addr) -> bool {
    matches!(
        ip.segments(),
        // Amazon (metadata at ::254, pods' credentials at ::23, names and time beside them) and Google: whole networks,
        // since more services may come and nobody else's hosts are there.
        [0xfd00, 0x0ec2, ..]
            | [0xfd20, 0x00ce, ..]
            // Oracle (169.254.169.254 in hexadecimal)
            | [0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
            // Scaleway
            | [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42]
    )
}

/// IPv4-mapped (`::ffff:a.b.c.d`), NAT64 (`64:ff9b::/96`) and 6to4 (`2002::/16`) addresses lead to an IPv4 address.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let quad = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(quad(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("93.184.216.34", Class::Public)]
    #[case("2606:4700::1111", Class::Public)]
    #[case("10.0.0.1", Class::Private)]
    #[case("172.31.255.255", Class::Private)]
    #[case("172.32.0.1", Class::Public)]
    #[case("192.168.1.1", Class::Private)]
    #[case("100.64.0.1", Class::Private)]
    #[case("100.100.100.200", Class::Forbidden)]
    #[case("198.18.0.5", Class::Private)]
    #[case("198.20.0.5", Class::Public)]
    #[case("127.0.0.1", Class::Loopback)]
    #[case("127.255.0.1", Class::Loopback)]
    #[case("::1", Class::Loopback)]
    #[case("::ffff:127.0.0.1", Class::Loopback)]
    #[case("64:ff9b::7f00:1", Class::Loopback)]
    #[case("2002:7f00:1::", Class::Loopback)]
    #[case("169.254.169.254", Class::Forbidden)]
    #[case("::ffff:169.254.169.254", Class::Forbidden)]
    #[case("64:ff9b::a9fe:a9fe", Class::Forbidden)]
    #[case("fd00:ec2::254", Class::Forbidden)]
    #[case("fd00:ec2::23", Class::Forbidden)]
    #[case("fd00:ec2::253", Class::Forbidden)]
    #[case("fd00:ec2:0:1::1", Class::Forbidden)]
    #[case("fd20:ce::254", Class::Forbidden)]
    #[case("fd20:ce::1", Class::Forbidden)]
    #[case("fd00:c1::a9fe:a9fe", Class::Forbidden)]
    #[case("fd00:c1::1", Class::Private)]
    #[case("fd00:42::42", Class::Forbidden)]
    #[case("fd00:42::43", Class::Private)]
    #[case("fd00:ec3::254", Class::Private)]
    #[case("fd20:cf::254", Class::Private)]
    #[case("169.254.170.2", Class::Forbidden)]
    #[case("169.254.170.23", Class::Forbidden)]
    #[case("169.254.0.23", Class::Forbidden)]
    #[case("169.253.255.255", Class::Public)]
    #[case("169.255.0.0", Class::Public)]
    #[case("192.88.99.1", Class::Forbidden)]
    #[case("168.63.129.16", Class::Forbidden)]
    #[case("168.63.129.17", Class::Public)]
    #[case("fd12::1", Class::Private)]
    #[case("fe80::1", Class::Forbidden)]
    #[case("ff02::1", Class::Forbidden)]
    #[case("0.0.0.0", Class::Forbidden)]
    #[case("::", Class::Forbidden)]
    #[case("255.255.255.255", Class::Forbidden)]
    #[case("224.0.0.1", Class::Forbidden)]
    #[case("192.0.0.192", Class::Forbidden)]
    #[case("2001:db8::1", Class::Forbidden)]
    #[case("2001::1", Class::Forbidden)]
    // Teredo, whose last four bytes are 169.254.169.254 inverted
    #[case("2001:0:4136:e378:8000:63bf:5601:5601", Class::Forbidden)]
    #[case("2001:1ff::1", Class::Forbidden)]
    #[case("2001:200::1", Class::Public)]
    #[case("3fff::1", Class::Forbidden)]
    #[case("3fff:1000::1", Class::Public)]
    #[case("febf::1", Class::Forbidden)]
    #[case("fec0::1", Class::Forbidden)]
    // Of every way to put an IPv4 address into an IPv6 one
    #[case("::ffff:100.100.100.200", Class::Forbidden)]
    #[case("::ffff:10.0.0.1", Class::Private)]
    #[case("::ffff:93.184.216.34", Class::Public)]
    #[case("64:ff9b::6464:64c8", Class::Forbidden)]
    #[case("64:ff9b::a00:1", Class::Private)]
    #[case("64:ff9b:1::a9fe:a9fe", Class::Forbidden)]
    #[case("64:ff9b:1::5db8:d822", Class::Forbidden)]
    #[case("2002:a9fe:a9fe::1", Class::Forbidden)]
    #[case("2002:a00:1::1", Class::Private)]
    #[case("::169.254.169.254", Class::Forbidden)]
    #[case("::93.184.216.34", Class::Forbidden)]
    #[case("::ffff:0:169.254.169.254", Class::Forbidden)]
    #[case("2001:4860::8888", Class::Public)]
    fn addresses_are_known_for_what_they_are(#[case] address: IpAddr, #[case] expected: Class) {
        assert_eq!(class(address), expected);
    }

    #[rstest]
    #[case(AddressPolicy::Public, "93.184.216.34", true)]
    #[case(AddressPolicy::Public, "10.0.0.1", false)]
    #[case(AddressPolicy::Public, "127.0.0.1", false)]
    #[case(AddressPolicy::Private, "10.0.0.1", true)]
    #[case(AddressPolicy::Private, "93.184.216.34", true)]
    #[case(AddressPolicy::Private, "127.0.0.1", false)]
    #[case(AddressPolicy::Private, "169.254.169.254", false)]
    #[case(AddressPolicy::Private, "fd00:ec2::23", false)]
    #[case(AddressPolicy::Cluster, "fd00:ec2::23", false)]
    #[case(AddressPolicy::Cluster, "fd12::1", true)]
    #[case(AddressPolicy::Loopback, "fd00:ec2::23", false)]
    #[case(AddressPolicy::Cluster, "198.19.0.10", true)]
    #[case(AddressPolicy::Cluster, "127.0.0.1", false)]
    #[case(AddressPolicy::Cluster, "169.254.169.254", false)]
    #[case(AddressPolicy::Loopback, "127.0.0.1", true)]
    #[case(AddressPolicy::Loopback, "::1", true)]
    #[case(AddressPolicy::Loopback, "93.184.216.34", false)]
    #[case(AddressPolicy::Loopback, "10.0.0.1", false)]
    fn policies_hold(#[case] policy: AddressPolicy, #[case] address: IpAddr, #[case] expected: bool) {
        assert_eq!(allowed(policy, address), expected);
    }
}
