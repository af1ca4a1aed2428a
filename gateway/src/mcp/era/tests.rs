use bytes::Bytes;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const NEW: &str = "2026-07-28";

fn headers(version: Option<&'static str>) -> McpHeaders<'static> {
    McpHeaders {
        version: version.map(str::as_bytes),
        ..McpHeaders::default()
    }
}

fn message(method: &str, meta: &Value) -> Message {
    let mut body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta}});
    if meta.is_null() {
        body.as_object_mut().unwrap().remove("params");
    }
    Message::from_client(Bytes::from(body.to_string()), 64).unwrap()
}

fn claim(version: &Value) -> Value {
    json!({"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}})
}

#[rstest]
#[case(None, Value::Null, Ok(Era::Session))]
#[case(None, json!({"progressToken": 1}), Ok(Era::Session))]
#[case(Some("2025-03-26"), Value::Null, Ok(Era::Session))]
#[case(Some("2025-06-18"), Value::Null, Ok(Era::Session))]
#[case(Some("2025-11-25"), json!({}), Ok(Era::Session))]
#[case(Some(NEW), Value::Null, Ok(Era::Stateless))]
#[case(None, claim(&json!(NEW)), Ok(Era::Stateless))]
#[case(None, claim(&json!(5)), Ok(Era::Stateless))]
#[case(Some("2025-11-25"), claim(&json!(NEW)), Ok(Era::Stateless))]
#[case(Some("2099-01-01"), claim(&json!("2099-01-01")), Ok(Era::Stateless))]
#[case(Some("2099-01-01"), Value::Null, Err("2099-01-01"))]
#[case(Some("1900-01-01"), Value::Null, Err("1900-01-01"))]
#[case(Some("2024-11-05"), Value::Null, Err("2024-11-05"))]
#[case(Some(""), Value::Null, Err(""))]
fn each_request_is_judged_by_what_it_claims(
    #[case] version: Option<&'static str>,
    #[case] meta: Value,
    #[case] want: Result<Era, &str>,
) {
    for method in ["tools/call", "initialize", "unknown"] {
        let found = era(&headers(version), &message(method, &meta));
        match want {
            Ok(want) => assert_eq!(found, Ok(want)),
            Err(requested) => assert_eq!(
                found,
                Err(Cause::UnsupportedVersion {
                    requested: requested.into()
                })
            ),
        }
    }
}

#[test]
fn without_a_body_there_are_sessions_only() {
    assert_eq!(era_without_body(&headers(None)), Ok(Era::Session));
    assert_eq!(era_without_body(&headers(Some("2025-06-18"))), Ok(Era::Session));
    assert_eq!(
        era_without_body(&headers(Some(NEW))),
        Err(Cause::MethodNotAllowed { allow: "POST" })
    );
    assert!(matches!(
        era_without_body(&headers(Some("x"))),
        Err(Cause::UnsupportedVersion { .. })
    ));
    assert!(check_http_method(&HttpMethod::DELETE).is_ok());
    assert!(check_http_method(&HttpMethod::PUT).is_err());
}

fn stateless(version: Option<&'static str>, method: &'static str, meta: &Value) -> Result<(), Cause> {
    let message = message(method, meta);
    let headers = McpHeaders {
        method: Some(method.as_bytes()),
        ..headers(version)
    };
    check_stateless(&headers, &message)
}

#[test]
fn a_stateless_request_is_checked_in_order() {
    let good = claim(&json!(NEW));
    assert_eq!(stateless(Some(NEW), "tools/list", &good), Ok(()));
    let missing = |version, meta: &Value| match stateless(version, "nobody/knows", meta) {
        Err(Cause::MissingMeta { key }) => key,
        other => panic!("{other:?}"),
    };
    // `_meta` first,
    assert_eq!(missing(Some(NEW), &Value::Null), meta::PROTOCOL_VERSION);
    assert_eq!(missing(Some(NEW), &json!({})), meta::PROTOCOL_VERSION);
    assert_eq!(missing(None, &claim(&json!(5))), meta::PROTOCOL_VERSION);
    assert_eq!(
        missing(None, &json!({"io.modelcontextprotocol/protocolVersion": NEW})),
        meta::CLIENT_CAPABILITIES
    );
    let with = |key: &str, value: Value| {
        let mut meta = good.clone();
        meta[key] = value;
        meta
    };
    assert_eq!(
        missing(Some(NEW), &with(meta::CLIENT_CAPABILITIES, json!([]))),
        meta::CLIENT_CAPABILITIES
    );
    assert_eq!(
        missing(Some(NEW), &with(meta::CLIENT_INFO, json!("x"))),
        meta::CLIENT_INFO
    );
    assert_eq!(
        missing(Some(NEW), &with(meta::LOG_LEVEL, json!(5))),
        meta::LOG_LEVEL
    );
    // then headers,
    let mismatch = |result| matches!(result, Err(Cause::HeaderMismatch { .. }));
    assert!(mismatch(stateless(None, "nobody/knows", &good)));
    assert!(mismatch(stateless(Some("2025-11-25"), "tools/list", &good)));
    assert!(mismatch(stateless(
        Some(NEW),
        "tools/list",
        &claim(&json!("1900-01-01"))
    )));
    // then the version,
    let unsupported =
        |version: &'static str| stateless(Some(version), "nobody/knows", &claim(&json!(version)));
    for version in ["1900-01-01", "2099-01-01", "2025-11-25", ""] {
        assert_eq!(
            unsupported(version),
            Err(Cause::UnsupportedVersion {
                requested: version.into()
            })
        );
    }
    // then the method.
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "nobody/knows",
        "sampling/createMessage",
        "roots/list",
        "notifications/progress",
    ] {
        assert_eq!(
            stateless(Some(NEW), method, &good),
            Err(Cause::MethodUnknown),
            "{method}"
        );
    }
    for method in ["server/discover", "tools/call", "subscriptions/listen"] {
        assert_eq!(stateless(Some(NEW), method, &good), Ok(()), "{method}");
    }
}

#[test]
fn a_stateless_client_sends_no_responses() {
    let response =
        Message::from_client(Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#), 64).unwrap();
    assert_eq!(era(&headers(Some(NEW)), &response), Ok(Era::Stateless));
    assert!(matches!(
        check_stateless(&headers(Some(NEW)), &response),
        Err(Cause::Unexpected(_))
    ));
    assert_eq!(check_session(&response), Ok(()));
}

fn notification(body: &'static str) -> Message {
    Message::from_client(Bytes::from_static(body.as_bytes()), 64).unwrap()
}

#[test]
fn notifications_need_no_claim_but_none_that_is_wrong() {
    let plain = notification(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    assert_eq!(check_stateless(&headers(Some(NEW)), &plain), Ok(()));
    let odd = notification(
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":7}}}"#,
    );
    assert_eq!(era(&headers(None), &odd), Ok(Era::Stateless));
    assert!(matches!(
        check_stateless(&headers(None), &odd),
        Err(Cause::MissingMeta { .. })
    ));
    let old = notification(
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}}"#,
    );
    assert!(matches!(
        check_stateless(&headers(None), &old),
        Err(Cause::UnsupportedVersion { .. })
    ));
}

#[test]
fn session_messages_are_of_methods_that_sessions_have() {
    let check = |method: &str| check_session(&message(method, &Value::Null));
    for method in [
        "initialize",
        "ping",
        "tools/call",
        "logging/setLevel",
        "resources/subscribe",
    ] {
        assert_eq!(check(method), Ok(()), "{method}");
    }
    for method in [
        "server/discover",
        "subscriptions/listen",
        "nobody/knows",
        "roots/list",
    ] {
        assert_eq!(check(method), Err(Cause::MethodUnknown), "{method}");
    }
    let id_less = notification(r#"{"jsonrpc":"2.0","method":"tools/call"}"#);
    assert!(matches!(check_session(&id_less), Err(Cause::Unexpected(_))));
    assert_eq!(
        check_session(&notification(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#)),
        Ok(())
    );
}
