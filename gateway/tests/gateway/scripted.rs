//! What a server does with a call whose arguments say so: `{"do": "late"}` and the like.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::support::{Seen, json_answer};

/// What a test tells a server while it runs, and what it saw.
#[derive(Clone)]
pub(crate) struct Script {
    released: Arc<watch::Sender<bool>>,
    /// Ids of calls that were cancelled, and whether that is listened to.
    cancelled: Arc<watch::Sender<Vec<Value>>>,
    pub(crate) deaf: Arc<watch::Sender<bool>>,
    /// Sessions are not opened before the release.
    held: Arc<AtomicBool>,
    /// How long it takes to accept an answer of the client.
    pub(crate) accepting: Arc<watch::Sender<Duration>>,
    /// Answers of the client that it is just accepting, and the most there ever were.
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            released: Arc::new(watch::Sender::new(false)),
            cancelled: Arc::default(),
            deaf: Arc::new(watch::Sender::new(false)),
            held: Arc::default(),
            accepting: Arc::new(watch::Sender::new(Duration::ZERO)),
            now: Arc::default(),
            most: Arc::default(),
        }
    }
}

impl Script {
    /// Calls that wait are answered, and later ones at once.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// From now on sessions are opened when calls that wait are answered.
    pub(crate) fn hold_openings(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn wait_opening(&self) {
        if self.held.load(Ordering::SeqCst) {
            let mut released = self.released.subscribe();
            released.wait_for(|released| *released).await.unwrap();
        }
    }

    /// The most answers that came at once.
    pub(crate) fn most_answers_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    pub(crate) fn cancel(&self, id: &Value) {
        self.cancelled.send_modify(|ids| ids.push(id.clone()));
    }

    /// True: the call with this id may be answered. False: it was cancelled.
    async fn wait(&self, id: &Value) -> bool {
        let (mut released, mut cancelled) = (self.released.subscribe(), self.cancelled.subscribe());
        tokio::select! {
            released = released.wait_for(|released| *released) => released.is_ok(),
            cancelled = cancelled.wait_for(|ids| ids.contains(id) && !*self.deaf.borrow()) => cancelled.is_err(),
        }
    }

    pub(crate) async fn take_answer(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let gone = Gone(Arc::clone(&self.now));
        let time = *self.accepting.borrow();
        tokio::time::sleep(time).await;
        drop(gone);
    }
}

/// Counts down however it ends.
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Notes that the caller went away before its answer.
struct Left(Option<Seen>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(seen) = self.0.take() {
            seen.note("gone", &HeaderMap::new(), &Value::Null);
        }
    }
}

/// Does what the call's arguments say.
pub(crate) async fn call(script: &Script, seen: &Seen, request: &Value) -> Response<AxumBody> {
    let id = &request["id"];
    let done = json!({"jsonrpc":"2.0","id":id,"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}});
    match request["params"]["arguments"]["do"].as_str().unwrap() {
        // Not a byte before the answer.
        "late" => {
            let mut left = Left(Some(seen.clone()));
            if !script.wait(id).await {
                let ended = json!({"jsonrpc":"2.0","id":id,"error":{"code":0,"message":"cancelled"}});
                return json_answer(StatusCode::OK, &ended);
            }
            left.0 = None;
            seen.note("answered", &HeaderMap::new(), &Value::Null);
            json_answer(StatusCode::OK, &done)
        }
        // Fails, without a word of MCP.
        "crash" => json_answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({})),
        // Does not take what it was shown.
        "refuse" => json_answer(StatusCode::UNAUTHORIZED, &json!({})),
        // Progress once, then nothing before the answer.
        "quiet" => streamed(script, seen, request, done, None),
        // The same, with a ping now and then.
        "ping" => {
            let ping = json!({"jsonrpc":"2.0","id":"p","method":"ping"});
            streamed(script, seen, request, done, Some(ping))
        }
        // The same, with words that are not for the client.
        "log" => {
            let log = json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}});
            streamed(script, seen, request, done, Some(log))
        }
        // Progress now and then.
        "progress" => {
            let progress = progress(request);
            streamed(script, seen, request, done, Some(progress))
        }
        // Asks a hundred things at once before it answers.
        "ask" => {
            let mut text = String::new();
            for number in 0..100 {
                let ask = json!({"jsonrpc":"2.0","id":format!("q{number}"),"method":"roots/list"});
                text.push_str(&event(&ask));
            }
            text.push_str(&event(&done));
            let mut response = Response::new(AxumBody::from(text));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        // Progress, then an answer of very many lines, each of which is a field of its own in an event.
        "lines" => {
            let text = done.to_string();
            let (head, tail) = text.split_at(1);
            let empty = "data: \n".repeat(900_000);
            let last = format!("event: message\ndata: {head}\n{empty}data: {tail}\n\n");
            let mut response = Response::new(AxumBody::from(event(&progress(request)) + &last));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        other => panic!("nobody knows how to do {other}"),
    }
}

fn progress(request: &Value) -> Value {
    let token = &request["params"]["_meta"]["progressToken"];
    json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"progress":1}})
}

fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// Progress, then `between` every ten seconds until the test releases it.
fn streamed(
    script: &Script,
    seen: &Seen,
    request: &Value,
    done: Value,
    between: Option<Value>,
) -> Response<AxumBody> {
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let (script, seen, first) = (script.clone(), seen.clone(), progress(request));
    let id = request["id"].clone();
    tokio::spawn(async move {
        let note = |what| seen.note(what, &HeaderMap::new(), &Value::Null);
        sender.send(event(&first).into()).await.ok();
        loop {
            tokio::select! {
                () = sender.closed() => return note("gone"),
                go_on = script.wait(&id) => {
                    if !go_on {
                        return note("gone");
                    }
                    sender.send(event(&done).into()).await.ok();
                    return note("answered");
                }
                () = tokio::time::sleep(Duration::from_secs(10)), if between.is_some() => {
                    let between = between.as_ref().unwrap();
                    sender.send(event(between).into()).await.ok();
                }
            }
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver
            .recv()
            .await
            .map(|bytes| (Ok::<_, Infallible>(bytes), receiver))
    });
    let mut response = Response::new(AxumBody::from_stream(stream));
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// A call in a session that does that; its progress goes by `mine`.
pub(crate) fn doing(id: &str, what: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/call","params":{{"name":"s__slow","arguments":{{"do":"{what}"}},"_meta":{{"progressToken":"mine"}}}}}}"#
    )
}

/// The same of a stateless client, with its headers.
pub(crate) fn doing_stateless(what: &str) -> (String, [(&'static str, &'static str); 3]) {
    let meta = crate::support::META.replace(r#""_meta":{"#, r#""_meta":{"progressToken":"mine","#);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"s__slow","arguments":{{"do":"{what}"}},{meta}}}}}"#
    );
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "s__slow"),
    ];
    (body, headers)
}
