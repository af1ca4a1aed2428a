//! Calls: progress as it comes, cancellation in both eras, failures that name no address.

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::support::{ALICE, Gateway, META, Server, Speaks, config};

pub(crate) const SLOW: &str = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"s__slow","_meta":{"progressToken":"mine"}}}"#;

#[tokio::test]
async fn progress_comes_before_the_answer() {
    for speaks in [Speaks::Sessions, Speaks::Stateless] {
        let server = Server::start(speaks).await;
        let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
        let client = gateway.client(ALICE).initialize().await;
        let mut response = client.open(Method::POST, &[], SLOW).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let first = response
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        assert!(String::from_utf8_lossy(&first).contains(r#""progressToken":"mine""#));
        assert!(server.seen.of("closed").is_empty());
        let rest = response.into_body().collect().await.unwrap().to_bytes();
        assert!(
            String::from_utf8_lossy(&rest).contains(r#""id":"long""#),
            "{rest:?}"
        );
    }
}

#[tokio::test]
async fn a_stateless_clients_token_is_mapped_both_ways_on_a_shared_session() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let meta = META.replace(r#""_meta":{"#, r#""_meta":{"progressToken":"mine","#);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{{"name":"s__slow",{meta}}}}}"#
    );
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "s__slow"),
    ];
    let answer = gateway.client(ALICE).send(Method::POST, &headers, &body).await;
    let events = answer.events();
    assert_eq!(events[0]["params"]["progressToken"], "mine");
    assert_eq!(events[1]["id"], "long");
    let sent = server.seen.of("tools/call");
    assert!(sent[0].1["id"].is_u64() && sent[0].1["params"]["_meta"]["progressToken"].is_u64());
}

#[tokio::test]
async fn a_cancellation_reaches_the_server_with_its_own_id() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let mut response = client.open(Method::POST, &[], SLOW).await;
    response.body_mut().frame().await.unwrap().unwrap();
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"long"}}"#;
    assert_eq!(client.post(note).await.status, StatusCode::ACCEPTED);
    let seen = server.seen.wait("notifications/cancelled", 1).await;
    assert_eq!(seen[0].1["params"]["requestId"], "long");
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    assert!(
        !String::from_utf8_lossy(&rest).contains("result"),
        "a cancelled call has no answer: {rest:?}"
    );
    assert_eq!(
        client.call("s__echo", "{}").await.status,
        StatusCode::OK,
        "the session goes on"
    );
}

#[tokio::test]
async fn a_stateless_client_cancels_by_going_away() {
    for speaks in [Speaks::Sessions, Speaks::Stateless] {
        let server = Server::start(speaks).await;
        let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
        let meta = META.replace(r#""_meta":{"#, r#""_meta":{"progressToken":1,"#);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"s__slow",{meta}}}}}"#
        );
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "s__slow"),
        ];
        let mut response = gateway.client(ALICE).open(Method::POST, &headers, &body).await;
        response.body_mut().frame().await.unwrap().unwrap();
        drop(response);
        match speaks {
            Speaks::Stateless => server.seen.wait("closed", 1).await,
            Speaks::Sessions => server.seen.wait("notifications/cancelled", 1).await,
        };
    }
}

#[tokio::test]
async fn a_session_clients_disconnect_is_no_cancellation() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let mut response = client.open(Method::POST, &[], SLOW).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    server.seen.wait("answered", 1).await;
    assert!(server.seen.of("notifications/cancelled").is_empty());
    assert!(
        server.seen.of("closed").is_empty(),
        "the server's answer is waited for"
    );
}

#[tokio::test]
async fn one_dead_server_affects_nothing_but_itself() {
    let server = Server::start(Speaks::Sessions).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = Gateway::start(&config(&[("dead", dead), ("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let list = client
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 5);
    assert_eq!(client.call("s__echo", "{}").await.json()["id"], "c");
    let single = gateway.client(ALICE).at("/servers/dead/mcp");
    let refused = single
        .post(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#)
        .await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (StatusCode::OK, "upstream_unavailable")
    );
    assert!(
        !refused.text.contains(&dead.port().to_string()),
        "an address leaks: {}",
        refused.text
    );
}

#[tokio::test]
async fn a_servers_own_error_arrives_as_it_is() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client.call("s__fail", "{}").await;
    assert_eq!(
        answer.json()["error"],
        json!({"code":-32050,"message":"it failed"})
    );
}

#[tokio::test]
async fn an_answer_over_the_cap_is_refused() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(
        &[("s", server.address)],
        "limits: {maxResponseBytes: 10000}",
    ))
    .await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client.call("s__big", "{}").await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (StatusCode::OK, "response_too_large")
    );
    assert_eq!(
        client.call("s__echo", "{}").await.json()["id"],
        "c",
        "the session goes on"
    );
}

#[tokio::test]
async fn one_id_cannot_be_in_flight_twice() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let mut first = client.open(Method::POST, &[], SLOW).await;
    first.body_mut().frame().await.unwrap().unwrap();
    let second = client.post(SLOW).await;
    assert_eq!(
        (second.status, second.reason().as_str()),
        (StatusCode::BAD_REQUEST, "unexpected_message")
    );
}
