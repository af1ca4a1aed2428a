//! Who may do what, how often, and what is recorded of it.

use http::{Method, StatusCode};

use crate::support::{ALICE, BOB, Client, Gateway, Server, Speaks, config};

const RULES: &str = "
rules:
- {name: alice-echo, action: Allow, principals: {clients: [alice]}, servers: [a/s], tools: ['e*', secret]}
- {name: no-secret, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: [secret]}
";

#[tokio::test]
async fn without_a_credential_there_is_a_challenge() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for token in [
        None,
        Some("pcl_wrong".to_owned()),
        Some("a.b.c".to_owned()),
        Some(crate::support::key(77)),
    ] {
        let client = Client {
            token,
            ..gateway.client(ALICE)
        };
        let answer = client.post(list).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer ")
        );
    }
    assert!(server.seen.of("tools/call").is_empty());
}

#[tokio::test]
async fn another_host_or_origin_is_refused() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE);
    for headers in [
        [("host", "evil.test")],
        [("origin", "https://evil.test")],
        [("origin", "null")],
    ] {
        assert_eq!(
            client.send(Method::POST, &headers, "{}").await.status,
            StatusCode::FORBIDDEN
        );
    }
    assert_eq!(
        client.at("/elsewhere").post("{}").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_forbidden_tool_looks_exactly_like_an_unknown_one() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], RULES)).await;
    let alice = gateway.client(ALICE).initialize().await;
    let list = alice
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(alice.call("s__echo", "{}").await.json()["id"], "c");
    let unknown = alice.call("s__nothere", "{}").await;
    for tool in ["s__secret", "s__fail"] {
        let forbidden = alice.call(tool, "{}").await;
        assert_eq!(forbidden.status, unknown.status);
        assert_eq!(
            forbidden.text.replace(tool, "T"),
            unknown.text.replace("s__nothere", "T")
        );
    }
    let bob = gateway.client(BOB).initialize().await;
    let list = bob
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert!(list["result"]["tools"].as_array().unwrap().is_empty());
    // A server of which nothing may be used does not exist.
    let path = bob.at("/servers/s/mcp");
    let none = gateway.client(BOB).at("/servers/none/mcp");
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let (hidden, absent) = (path.post(initialize).await, none.post(initialize).await);
    assert_eq!((hidden.status, hidden.text), (absent.status, absent.text));
    let calls = server.seen.of("tools/call");
    assert!(
        calls.iter().all(|(_, body)| body["params"]["name"] == "echo"),
        "a forbidden call went upstream"
    );
    let records = gateway.audit().await;
    let denied: Vec<_> = records
        .iter()
        .filter(|record| record["reason"] == "tool_forbidden")
        .collect();
    assert_eq!(denied.len(), 2);
    assert_eq!(denied[0]["rule"], "no-secret");
    assert_eq!(denied[0]["principal"]["subject"], "alice");
}

#[tokio::test]
async fn a_limit_refuses_in_the_words_of_each_era_and_the_session_goes_on() {
    let server = Server::start(Speaks::Sessions).await;
    let limits = "rateLimits: [{name: calls, key: Client, match: {methods: [tools/call]}, requests: 1, per: 1h, burst: 2}]";
    let gateway = Gateway::start(&config(&[("s", server.address)], limits)).await;
    let alice = gateway.client(ALICE).initialize().await;
    let mut limited = None;
    for _ in 0..5 {
        let answer = alice.call("s__echo", "{}").await;
        if answer.json().get("error").is_some() {
            limited = Some(answer);
        }
    }
    let limited = limited.expect("five calls pass a limit of two");
    assert_eq!(
        (limited.status, limited.reason().as_str()),
        (StatusCode::OK, "rate_limited")
    );
    assert!(limited.json()["error"]["data"]["retryAfter"].as_u64().unwrap() > 0);
    assert!(limited.headers.contains_key("ratelimit"));
    let stateless = gateway
        .client(ALICE)
        .stateless("tools/call", Some("s__echo"), r#""name":"s__echo""#)
        .await;
    assert_eq!(stateless.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        stateless.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    assert_eq!(
        alice
            .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .await
            .status,
        StatusCode::OK
    );
    let bob = gateway.client(BOB).initialize().await;
    assert_eq!(
        bob.call("s__echo", "{}").await.json()["id"],
        "c",
        "another client has its own bucket"
    );
}

#[tokio::test]
async fn suspension_and_denial_act_with_the_configuration() {
    let server = Server::start(Speaks::Sessions).await;
    let text = config(&[("s", server.address)], "");
    let gateway = Gateway::start(&text).await;
    let alice = gateway.client(ALICE).initialize().await;
    assert_eq!(alice.call("s__echo", "{}").await.json()["id"], "c");
    gateway.reload(&text.replace("publicHost:", "suspend: true\n  publicHost:"));
    let refused = alice.call("s__echo", "{}").await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (StatusCode::OK, "suspended")
    );
    let stateless = gateway.client(ALICE).stateless("tools/list", None, "").await;
    assert_eq!(stateless.status, StatusCode::SERVICE_UNAVAILABLE);
    let denied = "deniedSubjects: [{method: apiKeys, subject: alice}]\n  publicHost:";
    gateway.reload(&text.replace("publicHost:", denied));
    assert_eq!(alice.call("s__echo", "{}").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        gateway
            .client(BOB)
            .initialize()
            .await
            .call("s__echo", "{}")
            .await
            .json()["id"],
        "c"
    );
}

#[tokio::test]
async fn a_key_that_leaves_the_folder_is_revoked() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let alice = gateway.client(ALICE).initialize().await;
    std::fs::remove_file(gateway.folder.join("keys/alice")).unwrap();
    gateway.look();
    assert_eq!(alice.call("s__echo", "{}").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn hostile_bodies_are_refused_with_their_reason() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(
        &[("s", server.address)],
        "limits: {maxRequestBytes: 2048}",
    ))
    .await;
    let client = gateway.client(ALICE).initialize().await;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{}{}}}}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#,
        "a".repeat(4096)
    );
    let twice =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s__echo","name":"s__secret"}}"#;
    let table = [
        ("{", StatusCode::BAD_REQUEST, -32700),
        ("[]", StatusCode::BAD_REQUEST, -32600),
        (twice, StatusCode::BAD_REQUEST, -32600),
        (&deep, StatusCode::BAD_REQUEST, -32600),
        (&long, StatusCode::PAYLOAD_TOO_LARGE, -31413),
    ];
    for (body, status, code) in table {
        let answer = client.post(body).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_i64()),
            (status, Some(code)),
            "{body:.60}"
        );
    }
    let plain = client
        .send(Method::POST, &[("content-type", "text/plain")], "{}")
        .await;
    assert_eq!(plain.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(server.seen.of("tools/call").is_empty());
}
