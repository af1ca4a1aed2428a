//! Packets against the tables, in namespaces: above all what Kubernetes' own suite does not ask.

use std::net::Ipv4Addr;

use portcullis_netpol::render::{removal, render};
use serde_json::{Value, json};

use super::fixtures::{network, pod, pods, policy, rendered, table_of};
use super::lab::{A, B, C, Lab, OUTSIDE};
use super::loads::unavailable;

/// Addresses that the node translates to pods' addresses, as kube-proxy does for services.
const SERVICE_A: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 5);
const SERVICE_B: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 6);
const SERVICE_NODE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

fn lab() -> Option<Lab> {
    if let Some(reason) = unavailable() {
        eprintln!("SKIPPED: needs root, ip and nft: {reason}");
        return None;
    }
    let lab = Lab::new();
    let node = network().node_ip;
    // Port 1080 of a service is port 80 of what is behind it, and 1081 is 81.
    lab.nft(&format!(
        "table ip services {{
           chain prerouting {{
             type nat hook prerouting priority dstnat;
             ip daddr {SERVICE_A} tcp dport 1080 dnat to {A}:80
             ip daddr {SERVICE_B} tcp dport 1080 dnat to {B}:80
             ip daddr {SERVICE_B} tcp dport 1081 dnat to {B}:81
             ip daddr {SERVICE_NODE} tcp dport 1080 dnat to {node}:80
           }}
           chain postrouting {{
             type nat hook postrouting priority srcnat;
             ip saddr {A} ip daddr {A} masquerade
           }}
         }}
         {}",
        rendered(vec![])
    ));
    Some(lab)
}

/// Isolates pod `a` of namespace `x` in a direction, but for these rules.
fn isolate(direction: &str, rules: Value) -> Value {
    let mut spec = json!({
        "podSelector": {"matchLabels": {"app": "a"}},
        "policyTypes": [direction],
    });
    spec[direction.to_lowercase()] = rules;
    policy("x", "isolate", spec)
}

#[test]
fn without_policies_everything_passes() {
    let Some(lab) = lab() else { return };
    let node = network().node_ip;
    assert!(lab.tcp("a", B, 80) && lab.udp("a", B, 80));
    assert!(lab.tcp("a", node, 80) && lab.tcp("a", OUTSIDE, 80));
    assert!(lab.tcp("node", A, 80) && lab.tcp("out", A, 80));
    assert!(lab.tcp("a", SERVICE_A, 1080) && lab.tcp("a", SERVICE_B, 1081));
    assert!(lab.tcp("a", SERVICE_NODE, 1080));
}

#[test]
fn ingress_isolation_stops_all_but_the_node_and_the_pod_itself() {
    let Some(lab) = lab() else { return };
    lab.nft(&rendered(vec![isolate("Ingress", json!([]))]));
    assert!(!lab.tcp("b", A, 80) && !lab.udp("b", A, 80));
    assert!(!lab.tcp("b", SERVICE_A, 1080));
    // The host end of the node's link is neither a pod nor the node.
    assert!(!lab.tcp("out", A, 80));
    assert!(lab.tcp("node", A, 80) && lab.udp("node", A, 80));
    assert!(lab.tcp("a", SERVICE_A, 1080), "a pod reaches itself");
    assert!(lab.tcp("a", B, 80) && lab.tcp("a", OUTSIDE, 80));
}

#[test]
fn egress_isolation_covers_pods_the_node_and_the_outside() {
    let Some(lab) = lab() else { return };
    let node = network().node_ip;
    lab.nft(&rendered(vec![isolate("Egress", json!([]))]));
    assert!(!lab.tcp("a", B, 80) && !lab.udp("a", B, 80));
    assert!(!lab.tcp("a", node, 80) && !lab.tcp("a", SERVICE_NODE, 1080));
    assert!(!lab.tcp("a", OUTSIDE, 80));
    assert!(lab.tcp("a", SERVICE_A, 1080), "a pod reaches itself");
    assert!(lab.tcp("b", A, 80) && lab.tcp("node", A, 80) && lab.tcp("out", A, 80));
    assert!(lab.tcp("b", node, 80));
}

#[test]
fn both_ends_have_a_say() {
    let Some(lab) = lab() else { return };
    let allow_b = json!([{"to": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]);
    let b_denies = policy(
        "x",
        "b-denies",
        json!({"podSelector": {"matchLabels": {"app": "b"}}}),
    );
    lab.nft(&rendered(vec![isolate("Egress", allow_b.clone())]));
    assert!(lab.tcp("a", B, 80));
    assert!(!lab.tcp("a", C, 80));
    lab.nft(&rendered(vec![isolate("Egress", allow_b), b_denies]));
    assert!(!lab.tcp("a", B, 80));
}

#[test]
fn services_are_judged_by_where_they_lead() {
    let Some(lab) = lab() else { return };
    let node = network().node_ip;
    lab.nft(&rendered(vec![isolate(
        "Egress",
        json!([
            {"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": 80}]},
            {"to": [{"ipBlock": {"cidr": format!("{node}/32")}}], "ports": [{"port": 80}]},
        ]),
    )]));
    assert!(lab.tcp("a", SERVICE_B, 1080) && lab.tcp("a", SERVICE_NODE, 1080));
    assert!(!lab.tcp("a", SERVICE_B, 1081));
    assert!(!lab.tcp("a", node, 81));

    let from_b = json!([{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]);
    lab.nft(&rendered(vec![isolate("Ingress", from_b)]));
    assert!(lab.tcp("b", SERVICE_A, 1080));
    assert!(!lab.tcp("c", SERVICE_A, 1080));
}

#[test]
fn ports_and_protocols_are_told_apart() {
    let Some(lab) = lab() else { return };
    let ports = json!([{"ports": [{"port": 80}, {"port": 81, "protocol": "UDP"}]}]);
    lab.nft(&rendered(vec![isolate("Ingress", ports)]));
    assert!(lab.tcp("b", A, 80) && lab.udp("b", A, 81));
    assert!(!lab.udp("b", A, 80) && !lab.tcp("b", A, 81));

    let range = json!([{"ports": [{"port": 81, "endPort": 90}]}]);
    lab.nft(&rendered(vec![isolate("Ingress", range)]));
    assert!(lab.tcp("b", A, 81));
    assert!(!lab.tcp("b", A, 80));
}

#[test]
fn blocks_and_their_exceptions() {
    let Some(lab) = lab() else { return };
    let all_but_c = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [format!("{C}/32")]}}]}]);
    lab.nft(&rendered(vec![isolate("Ingress", all_but_c)]));
    assert!(lab.tcp("b", A, 80) && lab.tcp("out", A, 80));
    assert!(!lab.tcp("c", A, 80));
}

#[test]
fn an_address_that_is_no_pods_is_cut_off_but_for_the_node() {
    let Some(lab) = lab() else { return };
    let node = network().node_ip;
    let mut known = pods();
    known.retain(|pod| pod["status"]["podIP"] != json!(A));
    lab.nft(&render(&table_of(known.clone(), vec![])));
    assert!(!lab.tcp("a", B, 80) && !lab.tcp("b", A, 80) && !lab.tcp("out", A, 80));
    assert!(!lab.tcp("a", node, 80) && !lab.tcp("a", OUTSIDE, 80));
    assert!(lab.tcp("node", A, 80), "a probe may come first");

    // Once it is known it is free, in the same step as its policies are in force.
    known.push(pod("x", "a", &A.to_string()));
    lab.nft(&render(&table_of(known, vec![])));
    assert!(lab.tcp("a", B, 80) && lab.tcp("b", A, 80));
}

#[test]
fn what_is_established_goes_on() {
    let Some(lab) = lab() else { return };
    let mut held = lab.hold("b", A, 80);
    assert!(held.answers());
    lab.nft(&rendered(vec![isolate("Ingress", json!([]))]));
    assert!(!lab.tcp("b", A, 80));
    assert!(held.answers());
}

#[test]
fn a_forged_source_is_dropped() {
    let Some(lab) = lab() else { return };
    let from_c = json!([{"from": [{"ipBlock": {"cidr": format!("{C}/32")}}]}]);
    lab.nft(&rendered(vec![isolate("Ingress", from_c)]));
    assert!(lab.udp("c", A, 80));
    assert_eq!(lab.counted("fib saddr"), 0);
    // b claims to be c.
    lab.change_address("b", B, C);
    assert!(!lab.udp("b", A, 80));
    assert!(lab.counted("fib saddr") > 0);
}

#[test]
fn the_removed_table_stops_nothing() {
    let Some(lab) = lab() else { return };
    lab.nft(&rendered(vec![isolate("Ingress", json!([]))]));
    assert!(!lab.tcp("b", A, 80));
    // The table must be there to be listed: an empty one.
    lab.nft(&format!("{}table ip portcullis_netpol\n", removal()));
    assert!(lab.tcp("b", A, 80));
}
