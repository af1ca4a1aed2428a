//! From the cluster as it is to the table that enforces its policies. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::policy::{Namespaces, Peer, Policy, Port, Protocol, Rule};
use crate::ranges::Ranges;
use crate::table::{Chain, Direction, Endpoint, Match, Network, Ports, Table};
use crate::world::World;

/// Computes the table.
pub fn compile(world: &World, network: Network) -> Table {
    let mut sets = Sets::default();
    let egress = direction(world, Way::Egress, &mut sets);
    let ingress = direction(world, Way::Ingress, &mut sets);
    Table {
        network,
        pods: world.pods.keys().copied().collect(),
        peers: sets.peers,
        endpoints: sets.endpoints,
        egress,
        ingress,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Egress,
    Ingress,
}

impl Way {
    /// The policy's rules for this direction, if it is about it at all.
    fn rules(self, policy: &Policy) -> Option<&[Rule]> {
        match self {
            Self::Egress => policy.egress.as_deref(),
            Self::Ingress => policy.ingress.as_deref(),
        }
    }
}

/// Sets that rules refer to. Policies tend to repeat each other: equal ones are kept once.
#[derive(Default)]
struct Sets {
    peers: Vec<Ranges>,
    endpoints: Vec<BTreeSet<Endpoint>>,
}

fn intern<T: Eq>(list: &mut Vec<T>, value: T) -> usize {
    list.iter().position(|one| *one == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    })
}

fn direction(world: &World, way: Way, sets: &mut Sets) -> Direction {
    let mut result = Direction::default();
    let mut selected_by: BTreeMap<Ipv4Addr, Vec<usize>> = BTreeMap::new();
    for policy in &world.policies {
        let Some(rules) = way.rules(policy) else {
            continue;
        };
        let selected: BTreeSet<Ipv4Addr> =
            pods(world, |p| policy.applies_to(&p.namespace, &p.labels)).collect();
        if selected.is_empty() {
            continue;
        }
        let scope = Scope {
            world,
            way,
            namespace: &policy.namespace,
            selected: &selected,
        };
        let matches = rules.iter().flat_map(|r| scope.matches(r, sets)).collect();
        for address in &selected {
            let policies = selected_by.entry(*address).or_default();
            policies.push(result.policies.len());
        }
        result.policies.push(Chain {
            label: format!("{}/{}", policy.namespace, policy.name),
            matches,
        });
    }
    for (address, policies) in selected_by {
        let group = intern(&mut result.groups, policies);
        result.members.insert(address, group);
    }
    result
}

/// Addresses of the pods that meet a condition.
fn pods(world: &World, condition: impl Fn(&crate::world::Pod) -> bool) -> impl Iterator<Item = Ipv4Addr> {
    world
        .pods
        .iter()
        .filter(move |(_, pod)| condition(pod))
        .map(|(address, _)| *address)
}

/// What the rules of one policy are read against.
struct Scope<'a> {
    world: &'a World,
    way: Way,
    namespace: &'a str,
    selected: &'a BTreeSet<Ipv4Addr>,
}

impl Scope<'_> {
    /// The conditions a rule comes down to: none if nobody meets it at present.
    fn matches(&self, rule: &Rule, sets: &mut Sets) -> Vec<Match> {
        let peers = rule.peers.as_deref().map(|list| self.addresses(list));
        // A set of all addresses says nothing.
        let peers = peers.filter(|all| !all.is_all(0, u32::MAX));
        if peers.as_ref().is_some_and(Ranges::is_empty) {
            return Vec::new();
        }
        let ports = match &rule.ports {
            None => vec![Ports::Any],
            Some(list) => numbers(list),
        };
        let endpoints = self.endpoints(rule.ports.as_deref().unwrap_or_default(), peers.as_ref());
        let mut matches = Vec::new();
        if !ports.is_empty() {
            let set = peers.clone().map(|p| intern(&mut sets.peers, p));
            matches.extend(ports.into_iter().map(|ports| Match { peers: set, ports }));
        }
        if !endpoints.is_empty() {
            matches.push(Match {
                // Going out, the endpoints are the peers' already.
                peers: match self.way {
                    Way::Egress => None,
                    Way::Ingress => peers.map(|p| intern(&mut sets.peers, p)),
                },
                ports: Ports::Endpoints(intern(&mut sets.endpoints, endpoints)),
            });
        }
        matches
    }

    /// The addresses that a list of peers stands for at present.
    fn addresses(&self, peers: &[Peer]) -> Ranges {
        let ranges = peers.iter().map(|peer| match peer {
            Peer::Block(block) => block.clone(),
            Peer::Pods(namespaces, selector) => {
                let found = pods(self.world, |pod| {
                    self.is_in(namespaces, &pod.namespace) && selector.matches(&pod.labels)
                });
                Ranges::of(found.map(|address| (address.into(), address.into())))
            }
        });
        ranges.fold(Ranges::default(), |all, one| all.union(&one))
    }

    fn is_in(&self, namespaces: &Namespaces, namespace: &str) -> bool {
        match namespaces {
            Namespaces::Own => namespace == self.namespace,
            Namespaces::Matching(selector) => {
                let labels = self.world.namespaces.get(namespace);
                labels.is_some_and(|labels| selector.matches(labels))
            }
        }
    }

    /// The ports of pods that named ports stand for. The name is the receiving pod's: coming in,
    /// that is a pod the policy selects; going out, a peer.
    fn endpoints(&self, ports: &[Port], peers: Option<&Ranges>) -> BTreeSet<Endpoint> {
        let receives = |address: Ipv4Addr| match self.way {
            Way::Ingress => self.selected.contains(&address),
            Way::Egress => peers.is_none_or(|p| p.contains(address.into())),
        };
        let mut endpoints = BTreeSet::new();
        for port in ports {
            let Port::Named(protocol, name) = port else {
                continue;
            };
            for (address, pod) in self.world.pods.iter().filter(|(a, _)| receives(**a)) {
                let found = pod.ports.iter().filter(|(n, p, _)| n == name && p == protocol);
                endpoints.extend(found.map(|(_, _, number)| (*address, *protocol, *number)));
            }
        }
        endpoints
    }
}

/// The ports that are given by number, one entry for each protocol.
fn numbers(ports: &[Port]) -> Vec<Ports> {
    let of = |wanted: Protocol| {
        Ranges::of(ports.iter().filter_map(move |port| match port {
            Port::Any(protocol) if *protocol == wanted => Some((0, u16::MAX.into())),
            Port::Numbers(protocol, first, last) if *protocol == wanted => {
                Some(((*first).into(), (*last).into()))
            }
            Port::Any(_) | Port::Numbers(..) | Port::Named(..) => None,
        }))
    };
    let each = Protocol::ALL.map(|protocol| (protocol, of(protocol)));
    each.into_iter()
        .filter(|(_, ranges)| !ranges.is_empty())
        .map(|(protocol, ranges)| {
            if ranges.is_all(0, u16::MAX.into()) {
                Ports::All(protocol)
            } else {
                Ports::Numbers(protocol, ranges)
            }
        })
        .collect()
}
