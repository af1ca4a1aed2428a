//! Who may connect, by network policy.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1 as netv1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::rule;
use super::patterns;

/// The gateway's place in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!has(self.onlyFromProxies) || !self.onlyFromProxies || (has(self.trustedProxies) && self.trustedProxies.size() > 0)",
    "network.onlyFromProxies needs trustedProxies: without them nobody could connect",
))]
#[x_kube(validation = rule(
    "!has(self.publicHealth) || !self.publicHealth.matches('^/(mcp|servers|sets|robots[.]txt)(/.*)?$')",
    "network.publicHealth must be a path that is none of the gateway's own, such as /health",
))]
pub struct Network {
    /// Who may connect to the public port, as peers of a NetworkPolicy. Default: pods of the gateway's own namespace.
    /// At most 32.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ingress_from: Vec<Peer>,
    /// Proxies in front of the gateway, which are believed about where a client calls from. That address is what failed
    /// authentications are counted by, and what audit records and logs hold. Where ranges overlap, the most specific one
    /// counts. At most 64.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cidr".into()]))]
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Close connections of everybody but trustedProxies, so that a firewall or a load balancer in front cannot be walked
    /// around. The kubelet's probes come to another port.
    #[serde(default)]
    pub only_from_proxies: bool,
    /// Path on the public port, such as /health, that answers load balancers with a bare 204, or 503 while the gateway is not
    /// ready or is ending, under every host name and without a credential. Default: none.
    #[serde(default)]
    #[schemars(length(max = 64), regex(pattern = r"^((/[A-Za-z0-9][-A-Za-z0-9_.]*)+)?$"))]
    pub public_health: String,
}

/// Proxies that are believed about where a client calls from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedProxy {
    /// Their addresses, as the gateway sees them, such as 192.0.2.0/24 or 2001:db8::/64.
    #[schemars(length(min = 4, max = 43))]
    #[x_kube(validation = rule("isCIDR(self)", "cidr must be a range of addresses, such as 192.0.2.0/24"))]
    pub cidr: String,
    /// How they say for whom they connect.
    pub mode: ProxyMode,
}

/// How a proxy says for whom it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyMode {
    /// By the header X-Forwarded-For, to which it adds: the client is the right-most hop that is no trusted proxy. A
    /// request whose header cannot be read that far is refused.
    XForwardedFor,
    /// By PROXY protocol version 2, before TLS. Connections that do not begin with it are closed.
    ProxyProtocol,
}

/// A peer of a NetworkPolicy: pods by their labels, by those of their namespace, or by both; or addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",
    "a peer needs podSelector, namespaceSelector or ipBlock",
))]
#[x_kube(validation = rule(
    "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
    "ipBlock cannot stand beside podSelector or namespaceSelector: write two peers",
))]
pub struct Peer {
    /// Pods with these labels, in the gateway's namespace or in those of namespaceSelector. {} selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces with these labels. {} selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses, for callers that are not pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpBlock {
    /// The range, such as 192.0.2.0/24 or 2001:db8::/64.
    #[schemars(length(min = 4, max = 43))]
    #[x_kube(validation = rule("isCIDR(self)", "cidr must be a range of addresses, such as 192.0.2.0/24"))]
    pub cidr: String,
    /// Ranges within it that are left out. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 4, max = 43)))]
    #[x_kube(validation = rule("self.all(c, isCIDR(c))", "except must hold ranges of addresses, such as 192.0.2.0/28"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub except: Vec<String>,
}

/// Objects by their labels; all of its parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with exactly these values. At most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "patterns::labels")]
    #[x_kube(validation = patterns::label_keys("matchLabels"))]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on single labels. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
    "operators In and NotIn need values, Exists and DoesNotExist take none",
))]
pub struct SelectorRequirement {
    /// The label's key.
    #[schemars(
        length(min = 1, max = 317),
        regex(
            pattern = patterns::LABEL_KEY
        )
    )]
    pub key: String,
    /// How the label relates to values.
    pub operator: SelectorOperator,
    /// Values for In and NotIn. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(max = 63),
            regex(pattern = patterns::LABEL_VALUE)
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub values: Vec<String>,
}

/// How a label relates to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorOperator {
    /// It is there with one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl SelectorOperator {
    /// The operator as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

impl From<&LabelSelector> for metav1::LabelSelector {
    fn from(selector: &LabelSelector) -> Self {
        let LabelSelector {
            match_labels,
            match_expressions,
        } = selector;
        Self {
            match_labels: (!match_labels.is_empty()).then(|| match_labels.clone()),
            match_expressions: (!match_expressions.is_empty())
                .then(|| match_expressions.iter().map(Into::into).collect()),
        }
    }
}

impl From<&SelectorRequirement> for metav1::LabelSelectorRequirement {
    fn from(requirement: &SelectorRequirement) -> Self {
        let SelectorRequirement {
            key,
            operator,
            values,
        } = requirement;
        Self {
            key: key.clone(),
            operator: operator.as_str().to_owned(),
            values: (!values.is_empty()).then(|| values.clone()),
        }
    }
}

impl From<&Peer> for netv1::NetworkPolicyPeer {
    fn from(peer: &Peer) -> Self {
        let Peer {
            pod_selector,
            namespace_selector,
            ip_block,
        } = peer;
        Self {
            pod_selector: pod_selector.as_ref().map(Into::into),
            namespace_selector: namespace_selector.as_ref().map(Into::into),
            ip_block: ip_block.as_ref().map(Into::into),
        }
    }
}

impl From<&IpBlock> for netv1::IPBlock {
    fn from(block: &IpBlock) -> Self {
        let IpBlock { cidr, except } = block;
        Self {
            cidr: cidr.clone(),
            except: (!except.is_empty()).then(|| except.clone()),
        }
    }
}
