//! Sessions: bound to a principal and an endpoint, ended once and for all, reopened when a server forgets.

use http::{Method, StatusCode};

use crate::support::{ALICE, BOB, Gateway, Server, Speaks, config};

#[tokio::test]
async fn a_session_belongs_to_its_principal_and_endpoint() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let alice = gateway.client(ALICE).initialize().await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(alice.post(ping).await.status, StatusCode::OK);
    let mut bob = gateway.client(BOB);
    bob.session.clone_from(&alice.session);
    let refused = bob.post(ping).await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (StatusCode::NOT_FOUND, "session_unknown")
    );
    assert_eq!(
        alice.at("/servers/s/mcp").post(ping).await.status,
        StatusCode::NOT_FOUND
    );
    // Also when the replica has only the id to go by.
    gateway.app.registry.remove(alice.session.as_deref().unwrap());
    assert_eq!(bob.post(ping).await.status, StatusCode::NOT_FOUND);
    assert_eq!(alice.post(ping).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_forged_or_missing_id_opens_nothing() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let mut client = gateway.client(ALICE);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let missing = client.post(list).await;
    assert_eq!(
        (missing.status, missing.reason().as_str()),
        (StatusCode::BAD_REQUEST, "session_missing")
    );
    client.session = Some("AQVsb2NhbAAAA".into());
    assert_eq!(client.post(list).await.status, StatusCode::NOT_FOUND);
    let doubled = client.open(Method::POST, &[("mcp-session-id", "a")], list).await;
    assert_eq!(doubled.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_ended_session_stays_ended_and_ends_the_servers_own() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    assert_eq!(client.call("s__echo", "{}").await.status, StatusCode::OK);
    let ended = client.send(Method::DELETE, &[], "").await;
    assert_eq!((ended.status, ended.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(client.call("s__echo", "{}").await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        client.send(Method::DELETE, &[], "").await.status,
        StatusCode::NOT_FOUND
    );
    server.seen.wait("DELETE", 1).await;
}

#[tokio::test]
async fn each_session_has_its_own_session_on_the_server() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    for path in ["/mcp", "/servers/s/mcp"] {
        let tool = if path == "/mcp" { "s__echo" } else { "echo" };
        let one = gateway.client(ALICE).at(path).initialize().await;
        let two = gateway.client(ALICE).at(path).initialize().await;
        for client in [&one, &two, &one] {
            assert_eq!(client.call(tool, "{}").await.status, StatusCode::OK);
        }
        let calls = server.seen.of("tools/call");
        let ids: Vec<_> = calls
            .iter()
            .rev()
            .take(3)
            .map(|(headers, _)| headers["mcp-session-id"].clone())
            .collect();
        assert!(ids[0] == ids[2] && ids[0] != ids[1], "{ids:?}");
    }
    let opened = server.seen.of("initialize");
    assert!(
        opened
            .iter()
            .any(|(_, body)| body["params"]["clientInfo"]["name"] == "test"),
        "the client's own name goes up"
    );
    assert!(
        opened
            .iter()
            .all(|(_, body)| body["params"]["capabilities"].as_object().unwrap().is_empty()),
        "roots are off"
    );
}

#[tokio::test]
async fn the_longest_idle_session_makes_room_for_a_new_one() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(
        &[("s", server.address)],
        "limits: {maxSessionsPerClient: 2}",
    ))
    .await;
    for _ in 0..5 {
        gateway.client(ALICE).initialize().await;
    }
    gateway.client(BOB).initialize().await;
    assert_eq!(gateway.app.registry.len(), 3);
}

#[tokio::test]
async fn a_get_is_refused_with_what_is_allowed() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client
        .send(Method::GET, &[("accept", "text/event-stream")], "")
        .await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "POST, DELETE");
}
