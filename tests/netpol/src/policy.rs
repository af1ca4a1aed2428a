//! NetworkPolicy as this program reads it: defaults filled in, one type for both directions.
//!
//! The API server validates policies, so what cannot be read here should not exist. If it
//! does, it fails closed: an unreadable peer or port allows nothing, an unreadable pod
//! selector selects the whole namespace, and the problem is kept for the log.

use ipnet::Ipv4Net;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::ranges::Ranges;
use crate::selector::{Labels, Selector, UnknownOperator};

/// A policy of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Namespace it lives in; it selects pods of that namespace only.
    pub namespace: String,
    /// Name within the namespace.
    pub name: String,
    /// The pods it applies to.
    pub selects: Selector,
    /// What may come in. `None`: it says nothing about that direction; empty: nothing may.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out, likewise.
    pub egress: Option<Vec<Rule>>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// Traffic that is allowed: with one of the peers and on one of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `None` is anybody; an empty list is nobody.
    pub peers: Option<Vec<Peer>>,
    /// `None` is every port of every protocol; an empty list is none.
    pub ports: Option<Vec<Port>>,
}

/// The other side of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Pods by labels, in the namespaces chosen.
    Pods(Namespaces, Selector),
    /// Addresses, the exceptions taken out already.
    Block(Ranges),
}

/// Which namespaces a pod peer is looked for in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// The policy's own.
    Own,
    /// Those with matching labels.
    Matching(Selector),
}

/// Transport protocols a policy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Reads the API's name; absent means TCP.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// nftables' name.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A destination port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// Every port of a protocol.
    Any(Protocol),
    /// One number or several in a row, both ends included.
    Numbers(Protocol, u16, u16),
    /// Whatever number the destination pod gives to this name.
    Named(Protocol, String),
}

impl Policy {
    /// Reads the API's object.
    pub fn read(object: &NetworkPolicy) -> Self {
        let mut problems = Vec::new();
        let spec = object.spec.clone().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        // Without types a policy is about ingress, and about egress if it has such rules.
        let (ingress, egress) = if types.is_empty() {
            (true, has_egress)
        } else {
            let names = |wanted: &str| types.iter().any(|name| name == wanted);
            (names("Ingress"), names("Egress"))
        };
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            selects: spec.pod_selector.as_ref().map_or_else(Selector::default, |s| {
                selector(s, &mut problems).unwrap_or_default()
            }),
            ingress: ingress.then(|| {
                let rules = spec.ingress.unwrap_or_default();
                rules
                    .into_iter()
                    .map(|r| Rule::read(r.from, r.ports, &mut problems))
                    .collect()
            }),
            egress: egress.then(|| {
                let rules = spec.egress.unwrap_or_default();
                rules
                    .into_iter()
                    .map(|r| Rule::read(r.to, r.ports, &mut problems))
                    .collect()
            }),
            problems,
        }
    }

    /// Whether it applies to a pod of that namespace with those labels.
    pub fn applies_to(&self, namespace: &str, labels: &Labels) -> bool {
        self.namespace == namespace && self.selects.matches(labels)
    }
}

impl Rule {
    fn read(
        peers: Option<Vec<NetworkPolicyPeer>>,
        ports: Option<Vec<NetworkPolicyPort>>,
        problems: &mut Vec<String>,
    ) -> Self {
        // An absent list and an empty one both mean "any"; a list of which nothing could
        // be read is not the same thing and stays an empty list here.
        let peers = peers.filter(|list| !list.is_empty());
        let ports = ports.filter(|list| !list.is_empty());
        Self {
            peers: peers.map(|list| list.iter().filter_map(|p| peer(p, problems)).collect()),
            ports: ports.map(|list| list.iter().filter_map(|p| port(p, problems)).collect()),
        }
    }
}

fn selector(selector: &LabelSelector, problems: &mut Vec<String>) -> Option<Selector> {
    match Selector::parse(selector) {
        Ok(read) => Some(read),
        Err(UnknownOperator(name)) => {
            problems.push(format!("selector operator {name:?} is unknown"));
            None
        }
    }
}

fn peer(peer: &NetworkPolicyPeer, problems: &mut Vec<String>) -> Option<Peer> {
    if let Some(given) = &peer.ip_block {
        return block(given, problems).map(Peer::Block);
    }
    let namespaces = match &peer.namespace_selector {
        None => Namespaces::Own,
        Some(given) => Namespaces::Matching(selector(given, problems)?),
    };
    let pods = match &peer.pod_selector {
        None if namespaces == Namespaces::Own => {
            problems.push("a peer names nothing".to_owned());
            return None;
        }
        None => Selector::default(),
        Some(given) => selector(given, problems)?,
    };
    Some(Peer::Pods(namespaces, pods))
}

fn block(block: &IPBlock, problems: &mut Vec<String>) -> Option<Ranges> {
    // IPv6 is readable and matches nothing on a cluster that has none: not a problem.
    let mut read = |text: &str| match text.parse::<ipnet::IpNet>() {
        Ok(ipnet::IpNet::V4(net)) => Ok(Some(net)),
        Ok(ipnet::IpNet::V6(_)) => Ok(None),
        Err(_) => {
            problems.push(format!("{text:?} is not an address range"));
            Err(())
        }
    };
    let whole: Ipv4Net = read(&block.cidr).ok()??;
    let mut excepted = Ranges::default();
    for text in block.except.iter().flatten() {
        if let Some(net) = read(text).ok()? {
            excepted = excepted.union(&Ranges::net(net));
        }
    }
    Some(Ranges::net(whole).minus(&excepted))
}

fn port(port: &NetworkPolicyPort, problems: &mut Vec<String>) -> Option<Port> {
    let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
        problems.push(format!("protocol {:?} is unknown", port.protocol));
        return None;
    };
    let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
    match (&port.port, port.end_port) {
        (None, None) => Some(Port::Any(protocol)),
        (Some(IntOrString::String(name)), None) => Some(Port::Named(protocol, name.clone())),
        (Some(IntOrString::Int(first)), last) => {
            let (first, last) = (number(*first), number(last.unwrap_or(*first)));
            if let (Some(first), Some(last)) = (first, last)
                && first <= last
            {
                return Some(Port::Numbers(protocol, first, last));
            }
            problems.push(format!("{port:?} is not a range of ports"));
            None
        }
        (None | Some(IntOrString::String(_)), Some(_)) => {
            problems.push("endPort without a numeric port".to_owned());
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "`json!` makes values")]
mod tests;
