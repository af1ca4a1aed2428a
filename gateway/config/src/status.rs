//! The document on the status port: what a gateway process really does right now. No secret, ever.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the gateway reports on `/status`. Unknown fields are ignored by readers, so that either side can be newer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `gateway.id` of the loaded configuration.
    pub gateway_id: String,
    /// Version of the binary.
    pub version: String,
    /// The configuration.
    pub config: ConfigStatus,
    /// Would `/readyz` say yes?
    pub ready: bool,
    /// Why not, one line each.
    pub not_ready: Vec<String>,
    /// Every mounted file or directory the configuration names.
    pub references: Vec<Reference>,
    /// Ids of the session keys that are loaded.
    pub session_keys: Vec<String>,
    /// Each server.
    pub servers: Vec<ServerStatus>,
}

/// Which configuration is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigStatus {
    /// SHA-256 of the files' bytes in hex: of what is in force.
    pub hash: String,
    /// SHA-256 of newer files that were refused.
    pub rejected_hash: Option<String>,
    /// Why they were refused.
    pub rejected_reason: Option<String>,
}

/// A mounted file or directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    /// Path as the configuration names it.
    pub path: String,
    /// What became of it.
    pub state: ReferenceState,
    /// What is wrong, in words, where the state is not Present.
    pub message: String,
    /// When the certificate in it expires.
    pub expires: Option<Timestamp>,
}

/// What became of a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReferenceState {
    /// Read and in force.
    Present,
    /// Not there.
    #[default]
    Missing,
    /// There, and unusable.
    Invalid,
}

/// How a server answers this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerStatus {
    /// McpServer's namespace.
    pub namespace: String,
    /// McpServer's name.
    pub name: String,
    /// Handshake and tool list came through, and the last try did too.
    pub verified: bool,
    /// A short word for the cause when not, such as `ConnectFailed`.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// Protocol revision in use.
    pub protocol_version: String,
    /// What it calls itself.
    pub server_name: String,
    /// Its own version.
    pub server_version: String,
    /// Its tools by their own names, sorted, as last listed.
    pub tools: Vec<ToolStatus>,
}

/// One tool of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolStatus {
    /// The server's own name for it.
    pub name: String,
    /// False: `tools.allow` or `tools.deny` withholds it.
    pub served: bool,
}
