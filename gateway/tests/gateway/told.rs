//! What a stateless server is told of its caller, and what it may say meanwhile.

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{ALL_ON, Native, Reply, meta, request};
use crate::support::{ALICE, Gateway, Server, Speaks, config};

const HEADERS: [(&str, &str); 3] = [
    ("mcp-protocol-version", "2026-07-28"),
    ("mcp-method", "tools/call"),
    ("mcp-name", "t"),
];
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LEVEL: &str = "io.modelcontextprotocol/logLevel";

#[rstest]
#[case::all_on(
    ALL_ON,
    r#"{"elicitation":{"url":{}},"sampling":{},"roots":{},"extensions":{"io.modelcontextprotocol/ui":{}}}"#,
    true
)]
#[case::all_off("", "{}", false)]
#[case::some_on("features: {sampling: true}", r#"{"sampling":{}}"#, false)]
#[tokio::test]
async fn a_server_is_told_what_its_caller_can_do_as_far_as_it_may_ask(
    #[case] features: &str,
    #[case] told: &str,
    #[case] logs: bool,
) {
    let server = Native::start(|_, _, _| None).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], features)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let declared = r#"{"elicitation":{"url":{}},"sampling":{},"roots":{},"experimental":{"x":1},"extensions":{"com.example/x":{},"io.modelcontextprotocol/ui":{}}}"#;
    let declared = if features.is_empty() {
        // Without extensions, so that nothing is left.
        r#"{"elicitation":{"url":{}},"sampling":{},"roots":{}}"#
    } else if logs {
        declared
    } else {
        r#"{"elicitation":{"url":{}},"sampling":{},"roots":{}}"#
    };
    let meta = meta(declared, r#","io.modelcontextprotocol/logLevel":"info""#);
    let answer = client
        .send(
            Method::POST,
            &HEADERS,
            &request("tools/call", r#""name":"t","arguments":{}"#, &meta),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let (_, seen) = server.seen.of("tools/call").pop().unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(seen["params"]["_meta"][CAPABILITIES], told);
    assert_eq!(seen["params"]["_meta"][LEVEL] == "info", logs);
}

#[rstest]
#[case::asked_for(ALL_ON, r#","io.modelcontextprotocol/logLevel":"info""#, &["grave"])]
#[case::not_asked_for(ALL_ON, "", &[])]
#[case::off("", r#","io.modelcontextprotocol/logLevel":"info""#, &[])]
#[tokio::test]
async fn log_messages_come_to_who_asked_for_them(
    #[case] features: &str,
    #[case] level: &str,
    #[case] expected: &[&str],
) {
    let server = Native::start(|method, _, _| {
        let log = |level, data| json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":level,"data":data}});
        (method == "tools/call").then(|| {
            Reply::Events(
                vec![log("debug", "trifle"), log("error", "grave")],
                json!({"resultType":"complete","content":[]}),
            )
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], features)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let body = request("tools/call", r#""name":"t","arguments":{}"#, &meta("{}", level));
    let answer = client.send(Method::POST, &HEADERS, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let events = answer.events();
    let logged: Vec<&str> = events
        .iter()
        .filter_map(|event| event["params"]["data"].as_str())
        .collect();
    assert_eq!(logged, expected, "{answer:?}");
}

/// A server with sessions was told by nobody what to log, so that it is told here.
#[tokio::test]
async fn a_server_with_sessions_gets_nothing_of_the_other_era() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let meta = meta(r#"{"roots":{}}"#, r#","io.modelcontextprotocol/logLevel":"info""#);
    let mut headers = HEADERS;
    headers[2] = ("mcp-name", "echo");
    let body = request("tools/call", r#""name":"echo","arguments":{}"#, &meta);
    let answer = client.send(Method::POST, &headers, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let (_, seen) = server.seen.of("tools/call").pop().unwrap();
    assert_eq!(seen["params"]["_meta"], json!({}));
}
