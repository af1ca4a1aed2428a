//! Names of several servers side by side: the three ways of prefixes, and sets of tools.

use std::time::Duration;

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{Native, Reply};
use crate::support::{ALICE, BOB, Client, Gateway, Server, Speaks, config};

const EVERYTHING: &str = "
features: {prompts: true, resources: true, completions: true}
rules:
- {name: all, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], prompts: ['*'], resources: ['*']}
";

async fn ask(client: &Client, method: &str, name: Option<&str>, params: &str) -> Value {
    client.stateless(method, name, params).await.json()
}

async fn listed(client: &Client, method: &str, list: &str, key: &str) -> Vec<String> {
    let answer = ask(client, method, None, "").await;
    let items = answer["result"][list]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    items
        .iter()
        .map(|item| item[key].as_str().unwrap().to_owned())
        .collect()
}

async fn tools(client: &Client) -> Vec<String> {
    listed(client, "tools/list", "tools", "name").await
}

const OWN: [&str; 5] = ["big", "echo", "fail", "secret", "slow"];

#[tokio::test]
async fn without_prefixes_one_server_is_as_it_is() {
    let server = Server::start(Speaks::Sessions).await;
    let more = format!("toolNames: {{prefix: Never}}\n{EVERYTHING}");
    let gateway = Gateway::start(&config(&[("s", server.address)], &more)).await;
    let client = gateway.client(ALICE);
    assert_eq!(tools(&client).await, OWN);
    assert_eq!(
        listed(&client, "prompts/list", "prompts", "name").await,
        ["greet", "hidden"]
    );
    assert_eq!(
        listed(&client, "resources/list", "resources", "uri").await,
        ["file:///pub/a.txt", "file:///secret/key.pem"]
    );
    // Listed, led to by a template, and known to the server alone.
    for uri in ["file:///pub/a.txt", "file:///pub/b.txt", "db://7"] {
        let read = ask(&client, "resources/read", Some(uri), &format!(r#""uri":"{uri}""#)).await;
        assert_eq!(read["result"]["contents"][0]["uri"], uri, "{read}");
    }
    let called = ask(
        &client,
        "tools/call",
        Some("echo"),
        r#""name":"echo","arguments":{"link":"db://7"}"#,
    )
    .await;
    assert_eq!(called["result"]["content"][0]["uri"], "db://7");
}

#[tokio::test]
async fn without_prefixes_no_server_takes_anothers_place() {
    let (a, b) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Stateless).await,
    );
    let more = format!("toolNames: {{prefix: Never}}\n{EVERYTHING}");
    let text = config(&[("a", a.address), ("b", b.address)], &more);
    let gateway = Gateway::start(&text).await;
    let client = gateway.client(ALICE);
    assert!(tools(&client).await.is_empty());
    let called = ask(&client, "tools/call", Some("echo"), r#""name":"echo""#).await;
    assert_eq!(called["error"]["code"], -32602, "{called}");
    let uri = "file:///pub/a.txt";
    let read = ask(&client, "resources/read", Some(uri), &format!(r#""uri":"{uri}""#)).await;
    assert_eq!(read["error"]["code"], -32602, "{read}");
    // What only one of them offers stands.
    let one = text.replacen(
        "addressPolicy: Loopback",
        "addressPolicy: Loopback\n  tools: {deny: [echo]}",
        1,
    );
    gateway.reload(&one);
    assert_eq!(tools(&client).await, ["echo"]);
    assert!(a.seen.of("tools/call").is_empty());
    let called = ask(&client, "tools/call", Some("echo"), r#""name":"echo""#).await;
    assert!(called["result"].is_object(), "{called}");
    assert_eq!(
        (a.seen.of("tools/call").len(), b.seen.of("tools/call").len()),
        (0, 1)
    );
}

#[tokio::test]
async fn on_conflict_only_what_two_servers_have_is_prefixed() {
    let (a, b) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Stateless).await,
    );
    let more = format!("toolNames: {{prefix: OnConflict}}\n{EVERYTHING}");
    let text = config(&[("a", a.address), ("b", b.address)], &more).replacen(
        "addressPolicy: Loopback",
        "addressPolicy: Loopback\n  tools: {allow: [echo, big]}",
        1,
    );
    let gateway = Gateway::start(&text).await;
    let client = gateway.client(ALICE);
    assert_eq!(
        tools(&client).await,
        ["a__big", "a__echo", "b__big", "b__echo", "fail", "secret", "slow"]
    );
    for name in ["a__echo", "b__echo", "secret"] {
        let called = ask(&client, "tools/call", Some(name), &format!(r#""name":"{name}""#)).await;
        assert!(called["result"].is_object(), "{called}");
    }
    let seen = |server: &Server| -> Vec<Value> {
        let calls = server.seen.of("tools/call").into_iter();
        calls.map(|(_, body)| body["params"]["name"].clone()).collect()
    };
    assert_eq!(
        (seen(&a), seen(&b)),
        (vec![json!("echo")], vec![json!("echo"), json!("secret")])
    );
    assert_eq!(
        listed(&client, "resources/list", "resources", "uri").await,
        [
            "a+file:///pub/a.txt",
            "a+file:///secret/key.pem",
            "b+file:///pub/a.txt",
            "b+file:///secret/key.pem"
        ]
    );
    // A link says which server it came from.
    let params = r#""name":"b__echo","arguments":{"link":"db://7"}"#;
    let called = ask(&client, "tools/call", Some("b__echo"), params).await;
    assert_eq!(called["result"]["content"][0]["uri"], "b+db://7");
    let uri = "b+db://7";
    let read = ask(&client, "resources/read", Some(uri), &format!(r#""uri":"{uri}""#)).await;
    assert_eq!(read["result"]["contents"][0]["uri"], uri, "{read}");
    assert!(a.seen.of("resources/read").is_empty());
}

const SETS: &str = "
toolSets:
- {name: some, servers: [a/s], tools: [echo, 'f*', secret]}
- {name: other, servers: [a/t], tools: ['*']}
features: {prompts: true}
rules:
- {name: alice, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: [echo, big, secret], prompts: ['*']}
- {name: no-secret, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: [secret]}
- {name: bob, action: Allow, principals: {clients: [bob]}, servers: [a/t], tools: ['*']}
";

#[rstest]
#[tokio::test]
async fn a_set_has_less_and_never_more(#[values(false, true)] stateless: bool) {
    let (s, t) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Stateless).await,
    );
    let gateway = Gateway::start(&config(&[("s", s.address), ("t", t.address)], SETS)).await;
    let at = gateway.client(ALICE).at("/sets/some/mcp");
    let client = if stateless {
        at.clone()
    } else {
        at.initialize().await
    };
    let send = async |method: &str, name: Option<&str>, params: &str| {
        let answer = if stateless {
            client.stateless(method, name, params).await
        } else {
            let body = format!(r#"{{"jsonrpc":"2.0","id":41,"method":"{method}","params":{{{params}}}}}"#);
            client.post(&body).await
        };
        (answer.status, answer.json())
    };
    let (_, list) = send("tools/list", None, "").await;
    let names: Vec<&Value> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| &tool["name"])
        .collect();
    assert_eq!(names, ["s__echo"], "{list}");
    let (_, called) = send("tools/call", Some("s__echo"), r#""name":"s__echo""#).await;
    assert!(called["result"].is_object(), "{called}");
    // Permitted and not in the set; in the set and not permitted; of another server.
    for name in ["s__big", "s__secret", "t__echo", "s__nothere"] {
        let (status, refused) = send("tools/call", Some(name), &format!(r#""name":"{name}""#)).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (StatusCode::OK, &json!(-32602)),
            "{refused}"
        );
        assert_eq!(refused["error"]["data"]["reason"], "tool_unknown");
    }
    let (_, prompts) = send("prompts/list", None, "").await;
    assert_eq!(prompts["error"]["code"], -32601, "a set is of tools");
    assert_eq!(s.seen.of("tools/call").len(), 1);
    assert!(t.seen.of("tools/call").is_empty());

    if !stateless {
        // A session is good at the endpoint where it was opened.
        let elsewhere = Client {
            session: client.session.clone(),
            ..gateway.client(ALICE)
        };
        let answer = elsewhere
            .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_set_that_does_not_exist_for_somebody_looks_like_none() {
    let (s, t) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Sessions).await,
    );
    let gateway = Gateway::start(&config(&[("s", s.address), ("t", t.address)], SETS)).await;
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let bob = gateway.client(BOB);
    let hidden = bob.at("/sets/some/mcp").post(initialize).await;
    let absent = bob.at("/sets/none/mcp").post(initialize).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
    assert_eq!((hidden.status, hidden.text), (absent.status, absent.text));
    let hidden = bob
        .at("/sets/some/mcp")
        .stateless("server/discover", None, "")
        .await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
    let open = bob.at("/sets/other/mcp").initialize().await;
    let list = open
        .send(
            Method::POST,
            &[],
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        )
        .await;
    assert_eq!(list.json()["result"]["tools"].as_array().unwrap().len(), 4);
}

/// A server that nobody may use yet takes no name from one that they may, and leads nowhere.
#[rstest]
#[tokio::test]
async fn who_is_in_quarantine_changes_nobodys_names(#[values("Never", "OnConflict")] prefix: &str) {
    let (first, other) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Sessions).await,
    );
    let more = format!("toolNames: {{prefix: {prefix}}}\n{EVERYTHING}");
    let text = config(&[("s", first.address), ("t", other.address)], &more);
    let (before, after) = text.rsplit_once("- addressPolicy:").unwrap();
    let gateway = Gateway::start(&format!("{before}- quarantine: {{}}\n  addressPolicy:{after}")).await;
    let client = gateway.client(ALICE);
    assert_eq!(tools(&client).await, OWN);
    for uri in ["file:///pub/a.txt", "file:///pub/b.txt", "db://7"] {
        let read = ask(&client, "resources/read", Some(uri), &format!(r#""uri":"{uri}""#)).await;
        assert_eq!(read["result"]["contents"][0]["uri"], uri, "{read}");
    }
    assert!(other.seen.of("resources/read").is_empty());
}

/// Whose a plain name is depends on all servers: it is waited for one that is slow to say what it has.
#[tokio::test]
async fn a_plain_name_is_nobodys_before_all_have_been_asked() {
    let slow = Native::start(|method, _, _| {
        (method == "server/discover").then(|| Reply::Late(Duration::from_millis(500)))
    })
    .await;
    let quick = Native::start(|_, _, _| None).await;
    let text = config(
        &[("quick", quick.address), ("slow", slow.address)],
        "toolNames: {prefix: Never}",
    );
    let gateway = Gateway::start(&text).await;
    let called = ask(
        &gateway.client(ALICE),
        "tools/call",
        Some("t"),
        r#""name":"t","arguments":{}"#,
    )
    .await;
    assert_eq!(called["error"]["code"], -32602, "{called}");
    assert!(quick.seen.of("tools/call").is_empty());
}
