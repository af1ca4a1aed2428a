//! Servers that say nothing, or nothing that counts. The clock is stopped once a stream is open, and jumps from one
//! timer to the next then.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::scripted::doing;
use crate::support::{ALICE, Gateway, Server, Speaks, config};

/// Opens a stream, stops the clock and reads to the end. Gives what came and how long that took.
async fn to_the_end(server: &Server, limits: &str, what: &str) -> (String, Duration) {
    let text = config(&[("s", server.address)], &format!("limits: {limits}"));
    let text = text.replace("- addressPolicy:", "- limits: {timeout: 40s}\n  addressPolicy:");
    let gateway = Gateway::start(&text).await;
    let client = gateway.client(ALICE).initialize().await;
    let mut response = client.open(Method::POST, &[], &doing("1", what)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    tokio::time::pause();
    let began = Instant::now();
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    let took = began.elapsed();
    tokio::time::resume();
    (String::from_utf8(rest.to_vec()).unwrap(), took)
}

fn is_about(took: Duration, secs: u64) -> bool {
    (secs.saturating_sub(2)..=secs + 1).contains(&took.as_secs())
}

#[tokio::test]
async fn a_silent_server_times_out_however_often_the_stream_is_kept_alive() {
    let server = Server::start(Speaks::Sessions).await;
    let (text, took) = to_the_end(&server, "{requestTimeout: 60s}", "quiet").await;
    assert!(is_about(took, 40), "{took:?}");
    let signs = text.lines().filter(|line| line.starts_with(':')).count();
    assert_eq!(signs, 2, "{text}");
    assert!(text.contains("upstream_timeout"), "{text}");
    server.seen.wait("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn the_smaller_of_both_time_outs_counts() {
    let server = Server::start(Speaks::Sessions).await;
    let (text, took) = to_the_end(&server, "{requestTimeout: 20s}", "quiet").await;
    assert!(
        is_about(took, 20) && text.contains("upstream_timeout"),
        "{took:?} {text}"
    );
}

#[tokio::test]
async fn a_ping_is_no_progress() {
    let server = Server::start(Speaks::Sessions).await;
    let (text, took) = to_the_end(&server, "{}", "ping").await;
    assert!(
        is_about(took, 40) && text.contains("upstream_timeout"),
        "{took:?} {text}"
    );
    assert!(
        !server.seen.of("response").is_empty(),
        "it is answered all the same"
    );
}

#[tokio::test]
async fn a_stream_that_nothing_is_passed_on_by_ends() {
    let server = Server::start(Speaks::Sessions).await;
    let (text, took) = to_the_end(&server, "{streamIdleTimeout: 90s}", "log").await;
    assert!(
        is_about(took, 90) && text.contains("upstream_timeout"),
        "{took:?} {text}"
    );
}

#[tokio::test]
async fn progress_keeps_a_call_until_its_longest_time() {
    let server = Server::start(Speaks::Sessions).await;
    let limits = "{streamIdleTimeout: 30s, maxCallDuration: 200s}";
    let (text, took) = to_the_end(&server, limits, "progress").await;
    assert!(
        is_about(took, 200) && text.contains("upstream_timeout"),
        "{took:?} {text}"
    );
}

#[tokio::test]
async fn what_a_server_asks_is_answered_one_at_a_time() {
    let server = Server::start(Speaks::Sessions).await;
    server.script.accepting.send_replace(Duration::from_millis(2));
    let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client.post(&doing("1", "ask")).await;
    assert!(answer.text.contains("done"), "{answer:?}");
    let answers = server.seen.wait("response", 99).await;
    assert!(answers.iter().all(|(_, body)| body["error"]["code"] == -32601));
    assert_eq!(server.script.most_answers_at_once(), 1);
}

#[tokio::test]
async fn a_server_that_takes_no_answers_holds_up_only_its_own_call() {
    let server = Server::start(Speaks::Sessions).await;
    server.script.accepting.send_replace(Duration::from_secs(3600));
    let text = config(&[("s", server.address)], "");
    let text = text.replace("- addressPolicy:", "- limits: {timeout: 1s}\n  addressPolicy:");
    let gateway = Gateway::start(&text).await;
    let client = gateway.client(ALICE).initialize().await;
    let answer = client.post(&doing("1", "ask")).await;
    assert!(answer.text.contains("upstream_timeout"), "{answer:?}");
    assert!(server.seen.of("response").len() <= 2);
    assert!(client.call("s__echo", "{}").await.text.contains("result"));
}
