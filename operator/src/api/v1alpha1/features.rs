//! Which primitives of MCP are offered beside tools.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel::rule;

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
