//! Several replicas behind one name: any of them takes any request, one hop at most, and a lost one is survived.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use portcullis_gateway::server::registry::Registry;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use portcullis_gateway::config::watch::Outcome;

use crate::scripted::doing;
use crate::support::{ALICE, BOB, Client, Gateway, Server, Speaks, config};

/// What replicas have in common.
const COMMON: &str = "
sessionKeys: {sealWith: k1, keys: [{id: k1, file: session-key}]}
gateway: {id: one, name: g, namespace: a, profile: Development, publicHost: gateway.test}
limits: {maxResponseBytes: 1048576}
";

/// Replicas of one gateway on addresses of their own, sharing a session key.
pub(crate) async fn replicas(server: &Server, count: u8) -> Vec<Gateway> {
    replicas_and_ports(server, count).await.0
}

/// The same, with the connections of each one's peer port.
pub(crate) async fn replicas_and_ports(server: &Server, count: u8) -> (Vec<Gateway>, Vec<Arc<Registry>>) {
    let text = config(&[("s", server.address)], COMMON);
    // The port is common to all, as in a cluster; the addresses differ. Free where nobody else looks for one, it stays free.
    let port = std::net::TcpListener::bind((address(1), 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (mut all, mut ports) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let gateway = Gateway::start(&text).await;
        let limits = gateway.app.snapshot().unwrap().config.limits.clone();
        let at = SocketAddr::new(address(number), port);
        ports.push(gateway.app.join(address(number), at, &limits).unwrap());
        all.push(gateway);
    }
    let members: Vec<IpAddr> = (1..=count).map(address).collect();
    for gateway in &all {
        gateway.app.discovery.set(members.clone());
    }
    (all, ports)
}

/// The address of a replica, in a loopback network that this test shares with no other: each test runs on a thread of its own.
pub(crate) fn address(number: u8) -> IpAddr {
    static NETWORKS: AtomicU8 = AtomicU8::new(0);
    thread_local! {
        static NETWORK: u8 = NETWORKS.fetch_add(1, Ordering::Relaxed);
    }
    let process = u8::try_from(std::process::id() % 250).unwrap() + 1;
    IpAddr::from([127, process, NETWORK.with(|network| *network), number])
}

/// The same session at another replica.
pub(crate) fn at(client: &Client, gateway: &Gateway) -> Client {
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

/// A call by way of the second replica to the first, which owns the session; its first event has come.
async fn streaming(all: &[Gateway]) -> http::Response<hyper::body::Incoming> {
    let session = all[0].client(ALICE).initialize().await;
    let body = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"s__slow","_meta":{"progressToken":"mine"}}}"#;
    let mut response = at(&session, &all[1]).open(Method::POST, &[], body).await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    let first = first.into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("progress"));
    response
}

#[tokio::test]
async fn a_stream_whose_owner_is_lost_ends_with_an_error_and_is_recorded() {
    let server = Server::start(Speaks::Sessions).await;
    let (all, ports) = replicas_and_ports(&server, 2).await;
    let response = streaming(&all).await;
    assert_eq!(ports[0].abort_all(), 1);
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    let mut messages = rest.lines().filter_map(|line| line.strip_prefix("data: "));
    let last: serde_json::Value = serde_json::from_str(messages.next_back().expect("no last word")).unwrap();
    assert_eq!(
        (&last["id"], &last["error"]["data"]["reason"]),
        (&"long".into(), &"owner_lost".into()),
        "{last}"
    );
    let records = all[1].audit().await;
    let calls: Vec<_> = records
        .iter()
        .filter(|record| record["method"] == "tools/call")
        .collect();
    assert_eq!(calls.len(), 1, "{records:?}");
    assert_eq!(
        (&calls[0]["decision"], &calls[0]["reason"], &calls[0]["status"]),
        (&"error".into(), &"owner_lost".into(), &200.into())
    );
}

#[tokio::test]
async fn a_stream_that_ends_as_it_should_is_recorded_by_its_owner_alone() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let response = streaming(&all).await;
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("slow") && !rest.contains("owner_lost"), "{rest}");
    let calls = |records: &[serde_json::Value]| {
        let calls = records.iter().filter(|record| record["method"] == "tools/call");
        calls.map(|record| record["decision"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(calls(&all[0].audit().await), ["allow"]);
    assert!(calls(&all[1].audit().await).is_empty());
}

#[tokio::test]
async fn an_answer_of_many_lines_is_no_sign_of_a_lost_owner() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let session = all[0].client(ALICE).initialize().await;
    let answer = at(&session, &all[1]).post(&doing("many", "lines")).await;
    let last = answer.text.rsplit("event: message\n").next().unwrap();
    let text: String = last
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let message: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["id"], "many", "{message}");
    assert_eq!(message["result"]["content"][0]["text"], "done");
    for gateway in &all {
        assert_eq!(
            gateway.app.discovery.peers().members.len(),
            2,
            "nobody is suspected"
        );
    }
}

#[tokio::test]
async fn the_peer_port_takes_the_limits_of_a_new_configuration() {
    let server = Server::start(Speaks::Sessions).await;
    let (all, ports) = replicas_and_ports(&server, 1).await;
    let text = config(
        &[("s", server.address)],
        &format!("{COMMON}limits: {{headerTimeout: 200ms}}"),
    );
    assert_eq!(all[0].reload(&text), Outcome::Taken);
    let to = SocketAddr::new(address(1), all[0].app.discovery.port().unwrap());
    let began = Instant::now();
    let mut silent = TcpStream::connect(to).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(9), silent.read_u8()).await;
    assert!(read.expect("the old limit holds").is_err());
    assert!(began.elapsed() < Duration::from_secs(9));
    assert!(ports[0].len() <= 1);
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
    let rest = tokio::time::timeout(Duration::from_secs(4), response.into_body().collect());
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
    let rest = tokio::time::timeout(Duration::from_secs(4), response.into_body().collect());
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
        copy: false,
    };
    let to = SocketAddr::new(address(1), all[0].app.discovery.port().unwrap());
    let sent = hop
        .forward(
            &hop.way(to),
            Method::POST,
            "/mcp".parse().unwrap(),
            &http::HeaderMap::new(),
            &forwarded,
            bytes::Bytes::from_static(b"{}"),
        )
        .await;
    assert!(sent.is_err(), "a stranger was let in");
}
