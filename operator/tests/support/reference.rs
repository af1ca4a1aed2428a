//! The definitions as a reference for people, in Markdown: one table for each object, every field with its type, its
//! default, its description and the rules it has to meet.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const HEAD: &str = "\
# API reference

<!-- Written from the Rust types of the operator. Do not edit: make generate -->

Group `portcullis.dev`, version `v1alpha1`. A field that is not listed here does not exist: `kubectl apply --server-side`
and `kubectl --validate=strict` refuse it. What *has to hold* is checked by the API server when an object is written.
";

/// The reference of these kinds.
pub(crate) fn of(crds: &[CustomResourceDefinition]) -> String {
    let mut text = HEAD.to_owned();
    for crd in crds {
        kind(&mut text, crd);
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn kind(text: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    let version = crd.spec.versions.first().expect("one version");
    let schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema).expect("a schema is plain data");
    let short: Vec<String> = names
        .short_names
        .iter()
        .flatten()
        .map(|name| format!("`{name}`"))
        .collect();

    line(text, &format!("\n## {}\n", names.kind));
    line(text, &prose(&schema));
    line(
        text,
        &format!(
            "\n{}, short {}. Printed columns:\n",
            crd.spec.scope,
            short.join(", ")
        ),
    );
    line(text, "| column | meaning |\n|---|---|");
    for column in version.additional_printer_columns.iter().flatten() {
        let meaning = column.description.as_deref().unwrap_or("How long it exists");
        let wide = if column.priority.unwrap_or(0) > 0 {
            " (with `-o wide`)"
        } else {
            ""
        };
        line(text, &format!("| {} | {meaning}{wide} |", column.name));
    }
    for part in ["spec", "status"] {
        object(text, &names.kind, part, &schema["properties"][part]);
    }
}

/// A section for an object, then one for each object within it.
fn object(text: &mut String, kind: &str, path: &str, schema: &Value) {
    line(text, &format!("\n### {kind} `{path}`\n"));
    line(text, &prose(schema));
    rules(text, schema);
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    line(text, "\n| field | type | default | meaning |\n|---|---|---|---|");
    for (name, field) in fields {
        let default = match &field["default"] {
            Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null => String::new(),
            // What is longer stands at the fields themselves.
            value if value.to_string().len() > 60 => "as below".to_owned(),
            value => format!("`{}`", cell(&value.to_string())),
        };
        let mut meaning = prose(field);
        let held = inner(field);
        let mut rules = Vec::new();
        // An object's rules stand in its section; those of a list of objects concern the list.
        if !std::ptr::eq(held, field) || held["properties"].is_null() {
            rules.extend(messages(field));
        }
        if !std::ptr::eq(held, field) && held["properties"].is_null() {
            rules.extend(messages(held));
        }
        for rule in rules {
            meaning.extend([" *Has to hold: ", &rule, ".*"]);
        }
        let type_of = type_of(field, &section(kind, &format!("{path}.{name}"), field));
        let meaning = cell(&meaning);
        line(text, &format!("| `{name}` | {type_of} | {default} | {meaning} |"));
    }
    for (name, field) in fields {
        let inner = inner(field);
        if inner["properties"].is_object() {
            object(text, kind, &format!("{path}.{name}{}", suffix(field)), inner);
        }
    }
}

/// What a list or a map holds, or the field itself.
fn inner(field: &Value) -> &Value {
    [&field["items"], &field["additionalProperties"]]
        .into_iter()
        .find(|inner| inner.is_object())
        .unwrap_or(field)
}

/// How a list's or a map's elements are told from the list or the map.
fn suffix(field: &Value) -> &'static str {
    if field["items"].is_object() {
        "[]"
    } else if field["additionalProperties"].is_object() {
        ".*"
    } else {
        ""
    }
}

/// The anchor of the section on what a field holds: its heading in lower case, without punctuation.
fn section(kind: &str, path: &str, field: &Value) -> String {
    let heading = format!("{kind} {path}{}", suffix(field));
    heading
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == ' ')
        .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

fn type_of(field: &Value, section: &str) -> String {
    if field["items"].is_object() {
        return format!("list of {}", type_of(&field["items"], section));
    }
    if field["additionalProperties"].is_object() {
        return format!("map of {}", type_of(&field["additionalProperties"], section));
    }
    if field["properties"].is_object() {
        return format!("[object](#{section})");
    }
    if let Some(values) = field["enum"].as_array() {
        let words: Vec<String> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        return words.join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    match field["format"].as_str() {
        Some("date-time") => "time (RFC 3339)".to_owned(),
        _ => field["type"].as_str().unwrap_or("any").to_owned(),
    }
}

fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten();
    rules
        .map(|rule| {
            let said = rule["message"]
                .as_str()
                .or(rule["rule"].as_str())
                .unwrap_or_default();
            cell(said).trim_end_matches('.').to_owned()
        })
        .collect()
}

fn rules(text: &mut String, schema: &Value) {
    let messages = messages(schema);
    if !messages.is_empty() {
        line(text, "\nHas to hold:\n");
    }
    for message in messages {
        line(text, &format!("- {message}"));
    }
}

fn prose(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .trim()
        .replace("\n\n", " ")
        .replace('\n', " ")
}

/// Text that ends no cell of a table and is no markup.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}
