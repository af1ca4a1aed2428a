//! Several replicas behind one name: any of them takes any request, one hop at most, and a lost one is survived.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use crate::scripted::doing;
use crate::support::{ALICE, BOB, Client, Gateway, Server, Speaks, config};

/// Replicas of one gateway on addresses of their own, sharing a session key.
async fn replicas(server: &Server, count: u8) -> Vec<Gateway> {
    let more = "
sessionKeys: {sealWith: k1, keys: [{id: k1, file: session-key}]}
gateway: {id: one, name: g, namespace: a, profile: Development, publicHost: gateway.test}
";
    let text = config(&[("s", server.address)], more);
    // The port is common to all, as in a cluster; the addresses differ.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut all = Vec::new();
    for number in 1..=count {
        let gateway = Gateway::start(&text).await;
        let limits = gateway.app.snapshot().unwrap().config.limits.clone();
        gateway
            .app
            .join(address(number), SocketAddr::new(address(number), port), &limits)
            .unwrap();
        all.push(gateway);
    }
    let members: Vec<IpAddr> = (1..=count).map(address).collect();
    for gateway in &all {
        gateway.app.discovery.set(members.clone());
    }
    all
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 7, number])
}

/// The same session at another replica.
fn at(client: &Client, gateway: &Gateway) -> Client {
    Client {
        address: gateway.address,
        ..client.clone()
    }
}

#[tokio::test]
async fn any_replica_takes_any_request_of_a_session() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 3).await;
    for path in ["/mcp", "/servers/s/mcp"] {
        let tool = if path == "/mcp" { "s__echo" } else { "echo" };
        let session = all[0].client(ALICE).at(path).initialize().await;
        let before = server.seen.of("initialize").len();
        for gateway in all.iter().chain(&all) {
            let answer = at(&session, gateway).call(tool, r#"{"m":1}"#).await;
            assert_eq!(
                (answer.status, &answer.json()["id"]),
                (StatusCode::OK, &"c".into()),
                "{answer:?}"
            );
        }
        // All of it was served by one owner, in one session of the server.
        assert!(server.seen.of("initialize").len() <= before + 1);
        let calls = server.seen.of("tools/call");
        let ids: Vec<_> = calls
            .iter()
            .rev()
            .take(6)
            .map(|(headers, _)| headers["mcp-session-id"].clone())
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
    }
}

#[tokio::test]
async fn a_stream_and_its_cancellation_pass_through_the_hop() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let session = all[0].client(ALICE).initialize().await;
    let body = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"s__slow","_meta":{"progressToken":"mine"}}}"#;
    let mut response = at(&session, &all[1]).open(Method::POST, &[], body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = response
        .body_mut()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(String::from_utf8_lossy(&first).contains("progress"));
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"long"}}"#;
    assert_eq!(
        at(&session, &all[1]).post(note).await.status,
        StatusCode::ACCEPTED
    );
    server.seen.wait("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn a_stream_through_the_hop_ends_with_its_credential_where_that_came_in() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let session = all[0].client(ALICE).initialize().await;
    let mut response = at(&session, &all[1])
        .open(Method::POST, &[], &doing("1", "quiet"))
        .await;
    response.body_mut().frame().await.unwrap().unwrap();
    // The owner was told by the other one who calls, and has not heard of the revocation yet.
    std::fs::remove_file(all[1].folder.join("keys/alice")).unwrap();
    all[1].look();
    let rest = tokio::time::timeout(Duration::from_secs(1), response.into_body().collect());
    let rest = rest.await.expect("the stream goes on").unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        rest.contains(r#""reason":"unauthenticated""#) && rest.contains(r#""id":"1""#),
        "{rest}"
    );
}

#[tokio::test]
async fn the_owner_ends_a_call_whose_client_it_no_longer_knows() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let session = all[0].client(ALICE).initialize().await;
    let mut response = at(&session, &all[1])
        .open(Method::POST, &[], &doing("1", "quiet"))
        .await;
    response.body_mut().frame().await.unwrap().unwrap();
    std::fs::remove_file(all[0].folder.join("keys/alice")).unwrap();
    all[0].look();
    let rest = tokio::time::timeout(Duration::from_secs(1), response.into_body().collect());
    let rest = rest.await.expect("the stream goes on").unwrap().to_bytes();
    assert!(
        String::from_utf8_lossy(&rest).contains("unauthenticated"),
        "{rest:?}"
    );
    let told = server.seen.wait("notifications/cancelled", 1).await;
    assert_eq!(told[0].1["params"]["requestId"], "1");
}

#[tokio::test]
async fn another_principal_gains_nothing_by_the_hop() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let session = all[0].client(ALICE).initialize().await;
    let mut bob = all[1].client(BOB);
    bob.session.clone_from(&session.session);
    assert_eq!(bob.call("s__echo", "{}").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_ended_session_is_ended_on_all_replicas() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 3).await;
    let session = all[0].client(ALICE).initialize().await;
    assert_eq!(
        at(&session, &all[1]).send(Method::DELETE, &[], "").await.status,
        StatusCode::OK
    );
    for gateway in &all {
        assert_eq!(
            at(&session, gateway).call("s__echo", "{}").await.status,
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn the_next_replica_goes_on_when_the_owner_is_lost() {
    let server = Server::start(Speaks::Sessions).await;
    let mut all = replicas(&server, 3).await;
    for path in ["/servers/s/mcp", "/mcp"] {
        let tool = if path == "/mcp" { "s__echo" } else { "echo" };
        let session = all[0].client(ALICE).at(path).initialize().await;
        assert_eq!(session.call(tool, "{}").await.status, StatusCode::OK);
        if path == "/mcp" {
            // The name still lists the lost one: a hop to it fails, and the next in line serves.
            let lost = all.remove(0);
            drop(lost);
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            let members = vec![address(2), address(3)];
            for gateway in &all {
                gateway.app.discovery.set(members.clone());
            }
        }
        let survivors = if path == "/mcp" { &all[..] } else { &all[1..] };
        for gateway in survivors {
            let answer = at(&session, gateway).call(tool, "{}").await;
            assert_eq!(
                (answer.status, &answer.json()["id"]),
                (StatusCode::OK, &"c".into()),
                "{answer:?}"
            );
        }
        if path != "/mcp" {
            let members: Vec<IpAddr> = (1..=3).map(address).collect();
            for gateway in &all {
                gateway.app.discovery.set(members.clone());
            }
        }
    }
}

#[tokio::test]
async fn who_has_no_key_is_no_peer() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 1).await;
    // A key of its own, and the right words: the handshake refuses it before any request is read.
    let identity = portcullis_gateway::peer::Identity::new(&[1; 32], [&[1u8; 32][..]].into_iter()).unwrap();
    let hop = portcullis_gateway::peer::Hop::new(
        portcullis_gateway::net::Resolver::system(Duration::from_secs(1)),
        identity,
    );
    let forwarded = portcullis_gateway::peer::hop::Forwarded {
        method: "apiKeys".into(),
        subject: "alice".into(),
        groups: vec![],
        scopes: vec![],
        expires: None,
        client: address(9),
        request_id: "x".into(),
    };
    let to = SocketAddr::new(address(1), all[0].app.discovery.port().unwrap());
    let sent = hop
        .forward(
            to,
            Method::POST,
            "/mcp".parse().unwrap(),
            &http::HeaderMap::new(),
            &forwarded,
            bytes::Bytes::from_static(b"{}"),
        )
        .await;
    assert!(sent.is_err(), "a stranger was let in");
}
