//! What the schemas accept and refuse, without a cluster. A real API server is held to the same table.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what is wrong by failing"
)]

#[path = "support/structure.rs"]
mod structure;
#[path = "support/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};

use kube::core::cel::{ErrorKind, Validator, apply_defaults, compile_schema};
use portcullis_operator::api::v1alpha1::{Duration, McpGateway, McpServer};
use portcullis_operator::crds;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Schemas by kind.
fn schemas() -> BTreeMap<String, Value> {
    crds::all()
        .into_iter()
        .map(|crd| {
            let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema;
            (crd.spec.names.kind, serde_json::to_value(schema).unwrap())
        })
        .collect()
}

/// Every rule below `schema`, as (path, message).
fn rules(schema: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"].as_str().expect("every rule says what is wrong");
        found.insert((path.to_owned(), message.to_owned()));
    }
    for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            field.clone()
        } else {
            format!("{path}.{field}")
        };
        rules(inner, &path, found);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            rules(inner, path, found);
        }
    }
}

/// `a[3].b` without its positions.
fn without_positions(path: &str) -> String {
    path.split('.')
        .map(|part| part.split('[').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(".")
}

#[test]
fn the_table_holds_and_every_rule_has_refused_something() {
    let schemas = schemas();
    let mut untried: BTreeMap<&String, BTreeSet<(String, String)>> = schemas
        .iter()
        .map(|(kind, schema)| {
            let mut found = BTreeSet::new();
            rules(schema, "", &mut found);
            (kind, found)
        })
        .collect();
    let compiled: BTreeMap<&String, _> = schemas
        .iter()
        .map(|(kind, schema)| (kind, compile_schema(schema)))
        .collect();
    for (kind, schema) in &compiled {
        assert!(!schema.has_errors(), "{kind}: {:?}", schema.compilation_errors());
    }
    let validator = Validator::new();
    let mut wrong = Vec::new();
    for case in table::cases() {
        let object = case.object();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let schema = &schemas[&kind];
        let defaulted = apply_defaults(schema, &object);
        let mut verdict = structure::violations(schema, &defaulted);
        // What has the wrong type cannot be asked anything; the API server stops there too.
        let judgeable = !verdict.iter().any(|reason| {
            ["has another type", "required", "out of bounds"]
                .iter()
                .any(|end| reason.ends_with(end))
        });
        if judgeable && let Err(errors) = validator.validate_compiled(&compiled[&kind], &object, None) {
            for error in errors.as_slice() {
                if error.kind == ErrorKind::ValidationFailure {
                    let rules = untried.get_mut(&kind).unwrap();
                    rules.retain(|(at, message)| {
                        !(*message == error.message
                            && without_positions(&error.field_path).starts_with(at.as_str()))
                    });
                } else if !verdict.is_empty() {
                    // A rule over a value that its pattern refuses may not be computable.
                    continue;
                }
                verdict.push(format!("{}: {}", error.field_path, error.message));
            }
        }
        wrong.extend(case.disagrees_with(&verdict));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    untried.retain(|_, rules| !rules.is_empty());
    assert!(
        untried.is_empty(),
        "no case of the table makes these rules refuse: {untried:#?}"
    );
}

#[test]
fn what_the_schema_accepts_the_types_read_and_write_unchanged() {
    let schemas = schemas();
    for case in table::cases().iter().filter(|case| case.refused.is_empty()) {
        let object = case.object();
        let kind = object["kind"].as_str().unwrap();
        let defaulted = apply_defaults(&schemas[kind], &object);
        let written = match kind {
            "McpGateway" => again::<McpGateway>(&object),
            "McpServer" => again::<McpServer>(&object),
            other => panic!("{other} is no kind of ours"),
        };
        // The defaults of the types and of the schema are the same, and nothing gets lost on the way.
        assert_eq!(
            normal(&apply_defaults(&schemas[kind], &written)["spec"]),
            normal(&defaulted["spec"]),
            "{}",
            case.merge
        );
    }
}

/// `object` read as a `T` and written again.
fn again<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|err| panic!("{err}: {object}"));
    serde_json::to_value(read).unwrap()
}

/// Amounts of one value written in one way.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, inner)| (key.clone(), normal(inner)))
            .collect(),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::String(text) => text
            .parse::<Duration>()
            .map_or_else(|_| value.clone(), |duration| Value::String(duration.to_string())),
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}
