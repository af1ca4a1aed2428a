use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::mcp::scan::Fault;

const SESSION: Option<Era> = Some(Era::Session);
const STATELESS: Option<Era> = Some(Era::Stateless);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(text: &str) -> Box<str> {
    text.into()
}

// Cause, status where the era is unknown or stateless, status in a session, code, reason.
#[rstest]
#[case(Cause::HostNotAllowed, 403, 403, -31_403, "host_not_allowed")]
#[case(Cause::OriginNotAllowed, 403, 403, -31_403, "origin_not_allowed")]
#[case(Cause::TooManyFailures { retry_after: secs(9) }, 429, 429, -31_429, "too_many_failures")]
#[case(Cause::Overloaded, 503, 200, -31_503, "overloaded")]
#[case(Cause::Draining, 503, 200, -31_503, "draining")]
#[case(Cause::Suspended, 503, 200, -31_503, "suspended")]
#[case(Cause::Unauthenticated, 401, 401, -31_401, "unauthenticated")]
#[case(Cause::KeysNotReady, 503, 503, -31_503, "keys_not_ready")]
#[case(Cause::NotFound, 404, 404, -31_404, "not_found")]
#[case(Cause::MethodNotAllowed { allow: "POST" }, 405, 405, -31_405, "method_not_allowed")]
#[case(Cause::UnsupportedMediaType, 415, 415, -31_415, "unsupported_media_type")]
#[case(Cause::NotAcceptable, 406, 406, -31_406, "not_acceptable")]
#[case(Cause::BodyTooLarge, 413, 413, -31_413, "body_too_large")]
#[case(Cause::HeaderTooLarge, 431, 431, -31_431, "header_too_large")]
#[case(Cause::BodyTimeout, 408, 408, -31_408, "body_timeout")]
#[case(Cause::BodyIncomplete, 400, 400, -31_400, "body_incomplete")]
#[case(Cause::Malformed(Fault::Syntax(3)), 400, 400, -32_700, "parse_error")]
#[case(Cause::Malformed(Fault::Utf8(3)), 400, 400, -32_700, "parse_error")]
#[case(Cause::Malformed(Fault::DuplicateKey(3)), 400, 400, -32_600, "invalid_request")]
#[case(Cause::Malformed(Fault::TooDeep), 400, 400, -32_600, "invalid_request")]
#[case(Cause::BatchNotAllowed, 400, 400, -32_600, "batch_not_allowed")]
#[case(Cause::Unexpected("x"), 400, 400, -32_600, "unexpected_message")]
#[case(Cause::HeaderMismatch { header: "Mcp-Name", problem: "is missing" }, 400, 400, -32_020, "header_mismatch")]
#[case(Cause::MissingExtension { name: "x/y" }, 400, 400, -32_021, "missing_capability")]
#[case(Cause::UnsupportedVersion { requested: name("1900-01-01") }, 400, 400, -32_022, "unsupported_version")]
#[case(Cause::MissingMeta { key: "k" }, 400, 400, -32_602, "missing_meta")]
#[case(Cause::InvalidParams { problem: "x" }, 200, 200, -32_602, "invalid_params")]
#[case(Cause::InvalidCursor, 200, 200, -32_602, "invalid_cursor")]
#[case(Cause::SessionMissing, 400, 400, -31_400, "session_missing")]
#[case(Cause::SessionUnknown, 404, 404, -31_404, "session_unknown")]
#[case(Cause::SessionLimit, 429, 200, -31_429, "session_limit")]
#[case(Cause::StreamLimit, 429, 200, -31_429, "stream_limit")]
#[case(Cause::SessionTooLarge, 400, 200, -31_400, "session_too_large")]
#[case(Cause::MethodUnknown, 404, 200, -32_601, "method_unknown")]
#[case(Cause::ToolUnknown { name: name("t") }, 200, 200, -32_602, "tool_unknown")]
#[case(Cause::ToolForbidden { name: name("t"), rule: None }, 200, 200, -32_602, "tool_unknown")]
#[case(Cause::InsufficientScope { scopes: Arc::from(["a".into()]) }, 403, 403, -31_403, "insufficient_scope")]
#[case(Cause::RateLimited { rule: "r".into(), retry_after: secs(2) }, 429, 200, -31_429, "rate_limited")]
#[case(Cause::UpstreamUnavailable, 503, 200, -31_503, "upstream_unavailable")]
#[case(Cause::UpstreamFailing { retry_after: secs(2) }, 503, 200, -31_503, "upstream_failing")]
#[case(Cause::UpstreamBusy, 503, 200, -31_503, "upstream_busy")]
#[case(Cause::UpstreamTimeout, 504, 200, -31_504, "upstream_timeout")]
#[case(Cause::UpstreamInvalid, 502, 200, -31_502, "upstream_invalid")]
#[case(Cause::ResponseTooLarge, 502, 200, -31_502, "response_too_large")]
#[case(Cause::OwnerLost, 502, 200, -31_502, "owner_lost")]
#[case(Cause::AuditUnavailable, 503, 200, -31_503, "audit_unavailable")]
#[case(Cause::Internal, 500, 200, -32_603, "internal")]
fn every_cause_in_every_era(
    #[case] cause: Cause,
    #[case] plain: u16,
    #[case] session: u16,
    #[case] code: i32,
    #[case] reason: &str,
) {
    for (era, status) in [(None, plain), (STATELESS, plain), (SESSION, session)] {
        let response = refuse(&cause, era, Some(b"\"7\""));
        assert_eq!(response.status(), status, "{era:?}");
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["jsonrpc"], "2.0");
        assert_eq!(body["id"], "7");
        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"]["data"]["reason"], reason);
        assert_eq!(body["error"]["message"], *cause.message());
        let wait = &body["error"]["data"]["retryAfter"];
        assert_eq!(
            response
                .headers()
                .get("retry-after")
                .map(|v| v.to_str().unwrap().into()),
            wait.as_u64().map(|n| n.to_string())
        );
        assert_eq!(wait.is_null(), cause.retry_after().is_none());
        assert_eq!(super::super::error(&cause, Some(b"\"7\"")), response.body());
    }
    // Codes that other implementations use for their own purposes, or that the protocol keeps, are never ours.
    assert!(!(-32_019..=-32_000).contains(&code) && ![-32_002, -32_042].contains(&code));
    assert!(
        cause.message().ends_with('.') && !cause.message().contains(".."),
        "{}",
        cause.message()
    );
    assert!(
        cause
            .label()
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    );
    // A notification of a session never sees a policy's status.
    let silent = refuse(&cause, SESSION, None);
    if cause.class() == Class::Refusal {
        assert_eq!((silent.status().as_u16(), silent.body().len()), (202, 0));
    } else {
        assert_eq!(silent.status(), session);
    }
}

#[test]
fn forbidden_looks_unknown_but_is_recorded_as_what_it_is() {
    let unknown = Cause::ToolUnknown { name: name("x") };
    let forbidden = Cause::ToolForbidden {
        name: name("x"),
        rule: Some("r".into()),
    };
    for era in [None, SESSION, STATELESS] {
        let (a, b) = (
            refuse(&unknown, era, Some(b"1")),
            refuse(&forbidden, era, Some(b"1")),
        );
        assert_eq!(
            (a.status(), a.headers(), a.body()),
            (b.status(), b.headers(), b.body())
        );
    }
    assert_ne!(unknown.audit_reason(), forbidden.audit_reason());
}

#[test]
fn data_says_what_a_program_needs() {
    let data = |cause: Cause| {
        let body: Value = serde_json::from_slice(&body(&cause, None)).unwrap();
        assert_eq!(body["id"], Value::Null);
        body["error"]["data"].clone()
    };
    assert_eq!(
        data(Cause::UnsupportedVersion {
            requested: name("a\"b")
        }),
        json!({"reason": "unsupported_version", "requested": "a\"b",
            "supported": ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"]})
    );
    assert_eq!(
        data(Cause::RateLimited {
            rule: "r".into(),
            retry_after: Duration::from_millis(1001)
        }),
        json!({"reason": "rate_limited", "retryAfter": 2, "rule": "r"})
    );
    assert_eq!(
        data(Cause::InsufficientScope {
            scopes: Arc::from(["a".into(), "b".into()])
        }),
        json!({"reason": "insufficient_scope", "scopes": ["a", "b"]})
    );
    assert_eq!(
        data(Cause::MissingMeta { key: "k" }),
        json!({"reason": "missing_meta", "key": "k"})
    );
}

#[test]
fn waiting_is_never_zero_seconds() {
    for (wait, header) in [
        (Duration::ZERO, "1"),
        (Duration::from_millis(1), "1"),
        (secs(1), "1"),
        (Duration::from_millis(1500), "2"),
    ] {
        let response = refuse(&Cause::TooManyFailures { retry_after: wait }, None, None);
        assert_eq!(response.headers()["retry-after"], header);
    }
}

#[test]
fn what_the_client_wrote_is_repeated_shortened_and_escaped() {
    let long = Cause::ToolUnknown {
        name: "é\"\n".repeat(1000).into(),
    };
    let body = body(&long, Some(b"1"));
    assert!(body.len() < 1000);
    let parsed: Value = serde_json::from_slice(&body).unwrap();
    assert!(parsed["error"]["message"].as_str().unwrap().contains("é\"\né"));
}

#[test]
fn nothing_is_said_where_nothing_is_served() {
    let response = refuse(&Cause::NotFound, None, None);
    assert_eq!(
        (
            response.status().as_u16(),
            response.body().len(),
            response.headers().len()
        ),
        (404, 0, 0)
    );
    assert_eq!(
        refuse(&Cause::MethodNotAllowed { allow: "GET, POST" }, None, None).headers()["allow"],
        "GET, POST"
    );
}
