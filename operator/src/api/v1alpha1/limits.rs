//! Bounds of every request. None can be switched off.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel::{duration_within, quantity_within, rule};
use super::units::{ByteSize, Duration};

/// Sizes, times and counts that bound every request to a gateway, per replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!has(self.requestTimeout) || !has(self.maxCallDuration) || duration(self.requestTimeout) <= duration(self.maxCallDuration)",
    "requestTimeout must not exceed maxCallDuration: progress resets the one, nothing resets the other",
))]
#[x_kube(validation = rule(
    "!has(self.maxStreamsPerClient) || !has(self.maxSessionsPerClient) || self.maxSessionsPerClient <= self.maxStreamsPerClient",
    "maxStreamsPerClient must be at least maxSessionsPerClient: each session may have a stream",
))]
#[x_kube(validation = rule(
    "!has(self.memoryBudget) || !has(self.maxRequestBytes) || !has(self.maxResponseBytes) || !has(self.maxEventBytes) \
     || !isQuantity(string(self.memoryBudget)) \
     || [self.maxRequestBytes, self.maxResponseBytes, self.maxEventBytes].all(one, !isQuantity(string(one)) || quantity(string(one)).compareTo(quantity(string(self.memoryBudget))) <= 0)",
    "memoryBudget must be at least maxRequestBytes, maxResponseBytes and maxEventBytes: what is larger never fits",
))]
pub struct GatewayLimits {
    /// Largest request body. 1Ki to 64Mi.
    #[serde(default = "gateway_default::max_request_bytes")]
    #[x_kube(validation = quantity_within("1Ki", "64Mi"))]
    pub max_request_bytes: ByteSize,
    /// Largest JSON answer of a server; streams are bounded per event. 1Ki to 256Mi.
    #[serde(default = "gateway_default::max_response_bytes")]
    #[x_kube(validation = quantity_within("1Ki", "256Mi"))]
    pub max_response_bytes: ByteSize,
    /// Largest event of a server's stream. 1Ki to 64Mi.
    #[serde(default = "gateway_default::max_event_bytes")]
    #[x_kube(validation = quantity_within("1Ki", "64Mi"))]
    pub max_event_bytes: ByteSize,
    /// Largest set of headers of a request. 8Ki to 1Mi.
    #[serde(default = "gateway_default::max_header_bytes")]
    #[x_kube(validation = quantity_within("8Ki", "1Mi"))]
    pub max_header_bytes: ByteSize,
    /// Deepest nesting of a request's JSON. 4 to 512.
    #[serde(default = "gateway_default::max_json_depth")]
    #[schemars(range(min = 4, max = 512))]
    pub max_json_depth: i32,
    /// How long a call may go without progress: without its answer, or a notification about it. What the gateway sends
    /// to keep a stream open, and pings, are no progress. 100ms to 24h.
    #[serde(default = "gateway_default::request_timeout")]
    #[x_kube(validation = duration_within("100ms", "24h"))]
    pub request_timeout: Duration,
    /// How long a call may take, progress or not. 100ms to 24h.
    #[serde(default = "gateway_default::max_call_duration")]
    #[x_kube(validation = duration_within("100ms", "24h"))]
    pub max_call_duration: Duration,
    /// How long the stream of a call's answer may go without an event for the client, however much its server says
    /// that is not for the client. 100ms to 24h.
    #[serde(default = "gateway_default::stream_idle_timeout")]
    #[x_kube(validation = duration_within("100ms", "24h"))]
    pub stream_idle_timeout: Duration,
    /// How long a client may take for the TLS handshake, and for the headers of a request. 100ms to 1m.
    #[serde(default = "gateway_default::header_timeout")]
    #[x_kube(validation = duration_within("100ms", "1m"))]
    pub header_timeout: Duration,
    /// Open connections to the public port. 1 to 1000000.
    #[serde(default = "gateway_default::max_connections")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: i32,
    /// Requests in flight; open streams do not count. A call in a session whose client left counts until its server has
    /// answered, at most five seconds more. 1 to 1000000.
    #[serde(default = "gateway_default::max_concurrent_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrent_requests: i32,
    /// Session-era sessions of one principal. 1 to 100000.
    #[serde(default = "gateway_default::max_sessions_per_client")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_sessions_per_client: i32,
    /// Streams on which one principal listens for what belongs to no call: those of its sessions, and
    /// subscriptions/listen. At least maxSessionsPerClient; 1 to 100000.
    #[serde(default = "gateway_default::max_streams_per_client")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_streams_per_client: i32,
    /// How old such a stream may become. It ends a little before, and its client listens anew, so that a new replica
    /// gets its share. 100ms to 24h.
    #[serde(default = "gateway_default::max_stream_age")]
    #[x_kube(validation = duration_within("100ms", "24h"))]
    pub max_stream_age: Duration,
    /// What the bodies of requests and answers, and events of streams, may take of a replica's memory together; what is shorter
    /// than 16Ki is not counted. What does not fit is refused with 503. At least maxRequestBytes, maxResponseBytes and
    /// maxEventBytes, and at most half of workload.resources.limits.memory, since messages are copied when they are put into
    /// another's terms. 8Mi to 64Gi.
    #[serde(default = "gateway_default::memory_budget")]
    #[x_kube(validation = quantity_within("8Mi", "64Gi"))]
    pub memory_budget: ByteSize,
}

field_defaults!(gateway_default for GatewayLimits {
    max_request_bytes: ByteSize = ByteSize::mebibytes(1),
    max_response_bytes: ByteSize = ByteSize::mebibytes(8),
    max_event_bytes: ByteSize = ByteSize::mebibytes(1),
    max_header_bytes: ByteSize = ByteSize::kibibytes(32),
    max_json_depth: i32 = 64,
    request_timeout: Duration = Duration::from_secs(60),
    max_call_duration: Duration = Duration::from_secs(600),
    stream_idle_timeout: Duration = Duration::from_secs(300),
    header_timeout: Duration = Duration::from_secs(10),
    max_connections: i32 = 10_000,
    max_concurrent_requests: i32 = 1_024,
    max_sessions_per_client: i32 = 100,
    max_streams_per_client: i32 = 200,
    max_stream_age: Duration = Duration::from_secs(3600),
    memory_budget: ByteSize = ByteSize::mebibytes(256),
});

/// Bounds of calls to one server, per replica of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerLimits {
    /// How long a call may go without progress; the smaller of this and the gateway's requestTimeout counts.
    /// 100ms to 24h.
    #[serde(default = "server_default::timeout")]
    #[x_kube(validation = duration_within("100ms", "24h"))]
    pub timeout: Duration,
    /// Calls in flight: until the server has answered or a time-out ends the call, also where the client left a session
    /// before that; a cancelled call at most five seconds more. 1 to 100000.
    #[serde(default = "server_default::max_concurrent")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrent: i32,
    /// Largest JSON answer of this server, where it should be smaller than the gateway's maxResponseBytes. 1Ki to 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = quantity_within("1Ki", "256Mi"))]
    pub max_response_bytes: Option<ByteSize>,
    /// When calls are no longer sent to the server for a while.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
}

field_defaults!(server_default for ServerLimits {
    timeout: Duration = Duration::from_secs(30),
    max_concurrent: i32 = 64,
    max_response_bytes: Option<ByteSize> = None,
    circuit_breaker: CircuitBreaker = CircuitBreaker::default(),
});

/// Where calls to a server fail one after the other, those that follow are refused at once for a while, per replica of the
/// gateway, instead of each waiting for its time-out. What fails: no connection, an HTTP status of 500 and above, no answer in
/// time, an answer that breaks off or is not MCP; a tool's own error is an answer. A failure does not count if any call succeeded
/// while it was under way. As long as only one client's calls fail, and they do reach the server, only that client's are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// How many calls in a row must fail. 1 to 1000.
    #[serde(default = "breaker_default::failures")]
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: i32,
    /// For how long calls are refused; then one is let through, and decides. 100ms to 1h.
    #[serde(default = "breaker_default::open_for")]
    #[x_kube(validation = duration_within("100ms", "1h"))]
    pub open_for: Duration,
}

field_defaults!(breaker_default for CircuitBreaker {
    failures: i32 = 5,
    open_for: Duration = Duration::from_secs(30),
});
