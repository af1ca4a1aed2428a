//! Objects from files, in place of a cluster.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PLACEHOLDER_UID;
use super::schema;
use crate::api::labels::{self, Labels};
use crate::api::v1alpha1::{McpGateway, McpServer};
use crate::identity::Key;

/// The most that is read of one file.
const MAX_BYTES: u64 = 16 << 20;
/// Label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// McpGateways.
    pub gateways: BTreeMap<Key, Arc<McpGateway>>,
    /// McpServers.
    pub servers: BTreeMap<Key, Arc<McpServer>>,
    /// Services.
    pub services: BTreeMap<Key, Arc<Service>>,
    /// EndpointSlices, by their Service.
    pub endpoint_slices: BTreeMap<Key, Vec<Arc<EndpointSlice>>>,
    /// ConfigMaps.
    pub config_maps: BTreeMap<Key, Arc<ConfigMap>>,
    /// Labels of namespaces. Every namespace has its own name as a label.
    pub namespaces: BTreeMap<String, Labels>,
    /// What was passed over.
    pub notes: Vec<String>,
}

/// Reads a file, or standard input.
pub fn read_file(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let name = path.display();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text)
    };
    let read = read.with_context(|| format!("cannot read {name}"))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_BYTES {
        bail!("{name} is larger than {} MiB", MAX_BYTES >> 20);
    }
    Ok(text)
}

impl Input {
    /// Takes in every object of a YAML stream. `source` names it in errors, `namespace` is that of objects without one.
    pub fn add_text(&mut self, text: &str, source: &str, namespace: &str) -> anyhow::Result<()> {
        for (at, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            let place = format!("{source}, document {}", at + 1);
            let value = Value::deserialize(document).with_context(|| place.clone())?;
            if !value.is_null() {
                self.add(value, namespace).with_context(|| place)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, mut value: Value, namespace: &str) -> anyhow::Result<()> {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&value, "apiVersion"), text(&value, "kind"));
        if (version.as_str(), kind.as_str()) == ("v1", "List") {
            let items = value["items"].take();
            for item in items.as_array().into_iter().flatten() {
                self.add(item.clone(), namespace)?;
            }
            return Ok(());
        }
        let Some(metadata) = value["metadata"].as_object_mut() else {
            bail!("{kind} has no metadata");
        };
        let name = metadata
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if name.is_empty() {
            bail!("{kind} has no metadata.name");
        }
        if kind != "Namespace" {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
        match (version.as_str(), kind.as_str()) {
            ("portcullis.dev/v1alpha1", "McpGateway") => {
                metadata.entry("uid").or_insert_with(|| PLACEHOLDER_UID.into());
                let gateway: McpGateway = known(schema::gateway(), value)?;
                insert(&mut self.gateways, gateway)?;
            }
            ("portcullis.dev/v1alpha1", "McpServer") => {
                metadata.entry("uid").or_insert_with(|| PLACEHOLDER_UID.into());
                let server: McpServer = known(schema::server(), value)?;
                insert(&mut self.servers, server)?;
            }
            ("v1", "Service") => insert(&mut self.services, serde_json::from_value(value)?)?,
            ("v1", "ConfigMap") => insert(&mut self.config_maps, serde_json::from_value(value)?)?,
            ("v1", "Namespace") => {
                let namespace: Namespace = serde_json::from_value(value)?;
                let mut all = namespace.labels().clone();
                all.insert(labels::NAMESPACE_NAME.to_owned(), name.clone());
                self.namespaces.insert(name, all);
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let slice: EndpointSlice = serde_json::from_value(value)?;
                let Some(service) = slice.labels().get(SERVICE_NAME) else {
                    bail!("EndpointSlice {name} has no label {SERVICE_NAME}");
                };
                let service = Key::new(slice.namespace().unwrap_or_default(), service.as_str());
                self.endpoint_slices
                    .entry(service)
                    .or_default()
                    .push(Arc::new(slice));
            }
            _ => self.notes.push(format!("{version} {kind} {name} is passed over")),
        }
        Ok(())
    }
}

/// An object of ours. The API server would drop fields it does not know, or refuse them; here they are refused, because a
/// setting that does nothing is a mistake.
fn known<K: DeserializeOwned>(schema: &schema::Schema, value: Value) -> anyhow::Result<K> {
    let unknown = schema.unknown_fields(&value);
    if !unknown.is_empty() {
        bail!("unknown fields: {}", unknown.join(", "));
    }
    Ok(serde_json::from_value(value)?)
}

fn insert<K: ResourceExt>(objects: &mut BTreeMap<Key, Arc<K>>, object: K) -> anyhow::Result<()> {
    let key = Key::of(&object);
    if objects.insert(key.clone(), Arc::new(object)).is_some() {
        bail!("{key} stands there twice");
    }
    Ok(())
}
