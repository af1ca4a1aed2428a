//! An MCP server with sessions that asks and tells its clients things.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::support::json_answer;

const SOON: std::time::Duration = std::time::Duration::from_secs(5);

/// Tools: `ask` asks for elicitation on its own stream, `mull` thinks about the answer, `link` asks by a URL; `aside` for sampling on the session's;
/// `choosy` is shown only to those who can be asked for elicitation; `poll` closes its stream
/// and answers who comes back; `log` logs.
pub(crate) struct Asker {
    pub(crate) address: SocketAddr,
    known: Arc<Known>,
}

/// What the ids of clients' sessions begin with.
const CLIENTS: &str = "client-";
/// ... and those of the gateway's own.
const GATEWAYS: &str = "gateway-";

#[derive(Default)]
struct Known {
    declared: Mutex<Vec<Value>>,
    levels: Mutex<Vec<String>>,
    subscribed: Mutex<Vec<String>>,
    /// What the clients of sessions declared.
    sessions: Mutex<HashMap<String, Value>>,
    /// It asks for roots before it lists its tools, and waits for the answer.
    asks_first: bool,
    /// By session and question.
    waiting: Mutex<HashMap<(String, Value), oneshot::Sender<Value>>>,
    /// The session's own stream.
    streams: Mutex<HashMap<String, mpsc::Sender<Bytes>>>,
    /// The id of the call that was polled, by session.
    polled: Mutex<HashMap<String, Value>>,
    late: bool,
    /// How it answers what it does not know the session of, if not as it should.
    unknown: Option<StatusCode>,
    /// Streams of sessions that it refuses at first, and how.
    refusals: Mutex<Vec<StatusCode>>,
    /// What it was told of calls that were cancelled.
    cancelled: Mutex<Vec<Value>>,
    /// Sessions that were ended.
    ended: Mutex<Vec<String>>,
}

impl Asker {
    pub(crate) async fn start() -> Self {
        Self::with(Known::default()).await
    }

    /// One that sends the head of a session's own stream with the first event there.
    pub(crate) async fn late() -> Self {
        Self::with(Known {
            late: true,
            ..Known::default()
        })
        .await
    }

    /// One that answers the first questions for the streams of clients' sessions so, the last one first.
    pub(crate) async fn refusing(refusals: &[StatusCode]) -> Self {
        Self::with(Known {
            refusals: Mutex::new(refusals.into()),
            ..Known::default()
        })
        .await
    }

    /// One that says so that it does not know a session.
    pub(crate) async fn not_knowing(status: StatusCode) -> Self {
        Self::with(Known {
            unknown: Some(status),
            ..Known::default()
        })
        .await
    }

    /// Was it told that a call is cancelled? It is waited for a while.
    pub(crate) async fn cancelled(&self) -> Option<Value> {
        for _ in 0..500 {
            if let Some(id) = self.known.cancelled.lock().unwrap().pop() {
                return Some(id);
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        None
    }

    /// One that asks whoever lists its tools something first.
    pub(crate) async fn asking_first() -> Self {
        Self::with(Known {
            asks_first: true,
            ..Known::default()
        })
        .await
    }

    async fn with(known: Known) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = Arc::new(known);
        let router = Router::new().fallback(serve).with_state(Arc::clone(&known));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, known }
    }

    /// What clients declared that can do something, and those of the last ones that cannot.
    pub(crate) fn declared(&self) -> Vec<Value> {
        self.known.declared.lock().unwrap().clone()
    }

    pub(crate) fn levels(&self) -> Vec<String> {
        self.known.levels.lock().unwrap().clone()
    }

    /// Was a client's session ended? It is waited for a while.
    pub(crate) async fn ended(&self) -> bool {
        self.ended_one_of(CLIENTS).await
    }

    /// Was one of the gateway's own ended?
    pub(crate) async fn ended_of_gateway(&self) -> bool {
        self.ended_one_of(GATEWAYS).await
    }

    async fn ended_one_of(&self, whose: &str) -> bool {
        for _ in 0..500 {
            let ended = self.known.ended.lock().unwrap().clone();
            if ended.iter().any(|session| session.starts_with(whose)) {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        false
    }

    /// Waits until a client's session has a stream of its own, and says it there.
    pub(crate) async fn say(&self, message: &Value) {
        let (_, stream) = self.of_client().await;
        stream.send(event(message)).await.unwrap();
    }

    /// Asks it there, and gives the answer.
    pub(crate) async fn ask(&self, question: &Value) -> Value {
        let (session, stream) = self.of_client().await;
        let (sender, answered) = oneshot::channel();
        let key = (session, question["id"].clone());
        self.known.waiting.lock().unwrap().insert(key, sender);
        stream.send(event(question)).await.unwrap();
        let answered = tokio::time::timeout(SOON, answered).await;
        answered.expect("no answer comes").unwrap()
    }

    async fn of_client(&self) -> (String, mpsc::Sender<Bytes>) {
        loop {
            let streams = self.known.streams.lock().unwrap().clone();
            if let Some(found) = streams
                .into_iter()
                .find(|(session, _)| session.starts_with(CLIENTS))
            {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Forgets all sessions, and breaks their streams off.
    pub(crate) fn forget(&self) {
        self.known.sessions.lock().unwrap().clear();
        self.known.streams.lock().unwrap().clear();
    }

    pub(crate) fn subscribed(&self) -> Vec<String> {
        self.known.subscribed.lock().unwrap().clone()
    }
}

fn event(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

fn stream() -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(http_body::Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let kind = "text/event-stream".parse().unwrap();
    response.headers_mut().insert("content-type", kind);
    (sender, response)
}

fn done(id: &Value, text: &str) -> Value {
    json!({"jsonrpc":"2.0","id":id,"result":{"content":[{"type":"text","text":text}]}})
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn serve(State(known): State<Arc<Known>>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let value: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
    let text = |name: &str| {
        head.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let id = &value["id"];
    if text("mcp-protocol-version").as_deref() == Some("2026-07-28") {
        return plain(StatusCode::BAD_REQUEST);
    }
    let Some(session) = text("mcp-session-id") else {
        if value["method"] != "initialize" {
            return plain(StatusCode::BAD_REQUEST);
        }
        let capabilities = &value["params"]["capabilities"];
        // The gateway asks for lists in a session of its own.
        let of_client = value["params"]["clientInfo"]["name"] != "portcullis";
        if of_client {
            known.declared.lock().unwrap().push(capabilities.clone());
        }
        let answer = json!({"jsonrpc":"2.0","id":id,"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"asker","version":"1"},
            "capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}}}});
        let mut response = json_answer(StatusCode::OK, &answer);
        let of = if of_client { CLIENTS } else { GATEWAYS };
        let new = format!("{of}{:016x}", rand::random::<u64>());
        response
            .headers_mut()
            .insert("mcp-session-id", new.parse().unwrap());
        known.sessions.lock().unwrap().insert(new, capabilities.clone());
        return response;
    };
    if !known.sessions.lock().unwrap().contains_key(&session) {
        return match known.unknown {
            None => plain(StatusCode::NOT_FOUND),
            Some(status) => json_answer(
                status,
                &json!({"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no valid session id"}}),
            ),
        };
    }
    let refusal = known
        .refusals
        .lock()
        .unwrap()
        .pop_if(|_| head.method == Method::GET && session.starts_with(CLIENTS));
    if let Some(status) = refusal {
        return plain(status);
    }
    if head.method == Method::GET {
        let (sender, response) = stream();
        if text("last-event-id").as_deref() == Some("place 1") {
            let call = known.polled.lock().unwrap()[&session].clone();
            let last = done(&call, "polled");
            let last = format!("id: place 2\nevent: message\ndata: {last}\n\n");
            sender.send(last.into()).await.unwrap();
        } else if known.late {
            let (first, mut events) = mpsc::channel(4);
            known.streams.lock().unwrap().insert(session, first);
            if let Some(event) = events.recv().await {
                sender.send(event).await.unwrap();
            }
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    sender.send(event).await.ok();
                }
            });
        } else {
            known.streams.lock().unwrap().insert(session, sender);
        }
        return response;
    }
    if head.method == Method::DELETE {
        known.ended.lock().unwrap().push(session);
        return plain(StatusCode::OK);
    }
    let ask = |question: Value| {
        let (sender, receiver) = oneshot::channel();
        let key = (session.clone(), question["id"].clone());
        known.waiting.lock().unwrap().insert(key, sender);
        receiver
    };
    let answer =
        |result: Value| json_answer(StatusCode::OK, &json!({"jsonrpc":"2.0","id":id,"result":result}));
    match value["method"].as_str() {
        None => {
            let waiting = known.waiting.lock().unwrap().remove(&(session, id.clone()));
            if let Some(waiting) = waiting {
                waiting.send(value).ok();
            }
            plain(StatusCode::ACCEPTED)
        }
        Some("notifications/cancelled") => {
            let id = value["params"]["requestId"].clone();
            known.cancelled.lock().unwrap().push(id);
            plain(StatusCode::ACCEPTED)
        }
        Some(method) if method.starts_with("notifications/") => plain(StatusCode::ACCEPTED),
        Some("tools/list") => {
            let asks = known.sessions.lock().unwrap()[&session]["elicitation"].is_object();
            let tools: Vec<_> = ["ask", "mull", "link", "aside", "choosy", "poll", "stall", "log"]
                .into_iter()
                .filter(|name| asks || *name != "choosy")
                .map(|name| json!({"name":name,"inputSchema":{"type":"object"}}))
                .collect();
            let tools = json!({ "tools": tools });
            if !known.asks_first {
                return answer(tools);
            }
            let question = json!({"jsonrpc":"2.0","id":8,"method":"roots/list"});
            let answered = ask(question.clone());
            let last = json!({"jsonrpc":"2.0","id":id,"result":tools});
            let (sender, response) = stream();
            tokio::spawn(async move {
                sender.send(event(&question)).await.unwrap();
                answered.await.unwrap();
                sender.send(event(&last)).await.ok();
            });
            response
        }
        Some("logging/setLevel") => {
            let level = value["params"]["level"].as_str().unwrap().to_owned();
            known.levels.lock().unwrap().push(level);
            answer(json!({}))
        }
        Some("resources/subscribe") => {
            let uri = value["params"]["uri"].as_str().unwrap().to_owned();
            known.subscribed.lock().unwrap().push(uri.clone());
            let news =
                json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":uri}});
            tokio::spawn(async move {
                let stream = own(&known, &session).await;
                stream.send(event(&news)).await.ok();
            });
            answer(json!({}))
        }
        Some("tools/call") => match value["params"]["name"].as_str().unwrap() {
            tool @ ("ask" | "mull" | "link") => {
                let mut question =
                    json!({"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"why?"}});
                if tool == "link" {
                    question["params"]["mode"] = "url".into();
                }
                let mulls = if tool == "mull" { 600 } else { 0 };
                let answered = ask(question.clone());
                let (sender, response) = stream();
                let id = id.clone();
                tokio::spawn(async move {
                    sender.send(event(&question)).await.unwrap();
                    if let Ok(answered) = answered.await {
                        tokio::time::sleep(std::time::Duration::from_millis(mulls)).await;
                        sender.send(event(&done(&id, &answered.to_string()))).await.ok();
                    }
                });
                response
            }
            "aside" => {
                let question = json!({"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}});
                let answered = ask(question.clone());
                own(&known, &session).await.send(event(&question)).await.unwrap();
                json_answer(StatusCode::OK, &done(id, &answered.await.unwrap().to_string()))
            }
            "poll" => {
                known.polled.lock().unwrap().insert(session, id.clone());
                let (sender, response) = stream();
                sender
                    .send("id: place 1\nretry: 100\ndata:\n\n".into())
                    .await
                    .unwrap();
                response
            }
            "stall" => {
                let (sender, response) = stream();
                sender.send("id: place 8\ndata:\n\n".into()).await.unwrap();
                response
            }
            _ => {
                let (sender, response) = stream();
                sender.send("event: ping\ndata: 17\n\n".into()).await.unwrap();
                for (level, data) in [("info", json!("small talk")), ("error", json!({"k":1.0}))] {
                    let log = json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":level,"data":data}});
                    sender.send(event(&log)).await.unwrap();
                }
                sender.send(event(&done(id, "logged"))).await.unwrap();
                response
            }
        },
        Some(_) => answer(json!({"resources":[],"resourceTemplates":[]})),
    }
}

/// The session's own stream, once its client has opened it.
async fn own(known: &Known, session: &str) -> mpsc::Sender<Bytes> {
    loop {
        if let Some(stream) = known.streams.lock().unwrap().get(session) {
            return stream.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
