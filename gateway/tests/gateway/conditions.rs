//! Rules that look at what a call says.

use http::StatusCode;
use portcullis_gateway::config::watch::Outcome;

use crate::support::{ALICE, Gateway, Server, Speaks, config};

const RULES: &str = "
features: {prompts: true}
rules:
- {name: public, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: [echo], when: 'path(request.arguments.path).under(\"/public\")'}
- {name: any-big, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: [big], prompts: ['*']}
- {name: no-force, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: [big], when: 'has(request.arguments.force)'}
- {name: no-root, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], prompts: ['*'], when: 'request.arguments.who == \"root\"'}
- {name: watch, action: Audit, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], when: 'size(request.arguments.path) > 8'}
";

#[tokio::test]
async fn a_call_is_permitted_by_what_it_says() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], RULES)).await;
    let alice = gateway.client(ALICE).initialize().await;
    let list = alice
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    // Both are shown: whether a call is permitted depends on what it will say.
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 2, "{list}");
    let unknown = alice.call("s__nothere", "{}").await;
    for (tool, arguments, permitted) in [
        ("s__echo", r#"{"path":"/public/a"}"#, true),
        ("s__echo", r#"{"path":"\u002fpublic/./b"}"#, true),
        ("s__echo", r#"{"path":"/public/../etc/passwd"}"#, false),
        ("s__echo", r#"{"path":"/etc/passwd"}"#, false),
        ("s__echo", r#"{"path":"public/a"}"#, false),
        ("s__echo", r#"{"path":["/public/a"]}"#, false),
        ("s__echo", r#"{"path":"/public/a\ud800"}"#, false),
        ("s__echo", r#"{"Path":"/public/a"}"#, false),
        ("s__echo", "{}", false),
        ("s__echo", "null", false),
        ("s__big", "{}", true),
        ("s__big", r#"{"force":false}"#, false),
        ("s__big", r#"{"\u0066orce":true}"#, false),
        ("s__big", r#"{"\ud800":true}"#, false),
    ] {
        let before = server.seen.of("tools/call").len();
        let answer = alice.call(tool, arguments).await;
        let seen = server.seen.of("tools/call").len() - before;
        assert_eq!(
            seen,
            usize::from(permitted),
            "{tool} {arguments}: {}",
            answer.text
        );
        if !permitted {
            assert_eq!(
                answer.text.replace(tool, "T"),
                unknown.text.replace("s__nothere", "T")
            );
        }
    }
    let stateless = |arguments: &str| {
        let params = format!(r#""name":"s__echo","arguments":{arguments}"#);
        let client = gateway.client(ALICE);
        async move { client.stateless("tools/call", Some("s__echo"), &params).await }
    };
    assert_eq!(stateless(r#"{"path":"/public/a"}"#).await.status, StatusCode::OK);
    assert_eq!(stateless(r#"{"path":"/etc/a"}"#).await.reason(), "tool_unknown");
    // A key twice is refused as a message, before any rule.
    let twice = stateless(r#"{"path":"/public/a","path":"/etc"}"#).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    let records = gateway.audit().await;
    let of = |tool: &str, decision: &str, word: &str| {
        let fits = |record: &&serde_json::Value| record["tool"] == tool && record["decision"] == decision;
        let found = records.iter().filter(fits).map(|record| record[word].clone());
        found.collect::<Vec<_>>()
    };
    assert!(of("echo", "allow", "rule").iter().all(|rule| rule == "public"));
    assert!(of("echo", "deny", "rule").iter().all(serde_json::Value::is_null));
    assert!(of("big", "deny", "rule").iter().all(|rule| rule == "no-force"));
    // It was called without a path.
    let unclear = of("big", "allow", "shadowUnclear");
    assert_eq!(unclear, [serde_json::json!(["watch"])]);
    let watched = of("echo", "allow", "shadow");
    assert!(
        watched.iter().filter(|names| names[0] == "watch").count() >= 2,
        "{watched:?}"
    );
    assert!(
        !serde_json::to_string(&records).unwrap().contains("passwd"),
        "arguments are not recorded"
    );
}

#[tokio::test]
async fn a_prompt_is_given_by_its_arguments() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], RULES)).await;
    let alice = gateway.client(ALICE).initialize().await;
    let get = |arguments: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{{"name":"s__greet","arguments":{arguments}}}}}"#
        );
        let alice = alice.clone();
        async move { alice.post(&body).await.json() }
    };
    assert!(get(r#"{"who":"me"}"#).await["result"].is_object());
    for refused in [r#"{"who":"root"}"#, r#"{"who":"\u0072oot"}"#, "{}"] {
        assert_eq!(get(refused).await["error"]["data"]["reason"], "prompt_unknown");
    }
    assert_eq!(server.seen.of("prompts/get").len(), 1);
}

#[tokio::test]
async fn a_configuration_with_a_condition_that_cannot_be_compiled_is_refused() {
    let server = Server::start(Speaks::Sessions).await;
    let good = config(&[("s", server.address)], RULES);
    let gateway = Gateway::start(&good).await;
    let bad = good.replace("has(request.arguments.force)", "has(request.argument.force)");
    assert_ne!(bad, good);
    assert_eq!(gateway.reload(&bad), Outcome::Refused);
    // What was in force stays.
    let alice = gateway.client(ALICE).initialize().await;
    assert!(
        alice
            .call("s__big", r#"{"force":1}"#)
            .await
            .text
            .contains("tool_unknown")
    );
    assert!(alice.call("s__big", "{}").await.json()["result"].is_object());
}
