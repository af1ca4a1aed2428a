//! What was cancelled before it went out never goes out.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{ALICE, Gateway, Server, Speaks, config};

/// Stands before a server, and holds back what goes to it while it is shut.
struct Gate {
    address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    /// How many times it held something back.
    held: watch::Receiver<usize>,
}

impl Gate {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(watch::Sender::new(true));
        let (holding, held) = watch::channel(0);
        let holding = Arc::new(holding);
        let gate = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from, mut back) = client.into_split();
                let (mut answers, mut to) = TcpStream::connect(server).await.unwrap().into_split();
                let (mut gate, holding) = (gate.subscribe(), Arc::clone(&holding));
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
                tokio::spawn(async move {
                    let mut room = [0; 4096];
                    while let Ok(read @ 1..) = from.read(&mut room).await {
                        if !*gate.borrow() {
                            holding.send_modify(|held| *held += 1);
                        }
                        gate.wait_for(|open| *open).await.unwrap();
                        to.write_all(&room[..read]).await.unwrap();
                    }
                });
            }
        });
        Self { address, open, held }
    }
}

#[tokio::test]
async fn a_call_cancelled_while_its_session_is_opened_is_never_sent() {
    let server = Server::start(Speaks::Sessions).await;
    let mut gate = Gate::before(server.address).await;
    let gateway = Gateway::start(&config(&[("s", gate.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let list = client
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert!(list.text.contains("s__echo"), "{list:?}");

    gate.open.send_replace(false);
    let call =
        r#"{"jsonrpc":"2.0","id":"gone","method":"tools/call","params":{"name":"s__echo","arguments":{}}}"#;
    let calling = client.clone();
    let calling = tokio::spawn(async move { calling.open(Method::POST, &[], call).await });
    // The session's `initialize`, which comes before the call.
    gate.held.wait_for(|held| *held > 0).await.unwrap();
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"gone"}}"#;
    assert_eq!(client.post(note).await.status, StatusCode::ACCEPTED);
    gate.open.send_replace(true);

    let answer = calling.await.unwrap();
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(client.call("s__echo", "{}").await.status, StatusCode::OK);
    assert_eq!(server.seen.of("tools/call").len(), 1, "the second one");
    assert!(server.seen.of("notifications/cancelled").is_empty());
    let audit = gateway.audit().await;
    let cancelled = audit.iter().filter(|one| one["reason"] == "client_cancelled");
    assert_eq!(cancelled.count(), 1, "{audit:#?}");
}
