//! The reading step of a pass: everything a decision may need, from what the watches saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::stores::Stores;
use crate::api::v1alpha1::McpServer;
use crate::identity::Key;
use crate::validate::attachment::{gateways_named, names};
use crate::validate::{ServerInputs, World};

/// Label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Reads ConfigMaps that we did not make.
pub trait ForeignConfigMaps {
    /// The ConfigMap, if it exists.
    fn get(&self, key: &Key) -> Option<Arc<ConfigMap>>;
}

/// What bears on a gateway: itself, the servers that name it, and the gateways which those name.
pub fn around_gateway(stores: &Stores, foreign: &impl ForeignConfigMaps, gateway: &Key) -> World {
    let servers: Vec<Arc<McpServer>> = stores
        .servers
        .all()
        .into_iter()
        .filter(|server| names(server, gateway))
        .collect();
    let mut keys: BTreeSet<Key> = servers.iter().flat_map(|server| gateways_named(server)).collect();
    keys.insert(gateway.clone());
    world(stores, foreign, keys, servers)
}

/// What bears on a server: itself, the gateways it names, and the servers which name those.
pub fn around_server(stores: &Stores, foreign: &impl ForeignConfigMaps, server: &McpServer) -> World {
    let keys: BTreeSet<Key> = gateways_named(server).collect();
    let own = Key::of(server);
    let servers = stores
        .servers
        .all()
        .into_iter()
        .filter(|other| Key::of(&**other) == own || keys.iter().any(|gateway| names(other, gateway)))
        .collect::<Vec<_>>();
    // The strictest gateway of each of them counts, so theirs are needed too.
    let mut all = keys;
    all.extend(servers.iter().flat_map(|server| gateways_named(server)));
    world(stores, foreign, all, servers)
}

fn world(
    stores: &Stores,
    foreign: &impl ForeignConfigMaps,
    gateways: BTreeSet<Key>,
    servers: Vec<Arc<McpServer>>,
) -> World {
    World {
        gateways: gateways
            .into_iter()
            .filter_map(|key| {
                let gateway = stores.gateways.get(&key)?;
                Some((key, gateway))
            })
            .collect(),
        servers: servers
            .into_iter()
            .map(|server| (Key::of(&*server), inputs(stores, foreign, server)))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn inputs(stores: &Stores, foreign: &impl ForeignConfigMaps, server: Arc<McpServer>) -> ServerInputs {
    let namespace = server.namespace().unwrap_or_default();
    let labels = stores
        .namespaces
        .get(&Key::new("", namespace.as_str()))
        .map(|namespace| namespace.labels().clone());
    let service = server.spec.service.as_ref().and_then(|named| {
        stores
            .services
            .get(&Key::new(namespace.as_str(), named.name.as_str()))
    });
    let selects = service.as_ref().is_some_and(|service| {
        service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref())
            .is_some_and(|selector| !selector.is_empty())
    });
    let endpoint_slices = match &service {
        Some(service) if !selects => {
            let name = service.name_any();
            let mut slices = stores.endpoint_slices.in_namespace(&namespace);
            slices.retain(|slice| slice.labels().get(SERVICE_NAME) == Some(&name));
            slices
        }
        Some(_) | None => Vec::new(),
    };
    ServerInputs {
        namespace_labels: labels,
        service,
        endpoint_slices,
        ca_bundle: foreign_ca(&server).and_then(|key| foreign.get(&key)),
        server,
    }
}

/// The ConfigMap with a server's certificate authorities, where some gateway cannot mount it.
pub fn foreign_ca(server: &McpServer) -> Option<Key> {
    let namespace = server.namespace().unwrap_or_default();
    let elsewhere = gateways_named(server).any(|gateway| *gateway.namespace != *namespace);
    let tls = match (&server.spec.remote, &server.spec.service) {
        (Some(remote), _) => Some(&remote.tls),
        (None, Some(service)) => service.tls.as_ref(),
        (None, None) => None,
    };
    let bundle = tls?.ca_bundle.as_ref()?;
    elsewhere.then(|| Key::new(namespace.as_str(), bundle.config_map_name.as_str()))
}
