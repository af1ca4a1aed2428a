//! The table of `fixtures/schema.yaml`: objects, what changes in them, and what must be said about it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// One line of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Name of the object the case starts from.
    pub(crate) on: String,
    /// What changes in it (RFC 7386).
    pub(crate) merge: Value,
    /// What the refusal says. Empty: it is accepted.
    #[serde(default)]
    pub(crate) refused: Vec<String>,
}

impl Case {
    /// The object that is judged.
    pub(crate) fn object(&self) -> Value {
        let mut object = read(&format!("{}.yaml", self.on));
        merge(&mut object, &self.merge);
        object
    }

    /// What is wrong with a verdict on this case, if anything.
    pub(crate) fn disagrees_with(&self, verdict: &[String]) -> Option<String> {
        let unforeseen: Vec<_> = verdict
            .iter()
            .filter(|reason| !self.refused.iter().any(|line| reason.contains(line)))
            .collect();
        let unheard: Vec<_> = self
            .refused
            .iter()
            .filter(|line| !verdict.iter().any(|reason| reason.contains(*line)))
            .collect();
        (!unforeseen.is_empty() || !unheard.is_empty()).then(|| {
            format!(
                "on {} merge {}\n  said without cause: {unforeseen:#?}\n  not said: {unheard:#?}",
                self.on, self.merge
            )
        })
    }
}

/// The whole table.
pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_value(read("schema.yaml")).expect("the table is well-formed")
}

/// The folder of the fixtures, from any crate of the workspace.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/tests/fixtures")
}

fn read(file: &str) -> Value {
    let path = fixtures().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().expect("just made one");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
