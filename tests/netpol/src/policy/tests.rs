use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn read(spec: Value) -> Policy {
    let object = json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": spec});
    Policy::read(&serde_json::from_value(object).unwrap())
}

/// The only ingress rule of a policy with that rule.
fn rule(rule: Value) -> (Rule, Vec<String>) {
    let policy = read(json!({"podSelector": {}, "ingress": [rule]}));
    (policy.ingress.unwrap().remove(0), policy.problems)
}

fn net(text: &str) -> Ranges {
    Ranges::net(text.parse().unwrap())
}

#[rstest]
#[case::nothing_said(json!({}), true, false)]
#[case::ingress_rules(json!({"ingress": [{}]}), true, false)]
#[case::egress_rules(json!({"egress": [{}]}), true, true)]
#[case::empty_egress_list(json!({"egress": []}), true, false)]
#[case::types_ingress(json!({"policyTypes": ["Ingress"], "egress": [{}]}), true, false)]
#[case::types_egress(json!({"policyTypes": ["Egress"], "ingress": [{}]}), false, true)]
#[case::types_both(json!({"policyTypes": ["Ingress", "Egress"]}), true, true)]
fn types_and_their_defaults(#[case] spec: Value, #[case] ingress: bool, #[case] egress: bool) {
    let policy = read(spec);
    assert_eq!(policy.ingress.is_some(), ingress);
    assert_eq!(policy.egress.is_some(), egress);
}

#[rstest]
#[case::absent(json!({}))]
#[case::empty(json!({"from": [], "ports": []}))]
fn no_list_means_any(#[case] given: Value) {
    let any = Rule {
        peers: None,
        ports: None,
    };
    assert_eq!(rule(given), (any, vec![]));
}

#[test]
fn pod_peers() {
    let (read, problems) = rule(json!({"from": [
        {"podSelector": {}},
        {"namespaceSelector": {}},
        {"namespaceSelector": {"matchLabels": {"a": "1"}}, "podSelector": {"matchLabels": {"b": "2"}}},
    ]}));
    let all = Selector::default;
    let labelled = |key: &str, value: &str| {
        let label = json!({"matchLabels": {key: value}});
        Selector::parse(&serde_json::from_value(label).unwrap()).unwrap()
    };
    assert_eq!(
        read.peers.unwrap(),
        [
            Peer::Pods(Namespaces::Own, all()),
            Peer::Pods(Namespaces::Matching(all()), all()),
            Peer::Pods(Namespaces::Matching(labelled("a", "1")), labelled("b", "2")),
        ]
    );
    assert!(problems.is_empty());
}

#[test]
fn blocks_lose_their_exceptions() {
    let (read, problems) = rule(json!({"from": [
        {"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.0/32", "10.0.0.3/32"]}},
    ]}));
    let expected = net("10.0.0.1/32").union(&net("10.0.0.2/32"));
    assert_eq!(read.peers.unwrap(), [Peer::Block(expected)]);
    assert!(problems.is_empty());
}

#[test]
fn ipv6_blocks_match_nobody_rather_than_anybody() {
    let (read, problems) = rule(json!({"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}));
    assert_eq!(read.peers, Some(vec![]));
    assert!(problems.is_empty());
}

#[test]
fn ports_of_each_form() {
    let (read, problems) = rule(json!({"ports": [
        {"port": 80},
        {"protocol": "UDP", "port": 1000, "endPort": 2000},
        {"protocol": "SCTP"},
        {"port": "web"},
    ]}));
    assert_eq!(
        read.ports.unwrap(),
        [
            Port::Numbers(Protocol::Tcp, 80, 80),
            Port::Numbers(Protocol::Udp, 1000, 2000),
            Port::Any(Protocol::Sctp),
            Port::Named(Protocol::Tcp, "web".to_owned()),
        ]
    );
    assert!(problems.is_empty());
}

#[rstest]
#[case::bad_block(json!({"from": [{"ipBlock": {"cidr": "ten"}}]}))]
#[case::bad_exception(json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}]}))]
#[case::empty_peer(json!({"from": [{}]}))]
#[case::bad_operator(json!({"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}]}))]
fn an_unreadable_peer_allows_nobody(#[case] given: Value) {
    let (read, problems) = rule(given);
    assert_eq!(read.peers, Some(vec![]));
    assert_eq!(problems.len(), 1);
}

#[rstest]
#[case::zero(json!({"port": 0}))]
#[case::too_large(json!({"port": 65536}))]
#[case::backwards(json!({"port": 80, "endPort": 79}))]
#[case::end_beyond(json!({"port": 80, "endPort": 70000}))]
#[case::end_of_name(json!({"port": "web", "endPort": 90}))]
#[case::end_alone(json!({"endPort": 90}))]
#[case::protocol(json!({"protocol": "ICMP"}))]
fn an_unreadable_port_allows_nothing(#[case] given: Value) {
    let (read, problems) = rule(json!({"ports": [given]}));
    assert_eq!(read.ports, Some(vec![]));
    assert_eq!(problems.len(), 1);
}

#[test]
fn an_unreadable_pod_selector_selects_the_whole_namespace() {
    let policy = read(json!({
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]},
    }));
    assert!(policy.applies_to("ns", &Labels::new()));
    assert!(!policy.applies_to("other", &Labels::new()));
    assert_eq!(policy.problems.len(), 1);
}
