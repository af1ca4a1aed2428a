use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::mcp::scan::fields;
use crate::mcp::testing::{choices, object, spell, value};

fn whole(text: &str) -> Span {
    Span::new(text.len() - text.trim_start().len(), text.trim_end().len()).unwrap()
}

fn value_of(text: &str, key: &str) -> Option<Span> {
    scan_field(text, key)
}

fn scan_field(text: &str, key: &str) -> Option<Span> {
    crate::mcp::scan::field(text.as_bytes(), whole(text), key)
}

#[rstest]
#[case(r#"{"a":1,"b":2}"#, &["a"], r#"{"b":2}"#)]
#[case(r#"{"a":1,"b":2}"#, &["b"], r#"{"a":1}"#)]
#[case(r#"{"a":1,"b":2}"#, &["b", "a"], "{}")]
#[case(r#"{ "a" : 1 }"#, &["a"], "{  }")]
#[case(r#"{"a":1,"b":2,"c":3}"#, &["b"], r#"{"a":1,"c":3}"#)]
#[case(r#"{"a":1,"b":2,"c":3}"#, &["a", "c"], r#"{"b":2}"#)]
#[case(r#"{"a":1 , "b\"\\" : 2 , "c" : 3}"#, &["c", "b\"\\"], r#"{"a":1 }"#)]
#[case(r#"{"a":1}"#, &["x"], r#"{"a":1}"#)]
fn members_go(#[case] text: &str, #[case] remove: &[&str], #[case] want: &str) {
    let mut patch = Patch::new(text.as_bytes());
    let spans: Vec<_> = remove.iter().map(|key| value_of(text, key)).collect();
    patch.members(whole(text), &spans, &[]);
    assert_eq!(patch.apply().unwrap(), want);
}

#[rstest]
#[case("{}", &[], r#"{"x":1,"y":[]}"#)]
#[case("{ }", &[], r#"{"x":1,"y":[] }"#)]
#[case(r#"{"a":0}"#, &[], r#"{"x":1,"y":[],"a":0}"#)]
#[case(r#"{"a":0}"#, &["a"], r#"{"x":1,"y":[]}"#)]
#[case(r#"{"a":0,"b":0}"#, &["a"], r#"{"x":1,"y":[],"b":0}"#)]
#[case(r#"{"a":0,"b":0}"#, &["b"], r#"{"x":1,"y":[],"a":0}"#)]
#[case(r#"{"a":0,"b":0}"#, &["a", "b"], r#"{"x":1,"y":[]}"#)]
fn members_come(#[case] text: &str, #[case] remove: &[&str], #[case] want: &str) {
    let mut patch = Patch::new(text.as_bytes());
    let spans: Vec<_> = remove.iter().map(|key| value_of(text, key)).collect();
    patch.members(whole(text), &spans, &[("x", b"1"), ("y", b"[]")]);
    assert_eq!(patch.apply().unwrap(), want);
}

#[test]
fn replacing_keeps_every_other_byte() {
    let text = r#" { "id" : 1 ,"params":{ "name":"a\u0062" , "n":1e400}}  "#;
    let mut patch = Patch::new(text.as_bytes());
    let params = value_of(text, "params").unwrap();
    let name = crate::mcp::scan::field(text.as_bytes(), params, "name").unwrap();
    patch
        .replace(name, b"\"x\"")
        .replace(value_of(text, "id").unwrap(), b"\"long id\"");
    assert_eq!(
        patch.apply().unwrap(),
        r#" { "id" : "long id" ,"params":{ "name":"x" , "n":1e400}}  "#
    );
}

#[test]
fn many_changes_fit() {
    let text = format!(
        "{{{}}}",
        (0..40)
            .map(|n| format!("\"k{n}\":{n}"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let mut patch = Patch::new(text.as_bytes());
    for n in (0..40).rev() {
        patch.replace(value_of(&text, &format!("k{n}")).unwrap(), b"true");
    }
    let want: Value = (0..40).map(|n| (format!("k{n}"), Value::from(true))).collect();
    assert_eq!(
        serde_json::from_slice::<Value>(&patch.apply().unwrap()).unwrap(),
        want
    );
}

#[test]
fn overlapping_changes_are_never_sent() {
    let text = r#"{"a":{"b":1}}"#;
    let outer = value_of(text, "a").unwrap();
    let inner = crate::mcp::scan::field(text.as_bytes(), outer, "b").unwrap();
    let mut patch = Patch::new(text.as_bytes());
    patch.replace(outer, b"1").replace(inner, b"2");
    assert_eq!(patch.apply(), Err(Overlap));
    let mut patch = Patch::new(text.as_bytes());
    patch.replace(inner, b"1").replace(inner, b"2");
    assert_eq!(patch.apply(), Err(Overlap));
}

#[test]
fn members_of_one_object_are_changed_in_one_call() {
    let text = r#"{"a":{},"b":{},"c":{},"d":{}}"#;
    let mut patch = Patch::new(text.as_bytes());
    patch
        .members(whole(text), &[], &[("x", b"1")])
        .members(whole(text), &[None], &[]);
    assert!(patch.apply().is_ok());
    let mut patch = Patch::new(text.as_bytes());
    patch
        .members(whole(text), &[], &[("x", b"1")])
        .members(whole(text), &[], &[("y", b"1")]);
    assert_eq!(patch.apply(), Err(Overlap));
    for (objects, fits) in [(4, true), (5, false)] {
        let mut patch = Patch::new(text.as_bytes());
        let all = ["a", "b", "c", "d"].map(|key| value_of(text, key).unwrap());
        for object in [&[whole(text)][..], &all].concat().into_iter().take(objects) {
            patch.members(object, &[], &[("x", b"1")]);
        }
        assert_eq!(patch.apply().is_ok(), fits);
    }
}

#[test]
fn a_place_outside_the_text_is_an_error() {
    let mut patch = Patch::new(b"{}");
    patch.replace(Span::new(5, 9).unwrap(), b"1");
    assert_eq!(patch.apply(), Err(Overlap));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Removing, replacing and inserting at once gives what doing it to the parsed value gives.
    #[test]
    fn spliced_then_parsed_is_parsed_then_changed(
        object in object(), choices in choices(),
        fate in proptest::collection::vec(0..3u8, 6), new in proptest::collection::vec(value(), 0..3), with in value(),
    ) {
        let text = spell(&object.clone().into(), &choices);
        let mut want = object.clone();
        let with_text = with.to_string();
        let new: Vec<(String, Value, String)> =
            new.into_iter().enumerate().map(|(n, value)| (format!("new {n}"), value.clone(), value.to_string())).collect();
        let mut patch = Patch::new(text.as_bytes());
        let mut gone = vec![];
        for ((key, fate), field) in object.keys().zip(fate).zip(fields(text.as_bytes(), whole(&text))) {
            let (_, span) = field.unwrap();
            match fate {
                1 => {
                    gone.push(Some(span));
                    want.remove(key);
                }
                2 => {
                    patch.replace(span, with_text.as_bytes());
                    want.insert(key.clone(), with.clone());
                }
                _ => {}
            }
        }
        gone.reverse();
        let insert: Vec<NewMember<'_>> = new.iter().map(|(key, _, text)| (key.as_str(), text.as_bytes())).collect();
        patch.members(whole(&text), &gone, &insert);
        want.extend(new.iter().map(|(key, value, _)| (key.clone(), value.clone())));
        let out = patch.apply().unwrap();
        let got: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(got, Value::from(want), "{}", String::from_utf8_lossy(&out));
    }
}
