//! The sessions that the gateway opens on servers: none is left behind, and none is looked for where it is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use portcullis_gateway::clock;
use portcullis_gateway::mcp::revision::Revision;
use portcullis_gateway::proxy::channel::Channel;
use portcullis_gateway::proxy::opened::Opened;
use portcullis_gateway::proxy::registry::{IDLE_SEALED_SECONDS, IDLE_SECONDS, Session};
use portcullis_gateway::proxy::shared;
use rstest::rstest;

use crate::scripted::doing;
use crate::support::{ALICE, BOB, Client, Gateway, Seen, Server, Speaks, config};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

/// The server's sessions that were named in requests with this method.
fn named(seen: &Seen, method: &str) -> Vec<HeaderValue> {
    let all = seen.of(method);
    all.iter()
        .map(|(headers, _)| headers["mcp-session-id"].clone())
        .collect()
}

async fn called(client: &Client, tool: &str) -> StatusCode {
    let answer = client.call(tool, "{}").await;
    if answer.status == StatusCode::OK {
        assert!(answer.json().get("error").is_none(), "{answer:?}");
    }
    answer.status
}

/// Makes the session used `later`: its time is told in seconds.
fn touch(gateway: &Gateway, client: &Client, later: u64) {
    let id = client.session.as_deref().unwrap();
    assert!(gateway.app.registry.get(id, clock::now_unix() + later).is_some());
}

/// Whoever leaves the configuration is told, for each session: those of clients with and without sessions, and our own.
#[tokio::test]
async fn a_server_that_is_no_longer_configured_keeps_no_session() {
    let (server, other) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Sessions).await,
    );
    let servers = [("s", server.address), ("t", other.address)];
    let gateway = Gateway::start(&config(&servers, "")).await;
    for path in ["/mcp", "/servers/s/mcp"] {
        let tool = if path == "/mcp" { "s__echo" } else { "echo" };
        let client = gateway.client(ALICE).at(path).initialize().await;
        assert_eq!(called(&client, tool).await, StatusCode::OK);
    }
    let params = r#""name":"s__echo","arguments":{}"#;
    let client = gateway.client(BOB).at("/mcp");
    client.stateless("tools/call", Some("s__echo"), params).await;
    let mut opened: Vec<_> = server.seen.of("notifications/initialized");
    assert_eq!(opened.len(), 4);
    gateway.reload(&config(&servers[1..], ""));
    server.seen.wait("DELETE", 4).await;
    let ended = named(&server.seen, "DELETE");
    opened.retain(|(headers, _)| !ended.contains(&headers["mcp-session-id"]));
    assert!(opened.is_empty(), "{opened:?} are left");
    assert!(other.seen.of("DELETE").is_empty());
}

/// Held to another revision, it is another server: nothing of the old one is left, and an id that names a session there is
/// good for nothing.
#[tokio::test]
async fn a_server_that_is_configured_otherwise_is_left_and_met_anew() {
    let server = Server::start(Speaks::Sessions).await;
    let text = config(&[("s", server.address)], "");
    let gateway = Gateway::start(&text).await;
    let (one, side) = (gateway.client(ALICE).at("/servers/s/mcp"), gateway.client(ALICE));
    let (one, side) = (one.initialize().await, side.initialize().await);
    assert_eq!(called(&one, "echo").await, StatusCode::OK);
    assert_eq!(called(&side, "s__echo").await, StatusCode::OK);
    let held = text.replace("- addressPolicy:", "- revision: '2025-11-25'\n  addressPolicy:");
    assert_ne!(held, text);
    gateway.reload(&held);
    server.seen.wait("DELETE", 3).await;
    assert_eq!(called(&one, "echo").await, StatusCode::NOT_FOUND);
    assert_eq!(called(&side, "s__echo").await, StatusCode::OK);
}

#[rstest]
#[case("/mcp", "s__echo")]
#[case("/servers/s/mcp", "echo")]
#[tokio::test]
async fn a_session_that_makes_room_is_ended_on_its_server(#[case] path: &str, #[case] tool: &str) {
    let server = Server::start(Speaks::Sessions).await;
    let text = config(&[("s", server.address)], "limits: {maxSessionsPerClient: 2}");
    let gateway = Gateway::start(&text).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let client = gateway.client(ALICE).at(path).initialize().await;
        assert_eq!(called(&client, tool).await, StatusCode::OK);
        touch(&gateway, &client, 10 * number);
        clients.push(client);
    }
    server.seen.wait("DELETE", 3).await;
    let (used, ended) = (named(&server.seen, "tools/call"), named(&server.seen, "DELETE"));
    assert_eq!(ended.len(), 3);
    let left: Vec<_> = used.iter().filter(|id| !ended.contains(id)).collect();
    assert_eq!(left.len(), 2, "{used:?} {ended:?}");
    assert_eq!(called(&clients[4], tool).await, StatusCode::OK);
    // What its id names is gone; the other kind opens what it needs anew.
    let expected = if path == "/mcp" {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    };
    assert_eq!(called(&clients[0], tool).await, expected);
}

#[tokio::test]
async fn sessions_on_all_endpoints_count_together() {
    let server = Server::start(Speaks::Sessions).await;
    let text = config(&[("s", server.address)], "limits: {maxSessionsPerClient: 2}");
    let gateway = Gateway::start(&text).await;
    let first = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let other = gateway.client(BOB).at("/servers/s/mcp").initialize().await;
    for path in ["/mcp", "/servers/s/mcp"] {
        let later = gateway.client(ALICE).at(path).initialize().await;
        touch(&gateway, &later, 10);
    }
    server.seen.wait("DELETE", 1).await;
    assert_eq!(gateway.app.registry.len(), 3);
    assert_eq!(called(&first, "echo").await, StatusCode::NOT_FOUND);
    assert_eq!(called(&other, "echo").await, StatusCode::OK);
}

#[tokio::test]
async fn what_nobody_uses_any_more_is_ended_on_its_server() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let joined = gateway.client(ALICE).initialize().await;
    assert_eq!(called(&joined, "s__echo").await, StatusCode::OK);
    let single = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let registry = &gateway.app.registry;
    registry.sweep(clock::now_unix() + IDLE_SECONDS + 1, |_| true);
    server.seen.wait("DELETE", 1).await;
    assert_eq!(registry.len(), 1, "what its id names may rest longer");
    assert_eq!(called(&joined, "s__echo").await, StatusCode::OK);

    let long_after = clock::now_unix() + IDLE_SEALED_SECONDS + 1;
    registry.remove(joined.session.as_deref().unwrap());
    server.seen.wait("DELETE", 2).await;
    // Another replica's to end, and so are those that are only dropped from memory.
    registry.sweep(long_after, |_| false);
    assert_eq!(called(&single, "echo").await, StatusCode::OK);
    registry.remove(single.session.as_deref().unwrap());
    assert_eq!(called(&single, "echo").await, StatusCode::OK);
    assert_eq!(server.seen.of("DELETE").len(), 2);

    registry.sweep(long_after, |_| true);
    server.seen.wait("DELETE", 3).await;
    assert!(registry.is_empty());
    assert_eq!(called(&single, "echo").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_that_is_over_at_its_time_is_ended_on_its_server() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    gateway
        .app
        .registry
        .sweep(clock::now_unix() + 25 * 3600, |_| false);
    server.seen.wait("DELETE", 1).await;
}

#[tokio::test]
async fn a_refused_initialize_opens_nothing_on_the_server() {
    let server = Server::start(Speaks::Sessions).await;
    let text = config(&[("s", server.address)], "limits: {maxSessionsPerClient: 1}");
    let gateway = Gateway::start(&text).await;
    let busy = gateway.client(ALICE).initialize().await;
    let call = tokio::spawn(async move { busy.post(&doing("w", "late")).await });
    server.seen.wait("tools/call", 1).await;
    let before = server.seen.of("initialize").len();
    let refused = gateway.client(ALICE).at("/servers/s/mcp").post(INITIALIZE).await;
    assert_eq!(refused.reason(), "session_limit", "{refused:?}");
    assert_eq!(server.seen.of("initialize").len(), before);
    server.script.release();
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_initializes_leaves_nothing_behind() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    server.seen.wait("tools/list", 3).await;
    let before = server.seen.of("initialize").len();
    server.script.hold_openings();
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let leaving = tokio::spawn(async move { client.post(INITIALIZE).await });
    server.seen.wait("initialize", before + 1).await;
    leaving.abort();
    assert!(leaving.await.is_err());
    // Time enough to notice; what matters is that the server answers somebody who is gone.
    tokio::time::timeout(Duration::from_secs(5), async {
        while gateway.app.in_flight.available_permits() < 1024 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    server.script.release();
    server.seen.wait("DELETE", 1).await;
    assert!(gateway.app.registry.is_empty());
}

/// Nobody listens there, and no name leads there.
const DEAD: &str = "127.0.0.77:9";

#[tokio::test]
async fn a_joined_session_goes_on_when_an_address_it_was_pinned_to_is_gone() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let id = client.session.clone().unwrap();
    let session = gateway.app.registry.get(&id, clock::now_unix()).unwrap();
    let snapshot = gateway.app.snapshot().unwrap();
    let upstream = &snapshot.upstreams[0];
    let pinned: SocketAddr = DEAD.parse().unwrap();
    let channel = Channel {
        revision: Revision::V20251125,
        session_id: Some(HeaderValue::from_static("elsewhere")),
        pinned: Some(pinned),
        shared: false,
        legacy: None,
    };
    let slot = session.slot(&upstream.full_name);
    assert!(slot.set(Opened::new(&upstream.link, channel)).is_ok());
    assert_eq!(called(&client, "s__echo").await, StatusCode::OK);
    assert!(server.seen.of("DELETE").is_empty(), "it is not the server's");
}

#[tokio::test]
async fn a_session_that_is_taken_over_holds_its_servers_before_anybody_finds_it() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let id = client.session.clone().unwrap();
    let registry = &gateway.app.registry;
    let now = clock::now_unix();
    let token = registry.get(&id, now).unwrap().token.clone();
    registry.remove(&id);
    let snapshot = gateway.app.snapshot().unwrap();
    let upstream = &snapshot.upstreams[0];
    let channel = Channel::from_seal(token.upstream.as_ref().unwrap()).unwrap();
    let mut found_early = None;
    let make = |token| {
        found_early = Some(registry.get(&id, now).is_some());
        let opened = Opened::new(&upstream.link, channel);
        Session::new("s", token, Some((Arc::clone(&upstream.full_name), opened)), now)
    };
    registry
        .add(&id, token.clone(), usize::MAX, now, |_| true, make)
        .unwrap();
    assert_eq!(found_early, Some(false));
    let found = registry.get(&id, now).unwrap();
    let slot = found.slot(&upstream.full_name);
    assert!(slot.get().is_some());
    // Whoever comes second gets what is there: nothing is made for it that would have to be ended.
    let again = registry.add(&id, token, 0, now, |_| true, |_| unreachable!("it is there"));
    assert!(Arc::ptr_eq(&again.unwrap(), &found));
    assert!(server.seen.of("DELETE").is_empty());
}

#[tokio::test]
async fn a_session_whose_servers_address_is_gone_has_to_begin_anew() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    assert_eq!(called(&client, "echo").await, StatusCode::OK);
    let address = server.address;
    drop(server);
    // Its connections end with their next answer; a new one is refused.
    tokio::time::timeout(Duration::from_secs(5), async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while called(&client, "echo").await != StatusCode::NOT_FOUND {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the session does not end");
    assert_eq!(called(&client, "echo").await, StatusCode::NOT_FOUND);
    let gone = client.send(Method::DELETE, &[], "").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

/// Calls without a session; gives the server's sessions that they went in.
async fn stateless(client: &Client, server: &Server, calls: usize) -> Vec<HeaderValue> {
    let before = server.seen.of("tools/call").len();
    let call = || {
        client.stateless(
            "tools/call",
            Some("s__echo"),
            r#""name":"s__echo","arguments":{}"#,
        )
    };
    for answer in futures::future::join_all((0..calls).map(|_| call())).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    named(&server.seen, "tools/call").split_off(before)
}

#[tokio::test]
async fn clients_without_sessions_have_one_each_on_a_server_that_needs_them() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    server.seen.wait("tools/list", 3).await;
    let before = server.seen.of("initialize").len();
    let (alice, bob) = (gateway.client(ALICE), gateway.client(BOB));
    // Opened once, by the first of them.
    let mut hers = stateless(&alice, &server, 8).await;
    hers.extend(stateless(&alice, &server, 1).await);
    let his = stateless(&bob, &server, 2).await;
    assert_eq!(server.seen.of("initialize").len(), before + 2);
    assert!(hers.iter().all(|id| *id == hers[0]), "{hers:?}");
    assert!(his.iter().all(|id| *id == his[0]), "{his:?}");
    assert_ne!(hers[0], his[0]);
    let listing = named(&server.seen, "tools/list");
    assert!(!listing.contains(&hers[0]) && !listing.contains(&his[0]));
}

#[tokio::test]
async fn a_session_of_clients_without_one_is_ended_when_idle_and_opened_again_when_lost() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let alice = gateway.client(ALICE);
    let first = stateless(&alice, &server, 1).await;
    server.forget_sessions();
    let second = stateless(&alice, &server, 1).await;
    assert_ne!(first.first(), second.last());
    assert!(
        server.seen.of("DELETE").is_empty(),
        "the server forgot it by itself"
    );

    let snapshot = gateway.app.snapshot().unwrap();
    let shared = &snapshot.upstreams[0].link.sessions.shared;
    shared.sweep(clock::now_unix() + 1);
    shared.sweep(clock::now_unix() + shared::IDLE_SECONDS + 1);
    server.seen.wait("DELETE", 1).await;
    assert_eq!(named(&server.seen, "DELETE").first(), second.last());
    let third = stateless(&alice, &server, 1).await;
    assert_ne!(second.last(), third.first());
    assert_eq!(server.seen.of("DELETE").len(), 1);
}
