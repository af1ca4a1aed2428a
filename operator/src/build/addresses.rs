//! Which addresses a network policy opens for a host name.
//!
//! An answer that the operator would get from DNS is not the one the pod gets, so a name is never turned into addresses:
//! the policy opens the URL's port to everywhere but the places that no such name has any business to lead to. The
//! gateway itself holds to the exact host and judges the address it resolves to, by the same classes (its `net::address`).
//! Sources of the ranges: the IANA special-purpose address registries (RFC 6890), and the clouds' manuals.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};

use crate::settings::Cluster;

/// How far a name may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breadth {
    /// To globally routable addresses outside the cluster.
    Public,
    /// Also to private, shared, benchmarking and unique-local ones, to pods and to Services.
    Private,
}

/// Loopback, link-local, protocol assignments, documentation, 6to4 relays, multicast and reserved space, and the
/// addresses under which clouds serve credentials or instance data to whoever asks: those of link-local space are in
/// 169.254/16, Oracle's in 192.0.0/24.
const NEVER_V4: [&str; 12] = [
    "0.0.0.0/8",
    "100.100.100.200/32", // Alibaba Cloud's metadata service
    "127.0.0.0/8",
    "168.63.129.16/32", // Azure's platform service
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// RFC 1918, RFC 6598 (shared), RFC 2544 (benchmarking).
const PRIVATE_V4: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
];

/// Within the global unicast space: protocol assignments with Teredo, documentation, 6to4. Within unique-local space:
/// the metadata services of Scaleway and Oracle, and the networks of Amazon's and Google's own services (metadata, pods'
/// credentials).
const NEVER_V6: [&str; 8] = [
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "fd00:42::42/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:ec2::/32",
    "fd20:ce::/32",
];

/// What is global unicast; nothing else of IPv6 is given out (RFC 4291, RFC 3513).
const GLOBAL_V6: &str = "2000::/3";
/// Unique-local addresses (RFC 4193).
const PRIVATE_V6: &str = "fc00::/7";
/// How an IPv6-only network reaches IPv4 (RFC 6052): the IPv4 address stands in the last 32 bits.
const NAT64: &str = "64:ff9b::/96";

fn ranges(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| range(text)).collect()
}

fn range(text: &str) -> IpNet {
    text.parse().expect("the ranges in this file are well-formed")
}

/// The peers of an egress rule for a host name, on this port.
pub fn open(breadth: Breadth, port: u16, cluster: &Cluster) -> Vec<NetworkPolicyPeer> {
    let mut except = never(port, cluster);
    let mut bases = vec![range("0.0.0.0/0"), range(GLOBAL_V6), range(NAT64)];
    match breadth {
        Breadth::Public => except.extend(private(cluster)),
        Breadth::Private => bases.push(range(PRIVATE_V6)),
    }
    let embedded: Vec<IpNet> = except.iter().filter_map(embed).collect();
    except.extend(embedded);
    bases.iter().filter_map(|base| block(*base, &except)).collect()
}

/// The peer for exactly this address.
pub fn single(address: IpAddr) -> NetworkPolicyPeer {
    ip_block(IpNet::from(address), &[])
}

/// Whether nothing may ever lead to `port` of `address`: this machine, its link, a metadata service, the Kubernetes API, and space
/// that means nobody.
pub fn is_forbidden(address: IpAddr, port: u16, cluster: &Cluster) -> bool {
    let address = unmapped(address);
    if let IpAddr::V6(v6) = address {
        let known = [GLOBAL_V6, PRIVATE_V6, NAT64];
        if !known.iter().any(|known| range(known).contains(&IpAddr::V6(v6))) {
            return true;
        }
    }
    let never = never(port, cluster);
    let embedded = never.iter().filter_map(embed).collect::<Vec<_>>();
    never
        .iter()
        .chain(&embedded)
        .any(|range| range.contains(&address))
}

/// Whether `address` is private, shared, benchmarking or unique-local, or one of the cluster's pods and Services.
pub fn is_private(address: IpAddr, cluster: &Cluster) -> bool {
    let address = unmapped(address);
    let private = private(cluster);
    let embedded = private.iter().filter_map(embed).collect::<Vec<_>>();
    private
        .iter()
        .chain(&embedded)
        .any(|range| range.contains(&address))
}

/// `::ffff:a.b.c.d` is a way of writing an IPv4 address.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn never(port: u16, cluster: &Cluster) -> Vec<IpNet> {
    let mut never = ranges(&NEVER_V4);
    never.extend(ranges(&NEVER_V6));
    never.extend(cluster.api_server.iter().map(IpNet::trunc));
    let endpoints = cluster.api_endpoints.iter();
    let here = endpoints.filter(|(_, known)| known.is_none_or(|known| known == port));
    never.extend(here.map(|(address, _)| IpNet::from(*address)));
    never
}

fn private(cluster: &Cluster) -> Vec<IpNet> {
    let mut private = ranges(&PRIVATE_V4);
    private.push(range(PRIVATE_V6));
    private.extend(
        cluster
            .pod_cidrs
            .iter()
            .chain(&cluster.service_cidrs)
            .map(IpNet::trunc),
    );
    private
}

/// An IPv4 range as NAT64 writes it.
fn embed(range: &IpNet) -> Option<IpNet> {
    let IpNet::V4(v4) = range else { return None };
    let [a, b, c, d] = v4.network().octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let address = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
    Ipv6Net::new(address, 96 + v4.prefix_len()).ok().map(IpNet::V6)
}

/// `base` without `except`. A NetworkPolicy demands that each exception lies truly within its range, so those that lie
/// elsewhere are left out, and where one covers the whole range there is no peer at all.
fn block(base: IpNet, except: &[IpNet]) -> Option<NetworkPolicyPeer> {
    if except.iter().any(|range| range.contains(&base)) {
        return None;
    }
    let mut within: Vec<IpNet> = except
        .iter()
        .copied()
        .filter(|range| base.contains(range))
        .collect();
    within.sort_unstable();
    within.dedup();
    let all = within.clone();
    within.retain(|range| !all.iter().any(|other| other != range && other.contains(range)));
    Some(ip_block(base, &within))
}

fn ip_block(cidr: IpNet, except: &[IpNet]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_string(),
            except: (!except.is_empty()).then(|| except.iter().map(ToString::to_string).collect()),
        }),
        namespace_selector: None,
        pod_selector: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::Ipv4Net;
    use proptest::prelude::*;
    use rstest::rstest;

    fn cluster() -> Cluster {
        Cluster {
            pod_cidrs: ranges(&["198.18.0.0/24", "20.0.0.0/16", "2600:1f00::/56"]),
            service_cidrs: ranges(&["198.19.0.0/24"]),
            api_server: ranges(&["198.18.255.2/32", "34.1.2.3/32"]),
            ..Cluster::default()
        }
    }

    /// What the API server and every policy engine make of a peer.
    fn reaches(peers: &[NetworkPolicyPeer], address: IpAddr) -> bool {
        peers.iter().any(|peer| {
            let block = peer.ip_block.as_ref().expect("only address blocks here");
            let hit = |text: &String| text.parse::<IpNet>().unwrap().contains(&address);
            hit(&block.cidr) && !block.except.iter().flatten().any(hit)
        })
    }

    #[rstest]
    #[case::public("93.184.216.34", true, true)]
    #[case::public_v6("2606:4700::1111", true, true)]
    #[case::public_nat64("64:ff9b::5db8:d822", true, true)]
    #[case::private("10.0.0.1", false, true)]
    #[case::private_b("172.31.0.1", false, true)]
    #[case::private_c("192.168.3.4", false, true)]
    #[case::shared("100.64.0.1", false, true)]
    #[case::benchmarking("198.19.7.7", false, true)]
    #[case::unique_local("fd12::1", false, true)]
    #[case::private_nat64("64:ff9b::a00:1", false, true)]
    #[case::pod("198.18.0.9", false, true)]
    #[case::pod_in_public_space("20.0.3.4", false, true)]
    #[case::pod_v6("2600:1f00::5", false, true)]
    #[case::service("198.19.0.10", false, true)]
    #[case::api_server("198.18.255.2", false, false)]
    #[case::api_server_in_public_space("34.1.2.3", false, false)]
    #[case::loopback("127.0.0.1", false, false)]
    #[case::loopback_v6("::1", false, false)]
    #[case::loopback_nat64("64:ff9b::7f00:1", false, false)]
    #[case::metadata("169.254.169.254", false, false)]
    #[case::metadata_nat64("64:ff9b::a9fe:a9fe", false, false)]
    #[case::metadata_amazon_v6("fd00:ec2::254", false, false)]
    #[case::credentials_amazon_v6("fd00:ec2::23", false, false)]
    #[case::metadata_google_v6("fd20:ce::254", false, false)]
    #[case::metadata_oracle_v6("fd00:c1::a9fe:a9fe", false, false)]
    #[case::metadata_scaleway_v6("fd00:42::42", false, false)]
    #[case::metadata_alibaba("100.100.100.200", false, false)]
    #[case::metadata_oracle("192.0.0.192", false, false)]
    #[case::platform_azure("168.63.129.16", false, false)]
    #[case::link_local_v6("fe80::1", false, false)]
    #[case::multicast("224.0.0.1", false, false)]
    #[case::multicast_v6("ff02::1", false, false)]
    #[case::broadcast("255.255.255.255", false, false)]
    #[case::unspecified("0.0.0.0", false, false)]
    #[case::teredo("2001::1", false, false)]
    #[case::six_to_four("2002:a00:1::", false, false)]
    #[case::documentation("2001:db8::1", false, false)]
    #[case::mapped("::ffff:10.0.0.1", false, false)]
    fn names_lead_where_they_may(#[case] address: IpAddr, #[case] public: bool, #[case] private: bool) {
        let cluster = cluster();
        assert_eq!(
            reaches(&open(Breadth::Public, 443, &cluster), address),
            public,
            "public"
        );
        assert_eq!(
            reaches(&open(Breadth::Private, 443, &cluster), address),
            private,
            "private"
        );
        if !address.to_string().starts_with("::ffff:") {
            assert_eq!(is_forbidden(address, 443, &cluster), !private, "forbidden");
            assert_eq!(
                is_private(address, &cluster) && !is_forbidden(address, 443, &cluster),
                private && !public
            );
        }
    }

    #[rstest]
    #[case::on_its_port("10.0.0.9", 6443, false)]
    #[case::an_ingress_beside_it("10.0.0.9", 443, true)]
    #[case::by_nat64("64:ff9b::a00:9", 6443, false)]
    #[case::its_neighbour("10.0.0.8", 6443, true)]
    #[case::on_any_port("10.0.0.10", 443, false)]
    #[case::in_ipv6("fd12::9", 6443, false)]
    fn where_the_api_server_listens_is_closed(
        #[case] address: IpAddr,
        #[case] port: u16,
        #[case] open_there: bool,
    ) {
        let cluster = Cluster {
            api_endpoints: [
                ("10.0.0.9".parse().unwrap(), Some(6443)),
                ("10.0.0.10".parse().unwrap(), None),
                ("fd12::9".parse().unwrap(), Some(6443)),
            ]
            .into(),
            ..Cluster::default()
        };
        assert_eq!(
            reaches(&open(Breadth::Private, port, &cluster), address),
            open_there
        );
        assert_eq!(is_forbidden(address, port, &cluster), !open_there);
    }

    #[test]
    fn a_cluster_in_all_of_ipv4_leaves_nothing_of_it() {
        let cluster = Cluster {
            pod_cidrs: ranges(&["0.0.0.0/0"]),
            ..Cluster::default()
        };
        let peers = open(Breadth::Public, 443, &cluster);
        assert!(!reaches(&peers, "93.184.216.34".parse().unwrap()));
        assert!(reaches(&peers, "2606:4700::1111".parse().unwrap()));
    }

    #[test]
    fn host_bits_in_a_setting_do_not_matter() {
        let cluster = Cluster {
            pod_cidrs: ranges(&["20.0.3.4/16"]),
            ..Cluster::default()
        };
        let peers = open(Breadth::Public, 443, &cluster);
        let except = peers[0].ip_block.as_ref().unwrap().except.clone().unwrap();
        assert!(except.contains(&"20.0.0.0/16".to_owned()), "{except:?}");
    }

    proptest! {
        #[test]
        fn exceptions_lie_truly_within_their_range_and_not_within_each_other(
            pods in prop::collection::vec((any::<u32>(), 1u8..=32), 0..4),
            services in prop::collection::vec((any::<u128>(), 1u8..=128), 0..4),
            private: bool,
        ) {
            let cluster = Cluster {
                pod_cidrs: pods.iter().map(|(bits, len)| IpNet::V4(Ipv4Net::new((*bits).into(), *len).unwrap())).collect(),
                service_cidrs: services.iter().map(|(bits, len)| IpNet::V6(Ipv6Net::new((*bits).into(), *len).unwrap())).collect(),
                ..Cluster::default()
            };
            let breadth = if private { Breadth::Private } else { Breadth::Public };
            for peer in open(breadth, 443, &cluster) {
                let block = peer.ip_block.unwrap();
                let base: IpNet = block.cidr.parse().unwrap();
                let except: Vec<IpNet> = block.except.unwrap_or_default().iter().map(|text| text.parse().unwrap()).collect();
                for (at, one) in except.iter().enumerate() {
                    prop_assert!(base.contains(one) && base != *one, "{one} in {base}");
                    prop_assert_eq!(one.trunc(), *one);
                    for (other_at, other) in except.iter().enumerate() {
                        prop_assert!(at == other_at || !other.contains(one), "{} within {}", one, other);
                    }
                }
            }
        }
    }
}
