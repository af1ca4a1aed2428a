//! Gauges and outcomes that stand in the documentation are written.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::scripted::doing;
use crate::support::{ALICE, Gateway, Server, Speaks, config};

/// The value of a line of the metrics.
pub(crate) fn metric(gateway: &Gateway, line: &str) -> Option<u64> {
    let name = format!("portcullis_gateway_{line} ");
    let text = gateway.app.metrics.render();
    let value = text.lines().find_map(|line| line.strip_prefix(&name))?;
    Some(value.parse().unwrap())
}

async fn wait_for(gateway: &Gateway, line: &str, value: u64) {
    for _ in 0..1000 {
        if metric(gateway, line) == Some(value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{line} is {:?}, not {value}", metric(gateway, line));
}

#[tokio::test]
async fn requests_in_flight_are_those_that_are_worked_on() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let session = gateway.client(ALICE).initialize().await;
    wait_for(&gateway, "requests_in_flight", 0).await;
    assert_eq!(metric(&gateway, "sessions"), Some(1));
    let mut running = Vec::new();
    for id in ["1", "2"] {
        let session = session.clone();
        running.push(tokio::spawn(
            async move { session.post(&doing(id, "late")).await },
        ));
    }
    server.seen.wait("tools/call", 2).await;
    assert_eq!(metric(&gateway, "requests_in_flight"), Some(2));
    server.script.release();
    for one in running {
        assert_eq!(one.await.unwrap().status, StatusCode::OK);
    }
    wait_for(&gateway, "requests_in_flight", 0).await;
}

#[tokio::test]
async fn a_server_is_verified_while_it_can_be_used() {
    let server = Server::start(Speaks::Sessions).await;
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = Gateway::start(&config(&[("s", server.address), ("dead", dead)], "")).await;
    wait_for(&gateway, "upstream_verified{server=\"a/s\"}", 1).await;
    gateway.client(ALICE).stateless("tools/list", None, "").await;
    assert_eq!(metric(&gateway, "upstream_verified{server=\"a/dead\"}"), Some(0));
}

#[tokio::test]
async fn a_call_that_finds_no_place_is_counted_at_its_server() {
    let server = Server::start(Speaks::Sessions).await;
    let text = config(&[("s", server.address)], "");
    let text = text.replace(
        "- addressPolicy:",
        "- limits: {maxConcurrent: 1}\n  addressPolicy:",
    );
    let gateway = Gateway::start(&text).await;
    let session = gateway.client(ALICE).initialize().await;
    let first = tokio::spawn({
        let session = session.clone();
        async move { session.post(&doing("1", "late")).await }
    });
    server.seen.wait("tools/call", 1).await;
    assert!(session.call("s__echo", "{}").await.text.contains("upstream_busy"));
    let busy = "upstream_requests_total{server=\"a/s\",outcome=\"busy\"}";
    assert_eq!(metric(&gateway, busy), Some(1));
    server.script.release();
    first.await.unwrap();
}

#[tokio::test]
async fn a_servers_own_error_is_told_from_an_answer() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let session = gateway.client(ALICE).initialize().await;
    assert!(session.call("s__fail", "{}").await.text.contains("it failed"));
    session.call("s__echo", "{}").await;
    let outcome = |outcome| format!("messages_total{{method=\"tools/call\",outcome=\"{outcome}\"}}");
    wait_for(&gateway, &outcome("upstream_error"), 1).await;
    wait_for(&gateway, &outcome("ok"), 1).await;
    // It was let through all the same.
    let records = gateway.audit().await;
    let calls = records.iter().filter(|record| record["method"] == "tools/call");
    assert!(calls.clone().count() == 2 && calls.clone().all(|call| call["decision"] == "allow"));
    drop(session.send(Method::DELETE, &[], "").await);
}
