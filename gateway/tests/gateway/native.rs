//! A stateless MCP server that says what a test tells it to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{META, Seen, json_answer};

/// What it says to one request.
pub(crate) enum Reply {
    /// A result.
    Result(Value),
    /// A result whose text is the test's own, byte for byte.
    Raw(&'static str),
    /// An error, with its HTTP status.
    Error(StatusCode, Value),
    /// Nothing.
    Never,
    /// As by an ordinary server, so much later.
    Late(Duration),
    /// Notifications, then a result.
    Events(Vec<Value>, Value),
    /// This status with this message, byte for byte.
    Whole(StatusCode, &'static str),
}

type Script = dyn Fn(&str, &HeaderMap, &Value) -> Option<Reply> + Send + Sync;

#[derive(Clone)]
struct Shared {
    seen: Seen,
    script: Arc<Script>,
}

pub(crate) struct Native {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Seen,
    stop: CancellationToken,
}

impl Drop for Native {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Native {
    /// `script` is asked first, with the request's method; what it leaves open is answered as by an ordinary server with
    /// a tool `t`.
    pub(crate) async fn start(
        script: impl Fn(&str, &HeaderMap, &Value) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let shared = Shared {
            seen: seen.clone(),
            script: Arc::new(script),
        };
        let router = Router::new().fallback(serve).with_state(shared);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { stopped.cancelled().await })
                .await
                .unwrap();
        });
        Self { address, seen, stop }
    }
}

async fn serve(State(shared): State<Shared>, request: Request<AxumBody>) -> Response<AxumBody> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let method = value["method"].as_str().unwrap_or("none");
    shared.seen.note(method, &head.headers, &value);
    let id = &value["id"];
    let reply = (shared.script)(method, &head.headers, &value).unwrap_or_else(|| usual(method));
    let reply = match reply {
        Reply::Late(by) => {
            tokio::time::sleep(by).await;
            usual(method)
        }
        reply => reply,
    };
    match reply {
        Reply::Result(result) => {
            json_answer(StatusCode::OK, &json!({"jsonrpc":"2.0","id":id,"result":result}))
        }
        Reply::Raw(result) => whole(
            StatusCode::OK,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        ),
        Reply::Never | Reply::Late(_) => std::future::pending().await,
        Reply::Whole(status, message) => whole(status, message.to_owned()),
        Reply::Error(status, error) => json_answer(status, &json!({"jsonrpc":"2.0","id":id,"error":error})),
        Reply::Events(before, result) => {
            let last = json!({"jsonrpc":"2.0","id":id,"result":result});
            let events: Vec<_> = before
                .iter()
                .chain([&last])
                .map(|message| {
                    Ok::<_, Infallible>(Bytes::from(format!("event: message\ndata: {message}\n\n")))
                })
                .collect();
            let mut response = Response::new(AxumBody::from_stream(futures::stream::iter(events)));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
    }
}

fn whole(status: StatusCode, text: String) -> Response<AxumBody> {
    let mut response = Response::new(AxumBody::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

fn usual(method: &str) -> Reply {
    Reply::Result(match method {
        "server/discover" => {
            json!({"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"private",
            "capabilities":{"tools":{},"prompts":{},"resources":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},
            "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"native","version":"1"}}})
        }
        "tools/list" => {
            json!({"resultType":"complete","tools":[{"name":"t","inputSchema":{"type":"object"}},{"name":"u","inputSchema":{"type":"object"}}]})
        }
        "prompts/list" => json!({"resultType":"complete","prompts":[{"name":"p"}]}),
        "resources/list" => json!({"resultType":"complete","resources":[{"uri":"x:r","name":"r"}]}),
        "resources/templates/list" => json!({"resultType":"complete","resourceTemplates":[]}),
        _ => {
            json!({"resultType":"complete","content":[],"messages":[],"contents":[],"ttlMs":0,"cacheScope":"private"})
        }
    })
}

/// `_meta` of a stateless client that declares these capabilities, and has more to say.
pub(crate) fn meta(capabilities: &str, more: &str) -> String {
    META.replace(":{}}", &format!(":{capabilities}{more}}}"))
}

/// A call of the tool `t` with these members of `params` beside its name.
pub(crate) fn request(method: &str, params: &str, meta: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"c","method":"{method}","params":{{{params},{meta}}}}}"#)
}

/// Everything on.
pub(crate) const ALL_ON: &str = "features: {prompts: true, resources: true, completions: true, elicitation: true, sampling: true, roots: true, logging: true}
rules: [{name: r, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], prompts: ['*'], resources: ['*']}]";
