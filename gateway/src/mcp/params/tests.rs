use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn found(schema: &Value) -> Result<Vec<(String, String)>, BadAnnotation> {
    let all = annotations(schema.to_string().as_bytes())?;
    Ok(all
        .iter()
        .map(|one| (one.path.join("."), one.header.to_string()))
        .collect())
}

fn property(extra: &Value) -> Value {
    let mut property = json!({"type": "string", "x-mcp-header": "Region"});
    for (key, value) in extra.as_object().unwrap() {
        property[key] = value.clone();
    }
    json!({"type": "object", "properties": {"region": property}})
}

#[test]
fn annotated_properties_are_found_at_any_depth() {
    let schema = json!({"properties": {
        "a": {"type": "string", "x-mcp-header": "A"},
        "b": {"type": "object", "properties": {"c": {"type": "integer", "x-mcp-header": "B-C"}}},
        "x-mcp-header": {"type": "boolean", "x-mcp-header": "odd"},
        "plain": {"type": "array", "items": {"type": "string"}},
    }});
    let mut all = found(&schema).unwrap();
    all.sort();
    let want = [
        ("a", "mcp-param-a"),
        ("b.c", "mcp-param-b-c"),
        ("x-mcp-header", "mcp-param-odd"),
    ];
    assert_eq!(
        all,
        want.map(|(path, header)| (path.to_owned(), header.to_owned()))
    );
    assert_eq!(found(&json!({"type": "object"})).unwrap(), []);
    assert_eq!(
        annotations(br#"{"properties":{"a":{"type":"string","x-mcp-h\u0065ader":"A"}}}"#)
            .unwrap()
            .len(),
        1
    );
}

#[rstest]
#[case(property(&json!({"x-mcp-header": ""})))]
#[case(property(&json!({"x-mcp-header": 5})))]
#[case(property(&json!({"x-mcp-header": "a b"})))]
#[case(property(&json!({"x-mcp-header": "a\r\nb"})))]
#[case(property(&json!({"x-mcp-header": "é"})))]
#[case(property(&json!({"type": "number"})))]
#[case(property(&json!({"type": "object"})))]
#[case(property(&json!({"type": ["string", "null"]})))]
#[case(property(&json!({"type": null})))]
#[case(json!({"x-mcp-header": "Root", "type": "string"}))]
#[case(json!({"properties": {"a": {"type": "string", "x-mcp-header": "X"}, "b": {"type": "string", "x-mcp-header": "x"}}}))]
#[case(json!({"properties": {"a": {"items": {"type": "string", "x-mcp-header": "X"}}}}))]
#[case(json!({"anyOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "X"}}}]}))]
#[case(json!({"$defs": {"a": {"type": "string", "x-mcp-header": "X"}}}))]
#[case(json!({"if": {"properties": {"a": {"type": "string", "x-mcp-header": "X"}}}}))]
#[case(json!({"additionalProperties": {"type": "string", "x-mcp-header": "X"}}))]
fn what_the_specification_forbids_is_refused(#[case] schema: Value) {
    assert!(found(&schema).is_err());
}

#[test]
fn data_that_look_like_the_keyword_mean_nothing() {
    let schema = json!({"properties": {"a": {"type": "object", "default": {"x-mcp-header": 1}, "enum": [{"x-mcp-header": ""}]}}});
    assert_eq!(found(&schema).unwrap(), []);
}

#[test]
fn schemas_are_bounded() {
    let mut deep = json!({"type": "string", "x-mcp-header": "X"});
    for _ in 0..100 {
        deep = json!({"properties": {"a": deep}});
    }
    assert!(found(&deep).is_err());
    let many = |count: usize| {
        let all = (0..count).map(|n| {
            (
                format!("k{n}"),
                json!({"type": "string", "x-mcp-header": format!("h{n}")}),
            )
        });
        json!({"properties": all.collect::<serde_json::Map<_, _>>()})
    };
    assert_eq!(found(&many(MAX_ANNOTATIONS)).unwrap().len(), MAX_ANNOTATIONS);
    assert!(found(&many(MAX_ANNOTATIONS + 1)).is_err());
    assert!(annotations(b"{\"x-mcp-header\":").is_err());
}

fn all() -> Vec<Annotation> {
    let schema = json!({"properties": {
        "text": {"type": "string", "x-mcp-header": "Text"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "flag": {"type": "boolean", "x-mcp-header": "Flag"},
        "in": {"properties": {"ner": {"type": "string", "x-mcp-header": "Inner"}}},
    }});
    annotations(schema.to_string().as_bytes()).unwrap()
}

#[test]
fn headers_are_made_from_arguments() {
    let made = |arguments: &Value| {
        let mut made: Vec<_> = headers_for(&all(), Some(arguments.to_string().as_bytes()))
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        made.sort();
        made
    };
    let pair = |name: &str, value: &str| (format!("mcp-param-{name}"), value.to_owned());
    assert_eq!(
        made(&json!({"text": "é", "count": -7, "flag": true, "in": {"ner": "x"}})),
        [
            pair("count", "-7"),
            pair("flag", "true"),
            pair("inner", "x"),
            pair("text", "=?base64?w6k=?=")
        ]
    );
    assert_eq!(made(&json!({"text": null, "count": [1], "in": "x"})), []);
    assert_eq!(headers_for(&all(), None), []);
}

#[rstest]
#[case(json!({"text": "a"}), &[("text", "a")], true)]
#[case(json!({"text": "é"}), &[("text", "=?base64?w6k=?=")], true)]
#[case(json!({"text": "a"}), &[("text", "b")], false)]
#[case(json!({"text": "a"}), &[], false)]
#[case(json!({"text": "a"}), &[("text", "a"), ("text", "a")], false)]
#[case(json!({"text": "a"}), &[("text", "=?base64?!?=")], false)]
#[case(json!({}), &[("text", "a")], false)]
#[case(json!({"text": null}), &[], true)]
#[case(json!({"text": null}), &[("text", "null")], false)]
#[case(json!({"count": 42}), &[("count", "42.0")], true)]
#[case(json!({"count": 42.0}), &[("count", "42")], true)]
#[case(json!({"count": 42}), &[("count", "43")], false)]
#[case(json!({"count": 42}), &[("count", "inf")], false)]
#[case(json!({"count": 9_007_199_254_740_993_i64}), &[("count", "9007199254740992")], false)]
#[case(json!({"count": 9_007_199_254_740_993_i64}), &[("count", "9007199254740993")], true)]
#[case(json!({"text": "42"}), &[("text", "42.0")], false)]
#[case(json!({"flag": true}), &[("flag", "true")], true)]
#[case(json!({"flag": true}), &[("flag", "True")], false)]
#[case(json!({"in": {"ner": "x"}}), &[("inner", "x")], true)]
#[case(json!({}), &[("unknown", "anything")], true)]
fn headers_repeat_arguments(
    #[case] arguments: Value,
    #[case] sent: &[(&str, &'static str)],
    #[case] agree: bool,
) {
    let mut headers = HeaderMap::new();
    for (name, value) in sent {
        headers.append(
            HeaderName::try_from(format!("mcp-param-{name}")).unwrap(),
            HeaderValue::from_static(value),
        );
    }
    assert_eq!(
        check(&all(), &headers, Some(arguments.to_string().as_bytes())).is_ok(),
        agree
    );
}

#[test]
fn what_is_made_is_accepted() {
    let arguments = json!({"text": " é\n", "count": 1e3, "flag": false, "in": {"ner": ""}}).to_string();
    let headers: HeaderMap = headers_for(&all(), Some(arguments.as_bytes()))
        .into_iter()
        .collect();
    assert_eq!(check(&all(), &headers, Some(arguments.as_bytes())), Ok(()));
    assert_eq!(headers.len(), 4);
}
