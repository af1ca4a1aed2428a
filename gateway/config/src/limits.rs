//! Rate limits and the bounds of every request.

use serde::{Deserialize, Serialize};

use crate::Duration;

/// One rate limit, by the generic cell rate algorithm: over any window at most `requests + burst`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Unique; stands in errors, headers and metrics.
    pub name: String,
    /// What gets a bucket of its own.
    pub key: LimitKey,
    /// Which requests count. Absent: all.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<LimitMatch>,
    /// Sustained requests in `per`.
    pub requests: u32,
    /// The period.
    pub per: Duration,
    /// The bucket's size: how many may come at once beyond the steady flow.
    pub burst: u32,
}

/// What gets a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitKey {
    /// Each principal. Charged before authorisation.
    Client,
    /// Each address that clients call from, of IPv6 each /64. Charged before authorisation.
    #[serde(rename = "IP")]
    Ip,
    /// Each server, over all clients: requests that are about one. Charged after authorisation.
    Server,
    /// Each tool of each server, over all clients: calls of tools. Charged after authorisation.
    Tool,
    /// Each principal and tool: calls of tools. Charged after authorisation.
    ClientTool,
    /// One bucket. Charged after authorisation.
    Gateway,
}

impl RateLimit {
    /// A limit that a server has for itself, as one of the gateway's: it counts what is about that server, and its name
    /// tells where it stands.
    #[must_use]
    pub fn of_server(&self, server: &str) -> Self {
        let matches = self.matches.clone().unwrap_or_default();
        Self {
            name: format!("{server}/{}", self.name),
            matches: Some(LimitMatch {
                servers: Some(vec![server.to_owned()]),
                ..matches
            }),
            ..self.clone()
        }
    }
}

/// Which requests a limit counts: OR within a list, AND between the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitMatch {
    /// MCP methods, exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Servers as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<String>>,
    /// Globs on the server's own tool names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
}

/// Sizes in bytes, times, and counts. Each has a default, none can be switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// A request's body.
    pub max_request_bytes: u64,
    /// An upstream's JSON answer.
    pub max_response_bytes: u64,
    /// One event of an upstream's stream.
    pub max_event_bytes: u64,
    /// All of a request's headers.
    pub max_header_bytes: u64,
    /// Nesting of a request's JSON.
    pub max_json_depth: u32,
    /// A call without progress: without its answer, or a notification about it.
    pub request_timeout: Duration,
    /// A call with progress.
    pub max_call_duration: Duration,
    /// From the first byte of a request to the end of its headers; also the TLS handshake.
    pub header_timeout: Duration,
    /// A stream without an event that is passed on to the client.
    pub stream_idle_timeout: Duration,
    /// Open connections to the public listener.
    pub max_connections: u32,
    /// Requests in flight; streams do not count.
    pub max_concurrent_requests: u32,
    /// Session-era sessions of one principal.
    pub max_sessions_per_client: u32,
    /// Streams on which one principal listens.
    pub max_streams_per_client: u32,
    /// Such a stream's life.
    pub max_stream_age: Duration,
    /// What bodies and events may take of the process's memory together.
    pub memory_budget: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 1 << 20,
            max_response_bytes: 8 << 20,
            max_event_bytes: 1 << 20,
            max_header_bytes: 32 << 10,
            max_json_depth: 64,
            request_timeout: Duration::from_secs(60),
            max_call_duration: Duration::from_secs(600),
            header_timeout: Duration::from_secs(10),
            stream_idle_timeout: Duration::from_secs(300),
            max_connections: 10_000,
            max_concurrent_requests: 1024,
            max_sessions_per_client: 100,
            max_streams_per_client: 200,
            max_stream_age: Duration::from_secs(3600),
            memory_budget: 256 << 20,
        }
    }
}
