//! Each era of client on each era of server: the four ways a call can go.

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::Value;

use crate::support::{ALICE, Gateway, META, Server, Speaks, config};

fn names(answer: &Value) -> Vec<String> {
    let tools = answer["result"]["tools"].as_array().unwrap();
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[rstest]
#[case(Speaks::Sessions, "/mcp", "s__")]
#[case(Speaks::Sessions, "/servers/s/mcp", "")]
#[case(Speaks::Stateless, "/mcp", "s__")]
#[case(Speaks::Stateless, "/servers/s/mcp", "")]
#[tokio::test]
async fn both_kinds_of_client_list_and_call(
    #[case] speaks: Speaks,
    #[case] path: &str,
    #[case] prefix: &str,
) {
    let server = Server::start(speaks).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let expected: Vec<String> = ["big", "echo", "fail", "secret", "slow"]
        .map(|name| format!("{prefix}{name}"))
        .into();
    let echo = format!("{prefix}echo");

    let session = gateway.client(ALICE).at(path).initialize().await;
    let list = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert_eq!(names(&list), expected);
    assert!(list["result"].get("resultType").is_none());
    assert_eq!(
        list["result"]["tools"][0]["vendor"]["x"].to_string(),
        "1.0",
        "unknown members and numbers stay as they are"
    );
    let called = session.call(&echo, r#"{"n":9007199254740993,"e":1.0}"#).await;
    assert_eq!(called.status, StatusCode::OK);
    assert_eq!(called.json()["id"], "c");
    assert!(called.json()["result"].get("resultType").is_none());
    let sent = server.seen.of("tools/call");
    assert_eq!(sent[0].1["params"]["name"], "echo");
    assert!(
        sent[0].0.get("authorization").is_none(),
        "the client's credential went upstream"
    );

    let stateless = gateway.client(ALICE).at(path);
    let list = stateless.stateless("tools/list", None, "").await.json();
    assert_eq!(names(&list), expected);
    assert_eq!(list["result"]["resultType"], "complete");
    assert_eq!(list["result"]["cacheScope"], "private");
    let params = format!(r#""name":"{echo}","arguments":{{"m":"x"}}"#);
    let called = stateless.stateless("tools/call", Some(&echo), &params).await;
    assert_eq!(called.status, StatusCode::OK, "{called:?}");
    assert_eq!(called.json()["id"], 41);
    assert_eq!(called.json()["result"]["resultType"], "complete");
    let sent = server.seen.of("tools/call");
    let (headers, body) = sent.last().unwrap();
    match speaks {
        Speaks::Stateless => {
            assert_eq!(headers["mcp-name"], "echo");
            assert_eq!(headers["mcp-method"], "tools/call");
            assert_eq!(
                body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"],
                "2026-07-28"
            );
        }
        Speaks::Sessions => {
            assert!(headers.contains_key("mcp-session-id"));
            assert!(
                body["params"]["_meta"]
                    .get("io.modelcontextprotocol/protocolVersion")
                    .is_none()
            );
        }
    }
    let discovered = stateless.stateless("server/discover", None, "").await.json();
    assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28");
    assert!(discovered["result"]["capabilities"].get("prompts").is_none());
}

#[rstest]
#[case("ids are echoed as they are written", r#""id":9007199254740993"#)]
#[case("text", r#""id":"a\u0062\"c""#)]
#[case("zero", r#""id":0"#)]
#[case("negative", r#""id":-1"#)]
#[case("a number with a point", r#""id":1.0"#)]
#[tokio::test]
async fn an_id_comes_back_byte_for_byte(#[case] what: &str, #[case] id: &str) {
    for speaks in [Speaks::Sessions, Speaks::Stateless] {
        let server = Server::start(speaks).await;
        let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
        let body =
            format!(r#"{{"jsonrpc":"2.0",{id},"method":"tools/call","params":{{"name":"s__echo",{META}}}}}"#);
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "s__echo"),
        ];
        let answer = gateway.client(ALICE).send(Method::POST, &headers, &body).await;
        // The server reads and writes JSON anew, and with it the id.
        assert!(answer.text.contains(id), "{what}: {id} is not in {}", answer.text);
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

#[rstest]
#[case(&[("mcp-method", "tools/list")], StatusCode::BAD_REQUEST, -32020)]
#[case(&[("mcp-name", "s__fail")], StatusCode::BAD_REQUEST, -32020)]
#[case(&[("mcp-name", "")], StatusCode::BAD_REQUEST, -32020)]
#[case(&[("mcp-protocol-version", "2025-11-25")], StatusCode::BAD_REQUEST, -32020)]
#[tokio::test]
async fn headers_and_body_must_agree(
    #[case] wrong: &[(&str, &str)],
    #[case] status: StatusCode,
    #[case] code: i64,
) {
    let server = Server::start(Speaks::Stateless).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"s__echo",{META}}}}}"#);
    let mut headers = vec![
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "s__echo"),
    ];
    for (name, value) in wrong {
        headers.retain(|(known, _)| known != name);
        headers.push((name, value));
    }
    let answer = gateway.client(ALICE).send(Method::POST, &headers, &body).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_i64()),
        (status, Some(code)),
        "{answer:?}"
    );
    assert_eq!(answer.json()["id"], 1);
    assert!(server.seen.of("tools/call").is_empty());
}

#[tokio::test]
async fn what_is_off_is_unknown_in_both_eras() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let stateless = gateway.client(ALICE).stateless("prompts/list", None, "").await;
    assert_eq!(
        (stateless.status, stateless.json()["error"]["code"].as_i64()),
        (StatusCode::NOT_FOUND, Some(-32601))
    );
    let session = gateway.client(ALICE).initialize().await;
    let legacy = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"prompts/list"}"#)
        .await;
    assert_eq!(
        (legacy.status, legacy.json()["error"]["code"].as_i64()),
        (StatusCode::OK, Some(-32601))
    );
    assert!(server.seen.of("prompts/list").is_empty());
}
