//! The part of a CRD's schema that is not CEL: types, bounds, patterns, enumerations, required and unknown fields, as the
//! API server judges them. Small, since it only has to know the keywords our schemas use; it fails on any other.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use kube::core::cel::KubeCelExt as _;
use kube::core::cel::cel::{Context, Program, Value as CelValue};
use serde_json::Value;

/// Everything in `object` that `schema` does not permit.
pub(crate) fn violations(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    // The API server itself judges these.
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        for field in ["apiVersion", "kind", "metadata"] {
            fields.remove(field);
        }
    }
    check(schema, &object, "", &mut found);
    found
}

const KNOWN: [&str; 21] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
];

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    for keyword in keywords.keys() {
        assert!(
            KNOWN.contains(&keyword.as_str()),
            "{path}: {keyword} is new here: teach this file what it means"
        );
    }
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    let type_ok = match (schema["type"].as_str(), &schema["x-kubernetes-int-or-string"]) {
        (None, Value::Bool(true)) => value.is_i64() || value.is_u64() || value.is_string(),
        (Some("string"), _) => value.is_string(),
        (Some("integer"), _) => value.is_i64() || value.is_u64(),
        (Some("boolean"), _) => value.is_boolean(),
        (Some("object"), _) => value.is_object(),
        (Some("array"), _) => value.is_array(),
        other => panic!("{path}: a schema of type {other:?}"),
    };
    if !type_ok {
        say(format!("{value} has another type"));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        say(format!("{value} is none of {allowed:?}"));
    }
    match value {
        Value::String(text) => check_text(schema, text, &mut say),
        Value::Number(number) => {
            let number = number.as_f64().expect("a number");
            if schema["minimum"].as_f64().is_some_and(|least| number < least)
                || schema["maximum"].as_f64().is_some_and(|most| number > most)
            {
                say(format!("{number} is out of bounds"));
            }
        }
        Value::Array(items) => check_list(schema, items, path, found),
        Value::Object(_) => check_object(schema, value, path, found),
        Value::Bool(_) | Value::Null => {}
    }
}

fn check_text(schema: &Value, text: &str, say: &mut impl FnMut(String)) {
    let length = text.chars().count() as u64;
    if schema["minLength"].as_u64().is_some_and(|least| length < least)
        || schema["maxLength"].as_u64().is_some_and(|most| length > most)
    {
        say(format!("{length} characters are out of bounds"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !matches(pattern, text)
    {
        say(format!("{text:?} does not match {pattern}"));
    }
    if schema["format"] == "date-time" && text.parse::<k8s_openapi::jiff::Timestamp>().is_err() {
        say(format!("{text:?} is no time"));
    }
}

fn check_list(schema: &Value, items: &[Value], path: &str, found: &mut Vec<String>) {
    let length = items.len() as u64;
    if schema["minItems"].as_u64().is_some_and(|least| length < least)
        || schema["maxItems"].as_u64().is_some_and(|most| length > most)
    {
        found.push(format!("{path}: {length} items are out of bounds"));
    }
    let key = |item: &Value| match schema["x-kubernetes-list-map-keys"].as_array() {
        Some(keys) => keys
            .iter()
            .filter_map(Value::as_str)
            .map(|key| item[key].to_string())
            .collect(),
        None => item.to_string(),
    };
    let mut seen = HashSet::new();
    if matches!(schema["x-kubernetes-list-type"].as_str(), Some("set" | "map"))
        && !items.iter().all(|item| seen.insert(key(item)))
    {
        found.push(format!("{path}: an item stands twice"));
    }
    for (index, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
}

fn check_object(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let fields = value.as_object().expect("called for objects");
    let joined = |field: &str| {
        if path.is_empty() {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        }
    };
    for field in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(field) {
            found.push(format!("{}: required", joined(field)));
        }
    }
    if schema["maxProperties"]
        .as_u64()
        .is_some_and(|most| fields.len() as u64 > most)
    {
        found.push(format!("{path}: too many entries"));
    }
    for (field, inner) in fields {
        let known = schema["properties"]
            .get(field)
            .or_else(|| schema.get("additionalProperties"));
        match known {
            Some(schema) => check(schema, inner, &joined(field), found),
            None => found.push(format!("{}: unknown field", joined(field))),
        }
    }
}

thread_local! {
    /// Costly to make, and the same for every pattern.
    static CEL: Context<'static> = Context::default().with_all();
    /// Most fields are the same in most cases, and a pattern is compiled each time it is used.
    static KNOWN_MATCHES: RefCell<HashMap<(String, String), bool>> = RefCell::default();
}

/// Regular expressions as the API server has them (RE2): CEL's own.
fn matches(pattern: &str, text: &str) -> bool {
    let question = (pattern.to_owned(), text.to_owned());
    let known = KNOWN_MATCHES.with_borrow(|known| known.get(&question).copied());
    if let Some(known) = known {
        return known;
    }
    let matches = CEL.with(|cel| {
        let mut context = cel.new_inner_scope();
        context.add_variable_from_value("pattern", pattern.to_owned());
        context.add_variable_from_value("text", text.to_owned());
        let program = Program::compile("text.matches(pattern)").expect("a fixed expression");
        match program.execute(&context) {
            Ok(CelValue::Bool(matches)) => matches,
            other => panic!("pattern {pattern:?}: {other:?}"),
        }
    });
    KNOWN_MATCHES.with_borrow_mut(|known| known.insert(question, matches));
    matches
}
