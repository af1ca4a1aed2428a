//! What a verified token says, read strictly: a claim of an unexpected type refuses the token, because a group or a
//! scope that is overlooked could be one that a Deny rule names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;

/// The most groups, scopes or audiences of a token.
pub const MAX_ENTRIES: usize = 256;

/// The longest subject, group or scope, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// The claims of a token, by name. No name stands there twice (RFC 7519 section 4).
pub struct Claims(HashMap<String, Value>);

impl Claims {
    /// Reads a token's payload.
    pub fn parse(payload: &[u8]) -> Result<Self, &'static str> {
        serde_json::from_slice(payload).map_err(|_| "the token's claims are malformed")
    }

    /// A claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that must be there as text.
    pub fn text(&self, name: &str) -> Result<&str, &'static str> {
        self.get(name)
            .and_then(Value::as_str)
            .ok_or("the token lacks a claim")
    }

    /// A point in time, which may have a fraction (RFC 7519 section 2). Before 1970 counts as 1970.
    pub fn date(&self, name: &str) -> Result<Option<u64>, &'static str> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_number().ok_or("a time in the token is no number")?;
        if let Some(seconds) = number.as_u64() {
            return Ok(Some(seconds));
        }
        let seconds = number
            .as_f64()
            .filter(|seconds| seconds.is_finite())
            .ok_or("a time in the token is no number")?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a conversion of a float saturates, which is what is wanted"
        )]
        Ok(Some(seconds as u64))
    }

    /// Has the claim this value? Numbers and truth values compare by their text; a list has no exact value.
    pub fn is_exactly(&self, name: &str, expected: &str) -> bool {
        match self.get(name) {
            Some(Value::String(text)) => text == expected,
            Some(Value::Bool(truth)) => truth.to_string() == expected,
            Some(Value::Number(number)) => number.to_string() == expected,
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => false,
        }
    }

    /// The principal's subject.
    pub fn subject(&self, name: &str) -> Result<&str, &'static str> {
        match self.get(name) {
            Some(Value::String(text)) if is_name(text) => Ok(text),
            Some(Value::String(_)) => Err("the token's subject is empty, too long or unprintable"),
            _ => Err("the token has no subject"),
        }
    }

    /// Groups: a list of strings, or one string. Absent: none.
    pub fn groups(&self, name: &str) -> Result<Box<[Arc<str>]>, &'static str> {
        const BAD: &str = "the token's groups are no list of names";
        match self.get(name) {
            None | Some(Value::Null) => Ok(Box::default()),
            Some(Value::String(one)) => names(std::iter::once(Some(one.as_str()))).ok_or(BAD),
            Some(Value::Array(list)) => names(list.iter().map(Value::as_str)).ok_or(BAD),
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(BAD),
        }
    }

    /// Scopes: a string with spaces between them (RFC 8693), or a list of strings. Absent: none.
    pub fn scopes(&self, name: &str) -> Result<Box<[Arc<str>]>, &'static str> {
        const BAD: &str = "the token's scopes are no list of names";
        match self.get(name) {
            None | Some(Value::Null) => Ok(Box::default()),
            Some(Value::String(text)) => {
                let words = text.split(' ').filter(|word| !word.is_empty());
                names(words.map(Some)).ok_or(BAD)
            }
            Some(Value::Array(list)) => names(list.iter().map(Value::as_str)).ok_or(BAD),
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(BAD),
        }
    }
}

/// Names stand in logs, audit records and rules: printable, and of a length that fits there.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}

fn names<'a>(list: impl Iterator<Item = Option<&'a str>>) -> Option<Box<[Arc<str>]>> {
    let names: Vec<Arc<str>> = list
        .take(MAX_ENTRIES + 1)
        .map(|name| name.filter(|name| is_name(name)).map(Into::into))
        .collect::<Option<_>>()?;
    (names.len() <= MAX_ENTRIES).then(|| names.into())
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoTwice;

        impl<'de> Visitor<'de> for NoTwice {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = HashMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    match claims.entry(name) {
                        Entry::Vacant(entry) => entry.insert(value),
                        Entry::Occupied(_) => {
                            return Err(A::Error::custom("a claim stands there twice"));
                        }
                    };
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(NoTwice)
    }
}
