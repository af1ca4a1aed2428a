//! What the operator is told about itself and about the cluster it runs in. Values only: the command line and the chart
//! fill them in, builders read them, nothing here looks anything up.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::labels::{self, Labels};

pub mod flags;

pub use flags::SettingsArgs;

/// Everything that is the same for all objects the operator makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who the operator is: whom a gateway lets in on its status port.
    pub operator: Operator,
    /// Which namespaces it serves.
    pub scope: Scope,
    /// The cluster's name space and address ranges.
    pub cluster: Cluster,
    /// Image of the gateway, used where an McpGateway names none, and by the init containers of servers.
    pub gateway_image: String,
    /// Where pods resolve names.
    pub dns: Dns,
    /// Who may read metrics. Empty: nobody but the node.
    pub monitoring: Vec<NetworkPolicyPeer>,
    /// The cluster runs pods in user namespaces of their own (`hostUsers: false`).
    pub user_namespaces: bool,
    /// An address known to listen, to which no server may be able to connect; each server pod proves that before its
    /// server starts. The Kubernetes API's Service by default. `None` leaves the proof out.
    pub fence_probe: Option<SocketAddr>,
}

/// Who the operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Namespace of its pods.
    pub namespace: String,
    /// Labels that select its pods there, and no others. Never empty.
    pub pod_labels: Labels,
    /// Its ServiceAccount.
    pub service_account: String,
}

impl Operator {
    /// The subject of its tokens, which gateways compare exactly.
    pub fn subject(&self) -> String {
        format!(
            "system:serviceaccount:{}:{}",
            self.namespace, self.service_account
        )
    }
}

/// Which namespaces the operator serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    Cluster,
    /// These; it has no right to read anything elsewhere, labels of namespaces included.
    Namespaces(BTreeSet<String>),
}

/// The cluster's name space and address ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Domain of its Services.
    pub domain: String,
    /// Ranges of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges of its Services.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of the Kubernetes API, which no gateway may ever reach.
    pub api_server: Vec<IpNet>,
    /// Where else the Kubernetes API listens: address and port, or all ports. Other ports there may well be somebody
    /// else's, such as an ingress on the only node of a cluster.
    pub api_endpoints: BTreeSet<(IpAddr, Option<u16>)>,
}

impl Cluster {
    /// Whether anything in it has IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.pod_cidrs
            .iter()
            .chain(&self.service_cidrs)
            .any(|range| matches!(range, IpNet::V6(_)))
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            domain: "cluster.local".to_owned(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            api_server: Vec::new(),
            api_endpoints: BTreeSet::new(),
        }
    }
}

/// Where pods resolve names. Platforms differ: peers, ports and node-local caches.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// The servers. Never empty: an empty list would mean everybody.
    pub peers: Vec<NetworkPolicyPeer>,
    /// Their ports, as seen behind the Service. Never empty, for the same reason.
    pub ports: Vec<NetworkPolicyPort>,
}

impl Default for Dns {
    /// The pods labelled `k8s-app=kube-dns` of `kube-system`, on port 53.
    fn default() -> Self {
        let port = |protocol: &str| NetworkPolicyPort {
            end_port: None,
            port: Some(IntOrString::Int(53)),
            protocol: Some(protocol.to_owned()),
        };
        Self {
            peers: vec![NetworkPolicyPeer {
                ip_block: None,
                namespace_selector: Some(exactly(labels::NAMESPACE_NAME, "kube-system")),
                pod_selector: Some(exactly("k8s-app", "kube-dns")),
            }],
            ports: vec![port("UDP"), port("TCP")],
        }
    }
}

fn exactly(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_expressions: None,
        match_labels: Some(Labels::from([(key.to_owned(), value.to_owned())])),
    }
}

/// A setting that would weaken what is built with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct BadSetting {
    /// Which one.
    pub setting: &'static str,
    /// What is wrong, and what to write.
    pub message: &'static str,
}

impl Settings {
    /// Refuses what a builder could only turn into an open door: a policy rule with an empty list permits everybody.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = |setting, message| Err(BadSetting { setting, message });
        let peer_is_empty = |peer: &NetworkPolicyPeer| {
            peer.ip_block.is_none() && peer.namespace_selector.is_none() && peer.pod_selector.is_none()
        };
        if self.operator.namespace.is_empty() || self.operator.service_account.is_empty() {
            return bad(
                "operator",
                "namespace and ServiceAccount are required: gateways let in nobody else on their status port",
            );
        }
        if self.operator.pod_labels.is_empty() {
            return bad(
                "operator.podLabels",
                "must name labels, or every pod of the operator's namespace could reach the status ports",
            );
        }
        if self.dns.peers.is_empty() || self.dns.ports.is_empty() {
            return bad(
                "dns",
                "peers and ports are required: an empty list in a network policy means everybody",
            );
        }
        if self.dns.peers.iter().chain(&self.monitoring).any(peer_is_empty) {
            return bad(
                "dns.peers, monitoring.peers",
                "a peer needs podSelector, namespaceSelector or ipBlock",
            );
        }
        if self.dns.ports.iter().any(|port| port.port.is_none()) {
            return bad("dns.ports", "each needs a port: without one it means all of them");
        }
        if self.cluster.domain.is_empty() {
            return bad(
                "cluster.domain",
                "must not be empty; it is cluster.local almost everywhere",
            );
        }
        if self.gateway_image.is_empty() {
            return bad("gatewayImage", "must not be empty");
        }
        Ok(())
    }
}
