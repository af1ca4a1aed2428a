//! A small cluster written down as API objects, and policies to put on it.

use std::sync::Arc;

use portcullis_netpol::compile::compile;
use portcullis_netpol::render::render;
use portcullis_netpol::table::{Network, Table};
use portcullis_netpol::world::World;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "ports": [
            {"name": "web", "containerPort": 8080},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]}]},
        "status": {"phase": "Running", "podIP": address},
    })
}

/// Two pods in `x`, two in `y`; each carries its name as label `app`.
pub(crate) fn pods() -> Vec<Value> {
    vec![
        pod("x", "a", "198.18.0.5"),
        pod("x", "b", "198.18.0.6"),
        pod("y", "a", "198.18.0.7"),
        pod("y", "b", "198.18.0.8"),
    ]
}

pub(crate) fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

pub(crate) fn network() -> Network {
    Network {
        pod_cidr: "198.18.0.0/24".parse().unwrap(),
        node_ip: "198.18.255.2".parse().unwrap(),
    }
}

pub(crate) fn table_of(pods: Vec<Value>, policies: Vec<Value>) -> Table {
    let pods: Vec<_> = pods.into_iter().map(object).collect();
    let namespaces: Vec<_> = ["x", "y"]
        .into_iter()
        .map(|name| object(json!({"metadata": {"name": name, "labels": {"ns": name}}})))
        .collect();
    let policies: Vec<_> = policies.into_iter().map(object).collect();
    compile(&World::read(&pods, &namespaces, &policies), network())
}

pub(crate) fn rendered(policies: Vec<Value>) -> String {
    render(&table_of(pods(), policies))
}
