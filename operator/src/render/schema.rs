//! Finds fields that the CRDs do not have.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::v1alpha1::{McpGateway, McpServer};

/// The schema of a kind.
#[derive(Clone, Debug)]
pub struct Schema(JSONSchemaProps);

/// The schema of McpGateway.
pub fn gateway() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| of(McpGateway::crd()));
    &SCHEMA
}

/// The schema of McpServer.
pub fn server() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| of(McpServer::crd()));
    &SCHEMA
}

fn of(crd: CustomResourceDefinition) -> Schema {
    let schema = crd
        .spec
        .versions
        .into_iter()
        .find_map(|version| version.schema?.open_api_v3_schema);
    Schema(schema.expect("a CRD of ours has a version with a schema"))
}

impl Schema {
    /// The paths of fields in `object` that the schema does not have.
    pub fn unknown_fields(&self, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for (field, value) in object.as_object().into_iter().flatten() {
            match (field.as_str(), self.property(field)) {
                ("apiVersion" | "kind" | "metadata", _) => {}
                (_, Some(schema)) => walk(schema, value, field, &mut found),
                (_, None) => found.push(field.clone()),
            }
        }
        found
    }

    fn property(&self, field: &str) -> Option<&JSONSchemaProps> {
        self.0.properties.as_ref()?.get(field)
    }
}

fn walk(schema: &JSONSchemaProps, value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = format!("{path}.{field}");
                let named = schema
                    .properties
                    .as_ref()
                    .and_then(|properties| properties.get(field));
                match (named, &schema.additional_properties) {
                    (Some(schema), _) => walk(schema, value, &path, found),
                    (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => walk(schema, value, &path, found),
                    (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                    (None, Some(JSONSchemaPropsOrBool::Bool(false)) | None) => found.push(path),
                }
            }
        }
        Value::Array(items) => {
            let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else {
                return;
            };
            for (at, item) in items.iter().enumerate() {
                walk(schema, item, &format!("{path}[{at}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_typo_is_found_wherever_it_stands() {
        let object = json!({
            "apiVersion": "portcullis.dev/v1alpha1",
            "kind": "McpGateway",
            "metadata": {"name": "tools", "anything": 1},
            "sepc": {},
            "spec": {
                "publicHost": "mcp.example.com",
                "rateLimit": [],
                "auth": {"jwt": [{"name": "corp", "requiredClaims": {"tenant": "blue"}, "isuer": "x"}]},
                "network": {"ingressFrom": [{"podSelector": {"matchLabels": {"any.thing/at-all": "x"}}}]},
            },
        });
        assert_eq!(
            gateway().unknown_fields(&object),
            ["sepc", "spec.auth.jwt[0].isuer", "spec.rateLimit"]
        );
    }

    #[test]
    fn every_field_of_a_server_is_known() {
        let object = json!({"spec": {
            "gatewayRefs": [{"name": "tools"}],
            "container": {"image": "x", "resources": {"limits": {"ephemeral-storage": "1Gi"}}, "user": 1},
            "quarantine": {"exceptFor": [{"method": "corp", "subject": "a"}]},
        }});
        assert!(server().unknown_fields(&object).is_empty());
    }
}
