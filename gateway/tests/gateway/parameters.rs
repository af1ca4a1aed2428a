//! Arguments that are repeated in headers, as a tool's schema asks for with `x-mcp-header`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{Native, Reply, request};
use crate::support::{ALICE, Answer, Client, Gateway, META, config};

fn tools(header: &str) -> Value {
    json!({"resultType":"complete","tools":[
        {"name":"t","inputSchema":{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":header},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
        }}},
        {"name":"bad","inputSchema":{"type":"object","properties":{"x":{"type":"object","x-mcp-header":"X"}}}},
        {"name":"plain","inputSchema":{"type":"object"}},
    ]})
}

async fn server() -> Native {
    Native::start(|method, _, _| (method == "tools/list").then(|| Reply::Result(tools("Region")))).await
}

async fn call(client: &Client, arguments: &str, params: &[(&str, &str)]) -> Answer {
    let mut headers = vec![
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "t"),
    ];
    headers.extend(params);
    let body = request(
        "tools/call",
        &format!(r#""name":"t","arguments":{arguments}"#),
        META,
    );
    client.send(Method::POST, &headers, &body).await
}

fn last(server: &Native) -> HeaderMap {
    server.seen.of("tools/call").pop().unwrap().0
}

#[tokio::test]
async fn tools_that_ask_for_headers_in_a_forbidden_way_are_not_there() {
    let server = server().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = client.stateless("tools/list", None, "").await;
    let tools = answer.json()["result"]["tools"].clone();
    let names: Vec<&str> = tools
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert_eq!(names, ["plain", "t"]);
    let answer = client
        .stateless("tools/call", Some("bad"), r#""name":"bad","arguments":{}"#)
        .await;
    assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
}

#[rstest]
#[case::all_there(&[("mcp-param-region", "=?base64?w6k=?="), ("mcp-param-n", "7.0"), ("mcp-param-other", "=?base64?***")], true)]
#[case::missing(&[("mcp-param-region", "=?base64?w6k=?=")], false)]
#[case::another(&[("mcp-param-region", "e"), ("mcp-param-n", "7")], false)]
#[case::undecodable(&[("mcp-param-region", "=?base64?*?="), ("mcp-param-n", "7")], false)]
#[tokio::test]
async fn headers_of_a_stateless_client_say_what_its_body_says(
    #[case] params: &[(&str, &str)],
    #[case] good: bool,
) {
    let server = server().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = call(&client, r#"{"region":"é","deep":{"n":7}}"#, params).await;
    if good {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let headers = last(&server);
        assert_eq!(headers["mcp-param-region"], "=?base64?w6k=?=");
        assert_eq!(headers["mcp-param-n"], "7");
        // Unknown ones go on untouched.
        assert_eq!(headers["mcp-param-other"], "=?base64?***");
    } else {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32020);
        assert!(server.seen.of("tools/call").is_empty());
    }
}

/// A client with a session knows no such headers; the server wants them all the same.
#[tokio::test]
async fn headers_are_made_for_clients_with_sessions() {
    let server = server().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client
        .call("s__t", r#"{"region":"a b","deep":{"n":7},"more":1}"#)
        .await;
    assert_eq!(answer.json()["result"]["content"], json!([]), "{answer:?}");
    let headers = last(&server);
    assert_eq!(headers["mcp-param-region"], "a b");
    assert_eq!(headers["mcp-param-n"], "7");
    let long = "x".repeat(20_000);
    let answer = client.call("s__t", &json!({"region":long}).to_string()).await;
    assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
    assert_eq!(server.seen.of("tools/call").len(), 1);
}

/// A server that changed its schema refuses the old headers without doing anything: it is listed anew, and asked again.
#[rstest]
#[case::changed(true)]
#[case::not_changed(false)]
#[tokio::test]
async fn a_refusal_for_headers_is_met_with_a_new_list(#[case] changed: bool) {
    let moved = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&moved);
    let server = Native::start(move |method, headers, _| {
        let moved = now.load(Ordering::SeqCst);
        let name = if moved && changed { "Place" } else { "Region" };
        match method {
            "tools/list" => Some(Reply::Result(tools(name))),
            "tools/call" if moved && headers.get("mcp-param-place").is_none() => Some(Reply::Error(
                StatusCode::BAD_REQUEST,
                json!({"code":-32020,"message":"Mcp-Param-Place is missing"}),
            )),
            _ => None,
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let arguments = r#"{"region":"here"}"#;
    let headers = [("mcp-param-region", "here")];
    let answer = call(&client, arguments, &headers).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    moved.store(true, Ordering::SeqCst);
    let answer = call(&client, arguments, &headers).await;
    if changed {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(last(&server)["mcp-param-place"], "here");
        assert_eq!(server.seen.of("tools/call").len(), 3);
    } else {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32020);
        assert_eq!(server.seen.of("tools/call").len(), 2);
    }
}
