//! A server whose calls fail one after the other is left alone for a while, by those whose calls fail.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::counts::metric;
use crate::scripted::{doing, doing_stateless};
use crate::support::{ALICE, BOB, Client, Gateway, Server, Speaks, config};

/// A gateway whose server's circuit opens after two failures, for so long.
async fn gateway(server: std::net::SocketAddr, open_for: &str, more: &str) -> Gateway {
    let limits =
        format!("- limits: {{circuitBreaker: {{failures: 2, openFor: {open_for}}}{more}}}\n  addressPolicy:");
    let text = config(&[("s", server)], "").replace("- addressPolicy:", &limits);
    Gateway::start(&text).await
}

fn reached(server: &Server) -> usize {
    server.seen.of("tools/call").len()
}

async fn reason(session: &Client, id: &str, what: &str) -> String {
    session.post(&doing(id, what)).await.reason()
}

#[tokio::test]
async fn who_makes_a_server_fail_is_kept_from_it_and_nobody_else() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = gateway(server.address, "1h", "").await;
    let alice = gateway.client(ALICE).initialize().await;
    for id in ["1", "2"] {
        assert_eq!(reason(&alice, id, "crash").await, "upstream_unavailable");
    }
    assert_eq!(reached(&server), 2);
    let refused = alice.post(&doing("3", "crash")).await;
    assert_eq!(refused.status, StatusCode::OK);
    assert_eq!(refused.reason(), "upstream_failing");
    let wait = refused.json()["error"]["data"]["retryAfter"].as_u64().unwrap();
    assert!((3000..=3600).contains(&wait), "{refused:?}");
    let (body, headers) = doing_stateless("crash");
    let refused = gateway
        .client(ALICE)
        .send(http::Method::POST, &headers, &body)
        .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    assert_eq!(reached(&server), 2, "it was left alone");
    let open = "upstream_requests_total{server=\"a/s\",outcome=\"circuit_open\"}";
    assert_eq!(metric(&gateway, open), Some(2));
    // Another client's call goes there; its success is the word that counts for all.
    let bob = gateway.client(BOB).initialize().await;
    assert!(bob.call("s__echo", "{}").await.text.contains("\"result\""));
    assert!(alice.call("s__echo", "{}").await.text.contains("\"result\""));
}

#[tokio::test]
async fn a_server_that_fails_for_everybody_is_left_alone_by_everybody_and_tried_again() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = gateway(server.address, "300ms", "").await;
    let alice = gateway.client(ALICE).initialize().await;
    let bob = gateway.client(BOB).initialize().await;
    assert_eq!(reason(&alice, "1", "crash").await, "upstream_unavailable");
    assert_eq!(reason(&bob, "1", "crash").await, "upstream_unavailable");
    assert_eq!(reason(&bob, "2", "crash").await, "upstream_failing");
    assert_eq!(reason(&alice, "2", "crash").await, "upstream_failing");
    assert_eq!(reached(&server), 2);
    let again = async {
        loop {
            let answer = alice.call("s__echo", "{}").await;
            if answer.text.contains("\"result\"") {
                return;
            }
            assert_eq!(answer.reason(), "upstream_failing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
    assert!(bob.call("s__echo", "{}").await.text.contains("\"result\""));
}

#[tokio::test]
async fn time_outs_count_and_errors_of_tools_do_not() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = gateway(server.address, "1h", ", timeout: 100ms").await;
    let alice = gateway.client(ALICE).initialize().await;
    for _ in 0..5 {
        assert!(alice.call("s__fail", "{}").await.text.contains("it failed"));
    }
    assert_eq!(reason(&alice, "1", "late").await, "upstream_timeout");
    assert!(alice.call("s__fail", "{}").await.text.contains("it failed"));
    assert_eq!(reason(&alice, "2", "late").await, "upstream_timeout");
    assert_eq!(reason(&alice, "3", "late").await, "upstream_timeout");
    assert_eq!(reason(&alice, "4", "late").await, "upstream_failing");
    // What was opened by one configuration holds under the next.
    let text = std::fs::read_to_string(gateway.folder.join("gateway.yaml")).unwrap();
    gateway.reload(&text.replace("failures: 2", "failures: 3"));
    assert_eq!(reason(&alice, "5", "late").await, "upstream_failing");
}

#[tokio::test]
async fn a_server_may_be_held_to_shorter_answers_than_others() {
    let server = Server::start(Speaks::Sessions).await;
    let limits = "- limits: {maxResponseBytes: 100}\n  addressPolicy:";
    let text = config(&[("s", server.address)], "").replace("- addressPolicy:", limits);
    let gateway = Gateway::start(&text).await;
    // Its lists are answers as well: a server whose list is too long offers nothing.
    let listed: Value = gateway
        .client(ALICE)
        .stateless("tools/list", None, "")
        .await
        .json();
    assert_eq!(
        listed["result"]["tools"].as_array().map(Vec::len),
        Some(0),
        "{listed}"
    );
}
