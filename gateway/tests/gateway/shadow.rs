//! Rules that decide nothing, and what is recorded of them.

use serde_json::{Value, json};

use crate::support::{ALICE, BOB, Gateway, Server, Speaks, config};

const RULES: &str = "
rules:
- {name: alice, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: [echo, fail]}
- {name: no-big, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: [big]}
- {name: no-echo, action: Audit, principals: {anyAuthenticated: true}, servers: ['*'], tools: [echo, big]}
- {name: bob-too, action: Audit, principals: {clients: [bob]}, servers: [a/s], tools: ['*']}
- {name: past, action: Audit, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], expires: '2020-01-01T00:00:00Z'}
";

#[tokio::test]
async fn shadow_rules_are_recorded_and_change_nothing() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], RULES)).await;
    let alice = gateway.client(ALICE).initialize().await;
    let list = alice
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 2, "{list}");
    for tool in ["s__echo", "s__big"] {
        alice.call(tool, "{}").await;
    }
    gateway
        .client(BOB)
        .stateless("tools/call", Some("s__echo"), r#""name":"s__echo""#)
        .await;
    assert_eq!(
        server.seen.of("tools/call").len(),
        1,
        "only alice's echo is permitted"
    );
    let calls: Vec<Value> = gateway
        .audit()
        .await
        .into_iter()
        .filter(|record| record["method"] == "tools/call")
        .map(|record| {
            json!([
                record["tool"],
                record["decision"],
                record["rule"],
                record["principal"]["subject"],
                record["shadow"],
            ])
        })
        .collect();
    let expected = [
        json!(["echo", "allow", "alice", "alice", ["no-echo"]]),
        json!(["big", "deny", "no-big", "alice", ["no-echo"]]),
        json!(["echo", "deny", null, "bob", ["no-echo", "bob-too"]]),
    ];
    assert_eq!(calls, expected);
}
