//! Which primitives of MCP are offered beside tools, under which names, and in which sets.

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
}

/// What of its gateways' features a server takes part in. It can only narrow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
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
}

field_defaults!(server_features for ServerFeatures {
    prompts: bool = true,
    resources: bool = true,
    completions: bool = true,
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
