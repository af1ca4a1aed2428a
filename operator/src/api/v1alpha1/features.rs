//! Which primitives of MCP are offered beside tools, under which names, and in which sets.

#![allow(
    clippy::struct_excessive_bools,
    reason = "each stands for one feature, as in the object"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::rule;
use super::patterns;
use crate::api::names::MemberName;

/// What a gateway offers beside tools. What is off is absent from capabilities, and its methods are unknown to clients.
/// What is on still needs a rule in authorization.rules that permits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!self.completions || self.prompts || self.resources",
    "completions are about prompts and resource templates: set prompts or resources too",
))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each stands for one feature, as in the object"
)]
pub struct Features {
    /// Prompts: prompts/list and prompts/get.
    #[serde(default)]
    pub prompts: bool,
    /// Resources and resource templates: resources/list, resources/templates/list and resources/read. On the common
    /// endpoint a resource is PREFIX+URI, also where results of tools and prompts link to it.
    #[serde(default)]
    pub resources: bool,
    /// Completion of arguments of prompts and resource templates: completion/complete. What a server proposes is not held
    /// against rules.
    #[serde(default)]
    pub completions: bool,
    /// Servers may ask the user of a client that says it can do that: elicitation/create. What is asked is not looked at.
    #[serde(default)]
    pub elicitation: bool,
    /// Servers may ask the model of a client that says it can do that: sampling/createMessage. The client pays for it.
    #[serde(default)]
    pub sampling: bool,
    /// Servers may ask a client for its roots: roots/list and notifications/roots/list_changed.
    #[serde(default)]
    pub roots: bool,
    /// Servers' log messages reach clients that ask for them: logging/setLevel and notifications/message.
    #[serde(default)]
    pub logging: bool,
    /// Clients are told what changes: notifications/*/list_changed, resources/subscribe and subscriptions/listen. The gateway
    /// listens to each server that takes part.
    #[serde(default)]
    pub subscriptions: bool,
}

/// What of its gateways' features a server takes part in. It can only narrow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each stands for one feature, as in the object"
)]
pub struct ServerFeatures {
    /// false: its prompts do not exist for anybody.
    #[serde(default = "server_features::prompts")]
    pub prompts: bool,
    /// false: its resources do not exist for anybody.
    #[serde(default = "server_features::resources")]
    pub resources: bool,
    /// false: it is not asked for completions.
    #[serde(default = "server_features::completions")]
    pub completions: bool,
    /// false: it does not learn that a client could ask its user, and may not ask.
    #[serde(default = "server_features::elicitation")]
    pub elicitation: bool,
    /// false: it does not learn that a client could ask its model, and may not ask.
    #[serde(default = "server_features::sampling")]
    pub sampling: bool,
    /// false: it does not learn that a client has roots, and may not ask for them.
    #[serde(default = "server_features::roots")]
    pub roots: bool,
    /// false: its log messages reach nobody.
    #[serde(default = "server_features::logging")]
    pub logging: bool,
    /// false: nobody is told what changes on it.
    #[serde(default = "server_features::subscriptions")]
    pub subscriptions: bool,
}

field_defaults!(server_features for ServerFeatures {
    prompts: bool = true,
    resources: bool = true,
    completions: bool = true,
    elicitation: bool = true,
    sampling: bool = true,
    roots: bool = true,
    logging: bool = true,
    subscriptions: bool = true,
});

/// How names of several servers stand side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolNames {
    /// What gets its server's prefix: PREFIX__NAME for tools and prompts, PREFIX+URI for resources. Always: everything, so
    /// that no name changes when a server comes or goes. OnConflict: what more than one server has. Never: nothing, and
    /// what more than one server has is not offered there, so that no server can take another's place.
    #[serde(default)]
    pub prefix: Prefix,
}

/// What gets its server's prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Prefix {
    /// Everything.
    #[default]
    Always,
    /// What more than one server has.
    OnConflict,
    /// Nothing.
    Never,
}

/// A named set of tools. It offers tools alone, under the names that they have on the common endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolSet {
    /// Name of the set; its endpoint is /sets/NAME/mcp.
    pub name: MemberName,
    /// Tools of which servers: NAME for one in the gateway's namespace, NAMESPACE/NAME for another, * for every attached
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
    /// Which of their tools: globs on the server's own tool names, with * and ?. 1 to 64.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tools: Vec<String>,
}
