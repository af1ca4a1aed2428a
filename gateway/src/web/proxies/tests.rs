use http::HeaderValue;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn proxies(only: bool) -> Proxies {
    let network = format!(
        "{{trustedProxies: [{{cidr: 10.0.0.0/8, mode: XForwardedFor}}, {{cidr: '2001:db8::/32', mode: XForwardedFor}}, \
         {{cidr: 10.9.0.0/16, mode: ProxyProtocol}}], onlyFromProxies: {only}}}"
    );
    Proxies::new(&serde_yaml::from_str(&network).unwrap())
}

fn lines(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
    }
    headers
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[rstest]
#[case::direct("192.0.2.1", &[], Ok("192.0.2.1"))]
#[case::spoofed("192.0.2.1", &["203.0.113.9"], Ok("192.0.2.1"))]
#[case::spoofed_garbage("192.0.2.1", &["nonsense"], Ok("192.0.2.1"))]
#[case::one_proxy("10.0.0.1", &["203.0.113.9"], Ok("203.0.113.9"))]
#[case::mapped_peer("::ffff:10.0.0.1", &["203.0.113.9"], Ok("203.0.113.9"))]
#[case::client_says_more("10.0.0.1", &["127.0.0.1, 203.0.113.9"], Ok("203.0.113.9"))]
#[case::client_says_nonsense("10.0.0.1", &["<script>, 203.0.113.9"], Ok("203.0.113.9"))]
#[case::client_says_a_line("10.0.0.1", &["127.0.0.1", "203.0.113.9"], Ok("203.0.113.9"))]
#[case::two_proxies("10.0.0.1", &["127.0.0.1, 203.0.113.9, 10.0.0.2"], Ok("203.0.113.9"))]
#[case::two_lines("10.0.0.1", &["203.0.113.9", "10.0.0.2"], Ok("203.0.113.9"))]
#[case::both_kinds("10.0.0.1", &["203.0.113.9, 10.9.0.2"], Ok("203.0.113.9"))]
#[case::six("2001:db8::1", &["2001:db8:0:1::2, 2001:db9::5, 2001:db8::2"], Ok("2001:db9::5"))]
#[case::ports("10.0.0.1", &["203.0.113.9:1234, [2001:db8::2]:80,10.0.0.3:1"], Ok("203.0.113.9"))]
#[case::bracketed("10.0.0.1", &["[2001:db9::5]"], Ok("2001:db9::5"))]
#[case::mapped_hop("10.0.0.1", &["::ffff:203.0.113.9"], Ok("203.0.113.9"))]
#[case::proxies_only("10.0.0.1", &["10.0.0.3, 10.0.0.2"], Ok("10.0.0.1"))]
#[case::nothing_said("10.0.0.1", &[], Ok("10.0.0.1"))]
#[case::other_mode("10.9.0.1", &["203.0.113.9"], Ok("10.9.0.1"))]
#[case::unknown("10.0.0.1", &["unknown"], Err(Unreadable))]
#[case::empty("10.0.0.1", &[""], Err(Unreadable))]
#[case::empty_hop("10.0.0.1", &["203.0.113.9,"], Err(Unreadable))]
#[case::hidden("10.0.0.1", &["203.0.113.9, _hidden, 10.0.0.2"], Err(Unreadable))]
#[case::number("10.0.0.1", &["3405803785"], Err(Unreadable))]
#[case::octal("10.0.0.1", &["203.0.113.011"], Err(Unreadable))]
#[case::zone("10.0.0.1", &["fe80::1%eth0"], Err(Unreadable))]
fn the_client_is_the_first_that_is_not_trusted(
    #[case] source: &str,
    #[case] said: &[&str],
    #[case] want: Result<&str, Unreadable>,
) {
    assert_eq!(
        proxies(false).client(address(source), &lines(said)),
        want.map(address)
    );
}

#[test]
fn so_many_proxies_are_too_many() {
    let list = |count: usize| vec!["10.0.0.2"; count].join(",");
    let client = |count| proxies(false).client(address("10.0.0.1"), &lines(&[&list(count)]));
    assert_eq!(client(MAX_HOPS), Ok(address("10.0.0.1")));
    assert_eq!(client(MAX_HOPS + 1), Err(Unreadable));
}

#[rstest]
#[case("10.9.0.1", false, Arrival::Announced)]
#[case("10.9.0.1", true, Arrival::Announced)]
#[case("10.0.0.1", true, Arrival::Direct)]
#[case("::ffff:10.0.0.1", true, Arrival::Direct)]
#[case("192.0.2.1", false, Arrival::Direct)]
#[case("192.0.2.1", true, Arrival::Refused)]
#[case("127.0.0.1", true, Arrival::Refused)]
fn the_most_specific_range_says_how_a_connection_begins(
    #[case] peer: &str,
    #[case] only: bool,
    #[case] want: Arrival,
) {
    assert_eq!(proxies(only).arrival(address(peer)), want);
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_canonical()),
    ]
}

proptest! {
    #[test]
    fn it_is_always_the_peer_or_the_right_most_hop_outside(
        source in any_address(),
        hops in prop::collection::vec(any_address(), 0..20),
        cuts in prop::collection::vec(any::<bool>(), 20),
    ) {
        let mut said: Vec<String> = Vec::new();
        for (hop, cut) in hops.iter().zip(&cuts) {
            match said.last_mut() {
                Some(line) if !cut => *line = format!("{line}, {hop}"),
                _ => said.push(hop.to_string()),
            }
        }
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let proxies = proxies(false);
        let client = proxies.client(source, &lines(&said)).unwrap();
        let outside = |address: &IpAddr| proxies.mode(*address).is_none();
        let want = if proxies.mode(source) == Some(ProxyMode::XForwardedFor) {
            hops.iter().rev().copied().find(outside).unwrap_or(source)
        } else {
            source
        };
        prop_assert_eq!(client, want);
    }

    #[test]
    fn whoever_is_not_trusted_says_nothing(
        source in any_address(),
        said in prop::collection::vec("[ -~]{0,40}", 0..4),
    ) {
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let proxies = proxies(false);
        prop_assume!(proxies.mode(source) != Some(ProxyMode::XForwardedFor));
        prop_assert_eq!(proxies.client(source, &lines(&said)), Ok(source));
    }
}
