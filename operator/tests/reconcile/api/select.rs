//! Label and field selectors, as far as the operator uses them.

use std::collections::HashMap;

use serde_json::{Value, json};

#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<String>,
    name: Option<String>,
}

impl Selector {
    pub fn from_query(query: &HashMap<String, String>) -> Self {
        let labels = query
            .get("labelSelector")
            .map(|text| text.split(',').map(str::to_owned).collect());
        let name = query.get("fieldSelector").map(|text| {
            text.strip_prefix("metadata.name=")
                .expect("the only field that is selected by")
                .to_owned()
        });
        Self {
            labels: labels.unwrap_or_default(),
            name,
        }
    }

    pub fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let by_label = self.labels.iter().all(|term| {
            if let Some((key, value)) = term.split_once("!=") {
                labels[key] != json!(value)
            } else if let Some((key, value)) = term.split_once('=') {
                labels[key] == json!(value)
            } else {
                !labels[term].is_null()
            }
        });
        by_label
            && self
                .name
                .as_ref()
                .is_none_or(|name| object["metadata"]["name"] == json!(name))
    }
}
