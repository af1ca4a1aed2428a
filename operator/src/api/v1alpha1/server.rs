//! The kind McpServer.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{exactly_one, rule};
use super::container::Container;
use super::credentials::Credentials;
use super::features::ServerFeatures;
use super::limits::ServerLimits;
use super::patterns;
use super::rate_limit::ServerRateLimit;
use super::refs::SubjectRef;
use super::status::ServerStatus;
use super::upstream::{Remote, Service};
use crate::api::names::{DnsLabel, MemberName};

/// One MCP server behind one or more gateways: exactly one of remote, service and container.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "McpServer",
    plural = "mcpservers",
    singular = "mcpserver",
    shortname = "psrv",
    category = "portcullis",
    namespaced,
    status = "ServerStatus",
    derive = "PartialEq",
    doc = "An MCP server behind one or more gateways (mcpgateways.portcullis.dev): a remote URL, a Service of this namespace, or a container that Portcullis runs in isolation.",
    label("app.kubernetes.io/part-of", "portcullis"),
    printcolumn(name = "GATEWAY", type_ = "string", json_path = ".spec.gatewayRefs[0].name", description = "The first gateway it attaches to"),
    printcolumn(name = "TRANSPORT", type_ = "string", json_path = ".status.transport", description = "How the gateway talks to it"),
    printcolumn(name = "TOOLS", type_ = "string", json_path = ".status.toolCounts.summary", description = "Tools served of those seen"),
    printcolumn(name = "VERIFIED", type_ = "string", json_path = ".status.conditions[?(@.type==\"Verified\")].status", description = "Whether a gateway completed an MCP handshake with it"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether it is served now"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "VERSION", type_ = "string", json_path = ".status.serverInfo.version", priority = 1, description = "Version the server gives"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1, description = "Why it is ready or not"),
    validation = super::cel::object_name(),
)]
#[x_kube(validation = exactly_one(&["remote", "service", "container"]))]
#[x_kube(validation = rule(
    "!has(self.container) || !has(self.container.transport.sse) || self.protocol.revision in ['Auto', '2024-11-05']",
    "sse is the transport of revision 2024-11-05 alone: leave protocol.revision at Auto, or use streamableHttp",
))]
pub struct McpServerSpec {
    /// Gateways to attach to. Each must admit this namespace in its spec.servers.namespaces. 1 to 8.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rule("self.all(a, self.exists_one(b, b == a))", "a gateway stands twice in gatewayRefs"))]
    pub gateway_refs: Vec<GatewayRef>,
    /// A server outside the cluster, by https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
    /// A server that already runs in the cluster, behind a Service of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// A server that Portcullis runs, isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// What the gateway presents to the server. The client's own credential is never passed on.
    #[serde(default)]
    pub credentials: Credentials,
    /// Which MCP is spoken with it.
    #[serde(default)]
    pub protocol: Protocol,
    /// How far the server is trusted. Untrusted is the only level there is so far: the server is quarantined under a
    /// Production gateway unless quarantine says otherwise.
    #[serde(default)]
    pub trust: Trust,
    /// Attached and verified, but served to nobody except testers.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// Which of its tools are offered, and under which names.
    #[serde(default)]
    pub tools: Tools,
    /// What of its gateways' features it takes part in. Default: all that is on there.
    #[serde(default)]
    pub features: ServerFeatures,
    /// Bounds of calls to it.
    #[serde(default)]
    pub limits: ServerLimits,
    /// How often it may be asked, beside what its gateways' rateLimits say. Default: nothing more. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rate_limits: Vec<ServerRateLimit>,
}

/// A gateway to attach to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Name of the McpGateway.
    pub name: MemberName,
    /// Its namespace. Default: this object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DnsLabel>,
}

/// Which MCP is spoken with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// The revision. Auto: the server is asked what it speaks, the newest first. Any other: this one alone; a server that
    /// settles on another is not used, and Verified says what it offered. Clients may speak any revision all the same.
    #[serde(default)]
    pub revision: Revision,
}

/// A revision of MCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Revision {
    /// Whichever the server answers to.
    #[default]
    Auto,
    /// HTTP with SSE, before streamable HTTP: the URL is that of the stream.
    #[serde(rename = "2024-11-05")]
    V20241105,
    /// Streamable HTTP, with sessions.
    #[serde(rename = "2025-03-26")]
    V20250326,
    /// The same, with the version header.
    #[serde(rename = "2025-06-18")]
    V20250618,
    /// The last one with sessions.
    #[serde(rename = "2025-11-25")]
    V20251125,
    /// Stateless.
    #[serde(rename = "2026-07-28")]
    V20260728,
}

/// How far a server is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Trust {
    /// Not at all.
    #[default]
    Untrusted,
}

/// Attached and verified, but served to nobody except testers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// true: quarantined. false: served. Default: quarantined under a Production gateway, served under a Development one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Principals that may use it meanwhile. At most 64.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["method".into(), "subject".into()]))]
    pub except_for: Vec<SubjectRef>,
}

/// Which of a server's tools are offered, and under which names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tools {
    /// First part of its names on the gateway's common endpoint, where a tool or prompt is PREFIX__NAME and a resource
    /// PREFIX+URI. Default: the
    /// server's name, and NAMESPACE-NAME under a gateway of another namespace. At most 40 characters, no two underscores
    /// in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[A-Za-z0-9](_?[-A-Za-z0-9])*$"))]
    pub prefix: Option<String>,
    /// Tools that exist for anybody: globs on the server's own names, with * and ?. 1 to 256.
    #[serde(default = "tools::allow")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<String>,
    /// Tools that do not, although allow names them. At most 256.
    #[serde(default = "tools::deny")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 128), regex(pattern = patterns::TOOL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Vec<String>,
}

field_defaults!(tools for Tools {
    prefix: Option<String> = None,
    allow: Vec<String> = vec!["*".into()],
    deny: Vec<String> = Vec::new(),
});
