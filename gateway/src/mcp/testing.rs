//! JSON for property tests: any value, spelled in any of the ways that JSON allows.

use std::fmt::Write as _;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Keys: some that the gateway reads, so that they turn up where they mean nothing, and some odd ones.
pub(crate) fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "id", "method", "params", "name", "_meta", "result", "tools", "x"
        ])
        .prop_map(String::from),
        "[a-z]{0,6}",
        any::<String>(),
    ]
}

/// Any value, a few levels deep.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths: serde_json reads back exactly what it wrote.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            object_of(inner).prop_map(Value::from),
        ]
    })
}

/// Any object.
pub(crate) fn object() -> impl Strategy<Value = Map<String, Value>> {
    object_of(value())
}

fn object_of(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    btree_map(key(), inner, 0..6).prop_map(|map| map.into_iter().collect())
}

/// Writes values with whitespace and escapes chosen by `choices`, which is read in a circle.
pub(crate) struct Speller<'c> {
    choices: &'c [u8],
    at: usize,
    pub(crate) out: String,
}

impl<'c> Speller<'c> {
    pub(crate) fn new(choices: &'c [u8]) -> Self {
        Self {
            choices,
            at: 0,
            out: String::new(),
        }
    }

    fn choice(&mut self) -> u8 {
        self.at += 1;
        *self
            .choices
            .get(self.at % self.choices.len().max(1))
            .unwrap_or(&0)
    }

    fn space(&mut self) {
        let text = [" ", "", "", "\n\t", "", "\r\n ", "", ""][usize::from(self.choice() % 8)];
        self.out.push_str(text);
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            let escape = self.choice().is_multiple_of(7);
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '/' if escape => self.out.push_str("\\/"),
                '\n' if !escape => self.out.push_str("\\n"),
                _ if escape || character < ' ' => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").unwrap();
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    pub(crate) fn value(&mut self, value: &Value) {
        self.space();
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.out.push(',');
                    }
                    self.value(item);
                }
                self.space();
                self.out.push(']');
            }
            Value::Object(members) => {
                self.out.push('{');
                for (at, (key, item)) in members.iter().enumerate() {
                    if at > 0 {
                        self.out.push(',');
                    }
                    self.space();
                    self.string(key);
                    self.space();
                    self.out.push(':');
                    self.value(item);
                }
                self.space();
                self.out.push('}');
            }
            plain => self.out.push_str(&plain.to_string()),
        }
        self.space();
    }
}

/// `value` in the spelling that `choices` picks.
pub(crate) fn spell(value: &Value, choices: &[u8]) -> String {
    let mut speller = Speller::new(choices);
    speller.value(value);
    speller.out
}

/// Choices for [`spell`].
pub(crate) fn choices() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..64)
}
