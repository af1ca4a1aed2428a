//! Who may call what.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::rule;
use super::patterns;
use crate::api::names::MemberName;

/// Default deny: a request goes through when an Allow rule matches it and no Deny rule does. Without rules nothing is
/// callable. What is refused is answered like what does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The rules; their order does not matter. At most 128.
    #[serde(default)]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<AccessRule>,
}

/// One rule. It matches a request when principals, servers and the list for what is asked for (tools, prompts or
/// resources) all match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.tools) || has(self.prompts) || has(self.resources)",
    "the rule is about nothing: set tools, prompts or resources, [\"*\"] for all of them",
))]
pub struct AccessRule {
    /// Name of the rule; it stands in audit records.
    pub name: MemberName,
    /// Allow permits what matches. Deny forbids it, whatever else permits it. Audit does neither: audit records of requests
    /// that match name the rule, so that a new rule can be watched before it acts.
    pub action: Action,
    /// Whose requests.
    pub principals: Principals,
    /// Requests to which servers: NAME for one in the gateway's namespace, NAMESPACE/NAME for another, * for every attached
    /// one. 1 to 64.
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 104),
            regex(pattern = patterns::SERVER_OR_ALL)
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub servers: Vec<String>,
    /// Calls of which tools: globs on the server's own tool names, before any prefix. * stands for any run of characters,
    /// ? for any one character. Default: no tool. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tools: Option<Vec<String>>,
    /// Which prompts: globs on the server's own prompt names, as with tools. It acts where features.prompts is on.
    /// Default: no prompt. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub prompts: Option<Vec<String>>,
    /// Which resources: globs on the server's own URIs, before any prefix, written as RFC 3986 normalizes them (scheme and
    /// host in lower case, nothing percent-encoded without need). A URI is held against them both as it came and
    /// normalized; one with dot segments is refused. A URI template is listed where they match it as it is written. It acts
    /// where features.resources is on. Default: no resource. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 512), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resources: Option<Vec<String>>,
    /// Further condition, in a bounded part of CEL, such as path(request.arguments.path).under("/public"). It may read
    /// request.arguments (of calls and prompts; empty otherwise), request.method, principal.method, principal.subject,
    /// principal.groups, principal.scopes, server.name, server.namespace and, in rules for tools only, tool.name. Available
    /// are literals and lists of them, members and [ ], has, == != < <= > >= in, && || ! ? :, size, contains, startsWith,
    /// endsWith, matches with a regular expression (ASCII classes, and only such as become a small table), all and exists
    /// (not in one another), and path(TEXT).under(FOLDER), which compares paths piece by piece and cannot tell of one with
    /// "..". Where a condition cannot be told (a member that is not there, a value of another kind, arguments of more than
    /// 128 KiB or with no exact value, too many steps), a Deny denies and an Allow does not allow. In lists, a rule whose
    /// condition depends on a call's arguments shows the tool if it is an Allow, and does not hide it if it is a Deny.
    /// Default: none. At most 2048 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub when: Option<String>,
    /// From then on the rule does nothing (RFC 3339, such as 2027-01-01T00:00:00Z): what an Allow permitted is refused, also
    /// on open streams, and what a Deny forbade is permitted again if an Allow matches it. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Permits.
    Allow,
    /// Forbids, whatever else permits.
    Deny,
    /// Decides nothing; matches are recorded.
    Audit,
}

/// Whose calls a rule is about: OR within a list, AND between lists. Attributes belong to a method, so subjects, groups
/// and scopes need one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.subjects) || has(self.groups) || has(self.scopes) || has(self.clients) || has(self.anyAuthenticated)",
    "principals names nobody: set subjects, groups, scopes or clients, or anyAuthenticated: true if everybody who authenticates is meant",
))]
#[x_kube(validation = rule(
    "has(self.method) || !(has(self.subjects) || has(self.groups) || has(self.scopes))",
    "method is required beside subjects, groups and scopes: the same subject of another method is somebody else",
))]
#[x_kube(validation = rule(
    "!has(self.clients) || !has(self.method) || self.method == 'apiKeys'",
    "clients are those of method apiKeys: remove method, or use subjects",
))]
#[x_kube(validation = rule(
    "!has(self.clients) || !(has(self.subjects) || has(self.groups) || has(self.scopes))",
    "clients cannot stand beside subjects, groups or scopes: an API key's client has none of these, so nobody would match both; write two rules",
))]
#[x_kube(validation = rule(
    "!has(self.anyAuthenticated) || !(has(self.subjects) || has(self.groups) || has(self.scopes) || has(self.clients))",
    "anyAuthenticated: true means everybody and cannot stand beside subjects, groups, scopes or clients: remove it or them",
))]
#[x_kube(validation = rule(
    "!has(self.method) || !(self.method in ['apiKeys', 'anonymous']) || !(has(self.groups) || has(self.scopes))",
    "groups and scopes exist for tokens only: method apiKeys has clients, method anonymous has the one subject anonymous",
))]
#[x_kube(validation = rule(
    "!has(self.anyAuthenticated) || !has(self.method) || self.method != 'anonymous'",
    "anonymous callers are not authenticated: write method: anonymous, subjects: [anonymous]",
))]
pub struct Principals {
    /// Method that authenticated the caller: the name of an entry of auth.jwt, apiKeys or anonymous. It must be
    /// configured in auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = patterns::METHOD)
    )]
    pub method: Option<String>,
    /// Subjects, compared exactly. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub subjects: Option<Vec<String>>,
    /// Groups, compared exactly. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Option<Vec<String>>,
    /// Scopes, compared exactly. A caller who lacks only these is told so (403 insufficient_scope, RFC 6750). 1 to 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 128), regex(pattern = r"^[!#-\[\]-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Option<Vec<String>>,
    /// Clients that hold an API key, by their entry's name in auth.apiKeys. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub clients: Option<Vec<String>>,
    /// true: everybody who authenticates, by method if one is given. Anonymous callers are not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule("self", "anyAuthenticated: false names nobody: remove it"))]
    pub any_authenticated: Option<bool>,
}
