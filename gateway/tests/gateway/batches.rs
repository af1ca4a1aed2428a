//! Several messages in one array: in sessions of revision 2025-03-26, each for itself.

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use rstest::rstest;
use serde_json::{Value, json};

use crate::replicas::{at, replicas, replicas_and_ports};
use crate::support::{ALICE, Answer, Client, Gateway, Server, Speaks, config};

const WITH_BATCHES: &str = "2025-03-26";

fn call(id: impl Into<Value>, tool: &str) -> Value {
    json!({"jsonrpc":"2.0","id":id.into(),"method":"tools/call","params":{"name":tool,"arguments":{}}})
}

async fn send(client: &Client, items: &[Value]) -> Answer {
    client.post(&Value::from(items).to_string()).await
}

/// By id: `true` for a result, the reason or code of an error otherwise.
fn outcomes(answers: &[Value]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = answers
        .iter()
        .map(|answer| {
            let error = &answer["error"];
            let outcome = match (&error["data"]["reason"], &error["code"]) {
                (Value::String(reason), _) => reason.clone(),
                (_, Value::Null) => "ok".to_owned(),
                (_, code) => code.to_string(),
            };
            (answer["id"].to_string(), outcome)
        })
        .collect();
    all.sort();
    all
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(id, outcome): &(&str, &str)| ((*id).to_owned(), (*outcome).to_owned());
    expected.iter().map(owned).collect()
}

#[tokio::test]
async fn each_message_of_a_batch_is_judged_answered_and_recorded_by_itself() {
    let server = Server::start(Speaks::Sessions).await;
    let rules = "
rules:
  - {name: some, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: [echo, fail]}
";
    let gateway = Gateway::start(&config(&[("s", server.address)], rules)).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let answer = send(
        &client,
        &[
            call(1, "s__echo"),
            call(2, "s__secret"),
            call("three", "s__fail"),
            json!({"jsonrpc":"2.0","method":"notifications/roots/list_changed"}),
            json!({"jsonrpc":"2.0","id":4,"method":"ping"}),
            json!({"jsonrpc":"2.0","id":5,"method":"no/such"}),
            json!({"jsonrpc":"2.0","id":6,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}),
            json!({"jsonrpc":"1.0","id":7,"method":"ping"}),
            json!({"jsonrpc":"2.0","id":99,"result":{}}),
            json!([]),
        ],
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        outcomes(answer.json().as_array().unwrap()),
        pairs(&[
            ("\"three\"", "-32050"),
            ("1", "ok"),
            ("2", "tool_unknown"),
            ("4", "ok"),
            ("5", "method_unknown"),
            ("6", "unexpected_message"),
            ("7", "invalid_request"),
            ("null", "invalid_request"),
        ])
    );
    assert_eq!(server.seen.of("tools/call").len(), 2);
    let records = gateway.audit().await;
    let mut calls: Vec<_> = records
        .iter()
        .filter(|record| record["method"] == "tools/call")
        .map(|record| (record["tool"].as_str(), record["decision"].as_str()))
        .collect();
    calls.sort();
    assert_eq!(
        calls,
        [
            (Some("echo"), Some("allow")),
            (Some("fail"), Some("allow")),
            (Some("secret"), Some("deny"))
        ],
        "{records:?}"
    );
    let ids: std::collections::HashSet<_> = records.iter().map(|record| &record["requestId"]).collect();
    assert_eq!(ids.len(), records.len(), "records are told apart");
    let text = gateway.app.metrics.render();
    let count = |what: &str| {
        let lines = text.lines().filter(|line| line.starts_with(what));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        count("portcullis_gateway_requests_total"),
        3,
        "initialize, initialized and the batch"
    );
}

#[tokio::test]
async fn without_requests_there_is_nothing_to_answer() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let answer = send(
        &client,
        &[
            json!({"jsonrpc":"2.0","method":"notifications/initialized"}),
            json!({"jsonrpc":"2.0","id":9,"result":{}}),
        ],
    )
    .await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, ""));
}

#[rstest]
#[case::none("[]".into(), "invalid_request")]
#[case::cut_off("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"},".into(), "parse_error")]
#[case::no_json("[{]".into(), "parse_error")]
#[case::too_many(format!("[{}]", vec!["0"; 51].join(",")), "invalid_request")]
#[case::deep(format!("[{}1{}]", "[".repeat(300), "]".repeat(300)), "invalid_request")]
#[tokio::test]
async fn what_is_no_batch_is_refused_as_a_whole(#[case] body: String, #[case] reason: &str) {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let answer = client.post(&body).await;
    assert_eq!(
        (answer.status, &*answer.reason()),
        (StatusCode::BAD_REQUEST, reason),
        "{answer:?}"
    );
}

#[tokio::test]
async fn only_sessions_of_one_revision_have_batches() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let ping = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
    let plain = gateway.client(ALICE);
    let with = plain.initialize_in(WITH_BATCHES).await;
    let refused = |answer: Answer| {
        assert_eq!(
            (answer.status, &*answer.reason()),
            (StatusCode::BAD_REQUEST, "batch_not_allowed"),
            "{answer:?}"
        );
    };
    refused(plain.post(ping).await);
    refused(plain.initialize_in("2025-06-18").await.post(ping).await);
    refused(plain.initialize().await.post(ping).await);
    for version in ["2025-06-18", "2026-07-28", "nonsense"] {
        refused(
            with.send(Method::POST, &[("mcp-protocol-version", version)], ping)
                .await,
        );
    }
    let named = with
        .send(Method::POST, &[("mcp-protocol-version", WITH_BATCHES)], ping)
        .await;
    assert_eq!(named.json(), json!([{"jsonrpc":"2.0","id":1,"result":{}}]));
    let mut other = gateway.client(crate::support::BOB);
    other.session.clone_from(&with.session);
    assert_eq!(other.post(ping).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_whose_answers_could_not_be_told_apart_are_not_made() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let body = r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s__echo"}},
        {"jsonrpc":"2.0","id":1.0,"method":"tools/call","params":{"name":"s__echo"}},
        {"jsonrpc":"2.0","id":"1","method":"ping"}]"#;
    let answer = client.post(body).await.json();
    assert_eq!(
        outcomes(answer.as_array().unwrap()),
        pairs(&[
            ("\"1\"", "ok"),
            ("1", "unexpected_message"),
            ("1.0", "unexpected_message")
        ])
    );
    assert_eq!(server.seen.of("tools/call").len(), 0);
}

#[tokio::test]
async fn each_message_of_a_batch_is_charged() {
    let server = Server::start(Speaks::Sessions).await;
    // `initialize`, `notifications/initialized`, and three more.
    let limits = "rateLimits: [{name: few, key: Client, requests: 1, per: 24h, burst: 5}]";
    let gateway = Gateway::start(&config(&[("s", server.address)], limits)).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let items: Vec<Value> = (1..=9).map(|id| call(id, "s__echo")).collect();
    let answer = send(&client, &items).await;
    assert_eq!(answer.status, StatusCode::OK);
    let found = outcomes(answer.json().as_array().unwrap());
    let with = |outcome: &str| found.iter().filter(|(_, found)| found == outcome).count();
    assert_eq!((with("ok"), with("rate_limited")), (3, 6), "{found:?}");
    assert!(answer.headers.contains_key("ratelimit"), "{:?}", answer.headers);
    assert_eq!(server.seen.of("tools/call").len(), 3);
}

#[tokio::test]
async fn what_streams_comes_as_events_as_soon_as_it_is_there() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    for path in ["/mcp", "/servers/s/mcp"] {
        let prefix = if path == "/mcp" { "s__" } else { "" };
        let client = gateway.client(ALICE).at(path).initialize_in(WITH_BATCHES).await;
        let mut slow = call("slow", &format!("{prefix}slow"));
        slow["params"]["_meta"] = json!({"progressToken":"mine"});
        let mut items = vec![slow];
        items.extend((1..=20).map(|id| call(id, &format!("{prefix}echo"))));
        let answer = send(&client, &items).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        let events = answer.events();
        let progress = events
            .iter()
            .find(|event| event["method"] == "notifications/progress");
        assert_eq!(progress.unwrap()["params"]["progressToken"], "mine");
        assert_eq!(events.len(), 22, "{events:?}");
        assert_eq!(events[21]["id"], "slow", "nothing waits for it");
        assert!(!answer.text.contains("\nid:"), "{}", answer.text);
    }
}

#[tokio::test]
async fn at_most_so_many_are_in_flight() {
    let server = Server::start(Speaks::Sessions).await;
    // One place at the gateway, which the batch itself has: its messages take turns.
    let gateway = Gateway::start(&config(
        &[("s", server.address)],
        "limits: {maxConcurrentRequests: 1}",
    ))
    .await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let items: Vec<Value> = (1..=5).map(|id| call(id, "s__echo")).collect();
    let answer = send(&client, &items).await.json();
    let found = outcomes(answer.as_array().unwrap());
    assert!(
        found.len() == 5 && found.iter().all(|(_, found)| found == "ok"),
        "{found:?}"
    );
}

#[tokio::test]
async fn who_leaves_a_batch_leaves_its_calls_to_go_on() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let mut slow = call("slow", "s__slow");
    slow["params"]["_meta"] = json!({"progressToken":1});
    let body = Value::from(vec![slow, call(1, "s__echo")]).to_string();
    let mut response = client.open(Method::POST, &[], &body).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    server.seen.wait("answered", 1).await;
    assert!(server.seen.of("closed").is_empty() && server.seen.of("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn the_rest_of_a_batch_is_refused_once_its_session_has_ended() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize_in(WITH_BATCHES).await;
    let slow = |id: usize| {
        let mut slow = call(id, "s__slow");
        slow["params"]["_meta"] = json!({"progressToken":id});
        slow
    };
    let mut items: Vec<Value> = (1..=8).map(slow).collect();
    items.push(call("later", "s__echo"));
    let body = Value::from(items).to_string();
    let mut response = client.open(Method::POST, &[], &body).await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(client.send(Method::DELETE, &[], "").await.status, StatusCode::OK);
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        rest.contains(r#""id":"later","error""#) && rest.contains("session_unknown"),
        "{rest}"
    );
    let calls = server.seen.of("tools/call");
    assert!(
        calls.iter().all(|(_, call)| call["params"]["name"] == "slow"),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_batch_passes_through_the_hop_as_one() {
    let server = Server::start(Speaks::Sessions).await;
    let all = replicas(&server, 2).await;
    let session = all[0].client(ALICE).initialize_in(WITH_BATCHES).await;
    let there = at(&session, &all[1]);
    let items = [call(1, "s__echo"), call(2, "s__none")];
    let answer = send(&there, &items).await.json();
    assert_eq!(
        outcomes(answer.as_array().unwrap()),
        pairs(&[("1", "ok"), ("2", "tool_unknown")])
    );
    // The owner's session on the server, and each replica's own.
    assert_eq!(server.seen.of("tools/call").len(), 1);
    assert_eq!(server.seen.of("initialize").len(), 3);
    let newer = at(&all[0].client(ALICE).initialize().await, &all[1]);
    assert_eq!(send(&newer, &items).await.reason(), "batch_not_allowed");
}

#[tokio::test]
async fn what_a_lost_owner_left_unanswered_is_answered_with_errors() {
    let server = Server::start(Speaks::Sessions).await;
    let (all, ports) = replicas_and_ports(&server, 2).await;
    let session = all[0].client(ALICE).initialize_in(WITH_BATCHES).await;
    let mut slow = call("slow", "s__slow");
    slow["params"]["_meta"] = json!({"progressToken":1});
    let body = Value::from(vec![slow, call(1, "s__echo")]).to_string();
    let mut response = at(&session, &all[1]).open(Method::POST, &[], &body).await;
    let mut text = String::new();
    while !text.contains("\"id\":1") {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap()));
    }
    assert_eq!(ports[0].abort_all(), 1);
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    let messages: Vec<Value> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|message: &Value| !message["id"].is_null())
        .collect();
    assert_eq!(
        outcomes(&messages),
        pairs(&[("\"slow\"", "owner_lost")]),
        "{rest}"
    );
}
