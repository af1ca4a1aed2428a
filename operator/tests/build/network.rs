//! Who may reach what: the policies of the worlds, asked about connections that matter.

use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::Value;

use crate::policy::{Cluster, End, Pod};
use crate::worlds::{everything, label, rendered, settings};

type Labels = BTreeMap<String, String>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn pod(address: &str, namespace: &str, pairs: &[(&str, &str)], ports: &[(&str, u16)]) -> End {
    End {
        address: address.parse().unwrap(),
        pod: Some(Pod {
            namespace: namespace.to_owned(),
            labels: labels(pairs),
            ports: ports
                .iter()
                .map(|(name, port)| ((*name).to_owned(), *port))
                .collect(),
        }),
    }
}

/// Pods and places that the tables below name.
fn end(name: &str) -> End {
    let gateway = |address, namespace, name: &str| {
        pod(
            address,
            namespace,
            &[("portcullis.dev/gateway", name)],
            &[("mcp", 8443), ("metrics", 9090), ("status", 9091), ("peer", 9443)],
        )
    };
    let server = |address, namespace, name: &str, port| {
        pod(
            address,
            namespace,
            &[("portcullis.dev/server", name)],
            &[("mcp", port)],
        )
    };
    match name {
        "tools" => gateway("10.244.0.1", "agents", "tools"),
        "tools-2" => gateway("10.244.0.2", "agents", "tools"),
        "other-gateway" => gateway("10.244.0.3", "agents", "limited"),
        "same-name-elsewhere" => gateway("10.244.0.4", "evil", "tools"),
        "edge" => gateway("10.244.0.5", "platform", "edge"),
        "dev" => gateway("10.244.0.6", "lab", "dev"),
        "files" => server("10.244.1.1", "agents", "files", 8080),
        "scratch" => server("10.244.1.2", "lab", "scratch", 9999),
        "both" => server("10.244.1.3", "lab", "both", 8000),
        "search" => pod(
            "10.244.1.4",
            "agents",
            &[("app", "search")],
            &[("http", 8081), ("metrics", 9090)],
        ),
        "catalog" => pod(
            "10.244.1.5",
            "team",
            &[("app", "catalog"), ("tier", "mcp")],
            &[("https", 8443)],
        ),
        "catalog-other-tier" => pod("10.244.1.6", "team", &[("app", "catalog"), ("tier", "web")], &[]),
        "legacy-pod" => pod("10.244.1.7", "team", &[("legacy", "yes")], &[]),
        "neighbour" => pod("10.244.2.1", "agents", &[("app", "agent")], &[("http", 8080)]),
        "stranger" => pod("10.244.2.2", "elsewhere", &[("app", "agent")], &[("http", 8080)]),
        "operator" => pod(
            "10.244.3.1",
            "portcullis-system",
            &[
                ("app.kubernetes.io/name", "portcullis"),
                ("app.kubernetes.io/component", "operator"),
                ("pod-template-hash", "x"),
            ],
            &[],
        ),
        "not-the-operator" => pod(
            "10.244.3.2",
            "portcullis-system",
            &[("app.kubernetes.io/name", "portcullis")],
            &[],
        ),
        "fake-operator" => pod(
            "10.244.3.3",
            "agents",
            &[
                ("app.kubernetes.io/name", "portcullis"),
                ("app.kubernetes.io/component", "operator"),
            ],
            &[],
        ),
        "prometheus" => pod("10.244.4.1", "monitoring", &[("app", "prometheus")], &[]),
        "grafana" => pod("10.244.4.2", "monitoring", &[("app", "grafana")], &[]),
        "dns" => pod("10.244.5.1", "kube-system", &[("k8s-app", "kube-dns")], &[]),
        "kube-system-pod" => pod("10.244.5.2", "kube-system", &[("k8s-app", "metrics-server")], &[]),
        "client-a" => pod("10.244.6.1", "team-a", &[], &[]),
        address => End {
            address: address
                .parse()
                .unwrap_or_else(|_| panic!("nobody called {address}")),
            pod: None,
        },
    }
}

fn permits(world: &str, from: &str, to: &str, port: u16, protocol: &str) -> bool {
    let objects = &rendered(world).objects;
    let mut namespaces: BTreeMap<String, Labels> = [
        "agents",
        "platform",
        "lab",
        "team",
        "evil",
        "elsewhere",
        "portcullis-system",
        "monitoring",
        "kube-system",
    ]
    .iter()
    .map(|name| {
        (
            (*name).to_owned(),
            labels(&[("kubernetes.io/metadata.name", name)]),
        )
    })
    .collect();
    namespaces.insert(
        "team-a".into(),
        labels(&[("kubernetes.io/metadata.name", "team-a"), ("team", "a")]),
    );
    let cluster = Cluster {
        policies: objects
            .iter()
            .filter(|object| object["kind"] == "NetworkPolicy")
            .collect(),
        namespaces,
    };
    cluster.permits(&end(from), &end(to), port, protocol)
}

#[rstest]
// Who reaches the gateway.
#[case::a_neighbour("neighbour", "tools", 8443, true)]
#[case::a_stranger("stranger", "tools", 8443, false)]
#[case::an_address("192.0.2.1", "tools", 8443, false)]
#[case::a_neighbour_on_metrics("neighbour", "tools", 9090, false)]
#[case::a_neighbour_on_status("neighbour", "tools", 9091, false)]
#[case::a_neighbour_on_the_peer_port("neighbour", "tools", 9443, false)]
#[case::a_neighbour_on_another_port("neighbour", "tools", 22, false)]
#[case::the_operator_on_status("operator", "tools", 9091, true)]
#[case::the_operator_on_metrics("operator", "tools", 9090, false)]
#[case::the_operator_as_a_client("operator", "tools", 8443, false)]
#[case::its_namespace_is_not_enough("not-the-operator", "tools", 9091, false)]
#[case::its_labels_are_not_enough("fake-operator", "tools", 9091, false)]
#[case::monitoring("prometheus", "tools", 9090, true)]
#[case::not_all_of_monitoring("grafana", "tools", 9090, false)]
#[case::monitoring_on_status("prometheus", "tools", 9091, false)]
#[case::a_replica("tools-2", "tools", 9443, true)]
#[case::a_replica_on_status("tools-2", "tools", 9091, false)]
#[case::another_gateway_is_no_replica("other-gateway", "tools", 9443, false)]
#[case::a_namesake_is_no_replica("same-name-elsewhere", "tools", 9443, false)]
#[case::a_server_is_no_client("files", "tools", 8443, false)]
// What the gateway reaches.
#[case::its_server("tools", "files", 8080, true)]
#[case::another_port_of_its_server("tools", "files", 9999, false)]
#[case::a_named_port_of_a_service("tools", "search", 8081, true)]
#[case::the_port_of_the_service_itself("tools", "search", 8080, false)]
#[case::another_port_of_those_pods("tools", "search", 9090, false)]
#[case::the_internet("tools", "93.184.216.34", 443, true)]
#[case::the_internet_on_another_port("tools", "93.184.216.34", 80, false)]
#[case::the_company_since_the_key_set_is_there("tools", "10.1.2.3", 443, true)]
#[case::metadata("tools", "169.254.169.254", 443, false)]
#[case::metadata_in_shared_space("tools", "100.100.100.200", 443, false)]
#[case::the_api_service("tools", "10.96.0.1", 443, false)]
#[case::the_api_server("tools", "172.30.0.10", 443, false)]
#[case::the_api_server_on_its_port("tools", "172.30.0.10", 6443, false)]
#[case::loopback("tools", "127.0.0.1", 443, false)]
#[case::a_neighbour_is_no_upstream("tools", "neighbour", 8080, false)]
// What a server reaches, and who reaches it.
#[case::out_of_a_server("files", "93.184.216.34", 443, false)]
#[case::from_a_server_to_the_api("files", "10.96.0.1", 443, false)]
#[case::from_a_server_to_metadata("files", "169.254.169.254", 80, false)]
#[case::from_a_server_to_a_neighbour("files", "neighbour", 8080, false)]
#[case::from_a_server_to_its_like("files", "files", 8080, false)]
#[case::a_server_past_the_gateway("neighbour", "files", 8080, false)]
#[case::a_server_from_elsewhere("stranger", "files", 8080, false)]
#[case::a_server_from_another_gateway("other-gateway", "files", 8080, false)]
#[case::a_server_from_a_namesake_of_its_gateway("same-name-elsewhere", "files", 8080, false)]
#[case::a_server_from_the_operator("operator", "files", 8080, false)]
// A fence around somebody else's pods.
#[case::past_the_fence("neighbour", "search", 8081, false)]
#[case::what_fenced_pods_reach_is_their_business("search", "93.184.216.34", 443, true)]
fn in_the_world_of_tokens(#[case] from: &str, #[case] to: &str, #[case] port: u16, #[case] expected: bool) {
    assert_eq!(
        permits("jwt", from, to, port, "TCP"),
        expected,
        "{from} to {to}:{port}"
    );
}

#[rstest]
#[case::names("tools", "dns", 53, "UDP", true)]
#[case::long_answers("tools", "dns", 53, "TCP", true)]
#[case::not_all_of_kube_system("tools", "kube-system-pod", 53, "UDP", false)]
#[case::not_anybodys_dns("tools", "8.8.8.8", 53, "UDP", false)]
#[case::no_names_for_servers("files", "dns", 53, "UDP", false)]
#[case::quic("tools", "93.184.216.34", 443, "UDP", false)]
fn names_are_resolved_where_they_should(
    #[case] from: &str,
    #[case] to: &str,
    #[case] port: u16,
    #[case] protocol: &str,
    #[case] expected: bool,
) {
    assert_eq!(
        permits("jwt", from, to, port, protocol),
        expected,
        "{from} to {to}:{port}/{protocol}"
    );
}

#[rstest]
// edge: plaintext on 8080, whose ingressFrom selects namespaces by a label
#[case::a_client_of_a_chosen_namespace("client-a", "edge", 8080, true)]
#[case::its_own_namespace_is_not_chosen("edge", "edge", 8080, false)]
#[case::the_port_of_tls("client-a", "edge", 8443, false)]
#[case::a_headless_service_across_namespaces("edge", "catalog", 8443, true)]
#[case::by_all_of_its_labels("edge", "catalog-other-tier", 8443, false)]
#[case::an_address_behind_a_service("edge", "10.9.8.7", 8080, true)]
#[case::an_address_that_is_not_ready("edge", "10.9.8.6", 8080, true)]
#[case::its_neighbour("edge", "10.9.8.5", 8080, false)]
#[case::the_port_of_the_service("edge", "10.9.8.7", 80, false)]
#[case::a_literal_key_set("edge", "10.20.30.40", 8443, true)]
#[case::next_to_the_key_set("edge", "10.20.30.41", 8443, false)]
#[case::the_tickets("edge", "93.184.216.34", 8443, true)]
#[case::a_token_endpoint_in_the_companys_network("edge", "10.20.30.41", 8444, true)]
#[case::a_token_endpoint_is_no_metadata_service("edge", "169.254.169.254", 8444, false)]
#[case::nothing_else_on_the_internet("edge", "93.184.216.34", 443, false)]
#[case::names_lead_out_of_the_cluster("edge", "10.244.9.9", 8443, false)]
#[case::a_refused_server_is_not_reached("edge", "both", 8000, false)]
#[case::the_api_behind_a_service("edge", "172.30.0.10", 6443, false)]
// lab
#[case::its_own_server("dev", "scratch", 9999, true)]
#[case::not_the_withheld_one("dev", "both", 8000, false)]
#[case::withheld_is_shut_in("both", "93.184.216.34", 443, false)]
#[case::a_gateway_of_another_namespace("edge", "scratch", 9999, false)]
// a fence with no port to open lets nobody in
#[case::a_fence_without_port("edge", "legacy-pod", 8080, false)]
fn in_the_wide_world(#[case] from: &str, #[case] to: &str, #[case] port: u16, #[case] expected: bool) {
    assert_eq!(
        permits("wide", from, to, port, "TCP"),
        expected,
        "{from} to {to}:{port}"
    );
}

#[test]
fn every_pod_is_selected_by_a_policy_for_what_it_is_sent() {
    for (world, _) in crate::worlds::WORLDS {
        let objects = &rendered(world).objects;
        for deployment in objects.iter().filter(|object| object["kind"] == "Deployment") {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let fenced = objects.iter().any(|policy| {
                policy["kind"] == "NetworkPolicy"
                    && policy["metadata"]["namespace"] == deployment["metadata"]["namespace"]
                    && policy["spec"]["policyTypes"] == serde_json::json!(["Ingress", "Egress"])
                    && policy["spec"]["podSelector"]["matchLabels"]
                        .as_object()
                        .is_some_and(|wanted| {
                            !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value)
                        })
            });
            assert!(fenced, "{world}: {}", label(deployment));
        }
    }
}

/// An empty list in a policy means everybody, or everything.
#[test]
fn no_rule_has_an_empty_list() {
    for (world, policy) in everything(&settings()) {
        if policy["kind"] != "NetworkPolicy" {
            continue;
        }
        for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in policy["spec"][rules].as_array().into_iter().flatten() {
                for list in [peers, "ports"] {
                    let filled = rule[list].as_array().is_some_and(|list| !list.is_empty());
                    assert!(filled, "{world}: {}: {rules} without {list}", label(&policy));
                }
                for port in rule["ports"].as_array().unwrap() {
                    assert!(
                        !port["port"].is_null() && port["protocol"].is_string(),
                        "{world}: {}",
                        label(&policy)
                    );
                }
                for peer in rule[peers].as_array().unwrap() {
                    assert!(
                        peer.as_object().is_some_and(|peer| !peer.is_empty()),
                        "{world}: {}",
                        label(&policy)
                    );
                }
            }
        }
    }
}

/// The selector of a policy is that of the pods, which is that of the Deployment and of the Services.
#[test]
fn selectors_agree() {
    for (world, _) in crate::worlds::WORLDS {
        let objects = &rendered(world).objects;
        for deployment in objects.iter().filter(|object| object["kind"] == "Deployment") {
            let selector = &deployment["spec"]["selector"]["matchLabels"];
            assert_eq!(
                selector.as_object().unwrap().len(),
                1,
                "the immutable label alone"
            );
            let owner = &deployment["metadata"]["ownerReferences"][0]["name"];
            let same = |object: &&Value| {
                object["metadata"]["ownerReferences"][0]["name"] == *owner
                    && object["metadata"]["namespace"] == deployment["metadata"]["namespace"]
                    && object["metadata"]["ownerReferences"][0]["kind"]
                        == deployment["metadata"]["ownerReferences"][0]["kind"]
            };
            for object in objects.iter().filter(same) {
                let place = format!("{world}: {}", label(object));
                match object["kind"].as_str().unwrap() {
                    "Service" => assert_eq!(object["spec"]["selector"], *selector, "{place}"),
                    "NetworkPolicy" => {
                        assert_eq!(object["spec"]["podSelector"]["matchLabels"], *selector, "{place}");
                    }
                    "PodDisruptionBudget" => {
                        assert_eq!(object["spec"]["selector"]["matchLabels"], *selector, "{place}");
                    }
                    _ => {}
                }
            }
        }
    }
}
