//! The kind McpGateway.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Auth;
use super::authorization::Authorization;
use super::cel::{forbid, rule};
use super::features::{Features, ToolNames, ToolSet};
use super::limits::GatewayLimits;
use super::network::{LabelSelector, Network};
use super::patterns;
use super::rate_limit::{RateLimit, default_rate_limits};
use super::refs::{Empty, SubjectRef};
use super::status::GatewayStatus;
use super::tls::Tls;
use super::web::Web;
use super::workload::Workload;

/// One authenticated, authorized, rate-limited MCP endpoint, and the pods that serve it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "McpGateway",
    plural = "mcpgateways",
    singular = "mcpgateway",
    shortname = "pgw",
    category = "portcullis",
    namespaced,
    status = "GatewayStatus",
    derive = "PartialEq",
    doc = "An MCP gateway: one authenticated, authorized, rate-limited endpoint for the MCP servers (mcpservers.portcullis.dev) that attach to it.",
    label("app.kubernetes.io/part-of", "portcullis"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where clients find it"),
    printcolumn(name = "SERVERS", type_ = "string", json_path = ".status.servers.summary", description = "Servers ready of those attached"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether it serves traffic now"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "PROFILE", type_ = "string", json_path = ".spec.profile", priority = 1, description = "Production or Development"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1, description = "Why it is ready or not"),
    validation = super::cel::object_name(),
)]
#[x_kube(validation = forbid(
    "!has(self.auth.anonymous) || self.profile != 'Production'",
    ".auth.anonymous",
    "auth.anonymous is refused under profile Production: configure auth.jwt or auth.apiKeys, or set profile: Development",
))]
#[x_kube(validation = forbid(
    "!has(self.rateLimits) || self.rateLimits.size() > 0 || self.profile != 'Production'",
    ".rateLimits",
    "rateLimits: [] is refused under profile Production: remove the field to get the default limit per client, or list limits",
))]
#[x_kube(validation = forbid(
    "!has(self.telemetry) || !has(self.telemetry.logLevel) || !(self.telemetry.logLevel in ['debug', 'trace']) || self.profile != 'Production'",
    ".telemetry.logLevel",
    "telemetry.logLevel debug and trace are refused under profile Production, since they log what clients do: use info, warn or error, or set profile: Development",
))]
#[x_kube(validation = forbid(
    "!has(self.audit) || has(self.audit.stdout) || self.profile != 'Production'",
    ".audit",
    "audit: {} switches auditing off, which is refused under profile Production: remove the field, or set audit.stdout: {}",
))]
#[x_kube(validation = forbid(
    "!has(self.network) || !has(self.network.ingressFrom) || !self.network.ingressFrom.exists(p, has(p.ipBlock) && p.ipBlock.cidr.endsWith('/0')) || self.profile != 'Production'",
    ".network.ingressFrom",
    "network.ingressFrom with 0.0.0.0/0 or ::/0 is refused under profile Production: name the ranges or the pods that may connect",
))]
#[x_kube(validation = forbid(
    "!has(self.network) || !has(self.network.trustedProxies) || !self.network.trustedProxies.exists(p, p.cidr.endsWith('/0')) || self.profile != 'Production'",
    ".network.trustedProxies",
    "network.trustedProxies with 0.0.0.0/0 or ::/0 is refused under profile Production, since anybody could then say where they call from: name the proxies",
))]
#[x_kube(validation = forbid(
    "!has(self.web) || !has(self.web.cors) || !has(self.web.cors.allowedOrigins) || !('*' in self.web.cors.allowedOrigins) || self.profile != 'Production'",
    ".web.cors.allowedOrigins",
    "web.cors.allowedOrigins with * is refused under profile Production, since it lets every page of the web call: list the origins",
))]
#[x_kube(validation = rule(
    "!has(self.limits) || !has(self.limits.memoryBudget) || !has(self.workload) || !has(self.workload.resources) || !has(self.workload.resources.limits) \
     || !has(self.workload.resources.limits.memory) || !isQuantity(string(self.limits.memoryBudget)) || !isQuantity(string(self.workload.resources.limits.memory)) \
     || quantity(string(self.limits.memoryBudget)).add(quantity(string(self.limits.memoryBudget))).compareTo(quantity(string(self.workload.resources.limits.memory))) <= 0",
    "limits.memoryBudget must be at most half of workload.resources.limits.memory, or the kernel would end the process before the budget acts: lower the one, or raise the other",
).field_path(".limits.memoryBudget"))]
#[x_kube(validation = rule(
    "!has(self.authorization) || !has(self.authorization.rules) || self.authorization.rules.all(r, !has(r.principals.method) \
     || (r.principals.method == 'apiKeys' && has(self.auth.apiKeys)) || (r.principals.method == 'anonymous' && has(self.auth.anonymous)) \
     || (has(self.auth.jwt) && self.auth.jwt.exists(j, j.name == r.principals.method)))",
    "a rule of authorization.rules names a principals.method that auth does not configure: use the name of an entry of auth.jwt, or apiKeys or anonymous if auth has them",
).field_path(".authorization.rules"))]
#[x_kube(validation = rule(
    "!has(self.authorization) || !has(self.authorization.rules) || has(self.auth.apiKeys) || !self.authorization.rules.exists(r, has(r.principals.clients))",
    "a rule of authorization.rules names principals.clients, but auth.apiKeys is not configured",
).field_path(".authorization.rules"))]
#[x_kube(validation = rule(
    "!has(self.deniedSubjects) || self.deniedSubjects.all(d, (d.method == 'apiKeys' && has(self.auth.apiKeys)) || (d.method == 'anonymous' && has(self.auth.anonymous)) \
     || (has(self.auth.jwt) && self.auth.jwt.exists(j, j.name == d.method)))",
    "an entry of deniedSubjects names a method that auth does not configure, so it would deny nobody: use the name of an entry of auth.jwt, or apiKeys or anonymous if auth has them",
).field_path(".deniedSubjects"))]
pub struct McpGatewaySpec {
    /// Production refuses every unsafe choice. Development permits some of them, where they give a reason.
    #[serde(default)]
    pub profile: Profile,
    /// How clients call the gateway: host, or host:port where the port is not 443 (80 with tls.plaintext). Requests for
    /// another host, and browser requests from another origin, are refused; the audience of tokens, the protected-resource
    /// metadata (RFC 9728) and status.url derive from it.
    #[schemars(
        length(min = 1, max = 259),
        regex(
            pattern = patterns::HOST
        )
    )]
    #[x_kube(validation = super::cel::port_in_range("publicHost"))]
    pub public_host: String,
    /// Further names (host or host:port) it is called by. Those of its own Service always count. At most 16.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 259),
            regex(
                pattern = patterns::HOST
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = super::cel::ports_in_range("additionalHosts"))]
    pub additional_hosts: Vec<String>,
    /// Incident switch: true answers all MCP traffic with an error and keeps the pods. It acts within seconds.
    #[serde(default)]
    pub suspend: bool,
    /// Incident switch: principals that are refused at once, whatever their credential says. It acts within seconds, on
    /// open streams too. At most 256.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["method".into(), "subject".into()]))]
    pub denied_subjects: Vec<SubjectRef>,
    /// Which servers may attach, and how their names stand side by side.
    #[serde(default)]
    pub servers: Servers,
    /// Further endpoints, /sets/NAME/mcp, with fewer tools each: one per agent, with the ten tools it needs. A set never
    /// permits what authorization does not. At most 64.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tool_sets: Vec<ToolSet>,
    /// How clients authenticate.
    pub auth: Auth,
    /// Who may use what. Without rules nothing is callable.
    #[serde(default)]
    pub authorization: Authorization,
    /// How often. Default: 100 requests a minute per client, 20 of them at once. At most 32.
    #[serde(default = "default_rate_limits")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rate_limits: Vec<RateLimit>,
    /// What is offered beside tools. Default: nothing.
    #[serde(default)]
    pub features: Features,
    /// Bounds of every request.
    #[serde(default)]
    pub limits: GatewayLimits,
    /// TLS of the public port.
    pub tls: Tls,
    /// What browsers and scanners see.
    #[serde(default)]
    pub web: Web,
    /// Who may connect.
    #[serde(default)]
    pub network: Network,
    /// Where audit records go: one per decision, allowed or refused, without arguments and results of calls.
    #[serde(default)]
    pub audit: Audit,
    /// What the gateway tells about itself.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// The gateway's pods.
    #[serde(default)]
    pub workload: Workload,
}

/// How strict a gateway is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Profile {
    /// Refuses every unsafe choice.
    #[default]
    Production,
    /// Permits some of them, where they give a reason.
    Development,
}

/// Which servers may attach, and how their names stand side by side. A server attaches when both sides agree: it names
/// the gateway, and the gateway admits its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Servers {
    /// Namespaces from which servers may attach.
    #[serde(default)]
    pub namespaces: ServerNamespaces,
    /// How names of several servers stand side by side on the common endpoint and in tool sets.
    #[serde(default)]
    pub tool_names: ToolNames,
}

/// Namespaces from which servers may attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!has(self.from) || (self.from == 'Selector') == has(self.selector)",
    "selector is required with from: Selector, and only then",
))]
pub struct ServerNamespaces {
    /// Same: the gateway's own. All: every one the operator watches. Selector: those that selector selects.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Namespaces by their labels. {} selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Namespaces from which servers may attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The gateway's own.
    #[default]
    Same,
    /// Every one the operator watches.
    All,
    /// Those a selector selects.
    Selector,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Standard output of the gateway's pods, as JSON lines, for the platform to collect. Where audit is given without
    /// it, no records are written; Production refuses that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Empty>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            stdout: Some(Empty {}),
        }
    }
}

/// What the gateway tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Telemetry {
    /// The least severe level that is logged. Logs never hold credentials or arguments of calls.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And what changes.
    #[default]
    Info,
    /// And what happens on each request.
    Debug,
    /// Everything.
    Trace,
}
