//! The CustomResourceDefinitions as they are installed: printed by `portcullis crds`, committed under `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::v1alpha1::{McpGateway, McpServer};

/// First line of each file.
const HEADER: &str = "# Generated from the Rust types of the operator. Do not edit: UPDATE=1 cargo test -p portcullis-operator --test crds\n";

/// The definitions, in the order in which they are printed.
pub fn all() -> Vec<CustomResourceDefinition> {
    [McpGateway::crd(), McpServer::crd()]
        .into_iter()
        .map(finished)
        .collect()
}

/// Name of the file that holds `crd`, `GROUP_PLURAL.yaml`.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}

/// The content of the file that holds `crd`.
pub fn file_content(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    Ok(format!("{HEADER}---\n{}", serde_yaml::to_string(crd)?))
}

/// All definitions as one YAML stream.
pub fn stream() -> Result<String, serde_yaml::Error> {
    all()
        .iter()
        .map(|crd| Ok(format!("---\n{}", serde_yaml::to_string(crd)?)))
        .collect()
}

/// What the derived definition says in a way that Kubernetes understands less well than it could.
fn finished(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a definition is plain data");
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
            }
        }
    }
    serde_json::from_value(value).expect("still a definition")
}

/// Makes one schema and those within it plainer.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    // Without `nullable` the API server drops a null like an absent field, and applies its default; with it, `has()` is
    // true of a null and a union could have two members.
    object.remove("nullable");
    // The kind's name, which the definition says already.
    object.remove("title");
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = unwrapped(text);
    }
    // Rust's own integer formats are unknown to Kubernetes; where they are known they add nothing to the bounds.
    if let Some(Value::String(format)) = object.get("format")
        && !matches!(format.as_str(), "date-time" | "int32" | "int64")
    {
        object.remove("format");
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            tidy(inner);
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(tidy);
    }
}

/// Lines of a doc comment joined to paragraphs.
fn unwrapped(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
