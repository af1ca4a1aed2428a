//! Whom a change concerns. Pure, over what the caches hold.
//!
//! Both the old and the new state of an object count: a gateway that a server no longer names must hear of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use super::cache::{Cache, Change};
use super::client::Object;
use super::target::Target;
use crate::api::labels;
use crate::api::v1alpha1::{McpGateway, McpServer};
use crate::identity::Key;
use crate::validate::attachment::{gateways_named, names};

/// Label by which an EndpointSlice names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Objects that need another pass.
pub type Targets = BTreeSet<Target>;

/// A gateway changed: itself; and if its spec did, the servers that name it, and all gateways those name, since the
/// strictest gateway of a server counts for all of them.
pub fn by_gateway(change: &Change<McpGateway>, servers: &Cache<McpServer>) -> Targets {
    let mut targets = Targets::from([Target::Gateway(change.key.clone())]);
    if !spec_changed(change) {
        return targets;
    }
    for server in servers.all() {
        if names(&server, &change.key) {
            targets.insert(Target::Server(Key::of(&*server)));
            targets.extend(gateways_named(&server).map(Target::Gateway));
        }
    }
    targets
}

/// A server changed: itself; and if its spec did, the gateways it names or named, and their other servers, since the
/// oldest server holds a tool prefix. All gateways, where it is not known which it names.
pub fn by_server(
    change: &Change<McpServer>,
    servers: &Cache<McpServer>,
    gateways: &Cache<McpGateway>,
) -> Targets {
    let mut targets = Targets::from([Target::Server(change.key.clone())]);
    if change.dark {
        let all = gateways.all();
        targets.extend(all.iter().map(|gateway| Target::Gateway(Key::of(&**gateway))));
    }
    if !spec_changed(change) {
        return targets;
    }
    let named: BTreeSet<Key> = change
        .states()
        .flat_map(|server| gateways_named(server))
        .collect();
    for server in servers.all() {
        if named.iter().any(|gateway| names(&server, gateway)) {
            targets.insert(Target::Server(Key::of(&*server)));
        }
    }
    targets.extend(named.into_iter().map(Target::Gateway));
    targets
}

/// A namespace changed: if its labels did, the servers in it and the gateways they name.
pub fn by_namespace(change: &Change<Namespace>, servers: &Cache<McpServer>) -> Targets {
    let labels = |state: &Option<Arc<Namespace>>| state.as_ref().map(|namespace| namespace.labels().clone());
    if labels(&change.old) == labels(&change.new) {
        return Targets::new();
    }
    let Some(name) = change.states().next().map(|namespace| namespace.name_any()) else {
        return Targets::new();
    };
    servers
        .in_namespace(&name)
        .iter()
        .flat_map(|server| with_gateways(server))
        .collect()
}

/// A Service changed: its owner if it is ours, and the servers behind it.
pub fn by_service(change: &Change<Service>, servers: &Cache<McpServer>) -> Targets {
    let mut targets = by_child(change);
    for service in change.states() {
        let name = service.name_any();
        targets.extend(behind(&service.namespace().unwrap_or_default(), &name, servers));
    }
    targets
}

/// Addresses behind a Service changed.
pub fn by_endpoint_slice(change: &Change<EndpointSlice>, servers: &Cache<McpServer>) -> Targets {
    change
        .states()
        .filter_map(|slice| {
            let service = slice.labels().get(SERVICE_NAME)?;
            Some(behind(&slice.namespace().unwrap_or_default(), service, servers))
        })
        .flatten()
        .collect()
}

/// Something we own changed: its owner.
pub fn by_child<K: Object>(change: &Change<K>) -> Targets {
    change
        .states()
        .filter_map(|child| {
            let owner = child.owner_references().iter().find(|owner| {
                owner.controller == Some(true) && owner.api_version.starts_with(crate::api::GROUP)
            })?;
            let key = Key::new(child.namespace().unwrap_or_default(), owner.name.as_str());
            match owner.kind.as_str() {
                "McpGateway" => Some(Target::Gateway(key)),
                "McpServer" => Some(Target::Server(key)),
                _ => None,
            }
        })
        .collect()
}

/// A pod, or a ReplicaSet, changed: whom its labels name. Whether it is really theirs is judged in the pass.
pub fn by_labels<K: Object>(change: &Change<K>) -> Targets {
    change
        .states()
        .flat_map(|object| {
            let namespace = object.namespace().unwrap_or_default();
            let named =
                |label: &str| Some(Key::new(namespace.as_str(), object.labels().get(label)?.as_str()));
            [
                named(labels::GATEWAY).map(Target::Gateway),
                named(labels::SERVER).map(Target::Server),
            ]
        })
        .flatten()
        .collect()
}

/// Whether the readiness, the address or anything else of a pod that counts here moved. The kubelet touches pods far
/// more often than that.
pub fn pod_moved(change: &Change<Pod>) -> bool {
    use crate::status::deployment::PodFacts;
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            PodFacts::of(old) != PodFacts::of(new)
                || old.annotations() != new.annotations()
                || old.labels() != new.labels()
        }
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    }
}

fn spec_changed<K: ResourceExt>(change: &Change<K>) -> bool {
    // None at all: what cannot be read came or went.
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    old.meta().generation != new.meta().generation || old.uid() != new.uid()
}

fn behind(namespace: &str, service: &str, servers: &Cache<McpServer>) -> Targets {
    servers
        .in_namespace(namespace)
        .iter()
        .filter(|server| {
            server
                .spec
                .service
                .as_ref()
                .is_some_and(|named| named.name == service)
        })
        .flat_map(|server| with_gateways(server))
        .collect()
}

fn with_gateways(server: &McpServer) -> impl Iterator<Item = Target> {
    std::iter::once(Target::Server(Key::of(server))).chain(gateways_named(server).map(Target::Gateway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn server(name: &str, gateways: &[&str], generation: i64) -> McpServer {
        let refs: Vec<_> = gateways.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "ns", "name": name, "generation": generation},
            "spec": {"gatewayRefs": refs, "service": {"name": format!("{name}-svc"), "port": 80, "plaintext": {"reason": "r"}}},
        }))
        .unwrap()
    }

    fn gateway(name: &str, generation: i64) -> McpGateway {
        serde_json::from_value(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "McpGateway",
            "metadata": {"namespace": "ns", "name": name, "generation": generation},
            "spec": {"publicHost": "h", "auth": {"apiKeys": {"secretName": "s"}}, "tls": {"secretName": "t"}},
        }))
        .unwrap()
    }

    fn servers() -> Cache<McpServer> {
        let cache = Cache::default();
        cache.put(server("a", &["one"], 1));
        cache.put(server("b", &["one", "two"], 1));
        cache.put(server("c", &["three"], 1));
        cache
    }

    fn change<K: Clone + ResourceExt>(old: Option<&K>, new: Option<&K>) -> Change<K> {
        Change {
            key: old.or(new).map(Key::of).unwrap(),
            dark: false,
            old: old.cloned().map(Arc::new),
            new: new.cloned().map(Arc::new),
        }
    }

    fn names(targets: &Targets) -> Vec<String> {
        targets
            .iter()
            .map(|target| target.to_string().replace("ns/", ""))
            .collect()
    }

    #[test]
    fn a_gateways_spec_concerns_its_servers_and_their_other_gateways() {
        let (old, new) = (gateway("one", 1), gateway("one", 2));
        assert_eq!(
            names(&by_gateway(&change(Some(&old), Some(&new)), &servers())),
            ["McpGateway one", "McpGateway two", "McpServer a", "McpServer b"]
        );
        // Its status concerns nobody else.
        assert_eq!(
            names(&by_gateway(&change(Some(&old), Some(&old)), &servers())),
            ["McpGateway one"]
        );
        assert_eq!(names(&by_gateway(&change(Some(&old), None), &servers())).len(), 4);
    }

    #[test]
    fn a_server_that_moves_concerns_the_gateway_it_leaves() {
        let (old, new) = (server("c", &["three"], 1), server("c", &["two"], 2));
        assert_eq!(
            names(&by_server(
                &change(Some(&old), Some(&new)),
                &servers(),
                &Cache::default()
            )),
            ["McpGateway three", "McpGateway two", "McpServer b", "McpServer c"]
        );
        assert_eq!(
            names(&by_server(
                &change(Some(&old), Some(&old)),
                &servers(),
                &Cache::default()
            )),
            ["McpServer c"]
        );
    }

    #[test]
    fn an_unknown_server_may_concern_every_gateway() {
        let gateways = Cache::default();
        gateways.put(gateway("one", 1));
        gateways.put(gateway("four", 1));
        let dark = |old| Change {
            key: Key::new("ns", "c"),
            old,
            new: None,
            dark: true,
        };
        let expected = ["McpGateway four", "McpGateway one", "McpServer c"];
        assert_eq!(names(&by_server(&dark(None), &servers(), &gateways)), expected);
        // And an unknown gateway the servers that name it.
        let gone = Change {
            key: Key::new("ns", "three"),
            old: None,
            new: None,
            dark: true,
        };
        assert_eq!(
            names(&by_gateway(&gone, &servers())),
            ["McpGateway three", "McpServer c"]
        );
    }

    #[test]
    fn a_service_concerns_the_servers_behind_it_and_whoever_made_it() {
        let service = |name: &str, owner: serde_json::Value| -> Service {
            serde_json::from_value(
                json!({"metadata": {"namespace": "ns", "name": name, "ownerReferences": owner}}),
            )
            .unwrap()
        };
        let named = service("b-svc", json!([]));
        assert_eq!(
            names(&by_service(&change(None, Some(&named)), &servers())),
            ["McpGateway one", "McpGateway two", "McpServer b"]
        );
        let owner = json!([{"apiVersion": "portcullis.dev/v1alpha1", "kind": "McpGateway", "name": "one", "uid": "u", "controller": true}]);
        let ours = service("one-gateway", owner);
        assert_eq!(
            names(&by_service(&change(Some(&ours), None), &servers())),
            ["McpGateway one"]
        );
    }

    #[test]
    fn only_labels_of_a_namespace_count() {
        let namespace = |label: &str, note: &str| -> Namespace {
            serde_json::from_value(
                json!({"metadata": {"name": "ns", "labels": {"l": label}, "annotations": {"n": note}}}),
            )
            .unwrap()
        };
        let same = change(Some(&namespace("x", "1")), Some(&namespace("x", "2")));
        assert!(by_namespace(&same, &servers()).is_empty());
        let other = change(Some(&namespace("x", "1")), Some(&namespace("y", "1")));
        assert_eq!(by_namespace(&other, &servers()).len(), 3 + 3);
    }

    #[test]
    fn owners_of_other_groups_are_not_ours() {
        let child: ConfigMap = serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "c", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "McpGateway", "name": "one", "uid": "u", "controller": true},
        ]}}))
        .unwrap();
        assert!(by_child(&change(None, Some(&child))).is_empty());
    }

    #[test]
    fn a_pod_that_the_kubelet_merely_touched_has_not_moved() {
        let pod = |ready: &str, probe: &str| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"namespace": "ns", "name": "p"}, "status": {"podIP": "198.18.0.1",
                "conditions": [{"type": "Ready", "status": ready, "lastProbeTime": probe}]}}),
            )
            .unwrap()
        };
        let time = "2026-01-01T00:00:00Z";
        assert!(!pod_moved(&change(
            Some(&pod("True", time)),
            Some(&pod("True", "2026-01-02T00:00:00Z"))
        )));
        assert!(pod_moved(&change(
            Some(&pod("True", time)),
            Some(&pod("False", time))
        )));
        assert!(pod_moved(&change(Some(&pod("True", time)), None)));
    }
}
