//! Clients with sessions subscribe to resources of servers without: the gateway listens there for them.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::news::streams;
use crate::push::Events;
use crate::pushing::Pushing;
use crate::support::{ALICE, Client, Gateway, Speaks, config};

/// How long nothing must come.
const QUIET: Duration = Duration::from_millis(500);
const MORE: &str = "
features: {resources: true, subscriptions: true}
rules: [{name: all, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], resources: ['note:*']}]
";

async fn begin() -> (Pushing, Gateway) {
    let server = Pushing::start(Speaks::Stateless).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], MORE)).await;
    // The gateway's own.
    streams(&server, 1).await;
    (server, gateway)
}

async fn say(client: &Client, what: &str, uri: &str) -> Value {
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":"r","method":"resources/{what}","params":{{"uri":"{uri}"}}}}"#);
    client.send(http::Method::POST, &[], &body).await.json()
}

async fn is_quiet(told: &mut Events) {
    let more = tokio::time::timeout(QUIET, told.message()).await;
    assert!(more.is_err(), "{more:?}");
}

/// Waits until the server's streams are about just these of its resources.
async fn listened_to(server: &Pushing, uris: &[&str]) {
    for _ in 0..400 {
        if server.listened_to() == uris {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", server.listened_to());
}

#[rstest]
#[tokio::test]
async fn updates_reach_the_client_while_it_listens(
    #[values(("/mcp", "s+"), ("/servers/s/mcp", ""))] (path, prefix): (&str, &str),
) {
    let (server, gateway) = begin().await;
    let client = gateway.client(ALICE).at(path).initialize().await;
    let done = json!({"jsonrpc":"2.0","id":"r","result":{}});
    assert_eq!(say(&client, "subscribe", &format!("{prefix}note:a")).await, done);
    let mut told = Events::listen(&client).await;
    listened_to(&server, &["note:a"]).await;
    server.say_updated("note:a", None);
    let update = told.message().await;
    assert_eq!(update["method"], "notifications/resources/updated");
    assert_eq!(update["params"], json!({"uri":format!("{prefix}note:a")}));
    // One more: the stream begins anew, and what may have been missed meanwhile is told.
    assert_eq!(say(&client, "subscribe", &format!("{prefix}note:b")).await, done);
    assert_eq!(told.message().await["params"]["uri"], format!("{prefix}note:a"));
    listened_to(&server, &["note:a", "note:b"]).await;
    server.say_updated("note:b", None);
    assert_eq!(told.message().await["params"]["uri"], format!("{prefix}note:b"));
    for own in ["note:a", "note:b"] {
        assert_eq!(say(&client, "unsubscribe", &format!("{prefix}{own}")).await, done);
    }
    listened_to(&server, &[]).await;
    server.say_updated("note:b", None);
    // What was told on the way from two to one.
    while let Ok(message) = tokio::time::timeout(QUIET, told.message()).await {
        assert_eq!(message["params"]["uri"], format!("{prefix}note:b"));
    }
    drop(told);
}

#[tokio::test]
async fn the_servers_stream_ends_with_the_clients() {
    let (server, gateway) = begin().await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    say(&client, "subscribe", "note:a").await;
    let told = Events::listen(&client).await;
    listened_to(&server, &["note:a"]).await;
    drop(told);
    listened_to(&server, &[]).await;
    // Who comes back is still subscribed, and begins where things stand now.
    let mut told = Events::listen(&client).await;
    listened_to(&server, &["note:a"]).await;
    server.say_updated("note:a", None);
    assert_eq!(told.message().await["params"]["uri"], "note:a");
    is_quiet(&mut told).await;
}

#[tokio::test]
async fn what_the_rules_do_not_allow_is_not_subscribed_to_and_not_told() {
    let (server, gateway) = begin().await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let refused = say(&client, "subscribe", "secret:a").await;
    assert!(refused["error"]["code"].is_i64(), "{refused}");
    say(&client, "subscribe", "note:a").await;
    let mut told = Events::listen(&client).await;
    listened_to(&server, &["note:a"]).await;
    // What is said under a name that was granted, and is another.
    server.say_updated("secret:a", Some("note:a"));
    is_quiet(&mut told).await;
    // The rule goes: the subscription stays, and says nothing.
    gateway.reload(&config(
        &[("s", server.address)],
        &MORE.replace("note:*", "other:*"),
    ));
    server.say_updated("note:a", None);
    is_quiet(&mut told).await;
}
