//! The table as data: what the compiler makes and the renderer prints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::policy::Protocol;
use crate::ranges::Ranges;

/// Where the cluster's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Addresses of pods.
    pub pod_cidr: Ipv4Net,
    /// Address of the node.
    pub node_ip: Ipv4Addr,
}

/// One destination port of one pod.
pub type Endpoint = (Ipv4Addr, Protocol, u16);

/// Everything in force at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Where the cluster's addresses are.
    pub network: Network,
    /// Addresses of running pods; others of the pod range are cut off.
    pub pods: BTreeSet<Ipv4Addr>,
    /// Sets of peer addresses, each only once.
    pub peers: Vec<Ranges>,
    /// Sets of endpoints that names of ports stand for, each only once.
    pub endpoints: Vec<BTreeSet<Endpoint>>,
    /// What pods may send.
    pub egress: Direction,
    /// What pods may receive.
    pub ingress: Direction,
}

/// The policies of one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Direction {
    /// Policies that select at least one pod.
    pub policies: Vec<Chain>,
    /// Each combination of policies that some pod is selected by, as indices into `policies`.
    pub groups: Vec<Vec<usize>>,
    /// The group of each isolated pod; pods that are not here are not isolated.
    pub members: BTreeMap<Ipv4Addr, usize>,
}

/// What one policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its namespace and name, for people who read the table.
    pub label: String,
    /// Traffic that meets any of these is allowed.
    pub matches: Vec<Match>,
}

/// One condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The other side is in this set of `peers`; `None` is anybody.
    pub peers: Option<usize>,
    /// And it goes to these ports.
    pub ports: Ports,
}

/// Destination ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Anything at all, protocols without ports included.
    Any,
    /// Every port of a protocol.
    All(Protocol),
    /// These numbers of a protocol.
    Numbers(Protocol, Ranges),
    /// An entry of this set of `endpoints`.
    Endpoints(usize),
}

impl Table {
    /// The table of a cluster in which no pod is known: nothing passes to or from pods.
    pub fn fence(network: Network) -> Self {
        Self {
            network,
            pods: BTreeSet::new(),
            peers: Vec::new(),
            endpoints: Vec::new(),
            egress: Direction::default(),
            ingress: Direction::default(),
        }
    }

    /// Pods that are isolated in either direction.
    pub fn isolated(&self) -> BTreeSet<Ipv4Addr> {
        let both = self.egress.members.keys().chain(self.ingress.members.keys());
        both.copied().collect()
    }
}
