//! What each kind of policy becomes.

use super::fixtures::{network, pod, pods, policy, rendered, table_of};
use insta::assert_snapshot;
use portcullis_netpol::render::render;
use portcullis_netpol::table::Table;
use serde_json::{Value, json};

/// Every policy whose table is kept as a snapshot, by the snapshot's name.
pub(crate) fn policies() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("no_policy", vec![]),
        (
            "deny_all_both_ways",
            vec![policy(
                "x",
                "deny",
                json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            )],
        ),
        (
            "ingress_from_pods",
            vec![policy(
                "x",
                "from-pods",
                json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [
                    {"from": [
                        {"podSelector": {"matchLabels": {"app": "b"}}},
                        {"namespaceSelector": {"matchExpressions": [
                            {"key": "ns", "operator": "NotIn", "values": ["x"]}]},
                         "podSelector": {"matchLabels": {"app": "a"}}},
                    ], "ports": [{"port": 80}, {"port": 81}, {"port": 1000, "endPort": 2000},
                                 {"protocol": "UDP", "port": 53}, {"protocol": "SCTP"}]},
                ]}),
            )],
        ),
        (
            "blocks_and_exceptions",
            vec![policy(
                "x",
                "blocks",
                json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
                    {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["198.18.0.0/24", "198.18.255.2/32"]}}]},
                    {"to": [{"ipBlock": {"cidr": "198.18.0.0/24", "except": ["198.18.0.8/32"]}}],
                     "ports": [{"port": 443}]},
                    {"to": [{"ipBlock": {"cidr": "fd00::/8"}}]},
                ]}),
            )],
        ),
        (
            "named_ports",
            vec![
                policy(
                    "x",
                    "in",
                    json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [
                        {"from": [{"podSelector": {}}], "ports": [{"port": "web"}]},
                        {"ports": [{"port": "dns", "protocol": "UDP"}, {"port": "none"}]},
                    ]}),
                ),
                policy(
                    "x",
                    "out",
                    json!({"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"], "egress": [
                        {"to": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}],
                         "ports": [{"port": "web"}, {"port": 9000}]},
                        {"ports": [{"port": "dns"}]},
                    ]}),
                ),
            ],
        ),
        (
            "several_policies_on_one_pod",
            vec![
                policy("x", "deny", json!({"podSelector": {}})),
                policy(
                    "x",
                    "allow-a",
                    json!({"podSelector": {"matchLabels": {"app": "a"}},
                           "ingress": [{"from": [{"namespaceSelector": {}}]}]}),
                ),
                policy(
                    "y",
                    "deny",
                    json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}),
                ),
                policy(
                    "y",
                    "selects-nobody",
                    json!({"podSelector": {"matchLabels": {"app": "z"}}}),
                ),
            ],
        ),
    ]
}

#[test]
fn snapshots() {
    for (name, given) in policies() {
        assert_snapshot!(name, rendered(given));
    }
    assert_snapshot!("fence", render(&Table::fence(network())));
}

#[test]
fn the_order_of_objects_does_not_show() {
    for (name, mut given) in policies() {
        let expected = rendered(given.clone());
        given.reverse();
        let mut turned = pods();
        turned.reverse();
        assert_eq!(render(&table_of(turned, given)), expected, "{name}");
    }
}

#[test]
fn a_policy_in_another_namespace_selects_nobody_here() {
    let table = table_of(pods(), vec![policy("z", "deny", json!({"podSelector": {}}))]);
    assert!(table.isolated().is_empty());
}

#[test]
fn a_pod_of_an_unknown_namespace_is_no_peer_by_its_namespace() {
    let mut all = pods();
    all.push(pod("new", "a", "198.18.0.9"));
    let spec = json!({"podSelector": {"matchLabels": {"app": "a"}},
                      "ingress": [{"from": [{"namespaceSelector": {}}]}]});
    let table = table_of(all, vec![policy("x", "any-namespace", spec)]);
    let known: Vec<_> = table.peers.first().unwrap().addresses().collect();
    assert_eq!(known, ["198.18.0.5-198.18.0.8"]);
}

#[test]
fn a_finished_pods_address_belongs_to_its_next_holder() {
    let mut done = pod("x", "a", "198.18.0.5");
    *done.pointer_mut("/status/phase").unwrap() = json!("Succeeded");
    let next = pod("y", "b", "198.18.0.5");
    let deny_x = policy("x", "deny", json!({"podSelector": {}}));
    let table = table_of(vec![done, next], vec![deny_x]);
    assert_eq!(table.pods.len(), 1);
    assert!(table.isolated().is_empty());
}

#[test]
fn a_hundred_pods_under_one_policy_share_their_chains() {
    let many = (1..=100).map(|n| pod("x", &format!("p{n}"), &format!("198.18.0.{n}")));
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]});
    let table = table_of(many.collect(), vec![policy("x", "same-namespace", spec)]);
    assert_eq!(table.ingress.groups.len(), 1);
    assert_eq!(table.ingress.policies.len(), 1);
    assert_eq!(table.peers.len(), 1);
    let rules = render(&table).lines().filter(|l| l.contains("jump")).count();
    assert_eq!(rules, 1);
}
