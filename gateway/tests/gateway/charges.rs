//! What counts against limits: every message of an authenticated client.

use http::{Method, StatusCode};
use rstest::rstest;

use crate::support::{ALICE, BOB, Client, Gateway, META, Server, Speaks, config};

/// One limit that lets `burst` requests pass, and hardly ever another.
fn limit(rest: &str, burst: u32) -> String {
    format!("rateLimits: [{{name: few, {rest}, requests: 1, per: 24h, burst: {burst}}}]")
}

/// How often it refused.
fn refused(gateway: &Gateway) -> u64 {
    let text = gateway.app.metrics.render();
    let line = "portcullis_gateway_limit_refusals_total{rule=\"few\"} ";
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0, |value| value.parse().unwrap())
}

async fn start(server: &Server, more: &str) -> Gateway {
    Gateway::start(&config(&[("s", server.address), ("t", server.address)], more)).await
}

#[rstest]
#[case::notification(
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#
)]
#[case::roots(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#)]
#[case::answer(r#"{"jsonrpc":"2.0","id":9,"result":{}}"#)]
#[case::ping(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#)]
#[case::unknown_method(r#"{"jsonrpc":"2.0","id":9,"method":"no/such"}"#)]
#[case::not_offered(r#"{"jsonrpc":"2.0","id":9,"method":"prompts/list"}"#)]
#[case::list(r#"{"jsonrpc":"2.0","id":9,"method":"tools/list"}"#)]
#[case::call(r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"s__echo"}}"#)]
#[case::call_of_nothing(r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{}}"#)]
#[tokio::test]
async fn every_message_of_a_session_is_charged(#[case] body: &str) {
    let server = Server::start(Speaks::Sessions).await;
    // `initialize`, `notifications/initialized`, and one more.
    let gateway = start(&server, &limit("key: Client", 3)).await;
    let session = gateway.client(ALICE).initialize().await;
    session.post(body).await;
    assert_eq!(refused(&gateway), 0);
    let answer = session.post(body).await;
    assert_eq!(refused(&gateway), 1, "{answer:?}");
    // What has no answer is dropped, since any other status ends the session in some clients.
    if answer.status != StatusCode::ACCEPTED {
        assert_eq!(
            (answer.status, &*answer.reason()),
            (StatusCode::OK, "rate_limited"),
            "{answer:?}"
        );
    }
    assert_eq!(
        gateway
            .client(BOB)
            .stateless("server/discover", None, "")
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_end_of_a_session_is_charged_and_never_refused() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = start(&server, &limit("key: Client", 3)).await;
    let ended = gateway.client(BOB).initialize().await;
    assert_eq!(ended.send(Method::DELETE, &[], "").await.status, StatusCode::OK);
    let refused = gateway.client(BOB).stateless("server/discover", None, "").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    // Who ends a session gives something back, and may do so with nothing left.
    let session = gateway.client(ALICE).initialize().await;
    for _ in 0..2 {
        session.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    }
    assert_eq!(session.send(Method::DELETE, &[], "").await.status, StatusCode::OK);
    assert_eq!(gateway.app.registry.len(), 0);
}

#[tokio::test]
async fn a_call_can_be_cancelled_whatever_is_left() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = start(&server, &limit("key: Client", 3)).await;
    let session = gateway.client(ALICE).initialize().await;
    let body = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"s__slow","_meta":{"progressToken":"mine"}}}"#;
    let _answer = session.open(Method::POST, &[], body).await;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"long"}}"#;
    session.post(note).await;
    assert_eq!(refused(&gateway), 1);
    server.seen.wait("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn a_stateless_notification_is_charged() {
    let server = Server::start(Speaks::Stateless).await;
    let gateway = start(&server, &limit("key: Client", 1)).await;
    let client = gateway.client(ALICE);
    let method = "notifications/cancelled";
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"requestId":1,{META}}}}}"#);
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    let passed = client.send(Method::POST, &headers, &body).await;
    assert_eq!(passed.status, StatusCode::ACCEPTED, "{passed:?}");
    let refused = client.send(Method::POST, &headers, &body).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
}

#[rstest]
#[case("tools/list", None)]
#[case("server/discover", None)]
#[case("tools/call", Some("no_such_tool"))]
#[tokio::test]
async fn the_server_of_an_endpoint_is_what_is_charged(#[case] method: &str, #[case] tool: Option<&str>) {
    let server = Server::start(Speaks::Stateless).await;
    let gateway = start(&server, &limit("key: Client, match: {servers: [a/s]}", 1)).await;
    let params = tool.map(|tool| format!(r#""name":"{tool}""#)).unwrap_or_default();
    let ask = async |path: &str| {
        let client = gateway.client(ALICE).at(path);
        let answer = client.stateless(method, tool, &params).await;
        answer.text.contains("rate_limited")
    };
    assert!(!ask("/servers/s/mcp").await);
    assert!(ask("/servers/s/mcp").await);
    assert!(!ask("/servers/t/mcp").await, "another server has its own");
    assert!(!ask("/mcp").await);
}

#[tokio::test]
async fn opening_a_session_with_a_server_is_charged_to_it() {
    let server = Server::start(Speaks::Sessions).await;
    let limit = limit("key: Client, match: {servers: [a/s], methods: [initialize]}", 1);
    let gateway = start(&server, &limit).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    client.initialize().await;
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    assert_eq!(client.post(body).await.reason(), "rate_limited");
    assert_eq!(
        server.seen.of("initialize").len(),
        3,
        "one each for the lists, one for the session"
    );
}

/// Everything a stranger may ask for without being allowed anything.
async fn ask_around(client: &Client) {
    for _ in 0..5 {
        client.stateless("server/discover", None, "").await;
        client.stateless("tools/list", None, "").await;
        client
            .at("/servers/s/mcp")
            .stateless("server/discover", None, "")
            .await;
        client
            .at("/servers/s/mcp")
            .stateless("tools/list", None, "")
            .await;
    }
    let session = client.initialize().await;
    for _ in 0..5 {
        session.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    }
}

#[tokio::test]
async fn who_may_use_nothing_drains_nothing_that_is_shared() {
    let server = Server::start(Speaks::Stateless).await;
    let rules =
        "rules: [{name: r, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: ['*']}]";
    let gateway = start(&server, &format!("{}\n{rules}", limit("key: Gateway", 2))).await;
    ask_around(&gateway.client(BOB)).await;
    let alice = gateway.client(ALICE);
    for _ in 0..2 {
        let answer = alice.stateless("tools/list", None, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let answer = alice.stateless("tools/list", None, "").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
}

#[rstest]
#[case::no_json("{", &[])]
#[case::a_batch("[]", &[])]
#[case::no_such_session(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, &[("mcp-session-id", "none")])]
#[case::no_revision(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, &[("mcp-protocol-version", "1")])]
#[tokio::test]
async fn what_cannot_be_served_is_charged(#[case] body: &str, #[case] headers: &[(&str, &str)]) {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = start(&server, &limit("key: Client", 2)).await;
    let client = gateway.client(ALICE);
    for _ in 0..2 {
        let refused = client.send(Method::POST, headers, body).await;
        assert_ne!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
        assert_ne!(refused.status, StatusCode::OK, "{refused:?}");
    }
    let third = client.stateless("server/discover", None, "").await;
    assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS, "{third:?}");
}

#[tokio::test]
async fn an_address_is_limited_over_all_its_principals() {
    let server = Server::start(Speaks::Stateless).await;
    let gateway = start(&server, &limit("key: IP", 2)).await;
    let ask = async |who: u8| gateway.client(who).stateless("server/discover", None, "").await;
    assert_eq!(ask(ALICE).await.status, StatusCode::OK);
    assert_eq!(ask(BOB).await.status, StatusCode::OK);
    assert_eq!(ask(ALICE).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask(BOB).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_server_is_limited_over_all_clients_by_the_gateway_and_by_itself() {
    let server = Server::start(Speaks::Stateless).await;
    let limits = limit("key: Server, match: {methods: [tools/call]}", 3);
    let mut written: serde_json::Value =
        serde_yaml::from_str(&config(&[("s", server.address), ("t", server.address)], &limits)).unwrap();
    written["servers"][0]["rateLimits"] =
        serde_json::json!([{"name": "own", "key": "Tool", "requests": 1, "per": "24h", "burst": 2}]);
    let gateway = Gateway::start(&written.to_string()).await;
    let call = async |who: u8, tool: &str| {
        let params = format!(r#""name":"{tool}""#);
        let answer = gateway.client(who);
        answer.stateless("tools/call", Some(tool), &params).await
    };
    assert_eq!(call(ALICE, "s__echo").await.status, StatusCode::OK);
    assert_eq!(call(BOB, "s__echo").await.status, StatusCode::OK);
    let refused = call(ALICE, "s__echo").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    let told = refused.headers["ratelimit"].to_str().unwrap();
    assert!(told.starts_with("\"a/s/own\";r=0;"), "{told}");
    // What the server's own limit refused, the gateway's did not count.
    for passes in [true, true, true, false] {
        let answer = call(BOB, "t__echo").await;
        assert_eq!(answer.status == StatusCode::OK, passes, "{answer:?}");
    }
}

/// Whether something exists must not show in what a limit counts.
#[rstest]
#[case::by_its_tool("match: {tools: [echo]}")]
#[case::by_its_server("match: {servers: [a/s]}")]
#[tokio::test]
async fn a_limit_does_not_tell_the_forbidden_from_the_unknown(#[case] matches: &str) {
    let server = Server::start(Speaks::Stateless).await;
    let rules =
        "rules: [{name: r, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: [echo]}]";
    let limit = limit(&format!("key: Client, {matches}"), 1);
    let gateway = start(&server, &format!("{limit}\n{rules}")).await;
    let reasons = async |who: u8, tool: &str| {
        let params = format!(r#""name":"{tool}""#);
        let mut reasons = Vec::new();
        for _ in 0..3 {
            let client = gateway.client(who);
            let answer = client.stateless("tools/call", Some(tool), &params).await;
            reasons.push((answer.status, answer.text.replace(tool, "NAME")));
        }
        reasons
    };
    let forbidden = reasons(BOB, "s__echo").await;
    assert_eq!(forbidden, reasons(BOB, "s__none").await);
    assert_eq!(refused(&gateway), 0);
    reasons(ALICE, "s__echo").await;
    assert_eq!(refused(&gateway), 2, "who may call it is counted");
}
