//! Who may talk to whom. Every pod is fenced both ways: what is not said here is denied.
//!
//! A rule with an empty list of peers or ports permits everybody or everything, so no rule is ever made from an empty
//! list, and `allow` is the only place that makes one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portcullis_config::{PORT_METRICS, PORT_PEER, PORT_PLAINTEXT, PORT_STATUS, PORT_TLS};

use super::addresses;
use super::meta::{self, Owner};
use crate::api::labels;
use crate::api::names::{gateway_child, server_child, server_fence};
use crate::api::v1alpha1 as api;
use crate::identity::Key;
use crate::settings::Settings;
use crate::validate::gateway::PublicTransport;
use crate::validate::{Port, Reach, ValidatedGateway};

/// Peers and ports of one rule, neither empty.
struct Allow {
    peers: Vec<NetworkPolicyPeer>,
    ports: Vec<NetworkPolicyPort>,
}

fn allow(peers: Vec<NetworkPolicyPeer>, ports: Vec<NetworkPolicyPort>) -> Option<Allow> {
    (!peers.is_empty() && !ports.is_empty()).then_some(Allow { peers, ports })
}

/// The policy of a gateway's pods.
pub fn gateway(owner: &Owner, gateway: &ValidatedGateway, settings: &Settings) -> NetworkPolicy {
    let name = gateway_child(&owner.identity.key.name);
    let replicas = vec![pods(owner.selector())];
    let ingress = [
        allow(
            clients(&gateway.spec().network),
            tcp(public_port(&gateway.transport)),
        ),
        allow(vec![operator(settings)], tcp(PORT_STATUS)),
        allow(settings.monitoring.clone(), tcp(PORT_METRICS)),
        allow(replicas.clone(), tcp(PORT_PEER)),
    ];
    let mut egress = vec![
        allow(settings.dns.peers.clone(), settings.dns.ports.clone()),
        allow(replicas, tcp(PORT_PEER)),
    ];
    egress.extend(destinations(gateway, settings));
    policy(owner, name, owner.selector(), ingress, Some(egress))
}

/// The policy of a server's pods: its gateways may connect to its port. It may connect to nothing, DNS included.
pub fn server<'k>(owner: &Owner, gateways: impl Iterator<Item = &'k Key>, port: u16) -> NetworkPolicy {
    let name = server_child(&owner.identity.key.name);
    let ingress = [allow(gateways.map(gateway_pods).collect(), tcp(port))];
    policy(owner, name, owner.selector(), ingress, Some(Vec::new()))
}

/// The policy of a server's pods that must not run any more: nothing in, nothing out.
pub fn closed(owner: &Owner) -> NetworkPolicy {
    let name = server_child(&owner.identity.key.name);
    policy(owner, name, owner.selector(), [], Some(Vec::new()))
}

/// The policy around pods that somebody else runs: nobody but the server's gateways may connect to them. What they
/// connect to is their owner's business.
pub fn fence<'k>(
    owner: &Owner,
    gateways: impl Iterator<Item = &'k Key>,
    pods: &api::LabelSelector,
    port: Option<&Port>,
) -> NetworkPolicy {
    let name = server_fence(&owner.identity.key.name);
    let ports = port.map(|port| vec![on(port)]).unwrap_or_default();
    let ingress = [allow(gateways.map(gateway_pods).collect(), ports)];
    policy(owner, name, pods.into(), ingress, None)
}

/// The container port of a gateway's public listener.
pub fn public_port(transport: &PublicTransport) -> u16 {
    match transport {
        PublicTransport::Tls { .. } => PORT_TLS,
        PublicTransport::Plaintext { .. } => PORT_PLAINTEXT,
    }
}

/// A policy over `pods`. Without `egress` it says nothing about what they connect to.
fn policy(
    owner: &Owner,
    name: String,
    pods: LabelSelector,
    ingress: impl IntoIterator<Item = Option<Allow>>,
    egress: Option<Vec<Option<Allow>>>,
) -> NetworkPolicy {
    let mut types = vec!["Ingress".to_owned()];
    types.extend(egress.is_some().then(|| "Egress".to_owned()));
    let into_ingress = |Allow { peers, ports }| NetworkPolicyIngressRule {
        from: Some(peers),
        ports: Some(ports),
    };
    let into_egress = |Allow { peers, ports }| NetworkPolicyEgressRule {
        to: Some(peers),
        ports: Some(ports),
    };
    NetworkPolicy {
        metadata: owner.meta(name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(types),
            ingress: Some(ingress.into_iter().flatten().map(into_ingress).collect()),
            egress: egress.map(|rules| rules.into_iter().flatten().map(into_egress).collect()),
        }),
    }
}

/// Whom the spec lets connect; its own namespace unless it says otherwise.
fn clients(network: &api::Network) -> Vec<NetworkPolicyPeer> {
    if network.ingress_from.is_empty() {
        return vec![pods(LabelSelector::default())];
    }
    network.ingress_from.iter().map(Into::into).collect()
}

fn operator(settings: &Settings) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: None,
        namespace_selector: Some(meta::namespace(&settings.operator.namespace)),
        pod_selector: Some(meta::exactly(settings.operator.pod_labels.clone())),
    }
}

fn gateway_pods(gateway: &Key) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: None,
        namespace_selector: Some(meta::namespace(&gateway.namespace)),
        pod_selector: Some(meta::exactly(labels::gateway_selector(&gateway.name))),
    }
}

/// Pods of the policy's own namespace.
fn pods(selector: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: None,
        namespace_selector: None,
        pod_selector: Some(selector),
    }
}

/// Where a gateway has to connect to, one rule for each set of ports.
fn destinations(gateway: &ValidatedGateway, settings: &Settings) -> Vec<Option<Allow>> {
    let servers = gateway.attached().flat_map(|attached| &attached.upstream.reach);
    let all: BTreeSet<&Reach> = servers.chain(&gateway.reach).collect();
    let mut by_port: BTreeMap<Port, Vec<NetworkPolicyPeer>> = BTreeMap::new();
    for reach in all {
        let (port, peers) = match reach {
            Reach::Pods {
                namespace,
                labels,
                port,
            } => (
                port.clone(),
                vec![NetworkPolicyPeer {
                    ip_block: None,
                    namespace_selector: Some(meta::namespace(namespace)),
                    pod_selector: Some(meta::exactly(labels.clone())),
                }],
            ),
            Reach::Address { address, port } => (Port::Number(*port), vec![addresses::single(*address)]),
            Reach::Name { breadth, port } => (
                Port::Number(*port),
                addresses::open(*breadth, *port, &settings.cluster),
            ),
        };
        by_port.entry(port).or_default().extend(peers);
    }
    by_port
        .into_iter()
        .map(|(port, peers)| allow(peers, vec![on(&port)]))
        .collect()
}

fn tcp(port: u16) -> Vec<NetworkPolicyPort> {
    vec![on(&Port::Number(port))]
}

fn on(port: &Port) -> NetworkPolicyPort {
    NetworkPolicyPort {
        end_port: None,
        port: Some(match port {
            Port::Number(number) => IntOrString::Int(i32::from(*number)),
            Port::Name(name) => IntOrString::String(name.clone()),
        }),
        protocol: Some("TCP".to_owned()),
    }
}
