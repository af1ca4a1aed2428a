//! The root of the configuration file.

use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::auth::Auth;
use crate::features::{Features, ToolNames, ToolSet, is_default};
use crate::limits::{Limits, RateLimit};
use crate::listen::{Listen, SessionKeys};
use crate::network::Network;
use crate::policy::{Rule, SubjectRef};
use crate::server::Server;
use crate::web::Web;

/// The format this release writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// A gateway's whole configuration, as the operator renders it and `portcullis-gateway serve --config` reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Always 1; another number is refused, so that an old gateway never half-understands a newer file.
    pub format_version: u32,
    /// Who this gateway is and how it is called.
    pub gateway: Gateway,
    /// Where it listens.
    pub listen: Listen,
    /// Keys that seal session ids. Absent: one random key for the life of the process (one replica only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_keys: Option<SessionKeys>,
    /// Who may come in.
    pub auth: Auth,
    /// What they may do. No rule: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// How often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// What is offered beside tools. Absent: nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub features: Features,
    /// How names of several servers stand side by side.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tool_names: ToolNames,
    /// Further endpoints with fewer tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_sets: Vec<ToolSet>,
    /// Sizes, times and counts that bound every request.
    #[serde(default)]
    pub limits: Limits,
    /// What stands in front.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// What browsers and scanners see.
    #[serde(default, skip_serializing_if = "is_default")]
    pub web: Web,
    /// The MCP servers behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// Where audit records go.
    #[serde(default)]
    pub audit: Audit,
    /// Logging.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// How it ends.
    #[serde(default)]
    pub shutdown: Shutdown,
}

/// Who the gateway is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// The McpGateway's UID. It binds sealed tokens to this gateway. Absent: random for the life of the process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The object's name.
    pub name: String,
    /// The object's namespace; a server of this namespace is reached as `/servers/NAME/mcp`, others as `/servers/NAMESPACE.NAME/mcp`.
    pub namespace: String,
    /// Production or Development.
    #[serde(default)]
    pub profile: Profile,
    /// `host[:port]` as clients write it. Audiences, metadata and the default Origin derive from it.
    pub public_host: String,
    /// Every further `host[:port]` under which requests are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_hosts: Vec<String>,
    /// Refuse all MCP traffic, keep the process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Principals refused whatever their credential says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_subjects: Vec<SubjectRef>,
}

/// How strict the gateway is about choices that are only fit for a developer's machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Refuses every unsafe choice.
    #[default]
    Production,
    /// Allows them where a reason is given.
    Development,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// One JSON line per decision on standard output.
    #[serde(default = "yes")]
    pub stdout: bool,
}

/// Logging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// The least severe level that is logged.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what changes.
    #[default]
    Info,
    /// And what happens on each request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name as a `tracing` filter takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How the process ends after SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shutdown {
    /// How long it keeps accepting while load balancers learn that it is going.
    #[serde(default = "Shutdown::default_grace")]
    pub grace: Duration,
    /// When it ends whatever still runs, counted from the signal.
    #[serde(default = "Shutdown::default_deadline")]
    pub deadline: Duration,
}

impl Shutdown {
    const fn default_grace() -> Duration {
        Duration::from_secs(5)
    }

    const fn default_deadline() -> Duration {
        Duration::from_secs(615)
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            grace: Self::default_grace(),
            deadline: Self::default_deadline(),
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { stdout: true }
    }
}

const fn yes() -> bool {
    true
}
