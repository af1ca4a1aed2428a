//! What is true. Written by the operator only; absolute values, no counters and no ages, so that it does not move by itself.
//!
//! Text that comes from a server is cut to the `MAX_` bounds before it is written: the schema refuses what is longer, and
//! a status that cannot be written tells nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;
use super::server::GatewayRef;

/// Most tools a status lists; counts cover all of them.
pub const MAX_TOOLS: usize = 512;
/// Longest tool name in a status.
pub const MAX_TOOL_NAME: usize = 128;
/// Longest text about itself that a server can put into its status.
pub const MAX_SERVER_INFO: usize = 128;
/// Longest message about an attachment.
pub const MAX_MESSAGE: usize = 1024;

/// What is true of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where clients find the gateway's common endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// Pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Hash of the configuration that every ready pod reports as loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_hash: Option<String>,
    /// Version that the ready pods report; the oldest, while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub gateway_version: Option<String>,
    /// Servers behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<ServerCounts>,
    /// Accepted, ResolvedRefs, Programmed, Ready, and Stalled and Reconciling for deployment tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns::conditions")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Servers behind a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerCounts {
    /// Attached, quarantined ones included.
    pub attached: i32,
    /// Served to clients now.
    pub ready: i32,
    /// Both, as ready/attached.
    #[schemars(length(max = 32))]
    pub summary: String,
}

impl ServerCounts {
    /// Counts, with their summary.
    pub fn new(ready: i32, attached: i32) -> Self {
        Self {
            attached,
            ready,
            summary: format!("{ready}/{attached}"),
        }
    }
}

/// What is true of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How each gateway of gatewayRefs treats it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub gateways: Vec<Attachment>,
    /// How the gateway talks to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportKind>,
    /// What it says about itself in the MCP handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_info: Option<ServerInfo>,
    /// Its tools by their own names, sorted. At most 512; toolCounts covers all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tools: Vec<ToolStatus>,
    /// How many tools it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_counts: Option<ToolCounts>,
    /// Accepted, ResolvedRefs, Programmed, Attached, Available, Verified, Ready, and Stalled and Reconciling for deployment tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns::conditions")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How a gateway treats a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Name of the McpGateway.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Serving, Quarantined, Refused, or Pending while the gateway has not taken it up yet.
    pub state: AttachmentState,
    /// One word on why, where it is not Serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// How a gateway treats a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttachmentState {
    /// Offered to clients.
    Serving,
    /// Attached, but offered to testers only.
    Quarantined,
    /// Not attached.
    Refused,
    /// Not taken up yet.
    Pending,
}

/// How the gateway talks to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransportKind {
    /// MCP's streamable HTTP.
    StreamableHttp,
    /// HTTP with SSE, the transport of revision 2024-11-05.
    Sse,
}

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Its name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// Its version.
    #[schemars(length(max = 128))]
    pub version: String,
    /// MCP revision that it and the gateway speak.
    #[schemars(length(max = 32))]
    pub protocol_version: String,
}

/// One tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolStatus {
    /// The server's own name of it.
    #[schemars(length(max = 128))]
    pub name: String,
    /// Whether it is offered.
    pub state: ToolState,
}

/// Whether a tool is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ToolState {
    /// To whom the gateway's rules permit it.
    Served,
    /// To nobody: spec.tools leaves it out.
    Filtered,
}

/// How many tools a server has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCounts {
    /// Offered.
    pub served: i32,
    /// Listed by the server.
    pub seen: i32,
    /// Both, as served/seen.
    #[schemars(length(max = 32))]
    pub summary: String,
}

impl ToolCounts {
    /// Counts, with their summary.
    pub fn new(served: i32, seen: i32) -> Self {
        Self {
            served,
            seen,
            summary: format!("{served}/{seen}"),
        }
    }
}

impl Attachment {
    /// Whether this is about the gateway that `gateway` names, seen from `own_namespace`.
    pub fn is_about(&self, gateway: &GatewayRef, own_namespace: &str) -> bool {
        let namespace = gateway.namespace.as_ref().map_or(own_namespace, |n| n.as_str());
        self.name == gateway.name.as_str() && self.namespace == namespace
    }
}
