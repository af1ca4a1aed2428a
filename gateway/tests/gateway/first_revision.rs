//! Servers of the first revision: HTTP with SSE.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::State;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{ALICE, BOB, Gateway, Seen, config};

type Streams = Arc<Mutex<Vec<Option<mpsc::Sender<Bytes>>>>>;

#[derive(Clone)]
struct Shared {
    seen: Seen,
    streams: Streams,
    /// The address that a stream names, before the number of the session.
    address: Arc<str>,
}

struct First {
    address: SocketAddr,
    seen: Seen,
    streams: Streams,
    stop: CancellationToken,
}

impl Drop for First {
    fn drop(&mut self) {
        self.hang_up();
        self.stop.cancel();
    }
}

impl First {
    async fn start(names: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared {
            seen: Seen::default(),
            streams: Streams::default(),
            address: names.into(),
        };
        let (seen, streams) = (shared.seen.clone(), Arc::clone(&shared.streams));
        let router = Router::new().fallback(serve).with_state(shared);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serving = axum::serve(listener, router);
            tokio::select! {
                served = async { serving.await } => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Self {
            address,
            seen,
            streams,
            stop,
        }
    }

    /// Breaks all streams off.
    fn hang_up(&self) {
        self.streams
            .lock()
            .unwrap()
            .iter_mut()
            .for_each(|stream| *stream = None);
    }

    /// How many of its streams somebody reads.
    fn open(&self) -> usize {
        let streams = self.streams.lock().unwrap();
        let open = streams.iter().flatten().filter(|stream| !stream.is_closed());
        open.count()
    }

    async fn wait_open(&self, count: usize) {
        for _ in 0..500 {
            if self.open() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} streams are open, not {count}", self.open());
    }
}

fn event(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

async fn serve(State(shared): State<Shared>, request: Request<AxumBody>) -> Response<AxumBody> {
    let (head, body) = request.into_parts();
    let status = |status: StatusCode| {
        let mut response = Response::new(AxumBody::from("Accepted"));
        *response.status_mut() = status;
        response
    };
    if head.method == Method::GET {
        shared.seen.note("GET", &head.headers, &Value::Null);
        let (sender, receiver) = mpsc::channel(4);
        let mut streams = shared.streams.lock().unwrap();
        let named = format!("event: endpoint\ndata: {}{}\n\n", shared.address, streams.len());
        sender.try_send(named.into()).unwrap();
        streams.push(Some(sender));
        let events = futures::stream::unfold(receiver, |mut receiver| async move {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, Infallible>(bytes), receiver))
        });
        let mut response = Response::new(AxumBody::from_stream(events));
        let kind = "text/event-stream".parse().unwrap();
        response.headers_mut().insert("content-type", kind);
        return response;
    }
    if head.uri.path() != "/messages" {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = body.collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&body).unwrap();
    shared.seen.note(
        value["method"].as_str().unwrap_or("response"),
        &head.headers,
        &value,
    );
    let session: usize = head
        .uri
        .query()
        .unwrap()
        .strip_prefix("s=")
        .unwrap()
        .parse()
        .unwrap();
    let Some(stream) = shared.streams.lock().unwrap().get(session).cloned().flatten() else {
        return status(StatusCode::NOT_FOUND);
    };
    tokio::spawn(say(stream, value, session));
    status(StatusCode::ACCEPTED)
}

async fn say(stream: mpsc::Sender<Bytes>, request: Value, session: usize) {
    let id = &request["id"];
    let result = match request["method"].as_str() {
        Some("initialize") => {
            json!({"protocolVersion":"2024-11-05","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"first","version":"1"}})
        }
        Some("tools/list") => {
            let tool = |name| json!({"name":name,"inputSchema":{"type":"object"}});
            json!({"tools":[tool("echo"), tool("slow"), tool("flood"), tool("ask"), tool("never")]})
        }
        Some("tools/call") => match request["params"]["name"].as_str() {
            Some("slow") => {
                let token = &request["params"]["_meta"]["progressToken"];
                let progress = json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"progress":1}});
                stream.send(event(&progress)).await.ok();
                tokio::time::sleep(Duration::from_millis(200)).await;
                json!({"content":[{"type":"text","text":"slow"}],"session":session})
            }
            Some("ask") => {
                let ping = json!({"jsonrpc":"2.0","id":"p","method":"ping"});
                stream.send(event(&ping)).await.ok();
                return;
            }
            Some("never") => return,
            _ => {
                json!({"content":[{"type":"text","text":request["params"]["arguments"].to_string()}],"session":session})
            }
        },
        _ => return,
    };
    let answer = json!({"jsonrpc":"2.0","id":id,"result":result});
    stream.send(event(&answer)).await.ok();
}

fn pinned(address: SocketAddr) -> String {
    let mut text: Value = serde_yaml::from_str(&config(&[("s", address)], "")).unwrap();
    text["servers"][0]["revision"] = "2024-11-05".into();
    serde_yaml::to_string(&text).unwrap()
}

#[tokio::test]
async fn a_session_of_the_first_revision_serves_clients_of_both_eras() {
    let server = First::start("/messages?s=").await;
    for (text, discovered) in [
        (config(&[("s", server.address)], ""), true),
        (pinned(server.address), false),
    ] {
        let before = server.seen.of("initialize").len();
        let gateway = Gateway::start(&text).await;
        let client = gateway.client(ALICE).at("/servers/s/mcp");
        let answer = client
            .stateless(
                "tools/call",
                Some("echo"),
                r#""name":"echo","arguments":{"x":1.0}"#,
            )
            .await;
        assert_eq!(
            answer.json()["result"]["content"][0]["text"],
            r#"{"x":1.0}"#,
            "{answer:?}"
        );
        let (one, two) = (client.initialize().await, client.initialize().await);
        let session = |answer: &crate::support::Answer| answer.json()["result"]["session"].clone();
        let (first, second) = (one.call("echo", "{}").await, two.call("echo", "{}").await);
        assert_ne!(session(&first), session(&second));
        assert_eq!(session(&one.call("echo", "{}").await), session(&first));
        let opened = &server.seen.of("initialize")[before..];
        assert!(
            opened
                .iter()
                .all(|(_, opened)| opened["params"]["protocolVersion"] == "2024-11-05")
        );
        let health = gateway.app.snapshot().unwrap().upstreams[0].link.health();
        assert!(health.verified, "{health:?} {discovered}");
        drop(gateway);
    }
    assert!(server.seen.of("DELETE").is_empty());
}

#[tokio::test]
async fn calls_at_the_same_time_each_get_their_own() {
    let server = First::start("/messages?s=").await;
    let gateway = Gateway::start(&pinned(server.address)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let call = |id: usize| {
        let client = client.clone();
        async move {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"slow","_meta":{{"progressToken":"t{id}"}}}}}}"#
            );
            client.post(&body).await
        }
    };
    let answers = futures::future::join_all((1..=10).map(call)).await;
    for (at, answer) in answers.iter().enumerate() {
        let events = answer.events();
        assert_eq!(events.len(), 2, "{answer:?}");
        assert_eq!(events[0]["params"]["progressToken"], format!("t{}", at + 1));
        assert_eq!(events[1]["id"], at + 1);
    }
}

#[tokio::test]
async fn letting_go_of_a_session_closes_its_stream() {
    let server = First::start("/messages?s=").await;
    let gateway = Gateway::start(&pinned(server.address)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    assert_eq!(client.call("echo", "{}").await.status, StatusCode::OK);
    // The gateway's own, and the client's.
    server.wait_open(2).await;
    client.send(Method::DELETE, &[], "").await;
    server.wait_open(1).await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_fails_its_calls_and_is_opened_again() {
    let server = First::start("/messages?s=").await;
    let gateway = Gateway::start(&pinned(server.address)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let call = {
        let client = client.clone();
        tokio::spawn(async move { client.call("never", "{}").await })
    };
    server.seen.wait("tools/call", 1).await;
    server.hang_up();
    let lost = tokio::time::timeout(Duration::from_secs(5), call)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lost.reason(), "upstream_unavailable");
    let answer = client.call("echo", "{}").await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "{}", "{answer:?}");
}

#[tokio::test]
async fn what_a_server_asks_in_a_call_is_answered() {
    let server = First::start("/messages?s=").await;
    let gateway = Gateway::start(&pinned(server.address)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let call = tokio::spawn(async move { client.call("ask", "{}").await });
    let answers = server.seen.wait("response", 1).await;
    assert_eq!(answers[0].1, json!({"jsonrpc":"2.0","id":"p","result":{}}));
    call.abort();
}

#[tokio::test]
async fn nothing_goes_to_another_origin() {
    let other = First::start("/messages?s=").await;
    let elsewhere = format!("http://{}/messages?s=", other.address);
    let server = First::start(&elsewhere).await;
    for text in [config(&[("s", server.address)], ""), pinned(server.address)] {
        let gateway = Gateway::start(&text).await;
        let client = gateway.client(BOB).at("/servers/s/mcp");
        let answer = client
            .stateless("tools/call", Some("echo"), r#""name":"echo","arguments":{}"#)
            .await;
        assert!(answer.json()["error"].is_object(), "{answer:?}");
        let health = gateway.app.snapshot().unwrap().upstreams[0].link.health();
        assert!(health.message.contains("another origin"), "{health:?}");
    }
    assert!(other.seen.of("initialize").is_empty());
    server.wait_open(0).await;
}
