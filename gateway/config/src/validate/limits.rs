//! How much and how often.

use super::Check;
use crate::limits::{LimitKey, Limits, RateLimit};

pub(super) fn rate_limit(check: &mut Check<'_>, limit: &RateLimit, of: &str) {
    let at = |field: &str| format!("{of}rateLimits[{}].{field}", limit.name);
    check.that(limit.requests > 0, at("requests"), "must be at least 1");
    check.that(limit.burst > 0, at("burst"), "must be at least 1");
    check.that(
        !limit.per.get().is_zero(),
        at("per"),
        "must be longer than nothing",
    );
    check.that(
        limit.per.get().as_secs() <= 86_400,
        at("per"),
        "must be at most 24h",
    );
}

/// A limit that a server has for itself.
pub(super) fn server_rate_limit(check: &mut Check<'_>, limit: &RateLimit, of: &str) {
    rate_limit(check, limit, of);
    let at = |field: &str| format!("{of}rateLimits[{}].{field}", limit.name);
    let own = matches!(
        limit.key,
        LimitKey::Server | LimitKey::Tool | LimitKey::ClientTool
    );
    check.that(own, at("key"), "must be Server, Tool or ClientTool for a server");
    let elsewhere = limit.matches.as_ref().is_some_and(|m| m.servers.is_some());
    check.that(
        !elsewhere,
        at("match.servers"),
        "is the server that the limit stands at: leave it out",
    );
}

pub(super) fn limits(check: &mut Check<'_>, limits: &Limits) {
    let sizes = [
        ("maxRequestBytes", limits.max_request_bytes, 1 << 10, 64 << 20),
        ("maxResponseBytes", limits.max_response_bytes, 1 << 10, 256 << 20),
        ("maxEventBytes", limits.max_event_bytes, 1 << 10, 64 << 20),
        ("memoryBudget", limits.memory_budget, 8 << 20, 64 << 30),
        ("maxHeaderBytes", limits.max_header_bytes, 8 << 10, 1 << 20),
        ("maxJsonDepth", u64::from(limits.max_json_depth), 4, 512),
        ("maxConnections", u64::from(limits.max_connections), 1, 1_000_000),
        (
            "maxConcurrentRequests",
            u64::from(limits.max_concurrent_requests),
            1,
            1_000_000,
        ),
        (
            "maxSessionsPerClient",
            u64::from(limits.max_sessions_per_client),
            1,
            100_000,
        ),
        (
            "maxStreamsPerClient",
            u64::from(limits.max_streams_per_client),
            1,
            100_000,
        ),
    ];
    for (field, value, least, most) in sizes {
        check.that(
            (least..=most).contains(&value),
            format!("limits.{field}"),
            format!("must be between {least} and {most}, is {value}"),
        );
    }
    let times = [
        ("requestTimeout", limits.request_timeout),
        ("maxCallDuration", limits.max_call_duration),
        ("headerTimeout", limits.header_timeout),
        ("streamIdleTimeout", limits.stream_idle_timeout),
        ("maxStreamAge", limits.max_stream_age),
    ];
    for (field, value) in times {
        let secs = value.get().as_secs_f64();
        check.that(
            (0.1..=86_400.0).contains(&secs),
            format!("limits.{field}"),
            "must be between 100ms and 24h",
        );
    }
    check.that(
        limits.request_timeout <= limits.max_call_duration,
        "limits.maxCallDuration",
        "must be at least requestTimeout",
    );
    let largest = limits
        .max_request_bytes
        .max(limits.max_response_bytes)
        .max(limits.max_event_bytes);
    check.that(
        largest <= limits.memory_budget,
        "limits.memoryBudget",
        "must be at least maxRequestBytes, maxResponseBytes and maxEventBytes: what is larger never fits",
    );
    check.that(
        limits.max_sessions_per_client <= limits.max_streams_per_client,
        "limits.maxStreamsPerClient",
        "must be at least maxSessionsPerClient: each session has a stream",
    );
}
