//! Tools that servers show only to clients that can be asked something.

use rstest::rstest;
use serde_json::{Value, json};

use crate::asker::Asker;
use crate::native::{Native, Reply};
use crate::support::{ALICE, Client, Gateway, config};

const ON: &str = "features: {elicitation: true}";

fn names(answer: &Value) -> Vec<String> {
    let tools = answer["result"]["tools"].as_array().unwrap();
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.iter().map(name).collect()
}

async fn in_session(gateway: &Gateway, path: &str, capabilities: &str) -> Vec<String> {
    let client = gateway.client(ALICE).at(path);
    let opened = client
        .post(&format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"test","version":"1"}}}}}}"#))
        .await;
    let client = Client {
        session: Some(opened.headers["mcp-session-id"].to_str().unwrap().to_owned()),
        ..client
    };
    let list = client.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    names(&list.await.json())
}

async fn stateless(gateway: &Gateway, path: &str, capabilities: &str) -> Vec<String> {
    let client = gateway.client(ALICE).at(path);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities},"io.modelcontextprotocol/clientInfo":{{"name":"test","version":"1"}}}}}}}}"#
    );
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/list"),
    ];
    names(&client.send(http::Method::POST, &headers, &body).await.json())
}

#[rstest]
#[case::it_can_be_asked(r#"{"elicitation":{}}"#, true)]
#[case::it_can_be_asked_for_what_is_off(r#"{"sampling":{}}"#, false)]
#[case::it_cannot("{}", false)]
#[tokio::test]
async fn a_server_with_sessions_is_asked_what_it_shows_to_whom(
    #[case] capabilities: &str,
    #[case] seen: bool,
) {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    for path in ["/mcp", "/servers/s/mcp"] {
        for tools in [
            in_session(&gateway, path, capabilities).await,
            stateless(&gateway, path, capabilities).await,
        ] {
            let has = |name: &str| tools.iter().any(|tool| tool.trim_start_matches("s__") == name);
            assert_eq!((has("log"), has("choosy")), (true, seen), "{path}: {tools:?}");
        }
    }
    assert!(
        server.ended_of_gateway().await,
        "the session in which it was asked is left open"
    );
}

#[tokio::test]
async fn where_nothing_may_be_asked_nothing_of_it_is_shown() {
    let server = Asker::start().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let tools = in_session(&gateway, "/servers/s/mcp", r#"{"elicitation":{}}"#).await;
    assert!(
        !tools.is_empty() && !tools.contains(&"choosy".to_owned()),
        "{tools:?}"
    );
    // Switched on later, it is there.
    gateway.reload(&config(&[("s", server.address)], ON));
    for _ in 0..500 {
        if in_session(&gateway, "/servers/s/mcp", r#"{"elicitation":{}}"#)
            .await
            .contains(&"choosy".to_owned())
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the tool that asks does not appear");
}

#[rstest]
#[case::it_can_be_asked(r#"{"elicitation":{}}"#, true)]
#[case::it_cannot("{}", false)]
#[tokio::test]
async fn a_stateless_server_too(#[case] capabilities: &str, #[case] seen: bool) {
    let server = Native::start(|method, _, request| {
        (method == "tools/list").then(|| {
            let declared = &request["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
            let names: &[_] = if declared["elicitation"].is_object() {
                &["t", "asks"]
            } else {
                &["t"]
            };
            let tools: Vec<_> = names
                .iter()
                .map(|name| json!({"name":name,"inputSchema":{"type":"object"}}))
                .collect();
            Reply::Result(json!({"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":tools}))
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let tools = stateless(&gateway, "/servers/s/mcp", capabilities).await;
    assert_eq!(tools.contains(&"asks".to_owned()), seen, "{tools:?}");
    assert!(tools.contains(&"t".to_owned()));
}

#[tokio::test]
async fn a_server_that_asks_before_it_lists_gets_an_answer() {
    let server = Asker::asking_first().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let tools = in_session(&gateway, "/servers/s/mcp", "{}").await;
    assert!(tools.contains(&"log".to_owned()), "{tools:?}");
}
