//! What the cluster looks like to a packet: pods with addresses, namespaces with labels, policies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, Namespace};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::policy::{Policy, Protocol};
use crate::selector::Labels;

/// Everything the table is computed from.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Running pods by the address they hold.
    pub pods: BTreeMap<Ipv4Addr, Pod>,
    /// Labels of each namespace.
    pub namespaces: BTreeMap<String, Labels>,
    /// Policies, by namespace and name.
    pub policies: Vec<Policy>,
}

/// A pod that has an address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The ports it gives names to.
    pub ports: Vec<(String, Protocol, u16)>,
}

impl World {
    /// Reads the API's objects, in whatever order they come.
    pub fn read(
        pods: &[Arc<core::Pod>],
        namespaces: &[Arc<Namespace>],
        policies: &[Arc<NetworkPolicy>],
    ) -> Self {
        // For a moment two objects can hold one address: the old pod's network is gone and its
        // object not yet. The one that is not being deleted has it, then the younger one.
        let mut holders: BTreeMap<Ipv4Addr, &core::Pod> = BTreeMap::new();
        for pod in pods {
            let Some(address) = address_of(pod) else {
                continue;
            };
            let holder = holders.entry(address).or_insert(pod);
            if claim(pod) > claim(holder) {
                *holder = pod;
            }
        }
        let mut policies: Vec<_> = policies.iter().map(|p| Policy::read(p)).collect();
        policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Self {
            pods: holders
                .into_iter()
                .map(|(address, pod)| (address, Pod::read(pod)))
                .collect(),
            namespaces: namespaces
                .iter()
                .map(|n| {
                    let labels = n.metadata.labels.clone().unwrap_or_default();
                    (n.metadata.name.clone().unwrap_or_default(), labels)
                })
                .collect(),
            policies,
        }
    }
}

impl Pod {
    fn read(pod: &core::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let main = spec.into_iter().flat_map(|s| &s.containers);
        // Of the init containers only those that keep running (sidecars) have ports to reach.
        let sidecars = spec
            .into_iter()
            .flat_map(|s| s.init_containers.iter().flatten())
            .filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = main
            .chain(sidecars)
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|port| {
                let protocol = Protocol::parse(port.protocol.as_deref())?;
                let number = u16::try_from(port.container_port).ok()?;
                Some((port.name.clone()?, protocol, number))
            })
            .collect();
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ports,
        }
    }
}

/// The address a pod holds, if it holds one of its own.
///
/// Pods on the host's network are the node, and finished ones have given theirs back.
fn address_of(pod: &core::Pod) -> Option<Ipv4Addr> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref()?;
    if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    all.chain(status.pod_ip.as_deref())
        .find_map(|text| match text.parse() {
            Ok(IpAddr::V4(address)) => Some(address),
            Ok(IpAddr::V6(_)) | Err(_) => None,
        })
}

/// Orders pods that hold the same address: the greatest has it. The UID only makes it total.
fn claim(pod: &core::Pod) -> impl Ord + '_ {
    let meta = &pod.metadata;
    (
        meta.deletion_timestamp.is_none(),
        &meta.creation_timestamp,
        &meta.uid,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(value: Value) -> Arc<core::Pod> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn named(name: &str, created: &str, deleted: Option<&str>) -> Arc<core::Pod> {
        pod(json!({
            "metadata": {"namespace": "ns", "name": name,
                         "creationTimestamp": created, "deletionTimestamp": deleted},
            "spec": {"containers": []},
            "status": {"phase": "Running", "podIP": "198.18.0.5"},
        }))
    }

    #[rstest]
    #[case::running(json!({"containers": []}), json!({"phase": "Running", "podIP": "198.18.0.5"}), true)]
    #[case::starting(json!({"containers": []}), json!({"phase": "Pending", "podIPs": [{"ip": "198.18.0.5"}]}), true)]
    #[case::second_family(json!({"containers": []}), json!({"podIPs": [{"ip": "fd00::1"}, {"ip": "198.18.0.5"}]}), true)]
    #[case::no_address(json!({"containers": []}), json!({"phase": "Pending"}), false)]
    #[case::only_ipv6(json!({"containers": []}), json!({"podIP": "fd00::1"}), false)]
    #[case::succeeded(json!({"containers": []}), json!({"phase": "Succeeded", "podIP": "198.18.0.5"}), false)]
    #[case::failed(json!({"containers": []}), json!({"phase": "Failed", "podIP": "198.18.0.5"}), false)]
    #[case::the_node(json!({"containers": [], "hostNetwork": true}), json!({"podIP": "198.18.0.5"}), false)]
    fn who_holds_an_address(#[case] spec: Value, #[case] status: Value, #[case] expected: bool) {
        let given = pod(json!({"metadata": {"name": "a"}, "spec": spec, "status": status}));
        let world = World::read(&[given], &[], &[]);
        assert_eq!(world.pods.contains_key(&Ipv4Addr::new(198, 18, 0, 5)), expected);
        assert_eq!(world.pods.len(), usize::from(expected));
    }

    #[rstest]
    #[case::younger(None, "new")]
    #[case::younger_is_leaving(Some("2026-01-03T00:00:00Z"), "old")]
    fn one_pod_per_address(#[case] new_deleted: Option<&str>, #[case] expected: &str) {
        let old = named("old", "2026-01-01T00:00:00Z", None);
        let new = named("new", "2026-01-02T00:00:00Z", new_deleted);
        for order in [[old.clone(), new.clone()], [new, old]] {
            let world = World::read(&order, &[], &[]);
            let holder = world.pods.values().next().unwrap();
            assert_eq!((world.pods.len(), holder.name.as_str()), (1, expected));
        }
    }

    #[test]
    fn named_ports_of_what_keeps_running() {
        let port = |name: &str, n: u16| json!({"name": name, "containerPort": n});
        let given = pod(json!({
            "metadata": {"name": "a"},
            "spec": {
                "containers": [
                    {"name": "a", "ports": [port("web", 80), {"containerPort": 81}]},
                    {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
                ],
                "initContainers": [
                    {"name": "c", "restartPolicy": "Always", "ports": [port("side", 90)]},
                    {"name": "d", "ports": [port("once", 91)]},
                ],
            },
            "status": {"podIP": "198.18.0.5"},
        }));
        let world = World::read(&[given], &[], &[]);
        assert_eq!(
            world.pods.values().next().unwrap().ports,
            [
                ("web".to_owned(), Protocol::Tcp, 80),
                ("dns".to_owned(), Protocol::Udp, 53),
                ("side".to_owned(), Protocol::Tcp, 90),
            ]
        );
    }

    #[test]
    fn policies_come_in_one_order() {
        let policy = |namespace: &str, name: &str| {
            let object = json!({"metadata": {"namespace": namespace, "name": name}});
            Arc::new(serde_json::from_value::<NetworkPolicy>(object).unwrap())
        };
        let world = World::read(&[], &[], &[policy("b", "a"), policy("a", "b"), policy("a", "a")]);
        let names: Vec<_> = world
            .policies
            .iter()
            .map(|p| format!("{}/{}", p.namespace, p.name))
            .collect();
        assert_eq!(names, ["a/a", "a/b", "b/a"]);
    }
}
