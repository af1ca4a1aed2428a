//! Servers that know the stateless era and speak another revision of it than was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::native::{Native, Reply};
use crate::support::{ALICE, Gateway, config};

fn unsupported(supported: &[&str]) -> Reply {
    Reply::Error(
        StatusCode::BAD_REQUEST,
        json!({"code":-32022,"message":"Unsupported protocol version","data":{"supported":supported,"requested":"2026-07-28"}}),
    )
}

/// `initialize` is for servers that say that they have sessions.
#[rstest]
#[case::of_the_future(&["2099-01-01"], false)]
#[case::of_both(&["2099-01-01", "2025-06-18"], true)]
#[tokio::test]
async fn a_server_of_another_revision_is_not_taken_for_an_old_one(
    #[case] supported: &'static [&'static str],
    #[case] sessions: bool,
) {
    let server = Native::start(move |method, _, _| {
        Some(match method {
            "server/discover" => unsupported(supported),
            "initialize" => Reply::Result(json!({"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}})),
            _ => return None,
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = client.stateless("tools/list", None, "").await;
    let tools = answer.json()["result"]["tools"].as_array().map(Vec::len);
    assert_eq!(tools, Some(if sessions { 2 } else { 0 }), "{answer:?}");
    assert_eq!(server.seen.of("initialize").is_empty(), !sessions);
    let snapshot = gateway.app.snapshot().unwrap();
    let health = snapshot.upstreams[0].link.health();
    assert_eq!(health.verified, sessions, "{health:?}");
    if !sessions {
        assert_eq!(health.reason, "UnsupportedRevision", "{health:?}");
    }
}

/// A server that names the very revision it refused is asked once more, and no more than that.
#[rstest]
#[case::once(1, true)]
#[case::always(usize::MAX, false)]
#[tokio::test]
async fn who_names_the_revision_asked_for_is_asked_again(#[case] refusals: usize, #[case] good: bool) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Native::start(move |method, _, _| {
        let refuse = method == "server/discover" && count.fetch_add(1, Ordering::SeqCst) < refusals;
        refuse.then(|| unsupported(&["2026-07-28"]))
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let answer = client
        .stateless("tools/call", Some("t"), r#""name":"t","arguments":{}"#)
        .await;
    assert_eq!(
        answer.status == StatusCode::OK && answer.json()["result"].is_object(),
        good,
        "{answer:?}"
    );
    assert!(server.seen.of("initialize").is_empty());
}

/// A server that was replaced by one of the era before refuses the call without doing anything: it is greeted anew.
#[tokio::test]
async fn a_server_that_changed_its_era_is_greeted_anew() {
    let changed = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&changed);
    let server = Native::start(move |method, headers, _| {
        let stateless = headers.get("mcp-protocol-version").is_some_and(|v| v == "2026-07-28");
        if now.load(Ordering::SeqCst) == 0 {
            return None;
        }
        Some(match method {
            _ if stateless => unsupported(&["2025-11-25"]),
            "initialize" => Reply::Result(json!({"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"2"}})),
            "tools/call" => Reply::Result(json!({"content":[],"era":"before"})),
            _ => return None,
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    let call = || client.stateless("tools/call", Some("t"), r#""name":"t","arguments":{}"#);
    assert_eq!(call().await.status, StatusCode::OK);
    changed.store(1, Ordering::SeqCst);
    let answer = call().await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["result"]["era"], "before", "{answer:?}");
    assert_eq!(answer.json()["error"], Value::Null);
}
