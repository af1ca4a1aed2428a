//! Stateless servers that have sessions as well and do not say so: they are tried, once, for a client that has one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use rstest::rstest;
use serde_json::json;

use crate::native::{Native, Reply};
use crate::support::{ALICE, BOB, Gateway, config};

fn opened() -> Reply {
    Reply::Result(
        json!({"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"both","version":"1"}}),
    )
}

/// Which revisions calls came in.
fn spoken(server: &Native) -> Vec<String> {
    let calls = server.seen.of("tools/call");
    let revision = |headers: &http::HeaderMap| headers["mcp-protocol-version"].to_str().unwrap().to_owned();
    calls.iter().map(|(headers, _)| revision(headers)).collect()
}

#[rstest]
#[tokio::test]
async fn a_client_with_a_session_gets_one_of_a_server_that_has_them(
    #[values(("/mcp", "s__t"), ("/servers/s/mcp", "t"))] (path, tool): (&str, &str),
) {
    let server = Native::start(|method, _, _| (method == "initialize").then(opened)).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let stateless = gateway.client(ALICE).at(path);
    let params = format!(r#""name":"{tool}","arguments":{{}}"#);
    let answer = stateless.stateless("tools/call", Some(tool), &params).await;
    assert!(answer.json()["result"].is_object(), "{answer:?}");
    assert!(
        server.seen.of("initialize").is_empty(),
        "nobody has a session yet"
    );
    for who in [ALICE, BOB] {
        let client = gateway.client(who).at(path).initialize().await;
        assert_eq!(client.call(tool, "{}").await.status, StatusCode::OK);
    }
    assert_eq!(spoken(&server), ["2026-07-28", "2025-11-25", "2025-11-25"]);
    assert_eq!(
        server.seen.of("initialize").len(),
        3,
        "one to find out, one for each"
    );
}

#[rstest]
#[case::that_it_speaks_another(Some((StatusCode::BAD_REQUEST, -32_022)))]
#[case::that_there_is_no_such_method(Some((StatusCode::NOT_FOUND, -32_601)))]
#[case::something_that_is_no_answer(None)]
#[case::that_it_is_busy(Some((StatusCode::SERVICE_UNAVAILABLE, -32_000)))]
#[tokio::test]
async fn a_server_that_says(#[case] refusal: Option<(StatusCode, i64)>) {
    let server = Native::start(move |method, _, _| {
        (method == "initialize").then(|| match refusal {
            Some((status, code)) => Reply::Error(status, json!({"code":code,"message":"no"})),
            None => Reply::Result(json!({"resultType":"complete"})),
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    for who in [ALICE, BOB] {
        let client = gateway.client(who).at("/servers/s/mcp").initialize().await;
        let answer = client.call("t", "{}").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.json()["result"].is_object(), "{answer:?}");
    }
    assert_eq!(spoken(&server), ["2026-07-28", "2026-07-28"]);
    assert_eq!(server.seen.of("initialize").len(), 1, "calls do not ask each");
    assert!(
        server.seen.of("GET").is_empty(),
        "it is not of the first revision either"
    );
}

/// Many clients that come at once are one question.
#[tokio::test]
async fn it_is_tried_once_for_all() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = Native::start(move |method, _, _| {
        (method == "initialize").then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            Reply::Error(StatusCode::BAD_REQUEST, json!({"code":-32_022,"message":"no"}))
        })
    })
    .await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let begin = async || {
        let client = gateway.client(ALICE).at("/servers/s/mcp");
        client.initialize().await
    };
    futures::future::join_all((0..8).map(|_| begin())).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
}
