//! Servers that take a connection and then say nothing that helps: they affect nothing but themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::native::{Native, Reply};
use crate::support::{ALICE, Answer, Gateway, META, Server, Speaks, config};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

#[derive(Clone, Copy)]
enum Hangs {
    Silent,
    AfterTheHead,
    Resets,
}

struct Hung {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Hung {
    async fn start(hangs: Hangs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut room = [0; 4096];
                    if stream.read(&mut room).await.is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    match hangs {
                        Hangs::Silent => {}
                        Hangs::AfterTheHead => {
                            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
                            stream.write_all(head).await.ok();
                        }
                        Hangs::Resets => return,
                    }
                    // Until the gateway gives up.
                    while stream.read(&mut room).await.is_ok_and(|read| read > 0) {}
                });
            }
        });
        Self { address, asked }
    }
}

fn with_limits(text: &str, limits: &str) -> String {
    text.replace(
        "- addressPolicy:",
        &format!("- limits: {limits}\n  addressPolicy:"),
    )
}

/// However many ask for it, the server is asked a few times only: by the gateway's own rounds, and once for all who wait.
#[rstest]
#[case::silent(Hangs::Silent)]
#[case::after_the_head(Hangs::AfterTheHead)]
#[case::resets(Hangs::Resets)]
#[tokio::test]
async fn who_waits_for_a_server_shares_how_that_failed(#[case] hangs: Hangs) {
    let hung = Hung::start(hangs).await;
    let text = with_limits(&config(&[("hung", hung.address)], ""), "{timeout: 1s}");
    let gateway = Gateway::start(&text).await;
    let at = gateway.client(ALICE).at("/servers/hung/mcp");
    let discover = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{META}}}}}"#);
    let stateless = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "server/discover"),
    ];
    let asking = async |turn: usize| -> Answer {
        if turn.is_multiple_of(2) {
            at.post(INITIALIZE).await
        } else {
            at.send(http::Method::POST, &stateless, &discover).await
        }
    };
    let answers: Vec<Answer> = futures::future::join_all((0..20).map(asking)).await;
    for answer in &answers {
        assert!(answer.reason().starts_with("upstream_"), "{answer:?}");
    }
    let asked = hung.asked.load(Ordering::SeqCst);
    assert!(asked <= 10, "asked {asked} times");
}

/// What clients say beside their calls has its bounds as well.
#[tokio::test]
async fn a_server_that_hangs_later_holds_nobody_up_with_levels() {
    let hung = Native::start(|method, _, _| match method {
        "initialize" => Some(Reply::Result(
            json!({"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"h","version":"1"}}),
        )),
        "server/discover" => Some(Reply::Error(
            StatusCode::NOT_FOUND,
            json!({"code":-32601,"message":"unknown"}),
        )),
        "logging/setLevel" => Some(Reply::Never),
        _ => None,
    })
    .await;
    let text = config(
        &[("h", hung.address)],
        "{features: {logging: true}, limits: {maxConcurrentRequests: 80}}",
    );
    let gateway = Gateway::start(&with_limits(&text, "{timeout: 60s}")).await;
    let client = gateway.client(ALICE).initialize().await;
    assert_eq!(client.call("h__t", "{}").await.status, StatusCode::OK);
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#;
    let mut waiting: FuturesUnordered<_> = (0..100).map(|_| client.post(level)).collect();
    // Only so many wait for the server, and nobody else needs to.
    for _ in 0..36 {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(4), waiting.next()).await;
        assert_eq!(answer.unwrap().unwrap().json()["result"], json!({}));
    }
}

#[tokio::test]
async fn a_hung_server_holds_no_more_requests_than_it_may_have_calls() {
    let hung = Hung::start(Hangs::Silent).await;
    let server = Server::start(Speaks::Sessions).await;
    let text = config(
        &[("hung", hung.address), ("s", server.address)],
        "limits: {maxConcurrentRequests: 4}",
    );
    let gateway = Gateway::start(&with_limits(&text, "{timeout: 3s, maxConcurrent: 2}")).await;
    let client = gateway.client(ALICE).initialize().await;
    let at = gateway.client(ALICE).at("/servers/hung/mcp");
    let mut waiting: FuturesUnordered<_> = (0..4).map(|_| at.post(INITIALIZE)).collect();
    for _ in 0..2 {
        let refused = waiting.next().await.unwrap();
        assert_eq!(refused.reason(), "upstream_busy", "{refused:?}");
    }
    let call = client.call("s__echo", r#"{"a":1}"#).await;
    assert_eq!(call.status, StatusCode::OK);
    assert_eq!(call.json()["result"]["content"][0]["text"], json!(r#"{"a":1}"#));
    while let Some(refused) = waiting.next().await {
        assert_eq!(refused.json()["result"], Value::Null, "{refused:?}");
        assert_eq!(refused.reason(), "upstream_timeout", "{refused:?}");
    }
}
