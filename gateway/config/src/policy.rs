//! What a principal may do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A principal by method and subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubjectRef {
    /// Method name.
    pub method: String,
    /// Subject, exact.
    pub subject: String,
}

/// One rule. A call is allowed when an Allow rule matches and no Deny rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Unique; stands in audit records.
    pub name: String,
    /// Allow, Deny or Audit.
    pub action: Action,
    /// Who.
    pub principals: Principals,
    /// `namespace/name` of each server, or `*` for every attached one. Never empty.
    pub servers: Vec<String>,
    /// Globs on the server's own tool names (`*` and `?`). Absent: no tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Globs on the server's own prompt names. Absent: no prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<String>>,
    /// Globs on the server's own resource URIs, and on its URI templates as they are written. Absent: no resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    /// Further condition, in a part of CEL. It is compiled by who makes the decisions, not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The rule does nothing from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Permits.
    Allow,
    /// Forbids, whatever else permits.
    Deny,
    /// Decides nothing: audit records name it where it matches.
    Audit,
}

/// Who a rule is about: OR within a list, AND between the lists, an absent list does not restrict. Never wholly absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Principals {
    /// Method name; required beside subjects, groups and scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Subjects, exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<String>>,
    /// Groups, exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Scopes, exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Names of API-key clients (implies method `apiKeys`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<String>>,
    /// Everybody who authenticated (not anonymous callers).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_authenticated: bool,
}
