//! A tool that a caller lacks only a scope for: it is listed, and a call says which scope to ask for.

use http::StatusCode;
use serde_json::Value;

use crate::permits::{Issuer, trusting, unix};
use crate::support::{ALICE, Client, Gateway, Server, Speaks, config};

const RULES: &str = "
rules:
- {name: read, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: [echo]}
- {name: write, action: Allow, principals: {method: corp, scopes: ['files:write']}, servers: ['*'], tools: [big]}
- {name: never, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: [secret]}
- {name: secret, action: Allow, principals: {method: corp, scopes: ['files:write']}, servers: ['*'], tools: [secret]}
";

#[tokio::test]
async fn who_lacks_only_a_scope_sees_the_tool_and_is_told_the_scope() {
    let server = Server::start(Speaks::Sessions).await;
    let text: Value = serde_yaml::from_str(&config(&[("s", server.address)], RULES)).unwrap();
    let issuer = Issuer::new("k1");
    let gateway = Gateway::start(&trusting(&text, &[issuer.jwk()])).await;
    let with = |scopes: &str| Client {
        token: Some(issuer.token_with_scopes(unix() + 600, scopes)),
        ..gateway.client(ALICE)
    };
    let carol = with("files:read").initialize().await;
    let list = carol
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    let mut names: Vec<&str> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["s__big", "s__echo"], "what a Deny forbids is not shown");
    let in_session = carol.call("s__big", "{}").await;
    let stateless = with("")
        .stateless("tools/call", Some("s__big"), r#""name":"s__big""#)
        .await;
    for answer in [in_session, stateless] {
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.reason(), "insufficient_scope");
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
        assert!(challenge.contains(r#"scope="files:write""#), "{challenge}");
    }
    assert!(server.seen.of("tools/call").is_empty());
    assert!(carol.call("s__secret", "{}").await.text.contains("tool_unknown"));
    // The session goes on, and so does one with the scope.
    assert!(carol.call("s__echo", "{}").await.json()["result"].is_object());
    let stepped_up = Client {
        token: with("files:read files:write").token,
        ..carol.clone()
    };
    assert!(stepped_up.call("s__big", "{}").await.json()["result"].is_object());
    let records = gateway.audit().await;
    let refused: Vec<_> = records
        .iter()
        .filter(|record| record["reason"] == "insufficient_scope")
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(
        refused
            .iter()
            .all(|record| record["rule"] == "write" && record["decision"] == "deny")
    );
}
