//! Servers that are shown a token which the gateway fetches for itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use portcullis_config::status::Status;
use portcullis_gateway::run::Application as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{ALICE, Gateway, Server, Speaks, config};

/// A token endpoint: its tokens are `token-1`, `token-2` and so on.
#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    state: Arc<Mutex<Granting>>,
}

struct Granting {
    /// Clients' secrets.
    secrets: HashMap<String, String>,
    lifetime: u64,
    status: StatusCode,
    /// The forms that came.
    asked: Vec<String>,
    given: usize,
}

impl Endpoint {
    async fn start(lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(Granting {
            secrets: HashMap::from([("gateway".into(), "old secret".into())]),
            lifetime,
            status: StatusCode::OK,
            asked: Vec::new(),
            given: 0,
        }));
        let router = Router::new().fallback(grant).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    fn set(&self, change: impl FnOnce(&mut Granting)) {
        change(&mut self.state.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }
}

async fn grant(
    State(state): State<Arc<Mutex<Granting>>>,
    headers: HeaderMap,
    form: String,
) -> (StatusCode, String) {
    use base64::Engine as _;
    let mut state = state.lock().unwrap();
    let given = headers[header::AUTHORIZATION].to_str().unwrap();
    let given = given.strip_prefix("Basic ").unwrap();
    let given = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(given).unwrap()).unwrap();
    let (client, secret) = given.split_once(':').unwrap();
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
    state.asked.push(form);
    if state.status != StatusCode::OK {
        return (state.status, "down".into());
    }
    if state.secrets.get(client).map(|secret| secret.replace(' ', "+")) != Some(secret.to_owned()) {
        let refusal = json!({"error":"invalid_client","error_description":"hunter2"});
        return (StatusCode::UNAUTHORIZED, refusal.to_string());
    }
    state.given += 1;
    let token = format!("token-{}", state.given);
    let body = json!({"access_token":token,"token_type":"Bearer","expires_in":state.lifetime});
    (StatusCode::OK, body.to_string())
}

/// A gateway whose server `s` is shown tokens of that endpoint.
async fn gateway(server: SocketAddr, endpoint: SocketAddr) -> Gateway {
    let secret = std::env::temp_dir().join(format!("portcullis-secret-{:x}", rand::random::<u64>()));
    let mut configured: Value = serde_yaml::from_str(&config(&[("s", server)], "")).unwrap();
    configured["servers"][0]["oauthClientCredentials"] = json!({
        "tokenUrl": format!("http://{endpoint}/token"),
        "addressPolicy": "Loopback",
        "clientId": "gateway",
        "clientSecret": secret,
        "scopes": ["mcp:tools"],
        "resource": "https://files.example.com/mcp",
    });
    std::fs::write(&secret, "old secret\n").unwrap();
    Gateway::start(&serde_yaml::to_string(&configured).unwrap()).await
}

fn secret(gateway: &Gateway) -> std::path::PathBuf {
    let text = std::fs::read_to_string(gateway.folder.join("gateway.yaml")).unwrap();
    let configured: Value = serde_yaml::from_str(&text).unwrap();
    configured["servers"][0]["oauthClientCredentials"]["clientSecret"]
        .as_str()
        .unwrap()
        .into()
}

/// What status says of the server.
fn said(gateway: &Gateway) -> (String, String) {
    let mut status = Status::default();
    gateway.app.fill_status(&mut status);
    let server = status.servers.remove(0);
    (server.reason, server.message)
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

fn shown(server: &Server, method: &str) -> Vec<String> {
    let seen = server.seen.of(method);
    let shown = seen.iter().map(|(headers, _)| headers.get(header::AUTHORIZATION));
    shown
        .map(|value| value.map_or("", |value| value.to_str().unwrap()).to_owned())
        .collect()
}

#[tokio::test]
async fn a_server_is_shown_the_gateways_token_and_never_the_clients() {
    let server = Server::start(Speaks::Sessions).await;
    let endpoint = Endpoint::start(3600).await;
    let gateway = gateway(server.address, endpoint.address).await;
    until("verified", || said(&gateway).0.is_empty()).await;
    let session = gateway.client(ALICE).initialize().await;
    assert_eq!(session.call("s__echo", "{}").await.status, StatusCode::OK);
    assert_eq!(shown(&server, "tools/call"), ["Bearer token-1"]);
    assert!(
        server
            .seen
            .all()
            .iter()
            .all(|(_, headers)| headers[header::AUTHORIZATION] == "Bearer token-1")
    );
    let asked = endpoint.state.lock().unwrap().asked.clone();
    assert_eq!(
        asked,
        ["grant_type=client_credentials&scope=mcp%3Atools&resource=https%3A%2F%2Ffiles.example.com%2Fmcp"]
    );
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_status_says_why() {
    let server = Server::start(Speaks::Sessions).await;
    let endpoint = Endpoint::start(3600).await;
    endpoint.set(|state| state.secrets.clear());
    let gateway = gateway(server.address, endpoint.address).await;
    until("the reason", || said(&gateway).1.contains("invalid_client")).await;
    let (reason, message) = said(&gateway);
    assert_eq!(reason, "CredentialMissing");
    assert!(
        !message.contains("hunter2") && !message.contains("old secret"),
        "{message}"
    );
    let list = gateway
        .client(ALICE)
        .stateless("tools/list", None, "")
        .await
        .json();
    assert_eq!(
        list["result"]["tools"].as_array().map(Vec::len),
        Some(0),
        "{list}"
    );
    assert!(server.seen.all().is_empty(), "{:?}", server.seen.all());
    // Somebody sets it right; the gateway asks again by itself.
    endpoint.set(|state| drop(state.secrets.insert("gateway".into(), "old secret".into())));
    until("verified", || said(&gateway).0.is_empty()).await;
    let session = gateway.client(ALICE).initialize().await;
    assert!(session.call("s__echo", "{}").await.text.contains("\"result\""));
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_call_that_fails() {
    let server = Server::start(Speaks::Sessions).await;
    let endpoint = Endpoint::start(3600).await;
    let gateway = gateway(server.address, endpoint.address).await;
    until("verified", || said(&gateway).0.is_empty()).await;
    let session = gateway.client(ALICE).initialize().await;
    for round in 2..20 {
        let new = format!("secret {round}");
        endpoint.set(|state| drop(state.secrets.insert("gateway".into(), new.clone())));
        std::fs::write(secret(&gateway), new).unwrap();
        gateway.look();
        for _ in 0..3 {
            let answer = session.call("s__echo", "{}").await;
            assert!(answer.text.contains("\"result\""), "{answer:?}");
        }
        until("another token", || endpoint.state.lock().unwrap().given == round).await;
        let wanted = format!("Bearer token-{round}");
        let mut tries = 0;
        while shown(&server, "tools/call").pop().unwrap() != wanted {
            assert!(tries < 1000, "{wanted} is not shown");
            tries += 1;
            assert!(session.call("s__echo", "{}").await.text.contains("\"result\""));
        }
    }
    // What is gone is gone: the token of a secret that was taken away is not shown either.
    std::fs::remove_file(secret(&gateway)).unwrap();
    until("the credential gone", || {
        gateway.look();
        said(&gateway).0 == "CredentialMissing"
    })
    .await;
    let calls = shown(&server, "tools/call").len();
    assert_eq!(
        session.call("s__echo", "{}").await.reason(),
        "upstream_unavailable"
    );
    assert_eq!(shown(&server, "tools/call").len(), calls);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_outlives_a_reload_and_an_outage() {
    let server = Server::start(Speaks::Sessions).await;
    let endpoint = Endpoint::start(3).await;
    let gateway = gateway(server.address, endpoint.address).await;
    until("verified", || said(&gateway).0.is_empty()).await;
    let text = std::fs::read_to_string(gateway.folder.join("gateway.yaml")).unwrap();
    gateway.reload(&format!("{text}\n"));
    assert_eq!(endpoint.asked(), 1, "a reload asks for nothing");
    until("renewed", || endpoint.asked() >= 2).await;
    endpoint.set(|state| state.status = StatusCode::BAD_GATEWAY);
    until("asked in vain", || endpoint.asked() >= 3).await;
    // Calls go on while the last one holds; then they are refused.
    until("it has ended", || said(&gateway).0 == "CredentialMissing").await;
    assert!(said(&gateway).1.contains("answered 502"), "{:?}", said(&gateway));
    endpoint.set(|state| state.status = StatusCode::OK);
    until("there again", || said(&gateway).0.is_empty()).await;
}

#[tokio::test]
async fn a_token_that_the_server_refuses_is_replaced_and_not_at_every_refusal() {
    let server = Server::start(Speaks::Sessions).await;
    let endpoint = Endpoint::start(3600).await;
    let gateway = gateway(server.address, endpoint.address).await;
    until("verified", || said(&gateway).0.is_empty()).await;
    let session = gateway.client(ALICE).initialize().await;
    for id in 0..20 {
        let refused = session
            .post(&crate::scripted::doing(&id.to_string(), "refuse"))
            .await;
        assert_eq!(refused.reason(), "upstream_unavailable", "{refused:?}");
        assert!(!refused.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    until("another", || endpoint.asked() == 2).await;
    for _ in 0..1000 {
        assert!(session.call("s__echo", "{}").await.text.contains("\"result\""));
        if shown(&server, "tools/call").pop().unwrap() == "Bearer token-2" {
            assert_eq!(endpoint.asked(), 2);
            return;
        }
    }
    panic!("the second token is not shown");
}
