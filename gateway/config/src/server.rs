//! The MCP servers behind the gateway.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::auth::CaBundle;
use crate::features::{ServerFeatures, is_default};
use crate::limits::RateLimit;
use crate::policy::SubjectRef;

/// One MCP server as the gateway reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// The McpServer's name.
    pub name: String,
    /// The McpServer's namespace.
    pub namespace: String,
    /// First part of the federated names of its tools and prompts (`PREFIX__NAME`) and of its resources
    /// (`PREFIX+URI`). Never holds `__`; unique.
    pub prefix: String,
    /// Its streamable HTTP endpoint.
    pub url: String,
    /// Which addresses its host name may resolve to.
    pub address_policy: AddressPolicy,
    /// Trust anchors for an https `url` in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// What the gateway presents. Absent: nothing. The client's own credential is never passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<HeaderCredential>,
    /// The same, as a token that the gateway fetches. Never beside `credential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_client_credentials: Option<OauthClientCredentials>,
    /// Attached and verified, but served to nobody except those named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// The one revision of MCP that is spoken with it. Absent: whichever it answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Which of its tools exist for anybody.
    #[serde(default)]
    pub tools: Tools,
    /// What of the gateway's `features` it takes part in. Absent: all that is on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub features: ServerFeatures,
    /// Its own bounds.
    #[serde(default)]
    pub limits: ServerLimits,
    /// How often it may be asked, beside the gateway's own limits: with key Server, Tool or ClientTool, and without
    /// `match.servers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
}

/// Which addresses a host name may resolve to. Loopback, link-local and metadata addresses are refused under all but `Loopback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressPolicy {
    /// Globally routable addresses.
    Public,
    /// Those, and private ranges.
    Private,
    /// A Service or a pod of this cluster: private ranges and whatever ranges the cluster uses.
    Cluster,
    /// This machine. For the local quick start; the operator never writes it.
    Loopback,
}

/// A revision of MCP that a server can be held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Revision {
    /// HTTP with SSE, before streamable HTTP.
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

/// A fixed credential in a request header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderCredential {
    /// Header name.
    pub name: String,
    /// Text before the secret, such as `Bearer `.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// File with the secret, re-read when it changes. Missing: calls to this server are refused.
    pub file: PathBuf,
}

/// A bearer token by the client credentials grant (RFC 6749, section 4.4), fetched in the background and renewed before it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OauthClientCredentials {
    /// The token endpoint. https, except under `addressPolicy: Loopback`.
    pub token_url: String,
    /// Which addresses its host name may resolve to.
    pub address_policy: AddressPolicy,
    /// Trust anchors in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// The gateway's own client there.
    pub client_id: String,
    /// File with its secret, re-read when it changes. Missing: calls to this server are refused.
    pub client_secret: PathBuf,
    /// Where id and secret stand in the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_authentication: ClientAuthentication,
    /// What the token should permit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// `audience`, where the authorization server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// `resource` (RFC 8707), where the authorization server takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// How a client shows its secret to a token endpoint (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthentication {
    /// In the `Authorization` header.
    #[default]
    Basic,
    /// In the form.
    Post,
}

/// Who may use a quarantined server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quarantine {
    /// Testers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except_for: Vec<SubjectRef>,
}

/// Globs on the server's own tool names; `deny` wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tools {
    /// Offered.
    pub allow: Vec<String>,
    /// Withheld.
    pub deny: Vec<String>,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            allow: vec!["*".into()],
            deny: Vec::new(),
        }
    }
}

/// A server's own bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerLimits {
    /// A call without progress; the smaller of this and the gateway's `requestTimeout` counts.
    pub timeout: Duration,
    /// Calls in flight.
    pub max_concurrent: u32,
    /// A JSON answer, where it should be smaller than the gateway's `maxResponseBytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<u64>,
    /// When calls are no longer sent for a while.
    pub circuit_breaker: CircuitBreaker,
}

/// Calls that fail one after the other open the circuit: later ones are refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// How many failures in a row.
    pub failures: u32,
    /// For how long; then one call is let through, and decides.
    pub open_for: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(30),
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_concurrent: 64,
            max_response_bytes: None,
            circuit_breaker: CircuitBreaker::default(),
        }
    }
}

impl Server {
    /// `namespace/name`, as rules and limits name it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
