//! How often.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{duration_within, rule};
use super::patterns;
use super::units::Duration;
use crate::api::names::MemberName;

/// One limit on MCP requests (each call in a batch counts, and so does each notification; bytes and connections do
/// not). Every limit that matches a request must have room for it. Over any window at most requests + burst pass.
/// Each replica counts on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!(self.key in ['Tool', 'ClientTool']) || !has(self.match) || !has(self.match.methods) || self.match.methods.all(m, m == 'tools/call')",
    "key Tool and ClientTool count tool calls: match.methods must be [tools/call], or left out",
))]
pub struct RateLimit {
    /// Name of the limit; it stands in refusals, headers and metrics.
    pub name: MemberName,
    /// What gets a bucket of its own. Charged before authorization: Client, each principal; IP, each address that clients
    /// call from (of IPv6 each /64). Charged after it, so that nobody can use up what they may not use: Server, each
    /// server; Tool, each tool of each server; ClientTool, each principal and tool; Gateway, one bucket.
    pub key: LimitKey,
    /// Which requests count. Default: all; with key Server those about one server, with key Tool and ClientTool tool
    /// calls.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<LimitMatch>,
    /// Sustained requests in the period. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: i32,
    /// The period, 1s to 24h.
    #[x_kube(validation = duration_within("1s", "24h"))]
    pub per: Duration,
    /// How many may come at once beyond the steady flow. 1 to 1000000. Default: a fifth of requests, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<i32>,
}

/// What gets a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LimitKey {
    /// Each principal.
    Client,
    /// Each address that clients call from.
    #[serde(rename = "IP")]
    Ip,
    /// Each server.
    Server,
    /// Each tool of each server.
    Tool,
    /// Each principal and tool.
    ClientTool,
    /// One bucket.
    Gateway,
}

/// Which requests a limit counts: OR within a list, AND between lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.methods) || has(self.servers) || has(self.tools)",
    "match is empty: set methods, servers or tools, or remove match to count all requests",
))]
#[x_kube(validation = rule(
    "!has(self.tools) || !has(self.methods) || self.methods.all(m, m == 'tools/call')",
    "tools can only match tool calls: methods must be [tools/call], or left out",
))]
pub struct LimitMatch {
    /// MCP methods. 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Option<Vec<McpMethod>>,
    /// Servers: NAME for one in the gateway's namespace, NAMESPACE/NAME for another. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 104),
            regex(pattern = patterns::SERVER)
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub servers: Option<Vec<String>>,
    /// Globs on the server's own tool names, with * and ?. Only tool calls match then. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tools: Option<Vec<String>>,
}

/// One limit on requests that are about a server: calls of its tools and the like, and everything at its own endpoint.
/// It is charged after authorization, together with the limits of the gateway that the request came to; each gateway
/// counts on its own. Refusals, headers and metrics name it as NAMESPACE/SERVER/NAME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!(self.key in ['Tool', 'ClientTool']) || !has(self.match) || !has(self.match.methods) || self.match.methods.all(m, m == 'tools/call')",
    "key Tool and ClientTool count tool calls: match.methods must be [tools/call], or left out",
))]
pub struct ServerRateLimit {
    /// Name of the limit.
    pub name: MemberName,
    /// What gets a bucket of its own. Server: the whole server, over all clients. Tool: each of its tools. ClientTool: each
    /// principal and tool.
    pub key: ServerLimitKey,
    /// Which requests count. Default: all that are about the server; with key Tool and ClientTool its tool calls.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<ServerLimitMatch>,
    /// Sustained requests in the period. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: i32,
    /// The period, 1s to 24h.
    #[x_kube(validation = duration_within("1s", "24h"))]
    pub per: Duration,
    /// How many may come at once beyond the steady flow. 1 to 1000000. Default: a fifth of requests, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<i32>,
}

/// What gets a bucket of its own at one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServerLimitKey {
    /// The whole server.
    Server,
    /// Each of its tools.
    Tool,
    /// Each principal and tool.
    ClientTool,
}

/// Which requests a server's limit counts: OR within a list, AND between lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.methods) || has(self.tools)",
    "match is empty: set methods or tools, or remove match to count all requests",
))]
#[x_kube(validation = rule(
    "!has(self.tools) || !has(self.methods) || self.methods.all(m, m == 'tools/call')",
    "tools can only match tool calls: methods must be [tools/call], or left out",
))]
pub struct ServerLimitMatch {
    /// MCP methods. 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Option<Vec<McpMethod>>,
    /// Globs on the server's own tool names, with * and ?. Only tool calls match then. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tools: Option<Vec<String>>,
}

/// A method of MCP that the gateway serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum McpMethod {
    /// Opening of a session.
    #[serde(rename = "initialize")]
    Initialize,
    /// What a server can do, in the stateless era.
    #[serde(rename = "server/discover")]
    ServerDiscover,
    /// Sign of life.
    #[serde(rename = "ping")]
    Ping,
    /// List of tools.
    #[serde(rename = "tools/list")]
    ToolsList,
    /// Call of a tool.
    #[serde(rename = "tools/call")]
    ToolsCall,
    /// List of prompts.
    #[serde(rename = "prompts/list")]
    PromptsList,
    /// A prompt.
    #[serde(rename = "prompts/get")]
    PromptsGet,
    /// List of resources.
    #[serde(rename = "resources/list")]
    ResourcesList,
    /// List of resource templates.
    #[serde(rename = "resources/templates/list")]
    ResourcesTemplatesList,
    /// A resource.
    #[serde(rename = "resources/read")]
    ResourcesRead,
    /// Completion of an argument.
    #[serde(rename = "completion/complete")]
    CompletionComplete,
    /// Least severity of log messages, in a session.
    #[serde(rename = "logging/setLevel")]
    LoggingSetLevel,
    /// News of a resource, in a session.
    #[serde(rename = "resources/subscribe")]
    ResourcesSubscribe,
    /// No more of them.
    #[serde(rename = "resources/unsubscribe")]
    ResourcesUnsubscribe,
    /// News of lists and resources, in the stateless era.
    #[serde(rename = "subscriptions/listen")]
    SubscriptionsListen,
    /// How a task stands.
    #[serde(rename = "tasks/get")]
    TasksGet,
    /// What a task waits for.
    #[serde(rename = "tasks/update")]
    TasksUpdate,
    /// The end of a task.
    #[serde(rename = "tasks/cancel")]
    TasksCancel,
}

impl McpMethod {
    /// The method's name in a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::ServerDiscover => "server/discover",
            Self::Ping => "ping",
            Self::ToolsList => "tools/list",
            Self::ToolsCall => "tools/call",
            Self::PromptsList => "prompts/list",
            Self::PromptsGet => "prompts/get",
            Self::ResourcesList => "resources/list",
            Self::ResourcesTemplatesList => "resources/templates/list",
            Self::ResourcesRead => "resources/read",
            Self::CompletionComplete => "completion/complete",
            Self::LoggingSetLevel => "logging/setLevel",
            Self::ResourcesSubscribe => "resources/subscribe",
            Self::ResourcesUnsubscribe => "resources/unsubscribe",
            Self::SubscriptionsListen => "subscriptions/listen",
            Self::TasksGet => "tasks/get",
            Self::TasksUpdate => "tasks/update",
            Self::TasksCancel => "tasks/cancel",
        }
    }
}

impl RateLimit {
    /// The bucket's size in force.
    pub fn effective_burst(&self) -> u32 {
        effective_burst(self.burst, self.requests)
    }
}

impl ServerRateLimit {
    /// The bucket's size in force.
    pub fn effective_burst(&self) -> u32 {
        effective_burst(self.burst, self.requests)
    }
}

fn effective_burst(burst: Option<i32>, requests: i32) -> u32 {
    let requests = u32::try_from(requests).unwrap_or(1);
    burst
        .and_then(|burst| u32::try_from(burst).ok())
        .unwrap_or(requests / 5)
        .max(1)
}

/// The limits of a gateway that lists none: one per client.
pub(super) fn default_rate_limits() -> Vec<RateLimit> {
    vec![RateLimit {
        name: "per-client".parse().expect("a legal name"),
        key: LimitKey::Client,
        matches: None,
        requests: 100,
        per: Duration::from_secs(60),
        burst: Some(20),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(100, None, 20)]
    #[case(3, None, 1)]
    #[case(100, Some(7), 7)]
    fn burst_is_a_fifth_unless_given(
        #[case] requests: i32,
        #[case] burst: Option<i32>,
        #[case] expected: u32,
    ) {
        let [limit] = default_rate_limits().try_into().unwrap();
        let limit = RateLimit {
            requests,
            burst,
            ..limit
        };
        assert_eq!(limit.effective_burst(), expected);
    }

    #[test]
    fn methods_are_written_as_in_messages() {
        for method in [
            McpMethod::Initialize,
            McpMethod::ServerDiscover,
            McpMethod::Ping,
            McpMethod::ToolsList,
            McpMethod::ToolsCall,
            McpMethod::PromptsList,
            McpMethod::PromptsGet,
            McpMethod::ResourcesList,
            McpMethod::ResourcesTemplatesList,
            McpMethod::ResourcesRead,
            McpMethod::CompletionComplete,
            McpMethod::LoggingSetLevel,
            McpMethod::ResourcesSubscribe,
            McpMethod::ResourcesUnsubscribe,
            McpMethod::SubscriptionsListen,
            McpMethod::TasksGet,
            McpMethod::TasksUpdate,
            McpMethod::TasksCancel,
        ] {
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
        }
    }
}
