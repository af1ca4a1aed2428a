//! Building blocks of validation rules (CEL, evaluated by the API server).
//!
//! A message names the field and the remedy: it is all that the person who is refused gets to see.

use kube::core::{Message, Reason, Rule};

use crate::api::names::{MAX_OBJECT_NAME, MEMBER_NAME_PATTERN};

/// `expression` must hold, or the request is refused with `message`.
pub(super) fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(expression).message(Message::Message(message.into()))
}

/// A [`rule`] that refuses a value which is well-formed but not permitted here.
pub(super) fn forbid(expression: impl Into<String>, path: &str, message: impl Into<String>) -> Rule {
    rule(expression, message)
        .field_path(path)
        .reason(Reason::FieldValueForbidden)
}

/// A union: exactly one of `members` is set.
pub(super) fn exactly_one(members: &[&str]) -> Rule {
    let expression = if let [only] = members {
        format!("has(self.{only})")
    } else {
        let set: Vec<String> = members
            .iter()
            .map(|member| format!("has(self.{member}) ? 1 : 0"))
            .collect();
        format!("({}) == 1", set.join(") + ("))
    };
    rule(
        expression,
        format!("exactly one of {} is required", listed(members)),
    )
}

/// A duration within bounds, both included.
pub(super) fn duration_within(least: &str, most: &str) -> Rule {
    rule(
        format!("duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"),
        format!("must be between {least} and {most}"),
    )
}

/// A quantity within bounds, both included.
pub(super) fn quantity_within(least: &str, most: &str) -> Rule {
    rule(
        format!(
            "quantity(string(self)).compareTo(quantity('{least}')) >= 0 \
             && quantity(string(self)).compareTo(quantity('{most}')) <= 0"
        ),
        format!("must be between {least} and {most}"),
    )
}

fn listed(members: &[&str]) -> String {
    match members {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// Names of both kinds: short enough for every child's name, and without dots, which part namespace and name in paths.
pub(super) fn object_name() -> Rule {
    rule(
        format!(
            "self.metadata.name.size() <= {MAX_OBJECT_NAME} && self.metadata.name.matches('{MEMBER_NAME_PATTERN}')"
        ),
        format!(
            "metadata.name must have at most {MAX_OBJECT_NAME} characters of a-z, 0-9 and -, start with a letter and end with a letter or a digit"
        ),
    )
}

/// The port of a `host[:port]`, if there is one.
pub(super) fn port_in_range(field: &str) -> Rule {
    rule(
        "!self.contains(':') || int(self.split(':')[1]) <= 65535",
        format!("the port of {field} must be at most 65535"),
    )
}

/// The ports of a list of `host[:port]`.
pub(super) fn ports_in_range(field: &str) -> Rule {
    rule(
        "self.all(h, !h.contains(':') || int(h.split(':')[1]) <= 65535)",
        format!("the ports of {field} must be at most 65535"),
    )
}
