//! Servers that are held to one revision: nothing else is asked of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{Native, Reply};
use crate::support::{ALICE, Gateway, Server, Speaks, config};

/// One server, held to that revision.
fn held_to(address: std::net::SocketAddr, revision: Option<&str>) -> String {
    let mut text: Value = serde_yaml::from_str(&config(&[("s", address)], "")).unwrap();
    if let Some(revision) = revision {
        text["servers"][0]["revision"] = revision.into();
    }
    serde_yaml::to_string(&text).unwrap()
}

/// A server that has sessions, and settles on what it is asked for if it `obeys`.
async fn with_sessions(obeys: bool) -> Native {
    Native::start(move |method, _, request| {
        Some(match method {
            "server/discover" => Reply::Error(
                StatusCode::OK,
                json!({"code":-32601,"message":"Method not found"}),
            ),
            "initialize" => {
                let asked = &request["params"]["protocolVersion"];
                let settled = if obeys { asked.clone() } else { "2025-03-26".into() };
                Reply::Result(json!({"protocolVersion":settled,"capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}))
            }
            _ => return None,
        })
    })
    .await
}

#[rstest]
#[case("2025-03-26")]
#[case("2025-06-18")]
#[case("2025-11-25")]
#[tokio::test]
async fn a_revision_with_sessions_is_asked_for_at_once(#[case] revision: &str) {
    let server = with_sessions(true).await;
    let gateway = Gateway::start(&held_to(server.address, Some(revision))).await;
    let stateless = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = stateless
        .stateless("tools/call", Some("t"), r#""name":"t","arguments":{}"#)
        .await;
    assert!(answer.json()["result"].is_object(), "{answer:?}");
    let client = stateless.initialize().await;
    assert!(client.call("t", "{}").await.json()["result"].is_object());
    assert!(server.seen.of("server/discover").is_empty());
    let opened = server.seen.of("initialize");
    assert!(
        opened
            .iter()
            .all(|(_, opened)| opened["params"]["protocolVersion"] == revision),
        "{opened:?}"
    );
    let calls = server.seen.of("tools/call");
    let header = calls[0].0.get("mcp-protocol-version");
    let expected = (revision != "2025-03-26").then_some(revision);
    assert_eq!(header.map(|version| version.to_str().unwrap()), expected);
}

#[tokio::test]
async fn a_server_that_settles_on_another_revision_is_not_used() {
    let server = with_sessions(false).await;
    let gateway = Gateway::start(&held_to(server.address, Some("2025-11-25"))).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = client
        .stateless("tools/call", Some("t"), r#""name":"t","arguments":{}"#)
        .await;
    assert!(answer.json()["error"].is_object(), "{answer:?}");
    let health = gateway.app.snapshot().unwrap().upstreams[0].link.health();
    assert_eq!((health.verified, health.reason), (false, "UnsupportedRevision"));
    assert!(
        health.message.contains("2025-03-26") && health.message.contains("2025-11-25"),
        "{health:?}"
    );
    let methods = [
        "server/discover",
        "notifications/initialized",
        "tools/list",
        "tools/call",
    ];
    assert!(methods.iter().all(|method| server.seen.of(method).is_empty()));
}

#[rstest]
#[case::that_discovers(None)]
#[case::that_does_not(Some(StatusCode::OK))]
#[case::that_refuses(Some(StatusCode::NOT_FOUND))]
#[tokio::test]
async fn the_stateless_revision_is_spoken_without_falling_back(#[case] unknown: Option<StatusCode>) {
    let server = Native::start(move |method, _, _| {
        let status = unknown.filter(|_| method == "server/discover")?;
        Some(Reply::Error(
            status,
            json!({"code":-32601,"message":"Method not found"}),
        ))
    })
    .await;
    let gateway = Gateway::start(&held_to(server.address, Some("2026-07-28"))).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let answer = client.call("t", "{}").await;
    assert!(answer.json()["result"].is_object(), "{answer:?}");
    assert!(server.seen.of("initialize").is_empty());
}

/// A server without the revision that it is held to is not asked for another.
#[tokio::test]
async fn a_server_with_sessions_alone_cannot_be_held_to_the_stateless_revision() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&held_to(server.address, Some("2026-07-28"))).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = client
        .stateless("tools/call", Some("echo"), r#""name":"echo","arguments":{}"#)
        .await;
    assert!(answer.json()["error"].is_object(), "{answer:?}");
    assert!(server.seen.of("initialize").is_empty());
    assert!(
        !gateway.app.snapshot().unwrap().upstreams[0]
            .link
            .health()
            .verified
    );
}

#[tokio::test]
async fn another_pin_is_in_force_with_its_configuration() {
    let sessions = Arc::new(AtomicBool::new(false));
    let has = Arc::clone(&sessions);
    let server = Native::start(move |method, _, request| {
        (method == "initialize").then(|| {
            has.store(true, Ordering::SeqCst);
            let version = &request["params"]["protocolVersion"];
            Reply::Result(json!({"protocolVersion":version,"capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}))
        })
    })
    .await;
    let gateway = Gateway::start(&held_to(server.address, None)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let call = || client.stateless("tools/call", Some("t"), r#""name":"t","arguments":{}"#);
    assert!(call().await.json()["result"].is_object());
    assert!(!sessions.load(Ordering::SeqCst));
    gateway.reload(&held_to(server.address, Some("2025-06-18")));
    assert!(call().await.json()["result"].is_object());
    let versions: Vec<_> = server
        .seen
        .of("tools/call")
        .iter()
        .map(|(headers, _)| headers["mcp-protocol-version"].clone())
        .collect();
    assert_eq!(versions, ["2026-07-28", "2025-06-18"]);
}
