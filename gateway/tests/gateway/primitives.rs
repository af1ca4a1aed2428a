//! Prompts, resources and completions: each era of client on each era of server, one server and several, what is off and
//! what is forbidden.

use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, Client, Gateway, Server, Speaks, config};

/// Everything is on, and everything is permitted but what is secret.
const OPEN: &str = "
features: {prompts: true, resources: true, completions: true}
rules:
- {name: all, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], prompts: ['*'], resources: ['*']}
- {name: no, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], prompts: [hidden], resources: ['file:///secret/*']}
";

/// A client of either era.
struct Any {
    client: Client,
    stateless: bool,
}

impl Any {
    async fn open(gateway: &Gateway, who: u8, path: &str, stateless: bool) -> Self {
        let client = gateway.client(who).at(path);
        let client = if stateless {
            client
        } else {
            client.initialize().await
        };
        Self { client, stateless }
    }

    /// The status and the message; `params` without braces.
    async fn ask(&self, method: &str, params: &str) -> (StatusCode, Value) {
        let answer = if self.stateless {
            let value: Value = serde_json::from_str(&format!("{{{params}}}")).unwrap();
            let name = match method {
                "prompts/get" | "tools/call" => value["name"].as_str(),
                "resources/read" => value["uri"].as_str(),
                _ => None,
            };
            self.client.stateless(method, name, params).await
        } else {
            let body = format!(r#"{{"jsonrpc":"2.0","id":41,"method":"{method}","params":{{{params}}}}}"#);
            self.client.post(&body).await
        };
        (answer.status, answer.json())
    }

    async fn result(&self, method: &str, params: &str) -> Value {
        let (status, message) = self.ask(method, params).await;
        assert_eq!(status, StatusCode::OK, "{method} {params}: {message}");
        assert_eq!(message["id"], 41);
        let result = &message["result"];
        assert!(result.is_object(), "{method} {params}: {message}");
        let has_type = result.get("resultType").is_some();
        assert_eq!(has_type, self.stateless, "{method}: {message}");
        result.clone()
    }

    async fn error(&self, method: &str, params: &str) -> (u16, i64, Value) {
        let (status, message) = self.ask(method, params).await;
        let code = message["error"]["code"].as_i64();
        (
            status.as_u16(),
            code.unwrap_or_else(|| panic!("{method} {params}: {message}")),
            message,
        )
    }

    async fn capabilities(&self) -> Vec<String> {
        let result = if self.stateless {
            self.result("server/discover", "").await
        } else {
            let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
            let client = Client {
                session: None,
                ..self.client.clone()
            };
            client.post(initialize).await.json()["result"].clone()
        };
        let names = result["capabilities"].as_object().unwrap().keys();
        let mut names: Vec<String> = names.cloned().collect();
        names.sort_unstable();
        names
    }
}

fn named(result: &Value, list: &str, key: &str) -> Vec<String> {
    let items = result[list].as_array().unwrap().iter();
    items.map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[rstest]
#[tokio::test]
async fn both_kinds_of_client_use_prompts_resources_and_completions(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
    #[values(false, true)] stateless: bool,
    #[values(("/mcp", "s__", "s+"), ("/servers/s/mcp", "", ""))] endpoint: (&str, &str, &str),
) {
    let (path, name, scheme) = endpoint;
    let server = Server::start(speaks).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], OPEN)).await;
    let client = Any::open(&gateway, ALICE, path, stateless).await;
    assert_eq!(
        client.capabilities().await,
        ["completions", "prompts", "resources", "tools"]
    );

    let prompts = client.result("prompts/list", "").await;
    assert_eq!(named(&prompts, "prompts", "name"), [format!("{name}greet")]);
    assert_eq!(prompts["prompts"][0]["vendor"]["x"].to_string(), "1.0");
    let got = client
        .result(
            "prompts/get",
            &format!(r#""name":"{name}greet","arguments":{{"who":"é","n":1.0}}"#),
        )
        .await;
    assert_eq!(got["description"], r#"{"n":1.0,"who":"é"}"#);
    assert_eq!(got["messages"][0]["content"]["text"], "greet");
    let embedded = &got["messages"][1]["content"]["resource"];
    assert_eq!(embedded["uri"], format!("{scheme}file:///pub/a.txt"));
    assert_eq!(embedded["x"].to_string(), "1.0");

    let resources = client.result("resources/list", "").await;
    let a = format!("{scheme}file:///pub/a.txt");
    assert_eq!(named(&resources, "resources", "uri"), std::slice::from_ref(&a));
    assert_eq!(resources["resources"][0]["size"].to_string(), "1.0");
    let templates = client.result("resources/templates/list", "").await;
    let template = format!("{scheme}file:///pub/{{name}}");
    assert_eq!(
        named(&templates, "resourceTemplates", "uriTemplate"),
        std::slice::from_ref(&template)
    );
    // One that is listed, and one that only a template leads to.
    for uri in [a.clone(), format!("{scheme}file:///pub/other")] {
        let read = client
            .result("resources/read", &format!(r#""uri":"{uri}""#))
            .await;
        assert_eq!(read["contents"][0]["uri"], uri);
        assert_eq!(read["contents"][0]["vendor"]["x"].to_string(), "1.0");
        if stateless {
            let ttl = if speaks == Speaks::Stateless { 2_000 } else { 0 };
            assert_eq!(
                (&read["ttlMs"], &read["cacheScope"]),
                (&json!(ttl), &json!("private"))
            );
        }
    }
    if stateless {
        let ttl = if speaks == Speaks::Stateless { 2_000 } else { 5_000 };
        for list in [&prompts, &resources, &templates] {
            assert_eq!(
                (&list["ttlMs"], &list["cacheScope"]),
                (&json!(ttl), &json!("private"))
            );
        }
    }
    let missing = client
        .error("resources/read", &format!(r#""uri":"{scheme}file:///pub/none""#))
        .await;
    assert_eq!(
        (missing.0, missing.1),
        (200, if stateless { -32602 } else { -32002 }),
        "{missing:?}"
    );
    assert_eq!(missing.2["error"]["message"], "no such file");

    for about in [
        format!(r#""type":"ref/prompt","name":"{name}greet""#),
        format!(r#""type":"ref/resource","uri":"{template}""#),
        format!(r#""type":"ref/resource","uri":"{a}""#),
    ] {
        let params = format!(r#""ref":{{{about}}},"argument":{{"name":"who","value":"v"}}"#);
        let completed = client.result("completion/complete", &params).await;
        assert_eq!(completed["completion"]["values"], json!(["v"]));
    }

    // The server saw its own names, in its own era.
    let (headers, body) = server.seen.of("prompts/get").remove(0);
    assert_eq!(body["params"]["name"], "greet");
    assert_eq!(body["params"]["arguments"].to_string(), r#"{"n":1.0,"who":"é"}"#);
    assert!(headers.get("authorization").is_none());
    let (read, read_body) = server.seen.of("resources/read").remove(0);
    assert_eq!(read_body["params"]["uri"], "file:///pub/a.txt");
    let refs: Vec<Value> = server
        .seen
        .of("completion/complete")
        .into_iter()
        .map(|(_, body)| body["params"]["ref"].clone())
        .collect();
    assert_eq!(
        refs,
        [
            json!({"type":"ref/prompt","name":"greet"}),
            json!({"type":"ref/resource","uri":"file:///pub/{name}"}),
            json!({"type":"ref/resource","uri":"file:///pub/a.txt"}),
        ]
    );
    match speaks {
        Speaks::Stateless => {
            for (headers, method, name) in [
                (&headers, "prompts/get", "greet"),
                (&read, "resources/read", "file:///pub/a.txt"),
            ] {
                assert_eq!(headers["mcp-method"], method);
                assert_eq!(headers["mcp-name"], name);
            }
            let (complete, body) = server.seen.of("completion/complete").remove(0);
            assert!(complete.get("mcp-name").is_none());
            let version = &body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
            assert_eq!(version, "2026-07-28");
        }
        Speaks::Sessions => assert!(headers.contains_key("mcp-session-id")),
    }
}

#[rstest]
#[tokio::test]
async fn what_is_forbidden_looks_unknown(#[values(false, true)] stateless: bool) {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], OPEN)).await;
    let client = Any::open(&gateway, ALICE, "/mcp", stateless).await;
    let same = async |method: &str, forbidden: (&str, &str), unknown: (&str, &str)| {
        let a = client.error(method, &forbidden.0.replace('N', forbidden.1)).await;
        let b = client.error(method, &unknown.0.replace('N', unknown.1)).await;
        assert_eq!((a.0, a.1), (b.0, b.1));
        assert_eq!(
            a.2.to_string().replace(forbidden.1, "N"),
            b.2.to_string().replace(unknown.1, "N"),
            "{method}"
        );
        a
    };
    let get = r#""name":"N""#;
    let prompt = same("prompts/get", (get, "s__hidden"), (get, "s__nothere")).await;
    assert_eq!((prompt.0, prompt.1), (200, -32602));
    assert_eq!(prompt.2["error"]["data"]["reason"], "prompt_unknown");
    let read = r#""uri":"N""#;
    let resource = same(
        "resources/read",
        (read, "s+file:///secret/key.pem"),
        (read, "other+file:///a"),
    )
    .await;
    assert_eq!(
        (resource.0, resource.1),
        (200, if stateless { -32602 } else { -32002 })
    );
    assert_eq!(resource.2["error"]["data"]["reason"], "resource_unknown");
    // Other ways to write a forbidden URI, and a URI without its server.
    for uri in [
        "s+file:///pub/../secret/key.pem",
        "s+file:///pub/%2e%2e/secret/key.pem",
        "s+file:///s%65cret/key.pem",
        "S+FILE:///secret/key.pem",
        "file:///pub/a.txt",
    ] {
        same("resources/read", (read, uri), (read, "other+file:///a")).await;
    }
    let complete = r#""ref":{"type":"ref/prompt","name":"N"},"argument":{"name":"a","value":""}"#;
    same(
        "completion/complete",
        (complete, "s__hidden"),
        (complete, "s__nothere"),
    )
    .await;
    let complete = r#""ref":{"type":"ref/resource","uri":"N"},"argument":{"name":"a","value":""}"#;
    same(
        "completion/complete",
        (complete, "s+file:///secret/{name}"),
        (complete, "other+x"),
    )
    .await;
    let wrong = client
        .error(
            "completion/complete",
            r#""ref":{"type":"ref/tool","name":"s__echo"}"#,
        )
        .await;
    assert_eq!((wrong.0, wrong.1), (200, -32602));
    for method in ["prompts/get", "resources/read", "completion/complete"] {
        assert!(
            server.seen.of(method).is_empty(),
            "a forbidden {method} went upstream"
        );
    }
    let records = gateway.audit().await;
    let denied = |reason: &str| {
        let found = records.iter().find(|record| record["reason"] == reason);
        found
            .unwrap_or_else(|| panic!("no {reason}: {records:?}"))
            .clone()
    };
    let prompt = denied("prompt_forbidden");
    assert_eq!(
        (&prompt["prompt"], &prompt["rule"]),
        (&json!("hidden"), &json!("no"))
    );
    let resource = denied("resource_forbidden");
    assert_eq!(
        (&resource["resource"], &resource["rule"]),
        (&json!("file:///secret/key.pem"), &json!("no"))
    );
}

#[rstest]
#[case::off("", &["tools"])]
#[case::on_but_not_permitted("features: {prompts: true, resources: true, completions: true}", &["tools"])]
#[case::prompts_alone(
    "{features: {prompts: true}, rules: [{name: r, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], prompts: ['*'], resources: ['*']}]}",
    &["prompts", "tools"]
)]
#[case::resources_for_another(
    "{features: {prompts: true, resources: true, completions: true}, rules: [{name: r, action: Allow, principals: {clients: [bob]}, servers: ['*'], resources: ['*']}]}",
    &["tools"]
)]
#[tokio::test]
async fn what_is_off_or_not_permitted_is_unknown(
    #[case] more: &str,
    #[case] expected: &[&str],
    #[values(false, true)] stateless: bool,
    #[values("/mcp", "/servers/s/mcp")] path: &str,
) {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], more)).await;
    // Where nothing is permitted at all, the server's own endpoint does not exist.
    if more.contains("bob") && path != "/mcp" {
        return;
    }
    let client = Any::open(&gateway, ALICE, path, stateless).await;
    assert_eq!(client.capabilities().await, expected);
    let methods = [
        ("prompts/list", ""),
        ("prompts/get", r#""name":"s__greet""#),
        ("resources/list", ""),
        ("resources/templates/list", ""),
        ("resources/read", r#""uri":"s+file:///pub/a.txt""#),
        (
            "completion/complete",
            r#""ref":{"type":"ref/prompt","name":"s__greet"},"argument":{"name":"a","value":""}"#,
        ),
    ];
    for (method, params) in methods {
        let kind = method.split('/').next().unwrap();
        if expected.contains(&kind) {
            continue;
        }
        let (status, code, message) = client.error(method, params).await;
        assert_eq!(
            (status, code),
            (if stateless { 404 } else { 200 }, -32601),
            "{message}"
        );
        let asked = server.seen.of(method).len();
        // Only the gateway itself may have asked, for a list that is on.
        assert!(asked == 0 || (method.ends_with("list") && more.contains(&format!("{kind}: true"))));
    }
}

#[tokio::test]
async fn a_server_can_narrow_what_is_on() {
    let (a, b) = (
        Server::start(Speaks::Sessions).await,
        Server::start(Speaks::Sessions).await,
    );
    let open = OPEN.replace("completions: true", "completions: true, subscriptions: true");
    let text = config(&[("a", a.address), ("b", b.address)], &open);
    let narrowed = text.replacen(
        "addressPolicy: Loopback",
        "addressPolicy: Loopback\n  features: {prompts: false, completions: false, subscriptions: false}",
        1,
    );
    assert_ne!(text, narrowed);
    let gateway = Gateway::start(&narrowed).await;
    let client = Any::open(&gateway, ALICE, "/mcp", true).await;
    let prompts = client.result("prompts/list", "").await;
    assert_eq!(named(&prompts, "prompts", "name"), ["b__greet"]);
    let (_, code, _) = client.error("prompts/get", r#""name":"a__greet""#).await;
    assert_eq!(code, -32602);
    let resources = client.result("resources/list", "").await;
    assert_eq!(resources["resources"].as_array().unwrap().len(), 2);
    assert!(a.seen.of("prompts/list").is_empty());
    let session = Any::open(&gateway, ALICE, "/mcp", false).await;
    for (method, params) in [
        ("resources/subscribe", r#""uri":"S+file:///pub/a.txt""#),
        (
            "completion/complete",
            r#""ref":{"type":"ref/resource","uri":"S+file:///pub/{name}"},"argument":{"name":"name","value":"x"}"#,
        ),
    ] {
        session.error(method, &params.replace("S+", "a+")).await;
        assert!(a.seen.of(method).is_empty(), "{method}");
        session.ask(method, &params.replace("S+", "b+")).await;
        assert_eq!(b.seen.of(method).len(), 1, "{method}");
    }

    // What is switched on by a reload is there as soon as the server has told.
    gateway.reload(&text);
    a.seen.wait("prompts/list", 2).await;
    for _ in 0..200 {
        let prompts = client.result("prompts/list", "").await;
        if named(&prompts, "prompts", "name") == ["a__greet", "b__greet"] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the prompts did not come");
}

#[tokio::test]
async fn one_dead_server_leaves_the_others_alone() {
    let server = Server::start(Speaks::Stateless).await;
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let gateway = Gateway::start(&config(&[("live", server.address), ("dead", dead)], OPEN)).await;
    for stateless in [false, true] {
        let client = Any::open(&gateway, ALICE, "/mcp", stateless).await;
        let prompts = client.result("prompts/list", "").await;
        assert_eq!(named(&prompts, "prompts", "name"), ["live__greet"]);
        let resources = client.result("resources/list", "").await;
        assert_eq!(named(&resources, "resources", "uri"), ["live+file:///pub/a.txt"]);
        if stateless {
            assert_eq!(prompts["ttlMs"], 0, "a partial list is not to be kept");
        }
        client
            .result("resources/read", r#""uri":"live+file:///pub/a.txt""#)
            .await;
        let begun = std::time::Instant::now();
        let (status, _, message) = client
            .error("resources/read", r#""uri":"dead+file:///pub/a.txt""#)
            .await;
        assert_eq!(status, if stateless { 503 } else { 200 });
        assert_eq!(message["error"]["data"]["reason"], "upstream_unavailable");
        assert!(begun.elapsed() < std::time::Duration::from_secs(3));
    }
}

#[rstest]
#[tokio::test]
async fn links_lead_back_through_the_endpoint_they_came_from(#[values(false, true)] stateless: bool) {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], OPEN)).await;
    let link = r#""arguments":{"link":"db://orders/7"}"#;
    let federated = Any::open(&gateway, ALICE, "/mcp", stateless).await;
    let called = federated
        .result("tools/call", &format!(r#""name":"s__echo",{link}"#))
        .await;
    let content = &called["content"];
    assert_eq!(content[0]["uri"], "s+db://orders/7");
    assert_eq!(content[0]["size"].to_string(), "1.0");
    assert_eq!(content[1]["uri"], "https://web.example/page");
    assert_eq!(content[2]["text"], "file:///pub/a.txt");
    let read = federated
        .result("resources/read", r#""uri":"s+db://orders/7""#)
        .await;
    assert_eq!(read["contents"][0]["uri"], "s+db://orders/7");
    let own = Any::open(&gateway, BOB, "/servers/s/mcp", stateless).await;
    let called = own
        .result("tools/call", &format!(r#""name":"echo",{link}"#))
        .await;
    assert_eq!(called["content"][0]["uri"], "db://orders/7");
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_list_and_principal() {
    let server = Server::start(Speaks::Stateless).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], OPEN)).await;
    let client = Any::open(&gateway, ALICE, "/mcp", true).await;
    for cursor in ["", "x", "AAAA"] {
        let (_, code, message) = client
            .error("prompts/list", &format!(r#""cursor":"{cursor}""#))
            .await;
        assert_eq!(code, -32602);
        assert_eq!(message["error"]["data"]["reason"], "invalid_cursor");
    }
}
