//! A server of either era whose lists and resources change, and that says so.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::{Seen, Speaks, json_answer};

/// What a filter calls the news of a list.
const KINDS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "notifications/resources/list_changed"),
];

/// The server.
#[derive(Clone)]
pub(crate) struct Pushing {
    pub(crate) address: SocketAddr,
    /// What it was asked; `stream closed` with what had opened it, for each stream that its client closed.
    pub(crate) seen: Seen,
    speaks: Speaks,
    inner: Arc<Mutex<Inner>>,
    _stop: Arc<Stop>,
}

struct Stop(tokio::task::JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Inner {
    tools: Vec<String>,
    sessions: usize,
    streams: Vec<Stream>,
    /// Session and URI.
    subscribed: Vec<(String, String)>,
    /// What it answers instead of a stream, and how late.
    mute: Option<(StatusCode, Duration)>,
}

struct Stream {
    session: String,
    filter: Value,
    id: Value,
    sender: mpsc::UnboundedSender<Bytes>,
}

impl Stream {
    fn send(&self, message: &Value) {
        self.sender.send(format!("data: {message}\n\n").into()).ok();
    }

    fn tagged(&self, method: &str, mut params: Value) -> Value {
        if !self.id.is_null() {
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId":self.id});
        }
        json!({"jsonrpc":"2.0","method":method,"params":params})
    }
}

impl Pushing {
    pub(crate) async fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel::<Router>();
        let serving = tokio::spawn(async move {
            axum::serve(listener, receiver.await.unwrap()).await.unwrap();
        });
        let server = Self {
            address,
            seen: Seen::default(),
            speaks,
            inner: Arc::new(Mutex::new(Inner {
                tools: vec!["first".into()],
                ..Inner::default()
            })),
            _stop: Arc::new(Stop(serving)),
        };
        let state = Self {
            // Its own task must not keep it alive.
            _stop: Arc::new(Stop(tokio::spawn(async {}))),
            ..server.clone()
        };
        sender.send(Router::new().fallback(serve).with_state(state)).ok();
        server
    }

    /// One tool more, without a word.
    pub(crate) fn add_tool(&self, name: &str) {
        self.inner.lock().unwrap().tools.push(name.into());
    }

    /// Says that a list changed (`tools`, `prompts`, `resources`), on all streams that want to know.
    pub(crate) fn say_changed(&self, list: &str) {
        let method = format!("notifications/{list}/list_changed");
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == method).unwrap();
        for stream in &self.inner.lock().unwrap().streams {
            if stream.id.is_null() || stream.filter[kind] == true {
                stream.send(&stream.tagged(&method, json!({})));
            }
        }
    }

    /// Says that a resource changed, to those who subscribed to it (or, with `to`, to `to`).
    pub(crate) fn say_updated(&self, uri: &str, to: Option<&str>) {
        let inner = self.inner.lock().unwrap();
        let of = to.unwrap_or(uri);
        for stream in &inner.streams {
            let wanted = if stream.id.is_null() {
                inner
                    .subscribed
                    .contains(&(stream.session.clone(), of.to_owned()))
            } else {
                stream.filter["resourceSubscriptions"]
                    .as_array()
                    .is_some_and(|uris| uris.contains(&of.into()))
            };
            if wanted {
                stream.send(&stream.tagged("notifications/resources/updated", json!({"uri":uri})));
            }
        }
    }

    /// Breaks all its streams.
    pub(crate) fn break_streams(&self) {
        self.inner.lock().unwrap().streams.clear();
    }

    /// Opens no streams from now on, or does again.
    pub(crate) fn set_mute(&self, mute: bool) {
        let answer = (StatusCode::METHOD_NOT_ALLOWED, Duration::ZERO);
        self.inner.lock().unwrap().mute = mute.then_some(answer);
    }

    /// Answers so instead of a stream, so late.
    pub(crate) fn set_answer(&self, status: StatusCode, late: Duration) {
        self.inner.lock().unwrap().mute = Some((status, late));
    }

    /// Its open streams.
    pub(crate) fn streams(&self) -> usize {
        let mut inner = self.inner.lock().unwrap();
        inner.streams.retain(|stream| !stream.sender.is_closed());
        inner.streams.len()
    }

    /// The resources that its open stateless streams are about.
    pub(crate) fn listened_to(&self) -> Vec<String> {
        let mut inner = self.inner.lock().unwrap();
        inner.streams.retain(|stream| !stream.sender.is_closed());
        let of = |stream: &Stream| {
            let uris = stream.filter["resourceSubscriptions"].as_array().cloned();
            let uris = uris.unwrap_or_default().into_iter();
            uris.map(|uri| uri.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        inner.streams.iter().flat_map(of).collect()
    }

    /// What is subscribed to in its sessions.
    pub(crate) fn subscribed(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.subscribed.iter().map(|(_, uri)| uri.clone()).collect()
    }

    fn stream(&self, session: String, id: Value, filter: Value) -> Response<AxumBody> {
        let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
        let left = Left(Some((self.seen.clone(), filter.clone())));
        let stream = Stream {
            session,
            filter,
            id,
            sender,
        };
        if !stream.id.is_null() {
            let method = "notifications/subscriptions/acknowledged";
            stream.send(&stream.tagged(method, json!({"notifications":stream.filter})));
        }
        self.inner.lock().unwrap().streams.push(stream);
        let events = futures::stream::unfold((receiver, left), |(mut receiver, mut left)| async move {
            let next = receiver.recv().await;
            if next.is_none() {
                left.0 = None;
            }
            Some((Ok::<_, Infallible>(next?), (receiver, left)))
        });
        let mut response = Response::new(AxumBody::from_stream(events));
        response
            .headers_mut()
            .insert("content-type", "text/event-stream".parse().unwrap());
        response
    }
}

/// Notes that the client closed a stream.
struct Left(Option<(Seen, Value)>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some((seen, opened_by)) = self.0.take() {
            seen.note("stream closed", &HeaderMap::new(), &opened_by);
        }
    }
}

fn bare(status: StatusCode) -> Response<AxumBody> {
    let mut response = Response::new(AxumBody::empty());
    *response.status_mut() = status;
    response
}

async fn serve(State(server): State<Pushing>, request: Request<AxumBody>) -> Response<AxumBody> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let method = value["method"]
        .as_str()
        .unwrap_or(head.method.as_str())
        .to_owned();
    server.seen.note(&method, &head.headers, &value);
    let header = |name: &str| {
        let value = head.headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let stateless = header("mcp-protocol-version").is_some_and(|version| version == "2026-07-28");
    let session = header("mcp-session-id").unwrap_or_default();
    if stateless == (server.speaks == Speaks::Sessions) && method != "initialize" {
        return bare(StatusCode::BAD_REQUEST);
    }
    if stateless != (server.speaks == Speaks::Stateless) {
        return bare(StatusCode::BAD_REQUEST);
    }
    let mute = server.inner.lock().unwrap().mute;
    if head.method == Method::GET {
        let Some((status, late)) = mute else {
            return server.stream(session, Value::Null, Value::Null);
        };
        tokio::time::sleep(late).await;
        return bare(status);
    }
    if value["id"].is_null() {
        return bare(StatusCode::ACCEPTED);
    }
    let capabilities = json!({"tools":{"listChanged":true},"prompts":{"listChanged":true},
        "resources":{"listChanged":true,"subscribe":true}});
    let params = &value["params"];
    let mut result = match &*method {
        "initialize" => {
            let mut inner = server.inner.lock().unwrap();
            inner.sessions += 1;
            let id = format!("p-{}", inner.sessions);
            let result = json!({"protocolVersion":"2025-11-25","capabilities":capabilities,"serverInfo":{"name":"push","version":"1"}});
            let mut answer = json_answer(
                StatusCode::OK,
                &json!({"jsonrpc":"2.0","id":value["id"],"result":result}),
            );
            answer.headers_mut().insert("mcp-session-id", id.parse().unwrap());
            return answer;
        }
        "server/discover" => json!({"supportedVersions":["2026-07-28"],"capabilities":capabilities}),
        "tools/list" => {
            let tools = server.inner.lock().unwrap().tools.clone();
            let tools: Vec<Value> = tools
                .iter()
                .map(|name| json!({"name":name,"inputSchema":{"type":"object"}}))
                .collect();
            json!({"tools":tools})
        }
        "prompts/list" => json!({"prompts":[{"name":"greet"}]}),
        "resources/list" => json!({"resources":[{"uri":"note:a","name":"a"},{"uri":"note:b","name":"b"}]}),
        "resources/templates/list" => json!({"resourceTemplates":[]}),
        "resources/subscribe" => {
            let uri = params["uri"].as_str().unwrap().to_owned();
            server.inner.lock().unwrap().subscribed.push((session, uri));
            json!({})
        }
        "resources/unsubscribe" => {
            let uri = params["uri"].as_str().unwrap();
            let mut inner = server.inner.lock().unwrap();
            inner
                .subscribed
                .retain(|(by, subscribed)| *by != session || subscribed != uri);
            json!({})
        }
        "subscriptions/listen" if mute.is_none() => {
            return server.stream(
                String::new(),
                value["id"].clone(),
                params["notifications"].clone(),
            );
        }
        _ => {
            let error = json!({"jsonrpc":"2.0","id":value["id"],"error":{"code":-32601,"message":"unknown"}});
            return json_answer(StatusCode::NOT_FOUND, &error);
        }
    };
    if stateless {
        result["resultType"] = "complete".into();
    }
    json_answer(
        StatusCode::OK,
        &json!({"jsonrpc":"2.0","id":value["id"],"result":result}),
    )
}
