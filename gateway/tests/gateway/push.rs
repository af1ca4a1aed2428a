//! What servers ask and tell clients in their sessions: on the streams of calls, on the client's own, and after a stream
//! has broken off.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portcullis_gateway::config::watch::Outcome;
use rstest::rstest;
use serde_json::{Value, json};

use crate::asker::Asker;
use crate::support::{ALICE, BOB, Client, Gateway, config};

const ON: &str = "features: {resources: true, elicitation: true, sampling: true, roots: true, logging: true, subscriptions: true}
rules: [{name: r, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], resources: ['note:*']}]
";
const SOON: Duration = Duration::from_secs(10);

/// A stream, event by event.
pub(crate) struct Events {
    response: Response<Incoming>,
    text: String,
}

/// One event: its fields.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    retry: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    pub(crate) async fn of(client: &Client, method: Method, headers: &[(&str, &str)], body: &str) -> Self {
        let response = client.open(method, headers, body).await;
        Self::from(response)
    }

    /// The events of an answer.
    pub(crate) fn from(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The client listens.
    pub(crate) async fn listen(client: &Client) -> Self {
        Self::of(client, Method::GET, &[], "").await
    }

    pub(crate) async fn call(client: &Client, tool: &str) -> Self {
        Self::of(client, Method::POST, &[], &calling(tool)).await
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(SOON, async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    let mut found = Event::default();
                    for line in event.lines() {
                        match line
                            .split_once(':')
                            .map(|(name, value)| (name, value.trim_start()))
                        {
                            Some(("id", id)) => found.id = Some(id.into()),
                            Some(("retry", retry)) => found.retry = Some(retry.into()),
                            Some(("data", data)) => {
                                found.data = serde_json::from_str(data).unwrap_or_default();
                            }
                            _ => {}
                        }
                    }
                    let comment = event.starts_with(':');
                    self.text = rest;
                    if !comment {
                        return Some(found);
                    }
                } else {
                    let frame = self.response.body_mut().frame().await?.unwrap();
                    let data = frame.into_data().unwrap_or_default();
                    self.text.push_str(std::str::from_utf8(&data).unwrap());
                }
            }
        })
        .await
        .expect("nothing comes")
    }

    /// Waits for the end, before which nothing comes but news of lists.
    async fn end(&mut self) {
        while let Some(event) = self.next().await {
            let method = event.data["method"].as_str().unwrap_or_default();
            assert!(method.ends_with("/list_changed"), "{event:?}");
        }
    }

    /// The next message but for news of lists, which the servers' first ones are.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let message = self.next().await.expect("the stream ended").data;
            let method = message["method"].as_str().unwrap_or_default();
            if !method.ends_with("/list_changed") {
                return message;
            }
        }
    }
}

pub(crate) fn calling(tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
    )
}

/// A session of a client that can be asked everything.
pub(crate) async fn session(gateway: &Gateway, who: u8, path: &str) -> Client {
    let capabilities = r#"{"elicitation":{},"sampling":{},"roots":{"listChanged":true}}"#;
    with(gateway, who, path, capabilities).await
}

async fn with(gateway: &Gateway, who: u8, path: &str, capabilities: &str) -> Client {
    let client = gateway.client(who).at(path);
    let opened = client
        .post(&format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"test","version":"1"}}}}}}"#))
        .await;
    assert_eq!(opened.status, StatusCode::OK, "{opened:?}");
    Client {
        session: Some(opened.headers["mcp-session-id"].to_str().unwrap().into()),
        ..client
    }
}

pub(crate) async fn answer(client: &Client, id: &Value, content: &str) {
    let body = json!({"jsonrpc":"2.0","id":id,"result":{"action":"accept","content":{"x":content}}});
    assert_eq!(client.post(&body.to_string()).await.status, StatusCode::ACCEPTED);
}

/// What the server says that it was answered.
fn told(message: &Value) -> Value {
    let text = message["result"]["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("{message}"))).unwrap()
}

#[rstest]
#[case::one_server("/servers/one/mcp", "ask", "ask")]
#[case::side_by_side("/mcp", "one__ask", "two__ask")]
#[tokio::test]
async fn a_servers_question_goes_to_its_client_and_the_answer_to_the_server(
    #[case] path: &str,
    #[case] first: &str,
    #[case] second: &str,
) {
    let (one, two) = (Asker::start().await, Asker::start().await);
    let gateway = Gateway::start(&config(&[("one", one.address), ("two", two.address)], ON)).await;
    let client = session(&gateway, ALICE, path).await;
    let other = session(&gateway, BOB, path).await;
    // Two calls, whose servers give their questions the same id.
    let mut calls = [
        Events::call(&client, first).await,
        Events::call(&other, second).await,
    ];
    let mut ids = Vec::new();
    for call in &mut calls {
        let question = call.message().await;
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(question["params"]["message"], "why?");
        ids.push(question["id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
    // Nobody answers for somebody else.
    answer(&client, &ids[1], "not mine").await;
    answer(&other, &ids[1], "second").await;
    answer(&client, &ids[0], "first").await;
    answer(&client, &ids[0], "again").await;
    for (call, expected) in calls.iter_mut().zip(["first", "second"]) {
        let last = call.message().await;
        assert_eq!(last["id"], "c");
        assert_eq!(told(&last)["result"]["content"]["x"], expected);
        assert!(call.next().await.is_none());
    }
    let records = gateway.audit().await;
    let asked =
        |record: &&Value| record["reason"] == "asked_by_server" && record["method"] == "elicitation/create";
    assert_eq!(records.iter().filter(asked).count(), 2, "{records:?}");
}

#[tokio::test]
async fn what_a_client_did_not_declare_or_what_is_off_is_not_asked() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = with(&gateway, ALICE, "/mcp", "{}").await;
    let refused = client.post(&calling("s__ask")).await;
    assert_eq!(told(&refused.json())["error"]["code"], -32601);
    assert_eq!(
        server.declared(),
        [json!({})],
        "nothing is declared that the client cannot do"
    );

    // The sampling alone is off.
    let off = ON.replace("elicitation: true", "elicitation: false");
    let gateway = Gateway::start(&config(&[("s", server.address)], &off)).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    let refused = client.post(&calling("s__ask")).await;
    assert_eq!(told(&refused.json())["error"]["code"], -32601);
    let declared = server.declared().pop().unwrap();
    assert_eq!(declared, json!({"sampling":{},"roots":{"listChanged":true}}));
}

#[rstest]
#[case::one_server("/servers/s/mcp", "aside")]
#[case::side_by_side("/mcp", "s__aside")]
#[tokio::test]
async fn a_question_beside_its_call_comes_on_the_clients_own_stream(
    #[case] path: &str,
    #[case] tool: &str,
    #[values(false, true)] late: bool,
) {
    let server = if late {
        Asker::late().await
    } else {
        Asker::start().await
    };
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, path).await;
    let mut own = Events::listen(&client).await;
    let calling_client = client.clone();
    let body = calling(tool);
    let call = tokio::spawn(async move { calling_client.post(&body).await });
    let question = own.message().await;
    assert_eq!(question["method"], "sampling/createMessage");
    answer(&client, &question["id"], "aside").await;
    let answered = call.await.unwrap();
    assert_eq!(told(&answered.json())["result"]["content"]["x"], "aside");
}

#[tokio::test]
async fn a_new_stream_takes_the_place_of_the_old_and_ends_with_the_session() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut old = Events::listen(&client).await;
    let mut new = Events::listen(&client).await;
    old.end().await;
    assert_eq!(client.send(Method::DELETE, &[], "").await.status, StatusCode::OK);
    new.end().await;
}

/// A stream that takes the place of another needs no second one.
#[tokio::test]
async fn a_clients_streams_are_bounded_and_so_is_their_age() {
    let server = Asker::start().await;
    let more = format!("{ON}limits: {{maxSessionsPerClient: 2, maxStreamsPerClient: 2, maxStreamAge: 3s}}\n");
    let gateway = Gateway::start(&config(&[("s", server.address)], &more)).await;
    let one = session(&gateway, ALICE, "/servers/s/mcp").await;
    let other = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut call = Events::call(&one, "stall").await;
    let id = call.next().await.unwrap().id.unwrap();
    let first = Events::listen(&one).await;
    let _second = Events::listen(&other).await;
    let refused = one.send(Method::GET, &[("last-event-id", &id)], "").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    let bob = session(&gateway, BOB, "/servers/s/mcp").await;
    Events::listen(&bob).await.end().await;
    let mut again = Events::listen(&one).await;
    drop(first);
    // They are too old before long, and make room.
    again.end().await;
    Events::of(&one, Method::GET, &[("last-event-id", &id)], "").await;
}

#[tokio::test]
async fn without_anything_to_hear_there_is_no_stream() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    let refused = client.send(Method::GET, &[], "").await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);

    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    for (headers, status) in [
        (vec![("accept", "application/json")], StatusCode::NOT_ACCEPTABLE),
        (vec![("mcp-session-id", "")], StatusCode::BAD_REQUEST),
        (vec![("mcp-session-id", "x")], StatusCode::NOT_FOUND),
        (vec![("last-event-id", "x")], StatusCode::BAD_REQUEST),
        (
            vec![("mcp-protocol-version", "2026-07-28")],
            StatusCode::METHOD_NOT_ALLOWED,
        ),
    ] {
        let refused = client.send(Method::GET, &headers, "").await;
        assert_eq!(refused.status, status, "{headers:?}: {refused:?}");
    }
    let bob = Client {
        session: client.session.clone(),
        ..gateway.client(BOB)
    };
    assert_eq!(bob.send(Method::GET, &[], "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_log_level_counts_for_sessions_that_are_open_and_for_later_ones() {
    let (one, two) = (Asker::start().await, Asker::start().await);
    let gateway = Gateway::start(&config(&[("one", one.address), ("two", two.address)], ON)).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    client.post(&calling("one__log")).await;
    let level = |level: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#)
    };
    assert_eq!(client.post(&level("loud")).await.json()["error"]["code"], -32602);
    assert_eq!(client.post(&level("error")).await.json()["result"], json!({}));
    assert_eq!(one.levels(), ["error"]);
    assert_eq!(two.levels(), [""; 0], "its session is not open yet");
    let mut call = Events::call(&client, "two__log").await;
    assert_eq!(two.levels(), ["error"]);
    let log = call.message().await;
    assert_eq!(log["method"], "notifications/message");
    // The server says more than it was told to, which the client does not hear.
    assert_eq!(log["params"]["data"], json!({"k": 1.0}));
}

#[rstest]
#[case::permitted("note:1", true)]
#[case::forbidden("secret:1", false)]
#[tokio::test]
async fn news_of_resources_come_under_the_clients_name_for_them(#[case] own: &str, #[case] heard: bool) {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    let mut stream = Events::listen(&client).await;
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"s+{own}"}}}}"#);
    let subscribed = client.post(&body).await.json();
    if !heard {
        assert!(subscribed["error"]["code"].is_number(), "{subscribed}");
        assert!(server.subscribed().is_empty());
        return;
    }
    assert!(subscribed["result"].is_object(), "{subscribed}");
    assert_eq!(server.subscribed(), [own]);
    let news = stream.message().await;
    assert_eq!(news["method"], "notifications/resources/updated");
    assert_eq!(news["params"]["uri"], format!("s+{own}"));
}

#[tokio::test]
async fn a_server_that_a_client_may_no_longer_use_says_nothing_to_it() {
    let (one, two) = (Asker::start().await, Asker::start().await);
    let text = config(&[("one", one.address), ("two", two.address)], ON);
    let gateway = Gateway::start(&text).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    let mut stream = Events::listen(&client).await;
    client.post(&calling("one__log")).await;
    client.post(&calling("two__log")).await;
    let says = |who: &str| json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":who}});
    for (server, who) in [(&one, "one"), (&two, "two")] {
        server.say(&says(who)).await;
        assert_eq!(stream.message().await["params"]["data"], who);
    }

    let less = config(
        &[("one", one.address), ("two", two.address)],
        &ON.replace("servers: ['*']", "servers: [a/one]"),
    );
    assert!(matches!(gateway.reload(&less), Outcome::Taken));
    two.say(&says("two")).await;
    let question = json!({"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":"who?"}});
    assert_eq!(two.ask(&question).await["error"]["code"], -32601);
    one.say(&says("one again")).await;
    assert_eq!(stream.message().await["params"]["data"], "one again");
}

#[tokio::test]
async fn with_one_server_a_client_goes_on_from_the_servers_own_places() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut call = Events::call(&client, "poll").await;
    let place = call.next().await.unwrap();
    assert_eq!((place.retry.as_deref(), &place.data), (Some("100"), &Value::Null));
    let id = place.id.unwrap();
    assert!(!id.contains("place"), "it is sealed: {id}");
    assert!(call.next().await.is_none(), "the server closed the stream");

    // It is good in this session alone.
    let stranger = session(&gateway, BOB, "/servers/s/mcp").await;
    let refused = stranger.send(Method::GET, &[("last-event-id", &id)], "").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let mut rest = Events::of(&client, Method::GET, &[("last-event-id", &id)], "").await;
    let last = rest.next().await.unwrap();
    assert_eq!(
        (&last.data["id"], &last.data["result"]["content"][0]["text"]),
        (&json!("c"), &json!("polled"))
    );
    assert!(last.id.is_some_and(|last| last != id));
    assert!(rest.next().await.is_none());
}

#[tokio::test]
async fn the_rest_of_an_answer_has_the_times_of_a_call() {
    let server = Asker::start().await;
    let text = config(&[("s", server.address)], ON)
        .replace("- addressPolicy:", "- limits: {timeout: 1s}\n  addressPolicy:");
    let gateway = Gateway::start(&text).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut call = Events::call(&client, "stall").await;
    let id = call.next().await.unwrap().id.unwrap();
    assert!(call.next().await.is_none(), "the server closed the stream");
    // The server takes the request for the rest, and never says a word.
    let mut rest = Events::of(&client, Method::GET, &[("last-event-id", &id)], "").await;
    assert!(rest.next().await.is_none());
}

/// The server's time begins anew with the client's answer.
#[tokio::test]
async fn what_the_client_takes_to_answer_is_not_the_servers_time() {
    let server = Asker::start().await;
    let text = config(&[("s", server.address)], ON)
        .replace("- addressPolicy:", "- limits: {timeout: 1s}\n  addressPolicy:");
    let gateway = Gateway::start(&text).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    let mut call = Events::call(&client, "s__mull").await;
    let question = call.message().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    answer(&client, &question["id"], "done").await;
    let answered = told(&call.message().await);
    assert_eq!(answered["result"]["content"]["x"], "done", "{answered}");
}

/// A client that knows forms is not sent to a URL.
#[tokio::test]
async fn a_client_is_not_asked_in_a_mode_that_it_does_not_know() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = with(&gateway, ALICE, "/mcp", r#"{"elicitation":{"form":{}}}"#).await;
    let answer = client.post(&calling("s__link")).await;
    let answer = answer.events().pop().unwrap_or_else(|| answer.json());
    assert_eq!(told(&answer)["error"]["code"], -32601, "{answer}");
    let both = with(&gateway, ALICE, "/mcp", r#"{"elicitation":{"form":{},"url":{}}}"#).await;
    let mut call = Events::call(&both, "s__link").await;
    assert_eq!(call.message().await["params"]["mode"], "url");
}

/// The client does not read where the call began any more, and it is a call all the same.
#[tokio::test]
async fn a_call_that_is_read_elsewhere_keeps_its_place_and_can_be_cancelled() {
    let server = Asker::start().await;
    let text = config(&[("s", server.address)], ON).replace(
        "- addressPolicy:",
        "- limits: {maxConcurrent: 1}\n  addressPolicy:",
    );
    let gateway = Gateway::start(&text).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let begin = async || {
        let mut call = Events::call(&client, "poll").await;
        let id = call.next().await.unwrap().id.unwrap();
        assert!(call.next().await.is_none(), "the server closed the stream");
        id
    };
    let other = calling("log").replace(r#""c""#, r#""d""#);
    let id = begin().await;
    let busy = client.post(&other).await.json();
    assert_eq!(busy["error"]["data"]["reason"], "upstream_busy", "{busy}");
    // Read to its end, it makes room.
    let mut rest = Events::of(&client, Method::GET, &[("last-event-id", &id)], "").await;
    while rest.next().await.is_some() {}
    begin().await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c"}}"#;
    assert_eq!(client.post(cancel).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.cancelled().await, Some(json!("c")));
    let free = client.post(&other).await.events().pop().unwrap();
    assert_eq!(free["result"]["content"][0]["text"], "logged", "{free}");
}

#[tokio::test]
async fn what_is_read_elsewhere_ends_with_the_session() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut call = Events::call(&client, "stall").await;
    let id = call.next().await.unwrap().id.unwrap();
    let mut rest = Vec::new();
    for _ in 0..9 {
        rest.push(Events::of(&client, Method::GET, &[("last-event-id", &id)], "").await);
    }
    // There are no more of them than so many at once.
    rest.remove(0).end().await;
    assert_eq!(client.send(Method::DELETE, &[], "").await.status, StatusCode::OK);
    for mut stream in rest {
        stream.end().await;
    }
}

#[tokio::test]
async fn a_client_that_only_listens_learns_that_its_session_is_lost() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut own = Events::listen(&client).await;
    let news = json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}});
    server.say(&news).await;
    assert_eq!(own.message().await, news);
    server.forget();
    own.end().await;
    let again = client.send(Method::GET, &[], "").await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
}

/// As many servers do after a restart, which should be 404.
#[rstest]
#[case::side_by_side("/mcp", "s__log", StatusCode::OK)]
#[case::one_server("/servers/s/mcp", "log", StatusCode::NOT_FOUND)]
#[tokio::test]
async fn a_server_that_says_400_of_a_session_has_forgotten_it(
    #[case] path: &str,
    #[case] tool: &str,
    #[case] then: StatusCode,
) {
    let server = Asker::not_knowing(StatusCode::BAD_REQUEST).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, path).await;
    assert_eq!(client.post(&calling(tool)).await.status, StatusCode::OK);
    server.forget();
    let again = client.post(&calling(tool)).await;
    assert_eq!(again.status, then, "{again:?}");
    if then == StatusCode::OK {
        let last = again.events().pop().unwrap();
        assert_eq!(last["result"]["content"][0]["text"], "logged", "{last}");
    }
}

/// As a server does that has not noticed that the old stream is gone, or that is busy.
#[rstest]
#[tokio::test]
async fn a_server_that_refuses_the_stream_for_now_is_asked_again(
    #[values(StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED)]
    status: StatusCode,
) {
    let server = Asker::refusing(&[status]).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/servers/s/mcp").await;
    let mut own = Events::listen(&client).await;
    let news = json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}});
    server.say(&news).await;
    assert_eq!(own.message().await, news);
}

#[tokio::test]
async fn side_by_side_the_gateway_goes_on_and_the_client_notices_nothing() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = session(&gateway, ALICE, "/mcp").await;
    let polled = client.post(&calling("s__poll")).await;
    assert_eq!(polled.json()["result"]["content"][0]["text"], "polled");
}

/// A call of a client that has no session, and can be asked what `capabilities` say; `more` are further params.
pub(crate) async fn stateless(client: &Client, id: u8, tool: &str, capabilities: &str, more: &str) -> Value {
    let meta = format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities},"io.modelcontextprotocol/clientInfo":{{"name":"test","version":"1"}}}}"#
    );
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}},{more}{meta}}}}}"#
    );
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
    ];
    let answer = client.send(Method::POST, &headers, &body).await;
    answer.events().pop().unwrap_or_else(|| answer.json())
}

pub(crate) fn retry(asked: &Value, answer: &Value) -> String {
    let state = asked["result"]["requestState"].as_str().unwrap();
    format!(r#""inputResponses":{{"1":{answer}}},"requestState":"{state}","#)
}

#[rstest]
#[case::on_its_own_stream("s__ask", "elicitation/create", r#"{"elicitation":{}}"#)]
#[case::beside_the_call("s__aside", "sampling/createMessage", r#"{"sampling":{}}"#)]
#[tokio::test]
async fn a_client_without_a_session_is_asked_in_the_answer(
    #[case] tool: &str,
    #[case] method: &str,
    #[case] capabilities: &str,
    #[values(false, true)] late: bool,
) {
    let server = if late {
        Asker::late().await
    } else {
        Asker::start().await
    };
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = gateway.client(ALICE);
    let asked = stateless(&client, 1, tool, capabilities, "").await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    assert_eq!(asked["result"]["inputRequests"]["1"]["method"], method);
    assert_eq!(
        server.declared(),
        [serde_json::from_str::<Value>(capabilities).unwrap()]
    );

    let retry = retry(&asked, &json!({"action":"accept","content":{"x":"y"}}));
    // Neither somebody else nor for something else, nor without an answer.
    let state = asked["result"]["requestState"].as_str().unwrap();
    for (who, tool, more) in [
        (BOB, tool, retry.as_str()),
        (ALICE, "s__log", &retry),
        (ALICE, tool, &format!(r#""requestState":"{state}","#)),
        (ALICE, tool, &retry.replace(state, "x")),
    ] {
        let refused = stateless(&gateway.client(who), 2, tool, capabilities, more).await;
        assert_eq!(refused["error"]["code"], -32602, "{more}: {refused}");
    }
    let done = stateless(&client, 3, tool, capabilities, &retry).await;
    assert_eq!(done["id"], 3);
    assert_eq!(done["result"]["resultType"], "complete");
    assert_eq!(told(&done)["result"]["content"]["x"], "y");
    let again = stateless(&client, 4, tool, capabilities, &retry).await;
    assert_eq!(again["error"]["code"], -32602, "{again}");
    assert!(server.ended().await, "the call's own session goes with it");
}

#[tokio::test]
async fn calls_that_wait_for_one_client_are_bounded() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let client = gateway.client(ALICE);
    let can = r#"{"elicitation":{}}"#;
    for id in 0..32 {
        let asked = stateless(&client, id, "s__ask", can, "").await;
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    }
    let refused = stateless(&client, 99, "s__ask", can, "").await;
    assert_eq!(refused["error"]["data"]["reason"], "overloaded", "{refused}");
    let other = stateless(&gateway.client(BOB), 1, "s__ask", can, "").await;
    assert_eq!(other["result"]["resultType"], "input_required", "{other}");
}
