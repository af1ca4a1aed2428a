//! Tasks: what a server goes on with by itself, and who may ask for it.

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{ALL_ON, Native, Reply, meta, request};
use crate::support::{ALICE, Answer, BOB, Client, Gateway, Server, Speaks, config};

const KNOWS: &str = r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

async fn server() -> Native {
    Native::start(|method, _, request| {
        let id = &request["params"]["taskId"];
        Some(match method {
            "tools/call" => {
                Reply::Raw(r#"{"resultType":"task","taskId":"t\u0061sk/ü 1","status":"working","ttlMs":1.0}"#)
            }
            "tasks/get" if id != "task/ü 1" => Reply::Error(
                StatusCode::OK,
                json!({"code":-32602,"message":"none","data":{"taskId":id}}),
            ),
            "tasks/get" => Reply::Result(json!({"resultType":"complete","taskId":id,"status":"completed",
                "result":{"content":[{"type":"resource_link","uri":"x:r","name":"r"}]}})),
            "tasks/update" if request["params"]["inputResponses"]["late"].is_object() => Reply::Error(
                StatusCode::NOT_FOUND,
                json!({"code":-32602,"message":"over","data":{"taskId":id}}),
            ),
            "tasks/update" | "tasks/cancel" => Reply::Result(json!({"resultType":"complete"})),
            _ => return None,
        })
    })
    .await
}

async fn send(client: &Client, method: &str, name: &str, params: &str, declared: &str) -> Answer {
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
        ("mcp-name", name),
    ];
    client
        .send(
            Method::POST,
            &headers,
            &request(method, params, &meta(declared, "")),
        )
        .await
}

async fn about(client: &Client, method: &str, id: &str, more: &str) -> Answer {
    send(client, method, id, &format!(r#""taskId":"{id}"{more}"#), KNOWS).await
}

async fn begin(client: &Client, tool: &str) -> String {
    let params = format!(r#""name":"{tool}","arguments":{{}}"#);
    let answer = send(client, "tools/call", tool, &params, KNOWS).await;
    let json = answer.json();
    assert_eq!(json["result"]["resultType"], "task", "{answer:?}");
    assert!(answer.text.contains(r#""ttlMs":1.0"#), "{answer:?}");
    json["result"]["taskId"].as_str().unwrap().to_owned()
}

#[rstest]
#[case::one_server("/servers/s/mcp", "t", "x:r")]
#[case::federated("/mcp", "s__t", "s+x:r")]
#[tokio::test]
async fn a_task_is_asked_for_by_an_id_of_the_gateways(
    #[case] path: &str,
    #[case] tool: &str,
    #[case] link: &str,
) {
    let server = server().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at(path);
    client.stateless("tools/list", None, "").await;
    let discovered = client.stateless("server/discover", None, "").await.json();
    assert_eq!(
        discovered["result"]["capabilities"]["extensions"],
        json!({"io.modelcontextprotocol/tasks":{}}),
        "{discovered}"
    );
    let id = begin(&client, tool).await;
    assert!(!id.contains("task"), "{id}");
    let got = about(&client, "tasks/get", &id, "").await.json();
    assert_eq!(got["result"]["taskId"], id.as_str());
    assert_eq!(got["result"]["status"], "completed");
    assert_eq!(got["result"]["result"]["content"][0]["uri"], link);
    let (headers, seen) = server.seen.of("tasks/get").pop().unwrap();
    assert_eq!(headers["mcp-name"], "=?base64?dGFzay/DvCAx?=");
    assert_eq!(seen["params"]["taskId"], "task/ü 1");
    let updated = about(
        &client,
        "tasks/update",
        &id,
        r#","inputResponses":{"k":{"action":"accept"}}"#,
    )
    .await;
    assert_eq!(updated.json()["result"], json!({"resultType":"complete"}));
    let (_, seen) = server.seen.of("tasks/update").pop().unwrap();
    assert_eq!(seen["params"]["inputResponses"]["k"]["action"], "accept");
    // Whatever the status, the client knows it by its own id.
    let late = r#","inputResponses":{"late":{"action":"accept"}}"#;
    let late = about(&client, "tasks/update", &id, late).await;
    assert_eq!(late.status, StatusCode::NOT_FOUND);
    assert_eq!(late.json()["error"]["data"]["taskId"], id.as_str());
    let cancelled = about(&client, "tasks/cancel", &id, "").await;
    assert_eq!(cancelled.json()["result"], json!({"resultType":"complete"}));
}

#[tokio::test]
async fn a_task_is_its_owners() {
    let server = server().await;
    let servers = [("s", server.address), ("other", server.address)];
    let gateway = Gateway::start(&config(&servers, ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let id = begin(&client, "t").await;
    let refused = [
        (
            "another client",
            gateway.client(BOB).at("/servers/s/mcp"),
            id.clone(),
        ),
        ("another server", client.at("/servers/other/mcp"), id.clone()),
        ("another endpoint", client.at("/mcp"), id.clone()),
        ("the server's own id", client.clone(), "task".to_owned()),
        ("a changed id", client.clone(), format!("{id}A")),
    ];
    for (what, client, id) in refused {
        let answer = about(&client, "tasks/get", &id, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32602, "{what}: {answer:?}");
    }
    assert!(server.seen.of("tasks/get").is_empty());
    let mismatch = send(
        &client,
        "tasks/get",
        "else",
        &format!(r#""taskId":"{id}""#),
        KNOWS,
    )
    .await;
    assert_eq!(mismatch.status, StatusCode::BAD_REQUEST);
    assert_eq!(mismatch.json()["error"]["code"], -32020, "{mismatch:?}");
}

/// Tasks are judged as the tool that they came of, also when the rules have changed since.
#[tokio::test]
async fn a_task_is_judged_as_its_tool() {
    let server = server().await;
    let rules = |deny: &str| {
        format!(
            "rules: [{{name: r, action: Allow, principals: {{anyAuthenticated: true}}, servers: ['*'], tools: ['*']}}{deny}]"
        )
    };
    let gateway = Gateway::start(&config(&[("s", server.address)], &rules(""))).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let id = begin(&client, "t").await;
    assert_eq!(about(&client, "tasks/get", &id, "").await.status, StatusCode::OK);
    let deny =
        ", {name: d, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['t']}";
    gateway.reload(&config(&[("s", server.address)], &rules(deny)));
    let seen = server.seen.of("tasks/get").len();
    let answer = about(&client, "tasks/get", &id, "").await;
    assert!(answer.json()["error"].is_object(), "{answer:?}");
    assert_eq!(server.seen.of("tasks/get").len(), seen);
    let audit = gateway.audit().await;
    let records: Vec<&Value> = audit
        .iter()
        .filter(|record| record["method"] == "tasks/get")
        .collect();
    assert_eq!(records.len(), 2, "{audit:?}");
    assert!(records.iter().all(|record| record["tool"] == "t"), "{records:?}");
}

#[tokio::test]
async fn who_does_not_know_tasks_is_told_what_is_missing() {
    let server = server().await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    client.stateless("tools/list", None, "").await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let answer = send(&client, method, "any", r#""taskId":"any""#, "{}").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], -32021, "{error}");
        assert_eq!(
            error["data"]["requiredCapabilities"],
            json!({"extensions":{"io.modelcontextprotocol/tasks":{}}})
        );
    }
}

#[tokio::test]
async fn where_no_server_has_tasks_there_are_none() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ALL_ON)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    client.stateless("tools/list", None, "").await;
    let discovered = client.stateless("server/discover", None, "").await.json();
    assert_eq!(discovered["result"]["capabilities"]["extensions"], Value::Null);
    let answer = about(&client, "tasks/get", "any", "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], -32601);
}

/// What a task asks meanwhile must not be off.
#[rstest]
#[case::on(ALL_ON, true)]
#[case::off("", false)]
#[tokio::test]
async fn a_task_asks_what_may_be_asked(#[case] features: &str, #[case] on: bool) {
    let server = Native::start(|method, _, request| {
        Some(match method {
            "tools/call" => Reply::Raw(r#"{"resultType":"task","taskId":"1","status":"working"}"#),
            "tasks/get" => Reply::Result(
                json!({"resultType":"complete","taskId":request["params"]["taskId"],"status":"input_required",
                "inputRequests":{"q":{"method":"elicitation/create","params":{"message":"?"}}}}),
            ),
            _ => return None,
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], features)).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let params = r#""name":"t","arguments":{}"#;
    let begun = send(&client, "tools/call", "t", params, KNOWS).await;
    let id = begun.json()["result"]["taskId"].as_str().unwrap().to_owned();
    let answer = about(&client, "tasks/get", &id, "").await;
    assert_eq!(answer.status == StatusCode::OK, on, "{answer:?}");
    assert_eq!(answer.json()["result"]["inputRequests"]["q"].is_object(), on);
}
