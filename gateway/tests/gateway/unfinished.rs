//! Servers that want to know more before they answer, and statuses of what they refuse.

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{ALL_ON, Native, Reply, meta, request};
use crate::support::{ALICE, Answer, BOB, Client, Gateway, config};

const CAN: &str = r#"{"elicitation":{},"roots":{}}"#;
/// A server's own state, spelled as no serializer would.
const STATE: &str = r#""s\u0074ate \/ 1""#;

/// Asks for an answer, then says which state came back.
async fn asking(question: &'static str) -> Native {
    Native::start(move |method, _, request| {
        let params = &request["params"];
        let asked_back = matches!(method, "tools/call" | "prompts/get" | "resources/read");
        if !asked_back {
            return None;
        }
        Some(if params["inputResponses"].is_object() {
            let text = format!("{} {}", params["inputResponses"], params["requestState"]);
            Reply::Result(json!({"resultType":"complete","content":[{"type":"text","text":text}],"ttlMs":0,"cacheScope":"private"}))
        } else {
            Reply::Raw(question)
        })
    })
    .await
}

const ASKS: &str = r#"{"resultType":"input_required","inputRequests":{"q":{"method":"elicitation/create","params":{"message":"?","x":1.0}}},"requestState":"s\u0074ate \/ 1"}"#;

async fn send(client: &Client, method: &str, name: &str, params: &str, meta: &str) -> Answer {
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
        ("mcp-name", name),
    ];
    client
        .send(Method::POST, &headers, &request(method, params, meta))
        .await
}

async fn ask(client: &Client, more: &str) -> Answer {
    let params = format!(r#""name":"t","arguments":{{"a":1,"b":"x"}}{more}"#);
    send(client, "tools/call", "t", &params, &meta(CAN, "")).await
}

fn state(answer: &Answer) -> String {
    let json = answer.json();
    assert_eq!(json["result"]["resultType"], "input_required", "{answer:?}");
    json["result"]["requestState"].as_str().unwrap().to_owned()
}

fn with(state: &str) -> String {
    format!(
        r#","inputResponses":{{"q":{{"action":"accept","content":{{"n":1.0}}}}}},"requestState":"{state}""#
    )
}

/// Repeating a request for nothing is not for clients with sessions either.
#[tokio::test]
async fn a_server_that_does_not_say_what_it_wants_is_asked_once() {
    let server = asking(r#"{"resultType":"input_required"}"#).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client.call("s__t", "{}").await;
    assert_eq!(answer.reason(), "upstream_invalid", "{answer:?}");
    assert_eq!(server.seen.of("tools/call").len(), 1);
}

#[rstest]
#[case("tools/call", "t", r#""name":"t","arguments":{"a":1}"#)]
#[case("prompts/get", "p", r#""name":"p","arguments":{"a":"1"}"#)]
#[case("resources/read", "x:r", r#""uri":"x:r""#)]
#[tokio::test]
async fn what_a_server_asks_is_answered_in_a_retry(
    #[case] method: &str,
    #[case] name: &str,
    #[case] params: &str,
) {
    let server = asking(ASKS).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let meta = meta(CAN, "");
    let first = send(&client, method, name, params, &meta).await;
    assert_eq!(first.status, StatusCode::OK);
    let state = state(&first);
    assert!(
        first.text.contains(r#""params":{"message":"?","x":1.0}"#),
        "{first:?}"
    );
    assert!(!state.contains("state"), "{state}");
    let second = send(&client, method, name, &format!("{params}{}", with(&state)), &meta).await;
    assert_eq!(second.status, StatusCode::OK, "{second:?}");
    assert_eq!(second.json()["result"]["resultType"], "complete", "{second:?}");
    let (_, seen) = server.seen.of(method).pop().unwrap();
    assert_eq!(seen["params"]["requestState"], "state / 1");
    assert_eq!(seen["params"]["inputResponses"]["q"]["action"], "accept");
}

#[tokio::test]
async fn a_state_comes_back_byte_for_byte() {
    // The raw text is looked at, since a parsed one does not tell spellings apart.
    let (sender, received) = std::sync::mpsc::channel();
    let server = asking(ASKS).await;
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    let to = server.address;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = relay.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let (mut client_in, mut client_out) = from.split();
                let (mut server_in, mut server_out) = server.split();
                let up = async {
                    let mut buffer = vec![0; 64 << 10];
                    loop {
                        let read = tokio::io::AsyncReadExt::read(&mut client_in, &mut buffer).await;
                        let Ok(read @ 1..) = read else { break };
                        sender.send(buffer[..read].to_vec()).ok();
                        tokio::io::AsyncWriteExt::write_all(&mut server_out, &buffer[..read])
                            .await
                            .ok();
                    }
                };
                let down = tokio::io::copy(&mut server_in, &mut client_out);
                tokio::join!(up, down).1.ok();
            });
        }
    });
    let gateway = Gateway::start(&config(&[("s", address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let given = state(&ask(&client, "").await);
    let answered = ask(&client, &with(&given)).await;
    assert_eq!(
        answered.json()["result"]["resultType"],
        "complete",
        "{answered:?}"
    );
    let all: Vec<u8> = received.try_iter().flatten().collect();
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains(&format!(r#""requestState":{STATE}"#)), "{all}");
}

#[tokio::test]
async fn a_state_is_good_for_its_request_only() {
    let server = asking(ASKS).await;
    let servers = [("s", server.address), ("other", server.address)];
    let gateway = Gateway::start(&config(&servers, ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let good = state(&ask(&client, "").await);
    let calls = server.seen.of("tools/call").len();
    let meta = meta(CAN, "");
    let own = r#""name":"t","arguments":{"a":1,"b":"x"}"#;
    let retry = with(&good);
    let mut refused = vec![
        ("changed", ask(&client, &with(&format!("{good}-TAMPERED"))).await),
        ("the server's own", ask(&client, &with("state / 1")).await),
        ("no string", ask(&client, r#","requestState":{}"#).await),
    ];
    let arguments = r#""name":"t","arguments":{"a":2,"b":"x"}"#;
    let others = [
        ("arguments", &client, "tools/call", "t", arguments),
        (
            "tool",
            &client,
            "tools/call",
            "u",
            r#""name":"u","arguments":{"a":1,"b":"x"}"#,
        ),
        (
            "method",
            &client,
            "prompts/get",
            "p",
            r#""name":"p","arguments":{"a":1,"b":"x"}"#,
        ),
        (
            "client",
            &gateway.client(BOB).at("/servers/s/mcp"),
            "tools/call",
            "t",
            own,
        ),
        (
            "server",
            &gateway.client(ALICE).at("/servers/other/mcp"),
            "tools/call",
            "t",
            own,
        ),
    ];
    for (what, client, method, name, params) in others {
        let answer = send(client, method, name, &format!("{params}{retry}"), &meta).await;
        refused.push((what, answer));
    }
    for (what, answer) in refused {
        assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32602, "{what}: {answer:?}");
    }
    assert_eq!(server.seen.of("tools/call").len(), calls);
    assert!(server.seen.of("prompts/get").is_empty());
    // Written otherwise, it is the same request still.
    let spelled = format!(r#""arguments": {{"b":"\u0078", "a":1}}, "name":"t"{retry}"#);
    let answer = send(&client, "tools/call", "t", &spelled, &meta).await;
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{answer:?}");
}

#[tokio::test]
async fn a_long_state_is_carried() {
    let server = Native::start(|method, _, request| {
        let state = "x".repeat(20_000);
        (method == "tools/call").then(|| {
            let back = &request["params"]["requestState"];
            if back.is_null() {
                Reply::Result(json!({"resultType":"input_required","requestState":state}))
            } else {
                Reply::Result(json!({"resultType":"complete","content":[],"same":*back == state}))
            }
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let given = state(&ask(&client, "").await);
    let answer = ask(&client, &format!(r#","requestState":"{given}""#)).await;
    assert_eq!(answer.json()["result"]["same"], true, "{answer:?}");
}

#[rstest]
#[case::not_declared(ALL_ON, r#"{"roots":{}}"#, ASKS)]
#[case::off("", CAN, ASKS)]
#[case::of_no_known_kind(
    ALL_ON,
    CAN,
    r#"{"resultType":"input_required","inputRequests":{"q":{"method":"x"}}}"#
)]
#[case::nothing(ALL_ON, CAN, r#"{"resultType":"input_required"}"#)]
#[case::no_text(ALL_ON, CAN, r#"{"resultType":"input_required","requestState":7}"#)]
#[case::another_kind_of_result(ALL_ON, CAN, r#"{"resultType":"later","content":[]}"#)]
#[case::a_task_for_nobody(ALL_ON, CAN, r#"{"resultType":"task","taskId":"1"}"#)]
#[tokio::test]
async fn what_a_server_may_not_ask_is_no_answer(
    #[case] features: &str,
    #[case] declared: &str,
    #[case] question: &'static str,
) {
    let server = asking(question).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], features)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = send(
        &client,
        "tools/call",
        "t",
        r#""name":"t","arguments":{}"#,
        &meta(declared, ""),
    )
    .await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(answer.reason(), "upstream_invalid");
    assert!(!answer.text.contains("state"), "{answer:?}");
}

/// After progress the answer comes as a stream.
#[tokio::test]
async fn a_question_at_the_end_of_a_stream_is_sealed_as_well() {
    let server = Native::start(|method, _, request| {
        let params = &request["params"];
        (method == "tools/call").then(|| {
            if params["requestState"].is_null() {
                let token = &params["_meta"]["progressToken"];
                let progress = json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"progress":1}});
                Reply::Events(vec![progress], json!({"resultType":"input_required","requestState":"mine"}))
            } else {
                Reply::Result(json!({"resultType":"complete","content":[],"back":params["requestState"]}))
            }
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let meta = meta("{}", r#","progressToken":1"#);
    let params = r#""name":"t","arguments":{}"#;
    let answer = send(&client, "tools/call", "t", params, &meta).await;
    let events = answer.events();
    assert_eq!(events.len(), 2, "{answer:?}");
    let given = events[1]["result"]["requestState"].as_str().unwrap();
    assert_ne!(given, "mine");
    let retry = format!(r#"{params},"requestState":"{given}""#);
    let answer = send(&client, "tools/call", "t", &retry, &meta).await;
    assert_eq!(answer.json()["result"]["back"], "mine", "{answer:?}");
}

/// It could neither answer the server nor bring its state back.
#[rstest]
#[case(r#"{"resultType":"input_required","requestState":"state / 1"}"#)]
#[case(r#"{"resultType":"task","taskId":"state / 1"}"#)]
#[tokio::test]
async fn a_session_is_given_nothing_that_it_could_not_go_on_with(#[case] question: &'static str) {
    let server = asking(question).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let meta = meta(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, "");
    let meta = meta.replace(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#, "");
    let body = request("tools/call", r#""name":"t","arguments":{}"#, &meta);
    let answer = client.post(&body).await;
    assert_eq!(answer.reason(), "upstream_invalid", "{answer:?}");
    assert!(!answer.text.contains("state"), "{answer:?}");
}

#[tokio::test]
async fn what_is_asked_is_recorded() {
    let server = asking(ASKS).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    state(&ask(&client, "").await);
    let audit = gateway.audit().await;
    let asked: Vec<&Value> = audit
        .iter()
        .filter(|record| record["method"] == "elicitation/create")
        .collect();
    assert_eq!(asked.len(), 1, "{audit:?}");
    assert_eq!(asked[0]["server"], "a/s");
    assert_eq!(asked[0]["reason"], "asked_by_server");
}

/// A client with a session could otherwise bring a stateless server any state.
#[tokio::test]
async fn a_session_brings_no_state() {
    let server = asking(ASKS).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{},"inputResponses":{},"requestState":"state / 1"}}"#;
    let answer = client.post(body).await;
    assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
    assert!(server.seen.of("tools/call").is_empty());
}

#[rstest]
#[case(400, json!({"code":-32021,"message":"m","data":{"requiredCapabilities":{"sampling":{}},"x":1}}), 400)]
#[case(400, json!({"code":-32020,"message":"m"}), 400)]
#[case(400, json!({"code":-32602,"message":"m"}), 400)]
#[case(404, json!({"code":-32601,"message":"m"}), 404)]
#[case(200, json!({"code":-32602,"message":"m"}), 200)]
#[case(200, json!({"code":-32021,"message":"m"}), 200)]
#[tokio::test]
async fn a_refusal_of_a_server_keeps_its_status(
    #[case] status: u16,
    #[case] error: Value,
    #[case] expected: u16,
) {
    let told = error.clone();
    let server = Native::start(move |method, _, _| {
        (method == "tools/call").then(|| Reply::Error(StatusCode::from_u16(status).unwrap(), told.clone()))
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = ask(&client, "").await;
    assert_eq!(answer.status.as_u16(), expected, "{answer:?}");
    assert_eq!(answer.json()["error"], error);
    assert_eq!(answer.json()["id"], "c");
}

/// A server that did not read the id still refuses this request and no other.
#[tokio::test]
async fn a_refusal_without_an_id_gets_the_clients() {
    let server = Native::start(|method, _, _| {
        (method == "tools/call").then_some(Reply::Whole(
            StatusCode::BAD_REQUEST,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32021,"message":"m"}}"#,
        ))
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = ask(&client, "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["id"], "c");
    assert_eq!(answer.json()["error"]["code"], -32021);
}
