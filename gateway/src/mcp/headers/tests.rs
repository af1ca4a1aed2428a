use bytes::Bytes;
use http::HeaderValue;
use rstest::rstest;

use super::*;

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

fn message(body: &'static str) -> Message {
    Message::from_client(Bytes::from_static(body.as_bytes()), 64).unwrap()
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"h\u00e9","_meta":
    {"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":
    {"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const NAMELESS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":
    {"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const HALF: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud800","_meta":
    {"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const READ: &str = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b","_meta":
    {"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;

const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
const NAME_OK: (&str, &str) = ("mcp-name", "=?base64?aMOp?=");

#[rstest]
#[case(CALL, &[VERSION, ("mcp-method", "tools/call"), NAME_OK], None)]
#[case(CALL, &[("mcp-method", "tools/call"), NAME_OK], Some("MCP-Protocol-Version"))]
#[case(CALL, &[("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/call"), NAME_OK], Some("MCP-Protocol-Version"))]
#[case(CALL, &[VERSION, NAME_OK], Some("Mcp-Method"))]
#[case(CALL, &[VERSION, ("mcp-method", "Tools/Call"), NAME_OK], Some("Mcp-Method"))]
#[case(CALL, &[VERSION, ("mcp-method", "tools/list"), NAME_OK], Some("Mcp-Method"))]
#[case(CALL, &[VERSION, ("mcp-method", "=?base64?dG9vbHMvY2FsbA==?="), NAME_OK], Some("Mcp-Method"))]
#[case(CALL, &[VERSION, ("mcp-method", "tools/call")], Some("Mcp-Name"))]
#[case(CALL, &[VERSION, ("mcp-method", "tools/call"), ("mcp-name", "x")], Some("Mcp-Name"))]
#[case(CALL, &[VERSION, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?aMO?=")], Some("Mcp-Name"))]
#[case(LIST, &[VERSION, ("mcp-method", "tools/list")], None)]
#[case(LIST, &[VERSION, ("mcp-method", "tools/list"), ("mcp-name", "stray")], None)]
#[case(NAMELESS, &[VERSION, ("mcp-method", "tools/call")], None)]
#[case(HALF, &[VERSION, ("mcp-method", "tools/call"), ("mcp-name", "x")], Some("Mcp-Name"))]
#[case(READ, &[VERSION, ("mcp-method", "resources/read"), ("mcp-name", "a:b")], None)]
#[case(READ, &[VERSION, ("mcp-method", "resources/read"), ("mcp-name", "a:c")], Some("Mcp-Name"))]
#[case(NOTE, &[], None)]
#[case(NOTE, &[VERSION, ("mcp-method", "notifications/progress")], None)]
#[case(NOTE, &[("mcp-method", "notifications/cancelled")], Some("Mcp-Method"))]
fn headers_say_what_the_body_says(
    #[case] body: &'static str,
    #[case] headers: &[(&'static str, &'static str)],
    #[case] wrong: Option<&str>,
) {
    let map = map(headers);
    let agreed = agree(&McpHeaders::read(&map).unwrap(), &message(body));
    match agreed {
        Ok(()) => assert_eq!(wrong, None),
        Err(Cause::HeaderMismatch { header, .. }) => assert_eq!(wrong, Some(header)),
        Err(other) => panic!("{other:?}"),
    }
}

#[rstest]
#[case("mcp-protocol-version")]
#[case("mcp-session-id")]
#[case("mcp-method")]
#[case("mcp-name")]
#[case("last-event-id")]
fn a_header_stands_once(#[case] name: &'static str) {
    assert!(McpHeaders::read(&map(&[(name, "x")])).is_ok());
    let twice = map(&[(name, "x"), (name, "x")]);
    assert!(matches!(
        McpHeaders::read(&twice),
        Err(Cause::HeaderMismatch { .. })
    ));
}

#[test]
fn arguments_in_headers_are_found_whatever_their_case() {
    let mut headers = map(&[("accept", "*/*"), ("mcp-param-region", "us-west1")]);
    headers.append(
        HeaderName::from_bytes(b"Mcp-Param-Size").unwrap(),
        HeaderValue::from_static("7"),
    );
    let mut found = params(&headers).unwrap();
    found.sort_unstable();
    assert_eq!(found, [("region", &b"us-west1"[..]), ("size", b"7")]);
    headers.append("mcp-param-size", HeaderValue::from_static("7"));
    assert!(params(&headers).is_err());
}

#[rstest]
#[case(&[("content-type", "application/json")], true)]
#[case(&[("content-type", "application/json"), ("content-encoding", "identity")], true)]
#[case(&[], false)]
#[case(&[("content-type", "text/plain")], false)]
#[case(&[("content-type", "application/json"), ("content-type", "application/json")], false)]
#[case(&[("content-type", "application/json"), ("content-encoding", "gzip")], false)]
fn bodies_are_plain_json(#[case] headers: &[(&'static str, &'static str)], #[case] taken: bool) {
    assert_eq!(check_content(&map(headers)).is_ok(), taken);
}

#[test]
fn answers_must_be_readable() {
    assert!(check_accept_post(&map(&[("accept", "application/json, text/event-stream")])).is_ok());
    assert_eq!(
        check_accept_post(&map(&[("accept", "application/json")])),
        Err(Cause::NotAcceptable)
    );
    assert!(check_accept_get(&map(&[("accept", "text/event-stream")])).is_ok());
    assert_eq!(
        check_accept_get(&map(&[("accept", "application/json")])),
        Err(Cause::NotAcceptable)
    );
}
