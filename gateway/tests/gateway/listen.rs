//! `subscriptions/listen`: what stateless clients are told, whatever their servers speak.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portcullis_gateway::config::watch::Outcome;
use rstest::rstest;
use serde_json::{Value, json};

use crate::news::streams;
use crate::pushing::Pushing;
use crate::support::{ALICE, BOB, Client, Gateway, META, Speaks, config};

/// It takes milliseconds; machines that run tests are busy.
const SOON: Duration = Duration::from_secs(4);
/// How long nothing must come.
const QUIET: Duration = Duration::from_millis(700);

const MORE: &str = "
features: {prompts: true, resources: true, subscriptions: true}
rules: [{name: all, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], prompts: ['*'], resources: ['note:*']}]
";

/// A client's stream of events.
pub(crate) struct Told {
    response: Response<Incoming>,
    text: String,
}

impl Told {
    pub(crate) async fn open(client: &Client, id: &str, filter: &str) -> Self {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{filter},{META}}}}}"#
        );
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "subscriptions/listen"),
        ];
        let response = client.open(Method::POST, &headers, &body).await;
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(SOON, self.message())
            .await
            .expect("nothing comes")
    }

    async fn message(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let message = data.map(|data| serde_json::from_str(data).unwrap());
                if message.is_some() {
                    return message;
                }
                continue;
            }
            let frame = self.response.body_mut().frame().await?.ok()?;
            self.text
                .push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// What it is granted, which comes first.
    pub(crate) async fn granted(&mut self) -> Value {
        let first = self.next().await.unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        first["params"]["notifications"].clone()
    }

    async fn is_quiet(&mut self) {
        let more = tokio::time::timeout(QUIET, self.message()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

/// A gateway before a server that it listens to.
async fn begin(speaks: Speaks) -> (Pushing, Gateway) {
    let server = Pushing::start(speaks).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], MORE)).await;
    streams(&server, 1).await;
    server.seen.wait("tools/list", 2).await;
    (server, gateway)
}

#[rstest]
#[tokio::test]
async fn lists_that_change_are_told_by_kind_and_under_the_clients_id(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
    #[values("/mcp", "/servers/s/mcp")] path: &str,
) {
    let (server, gateway) = begin(speaks).await;
    let client = gateway.client(ALICE).at(path);
    let mut tools = Told::open(&client, r#""mine""#, r#"{"toolsListChanged":true,"other":1}"#).await;
    assert_eq!(tools.response.headers()["content-type"], "text/event-stream");
    assert_eq!(tools.granted().await, json!({"toolsListChanged":true}));
    let mut prompts = Told::open(
        &client,
        "7",
        r#"{"promptsListChanged":true,"toolsListChanged":false}"#,
    )
    .await;
    assert_eq!(prompts.granted().await, json!({"promptsListChanged":true}));
    server.add_tool("second");
    server.say_changed("tools");
    let told = tools.next().await.unwrap();
    assert_eq!(told["method"], "notifications/tools/list_changed");
    assert_eq!(
        told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        "mine"
    );
    let listed = client.stateless("tools/list", None, "").await.text;
    assert!(listed.contains("second"), "{listed}");
    server.say_changed("prompts");
    let told = prompts.next().await.unwrap();
    assert_eq!(told["method"], "notifications/prompts/list_changed");
    assert_eq!(
        told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );
    tools.is_quiet().await;
}

#[rstest]
#[tokio::test]
async fn resources_that_change_are_told_as_the_client_knows_them(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
    #[values(("/mcp", "s+"), ("/servers/s/mcp", ""))] (path, prefix): (&str, &str),
) {
    let (server, gateway) = begin(speaks).await;
    let client = gateway.client(ALICE).at(path);
    let uri = |own: &str| format!("{prefix}{own}");
    let filter = json!({"resourceSubscriptions":[uri("note:a"), uri("secret:b"), "z+note:c"]});
    let mut told = Told::open(&client, "1", &filter.to_string()).await;
    let granted = told.granted().await;
    assert_eq!(granted, json!({"resourceSubscriptions":[uri("note:a")]}));
    server.say_updated("note:a", None);
    let update = told.next().await.unwrap();
    assert_eq!(update["method"], "notifications/resources/updated");
    assert_eq!(update["params"]["uri"], uri("note:a"));
    assert_eq!(
        update["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        1
    );
    server.say_updated("note:a/part", Some("note:a"));
    assert_eq!(told.next().await.unwrap()["params"]["uri"], uri("note:a/part"));
    // What nobody asked for.
    server.say_updated("note:b", Some("note:a"));
    server.say_changed("tools");
    told.is_quiet().await;
    drop(told);
    match speaks {
        Speaks::Sessions => {
            server.seen.wait("resources/unsubscribe", 1).await;
        }
        Speaks::Stateless => {
            let closed = server.seen.wait("stream closed", 1).await;
            assert_eq!(closed[0].1["resourceSubscriptions"], json!(["note:a"]));
        }
    }
    streams(&server, 1).await;
}

#[tokio::test]
async fn a_principals_streams_share_its_subscriptions_on_a_session() {
    let (server, gateway) = begin(Speaks::Sessions).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let filter = r#"{"resourceSubscriptions":["note:a"]}"#;
    let mut first = Told::open(&client, "1", filter).await;
    first.granted().await;
    let mut second = Told::open(&client, "2", r#"{"resourceSubscriptions":["note:a","note:b"]}"#).await;
    let both = json!({"resourceSubscriptions":["note:a","note:b"]});
    assert_eq!(second.granted().await, both);
    let mut other = Told::open(&gateway.client(BOB).at("/servers/s/mcp"), "3", filter).await;
    other.granted().await;
    assert_eq!(server.seen.of("resources/subscribe").len(), 3, "bob has his own");
    // The gateway's own, one for each of the two.
    streams(&server, 3).await;
    server.say_updated("note:a", None);
    for told in [&mut first, &mut second, &mut other] {
        assert_eq!(told.next().await.unwrap()["params"]["uri"], "note:a");
    }
    drop(second);
    server.seen.wait("resources/unsubscribe", 1).await;
    assert_eq!(server.subscribed(), ["note:a", "note:a"]);
    drop(first);
    server.seen.wait("resources/unsubscribe", 2).await;
    streams(&server, 2).await;
}

#[rstest]
#[tokio::test]
async fn after_a_break_resources_are_told_again(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let (server, gateway) = begin(speaks).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let mut told = Told::open(&client, "1", r#"{"resourceSubscriptions":["note:a"]}"#).await;
    told.granted().await;
    server.break_streams();
    assert_eq!(told.next().await.unwrap()["params"]["uri"], "note:a");
    server.say_updated("note:a", None);
    assert_eq!(told.next().await.unwrap()["params"]["uri"], "note:a");
}

#[tokio::test]
async fn who_may_not_see_a_server_hears_nothing_of_it() {
    let (mine, other) = (
        Pushing::start(Speaks::Stateless).await,
        Pushing::start(Speaks::Sessions).await,
    );
    let rules = "
features: {resources: true, subscriptions: true}
rules:
- {name: alice, action: Allow, principals: {clients: [alice]}, servers: [a/m], tools: ['*'], resources: ['*']}
- {name: bob, action: Allow, principals: {clients: [bob]}, servers: ['*'], tools: ['*'], resources: ['*']}
";
    let servers = [("m", mine.address), ("o", other.address)];
    let gateway = Gateway::start(&config(&servers, rules)).await;
    for server in [&mine, &other] {
        streams(server, 1).await;
        server.seen.wait("tools/list", 2).await;
    }
    let filter = r#"{"toolsListChanged":true,"resourceSubscriptions":["o+note:a"]}"#;
    let mut alice = Told::open(&gateway.client(ALICE), "1", filter).await;
    assert_eq!(alice.granted().await, json!({"toolsListChanged":true}));
    let mut bob = Told::open(&gateway.client(BOB), "1", filter).await;
    let granted = json!({"toolsListChanged":true,"resourceSubscriptions":["o+note:a"]});
    assert_eq!(bob.granted().await, granted);
    other.say_changed("tools");
    other.say_updated("note:a", None);
    let told = [bob.next().await.unwrap(), bob.next().await.unwrap()];
    assert_ne!(told[0]["method"], told[1]["method"]);
    alice.is_quiet().await;
    mine.say_changed("tools");
    assert_eq!(
        alice.next().await.unwrap()["method"],
        "notifications/tools/list_changed"
    );
}

#[rstest]
#[case::no_rule("/rules/0/principals", json!({"clients":["bob"]}), Some("method_unknown"))]
#[case::off("/features", json!({}), Some("method_unknown"))]
#[case::denied("/gateway/deniedSubjects", json!([{"method":"apiKeys","subject":"alice"}]), Some("unauthenticated"))]
#[case::server_gone("/servers", json!([]), Some("method_unknown"))]
#[case::drained("", json!(null), None)]
#[tokio::test]
async fn a_stream_ends_with_what_permitted_it(
    #[case] at: &str,
    #[case] value: Value,
    #[case] reason: Option<&str>,
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let (server, gateway) = begin(speaks).await;
    let filter = r#"{"toolsListChanged":true,"resourceSubscriptions":["note:a"]}"#;
    let mut told = Told::open(&gateway.client(ALICE).at("/servers/s/mcp"), "1", filter).await;
    told.granted().await;
    if reason.is_none() {
        gateway.app.drain.end_streams().cancel();
    } else {
        let mut text: Value = serde_yaml::from_str(&config(&[("s", server.address)], MORE)).unwrap();
        let (parent, name) = at.rsplit_once('/').unwrap();
        text.pointer_mut(parent).unwrap()[name] = value;
        let outcome = gateway.reload(&serde_yaml::to_string(&text).unwrap());
        assert!(matches!(outcome, Outcome::Taken));
    }
    let last = told.next().await.unwrap();
    assert_eq!(last["id"], 1, "{last}");
    match reason {
        Some(reason) => assert_eq!(last["error"]["data"]["reason"], reason, "{last}"),
        None => assert_eq!(last["result"]["resultType"], "complete"),
    }
    assert!(told.next().await.is_none());
    let records = gateway.audit().await;
    let of_stream: Vec<_> = records
        .iter()
        .filter(|record| record["method"] == "subscriptions/listen")
        .collect();
    assert_eq!(of_stream.len(), 1, "{records:?}");
    assert_eq!(of_stream[0]["decision"] == "allow", reason.is_none());
}

#[tokio::test]
async fn it_is_offered_where_it_is_on() {
    let (server, gateway) = begin(Speaks::Sessions).await;
    let client = gateway.client(ALICE);
    let discovered = client.stateless("server/discover", None, "").await.json();
    let capabilities = &discovered["result"]["capabilities"];
    assert_eq!(capabilities["tools"], json!({"listChanged":true}));
    assert_eq!(
        capabilities["resources"],
        json!({"listChanged":true,"subscribe":true})
    );
    gateway.reload(&config(&[("s", server.address)], "features: {resources: true}"));
    let discovered = client.stateless("server/discover", None, "").await.json();
    assert_eq!(discovered["result"]["capabilities"]["tools"], json!({}));
    let params = r#""notifications":{"toolsListChanged":true}"#;
    let refused = client.stateless("subscriptions/listen", None, params).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(refused.json()["error"]["code"], -32601);
}

#[tokio::test]
async fn nonsense_is_refused_and_nothing_wanted_ends_at_once() {
    let (_server, gateway) = begin(Speaks::Stateless).await;
    let client = gateway.client(ALICE);
    let refused = client.stateless("subscriptions/listen", None, "").await;
    assert_eq!(refused.json()["error"]["code"], -32602, "{refused:?}");
    let params = r#""notifications":{}"#;
    let ended = client.stateless("subscriptions/listen", None, params).await;
    let events = ended.events();
    assert_eq!(events.len(), 2, "{ended:?}");
    assert_eq!(events[1]["result"]["resultType"], "complete");
    let many: Vec<_> = futures::future::join_all((0..200).map(|_| {
        let client = client.clone();
        async move { Told::open(&client, "1", r#"{"toolsListChanged":true}"#).await }
    }))
    .await;
    let refused = client
        .stateless(
            "subscriptions/listen",
            None,
            r#""notifications":{"toolsListChanged":true}"#,
        )
        .await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.reason(), "stream_limit");
    drop(many);
}
