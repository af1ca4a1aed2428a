//! Patterns and schemas that several fields share.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::cel::rule;

/// `host` or `host:port`, lower case.
pub(super) const HOST: &str =
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*(:[1-9][0-9]{0,4})?$";
/// A web origin, as browsers write it; or `*`.
pub(super) const WEB_ORIGIN: &str = r"^(\*|https?://([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*|\[[0-9a-f:.]{2,45}\])(:[1-9][0-9]{0,4})?)$";
/// Reference of a container image.
pub(super) const IMAGE: &str = "^[a-z0-9][-a-zA-Z0-9._:/@]*$";
/// Name of an authentication method: an entry of `auth.jwt`, or a built-in one such as `apiKeys`.
pub(super) const METHOD: &str = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$";
/// Glob on tool names.
pub(super) const TOOL_GLOB: &str = "^[!-~]+$";
/// A server by `NAME` or `NAMESPACE/NAME`.
pub(super) const SERVER: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z]([-a-z0-9]*[a-z0-9])?$";
/// [`SERVER`], or `*` for all of them.
pub(super) const SERVER_OR_ALL: &str = r"^(\*|([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z]([-a-z0-9]*[a-z0-9])?)$";
/// Path of an HTTP endpoint (RFC 3986), without query.
pub(super) const PATH: &str = "^/[-A-Za-z0-9._~!$&'()*+,;=:@%/]*$";
/// Key of a label.
pub(super) const LABEL_KEY: &str =
    "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Value of a label.
pub(super) const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// Labels: at most 16. The keys need [`label_keys`] beside it, because a schema cannot hold a pattern for them.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE},
    })
}

/// Claims with their values: at most 16.
pub(super) fn claims(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 256},
    })
}

/// Conditions as Kubernetes defines them, with its own bounds, which the type itself does not carry: at most 16.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What it is about.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
                },
                "status": {
                    "description": "Whether it holds; Unknown where that could not be seen.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "One word on why.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "What to do about it, for a person.",
                    "type": "string",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "description": "Generation of the spec that it is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
            },
        },
    })
}

/// The keys of a map are keys of labels.
pub(super) fn label_keys(field: &str) -> Rule {
    rule(
        format!("self.all(key, key.size() <= 317 && key.matches('{LABEL_KEY}'))"),
        format!("{field} must have label keys, such as app or app.kubernetes.io/name"),
    )
}
