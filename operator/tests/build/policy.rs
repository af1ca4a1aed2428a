//! A small evaluator of NetworkPolicies, by the letter of the API: policies add up, a selected pod denies what none of its
//! policies permits, and both ends must agree.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

type Labels = BTreeMap<String, String>;

/// One end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) address: IpAddr,
    /// Namespace, labels and named ports, if it is a pod.
    pub(crate) pod: Option<Pod>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) ports: BTreeMap<String, u16>,
}

/// Policies, and the labels of namespaces.
pub(crate) struct Cluster<'a> {
    pub(crate) policies: Vec<&'a Value>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
}

impl Cluster<'_> {
    /// Whether a connection gets through.
    pub(crate) fn permits(&self, from: &End, to: &End, port: u16, protocol: &str) -> bool {
        self.side("Egress", from, to, to, port, protocol)
            && self.side("Ingress", to, from, to, port, protocol)
    }

    /// Whether `subject`'s policies let it connect to, or be connected to by, `other`. Ports are those of `target`.
    fn side(
        &self,
        direction: &str,
        subject: &End,
        other: &End,
        target: &End,
        port: u16,
        protocol: &str,
    ) -> bool {
        let Some(pod) = &subject.pod else { return true };
        let (rules, peers) = if direction == "Egress" {
            ("egress", "to")
        } else {
            ("ingress", "from")
        };
        let of_pod: Vec<&&Value> = self
            .policies
            .iter()
            .filter(|policy| policy["metadata"]["namespace"] == pod.namespace.as_str())
            .filter(|policy| selects(&policy["spec"]["podSelector"], &pod.labels))
            .filter(|policy| {
                policy["spec"]["policyTypes"]
                    .as_array()
                    .unwrap()
                    .contains(&direction.into())
            })
            .collect();
        if of_pod.is_empty() {
            return true;
        }
        of_pod.iter().any(|policy| {
            let namespace = policy["metadata"]["namespace"].as_str().unwrap();
            policy["spec"][rules]
                .as_array()
                .into_iter()
                .flatten()
                .any(|rule| {
                    let peer_fits = match rule[peers].as_array() {
                        None => true,
                        Some(list) if list.is_empty() => true,
                        Some(list) => list.iter().any(|peer| self.is_peer(peer, namespace, other)),
                    };
                    let port_fits = match rule["ports"].as_array() {
                        None => true,
                        Some(list) if list.is_empty() => true,
                        Some(list) => list.iter().any(|one| is_port(one, target, port, protocol)),
                    };
                    peer_fits && port_fits
                })
        })
    }

    fn is_peer(&self, peer: &Value, policy_namespace: &str, end: &End) -> bool {
        if peer["ipBlock"].is_object() {
            let hit = |text: &Value| {
                text.as_str()
                    .unwrap()
                    .parse::<IpNet>()
                    .unwrap()
                    .contains(&end.address)
            };
            let block = &peer["ipBlock"];
            return hit(&block["cidr"]) && !block["except"].as_array().into_iter().flatten().any(hit);
        }
        let Some(pod) = &end.pod else { return false };
        let namespace_fits = match &peer["namespaceSelector"] {
            Value::Null => pod.namespace == policy_namespace,
            selector => self
                .namespaces
                .get(&pod.namespace)
                .is_some_and(|labels| selects(selector, labels)),
        };
        namespace_fits && (peer["podSelector"].is_null() || selects(&peer["podSelector"], &pod.labels))
    }
}

fn selects(selector: &Value, labels: &Labels) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    let meets = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|one| {
            let value = labels.get(one["key"].as_str().unwrap());
            let listed = value.is_some_and(|value| {
                one["values"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|listed| listed == value.as_str())
            });
            match one["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("operator {other}"),
            }
        });
    equal && meets
}

fn is_port(rule: &Value, target: &End, port: u16, protocol: &str) -> bool {
    if rule["protocol"].as_str().unwrap_or("TCP") != protocol {
        return false;
    }
    match &rule["port"] {
        Value::Null => true,
        Value::String(name) => target.pod.as_ref().and_then(|pod| pod.ports.get(name)) == Some(&port),
        number => number.as_u64() == Some(u64::from(port)),
    }
}
