//! An MCP server that speaks either era, and notes what it was asked.

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
use tokio_util::sync::CancellationToken;

use crate::scripted::{self, Script};

/// What the servers saw: method, headers and body of each request.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<(String, HeaderMap, Value)>>>);

impl Seen {
    pub(crate) fn of(&self, method: &str) -> Vec<(HeaderMap, Value)> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|(seen, ..)| seen == method)
            .map(|(_, headers, body)| (headers.clone(), body.clone()))
            .collect()
    }

    /// Everything: methods and headers.
    pub(crate) fn all(&self) -> Vec<(String, HeaderMap)> {
        let all = self.0.lock().unwrap();
        all.iter()
            .map(|(method, headers, _)| (method.clone(), headers.clone()))
            .collect()
    }

    /// Waits until so many requests with this method were seen.
    pub(crate) async fn wait(&self, method: &str, count: usize) -> Vec<(HeaderMap, Value)> {
        for _ in 0..500 {
            let found = self.of(method);
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{method} was seen {} times, not {count}", self.of(method).len());
    }

    pub(crate) fn note(&self, method: &str, headers: &HeaderMap, body: &Value) {
        assert!(
            !headers.contains_key("cookie"),
            "a client's cookie came to a server: {headers:?}"
        );
        self.0
            .lock()
            .unwrap()
            .push((method.to_owned(), headers.clone(), body.clone()));
    }
}

/// Which eras a server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Sessions,
    Stateless,
}

/// An MCP server: tools `echo`, `fail`, `slow` (progress, then waits), `secret` and `big`, and what a script says;
/// prompts `greet` and `hidden`; resources, templates and completions.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Seen,
    pub(crate) script: Script,
    sessions: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
struct ServerState {
    speaks: Speaks,
    seen: Seen,
    script: Script,
    sessions: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let script = Script::default();
        let state = ServerState {
            speaks,
            seen: seen.clone(),
            script: script.clone(),
            sessions: Arc::default(),
        };
        let sessions = Arc::clone(&state.sessions);
        let router = Router::new().fallback(serve).with_state(state);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { stopped.cancelled().await })
                .await
                .unwrap();
        });
        Self {
            address,
            seen,
            script,
            sessions,
            stop,
        }
    }
}

impl Server {
    /// Knows none of its sessions any more.
    pub(crate) fn forget_sessions(&self) {
        self.sessions.lock().unwrap().iter_mut().for_each(String::clear);
    }
}

/// Says what no client may hear of.
async fn serve(state: State<ServerState>, request: Request<AxumBody>) -> Response<AxumBody> {
    let mut response = answer(state, request).await;
    for (name, value) in [
        ("set-cookie", "planted=server"),
        ("server", "fake/7"),
        ("x-powered-by", "fake"),
    ] {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

async fn answer(State(state): State<ServerState>, request: Request<AxumBody>) -> Response<AxumBody> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let method = if head.method == Method::POST {
        value["method"].as_str().unwrap_or("response").to_owned()
    } else {
        head.method.to_string()
    };
    state.seen.note(&method, &head.headers, &value);
    let id = value["id"].clone();
    let stateless = head
        .headers
        .get("mcp-protocol-version")
        .is_some_and(|v| v == "2026-07-28");
    let session = head
        .headers
        .get("mcp-session-id")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    match state.speaks {
        Speaks::Sessions if stateless => return plain(StatusCode::BAD_REQUEST, "unknown protocol version"),
        Speaks::Sessions if method != "initialize" => {
            let known = session
                .as_ref()
                .is_some_and(|id| state.sessions.lock().unwrap().contains(id));
            if !known {
                return plain(
                    if session.is_some() {
                        StatusCode::NOT_FOUND
                    } else {
                        StatusCode::BAD_REQUEST
                    },
                    "no session",
                );
            }
        }
        Speaks::Stateless if !stateless => {
            return json_answer(
                StatusCode::BAD_REQUEST,
                &json!({"jsonrpc":"2.0","id":id,"error":{"code":-32022,"message":"unsupported","data":{"supported":["2026-07-28"]}}}),
            );
        }
        _ => {}
    }
    if method == "response" {
        state.script.take_answer().await;
        return plain(StatusCode::ACCEPTED, "");
    }
    if method == "notifications/cancelled" {
        state.script.cancel(&value["params"]["requestId"]);
    }
    if value["id"].is_null() {
        return plain(
            if method == "DELETE" {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            },
            "",
        );
    }
    let result = match method.as_str() {
        "initialize" => {
            state.script.wait_opening().await;
            let new = format!("s-{}", state.sessions.lock().unwrap().len());
            state.sessions.lock().unwrap().push(new.clone());
            let mut answer = json_answer(
                StatusCode::OK,
                &json!({"jsonrpc":"2.0","id":id,"result":{
                "protocolVersion":"2025-11-25","capabilities":{"tools":{},"prompts":{},"resources":{},"completions":{}},"serverInfo":{"name":"fake","version":"7"}}}),
            );
            answer
                .headers_mut()
                .insert("mcp-session-id", new.parse().unwrap());
            return answer;
        }
        "server/discover" => {
            json!({"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"prompts":{},"resources":{},"completions":{}},
            "ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fake","version":"7"}}})
        }
        "tools/list" => tools(&value),
        "tools/call" | "prompts/get" if value["params"]["arguments"]["do"].is_string() => {
            return scripted::call(&state.script, &state.seen, &value).await;
        }
        "tools/call" => return call(&state, &value),
        "resources/read" if value["params"]["uri"] == "file:///pub/none" => {
            let code = if stateless { -32602 } else { -32002 };
            let error = json!({"jsonrpc":"2.0","id":id,"error":{"code":code,"message":"no such file"}});
            return json_answer(StatusCode::OK, &error);
        }
        other => match primitive(other, &value["params"]) {
            Some(mut result) => {
                if stateless {
                    result["resultType"] = "complete".into();
                    result["ttlMs"] = 2_000.into();
                    result["cacheScope"] = "public".into();
                }
                result
            }
            None => json!({}),
        },
    };
    json_answer(StatusCode::OK, &json!({"jsonrpc":"2.0","id":id,"result":result}))
}

fn tools(request: &Value) -> Value {
    let tool = |name: &str| json!({"name":name,"description":format!("about {name}"),"inputSchema":{"type":"object"},"vendor":{"x":1.0}});
    // Two pages; the second cursor is the empty string, which is a cursor too.
    match request["params"]["cursor"].as_str() {
        None => json!({"resultType":"complete","tools":[tool("echo"), tool("fail")],"nextCursor":"p2"}),
        Some("p2") => json!({"resultType":"complete","tools":[tool("slow"), tool("secret")],"nextCursor":""}),
        Some(_) => json!({"resultType":"complete","tools":[tool("big")]}),
    }
}

/// What there is beside tools.
fn primitive(method: &str, params: &Value) -> Option<Value> {
    let again = params["cursor"].is_string();
    Some(match method {
        "prompts/list" if again => {
            json!({"prompts":[{"name":"greet","arguments":[{"name":"who"}],"vendor":{"x":1.0}}]})
        }
        "prompts/list" => json!({"prompts":[{"name":"hidden"}],"nextCursor":"next"}),
        "prompts/get" => json!({"description":params["arguments"].to_string(),"messages":[
            {"role":"user","content":{"type":"text","text":params["name"]}},
            {"role":"user","content":{"type":"resource","resource":{"uri":"file:///pub/a.txt","text":"A","x":1.0}}},
        ]}),
        "resources/list" if again => json!({"resources":[{"uri":"file:///pub/a.txt","name":"a","size":1.0}]}),
        "resources/list" => {
            json!({"resources":[{"uri":"file:///secret/key.pem","name":"k"}],"nextCursor":""})
        }
        "resources/templates/list" => json!({"resourceTemplates":[
            {"uriTemplate":"file:///pub/{name}","name":"pub"},
            {"uriTemplate":"file:///secret/{name}","name":"secret"},
        ]}),
        "resources/read" => json!({"contents":[{"uri":params["uri"],"text":"1.0","vendor":{"x":1.0}}]}),
        "completion/complete" => {
            json!({"completion":{"values":[params["argument"]["value"]],"hasMore":false}})
        }
        _ => return None,
    })
}

fn call(state: &ServerState, request: &Value) -> Response<AxumBody> {
    let id = &request["id"];
    match request["params"]["name"].as_str() {
        Some("slow") => {
            let token = request["params"]["_meta"]["progressToken"].clone();
            let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
            let id = id.clone();
            let seen = state.seen.clone();
            tokio::spawn(async move {
                let progress = json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"progress":1}});
                sender
                    .send(format!("event: message\ndata: {progress}\n\n").into())
                    .await
                    .ok();
                // Until the caller is gone, or the test's `slow` answer is due.
                tokio::select! {
                    () = sender.closed() => seen.note("closed", &HeaderMap::new(), &Value::Null),
                    () = tokio::time::sleep(Duration::from_millis(400)) => {
                        let done = json!({"jsonrpc":"2.0","id":id,"result":{"content":[{"type":"text","text":"slow"}]}});
                        sender.send(format!("event: message\ndata: {done}\n\n").into()).await.ok();
                        seen.note("answered", &HeaderMap::new(), &Value::Null);
                    }
                }
            });
            let stream = futures::stream::unfold(receiver, |mut receiver| async move {
                receiver
                    .recv()
                    .await
                    .map(|bytes| (Ok::<_, std::convert::Infallible>(bytes), receiver))
            });
            let mut response = Response::new(AxumBody::from_stream(stream));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        Some("echo") if request["params"]["arguments"]["link"].is_string() => {
            let link = &request["params"]["arguments"]["link"];
            json_answer(
                StatusCode::OK,
                &json!({"jsonrpc":"2.0","id":id,"result":{"content":[
                    {"type":"resource_link","uri":link,"name":"l","size":1.0},
                    {"type":"resource_link","uri":"https://web.example/page","name":"w"},
                    {"type":"text","text":"file:///pub/a.txt"},
                ]}}),
            )
        }
        Some("fail") => json_answer(
            StatusCode::OK,
            &json!({"jsonrpc":"2.0","id":id,"error":{"code":-32050,"message":"it failed"}}),
        ),
        Some("big") => json_answer(
            StatusCode::OK,
            &json!({"jsonrpc":"2.0","id":id,"result":{"content":[{"type":"text","text":"x".repeat(20_000)}]}}),
        ),
        _ => json_answer(
            StatusCode::OK,
            &json!({"jsonrpc":"2.0","id":id,"result":{
            "content":[{"type":"text","text":request["params"]["arguments"].to_string()}]}}),
        ),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<AxumBody> {
    let mut response = Response::new(AxumBody::from(text));
    *response.status_mut() = status;
    response
}

pub(crate) fn json_answer(status: StatusCode, value: &Value) -> Response<AxumBody> {
    let mut response = Response::new(AxumBody::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}
