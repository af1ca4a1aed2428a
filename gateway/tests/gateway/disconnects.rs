//! Clients that go away: in a session that is no cancellation, and what the call occupies stays occupied; without one it
//! is, whatever had come by then.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use crate::scripted::{doing, doing_stateless};
use crate::support::{ALICE, Answer, Client, Gateway, Server, Speaks, config};

/// As [`config`], with `limits` of the one server.
fn limited(server: &Server, limits: &str, more: &str) -> String {
    let text = config(&[("s", server.address)], more);
    text.replace(
        "- addressPolicy:",
        &format!("- limits: {limits}\n  addressPolicy:"),
    )
}

/// Sends `body` and goes away once the server has it.
async fn send_and_leave(
    client: &Client,
    server: &Server,
    headers: &[(&'static str, &'static str)],
    body: &str,
) {
    let before = server.seen.of("tools/call").len();
    let (client, headers, body) = (client.clone(), headers.to_vec(), body.to_owned());
    let sent = tokio::spawn(async move { client.open(Method::POST, &headers, &body).await });
    server.seen.wait("tools/call", before + 1).await;
    sent.abort();
    assert!(sent.await.is_err(), "there was no answer yet");
}

/// Calls until the answer is as wanted.
async fn until(client: &Client, wanted: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..400 {
        let answer = client.call("s__echo", "{}").await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}

fn is_busy(answer: &Answer) -> bool {
    answer.status == StatusCode::OK && answer.text.contains("upstream_busy")
}

fn is_answered(answer: &Answer) -> bool {
    answer.status == StatusCode::OK && answer.text.contains("result")
}

#[tokio::test]
async fn who_leaves_a_session_frees_no_place_at_the_server() {
    for what in ["late", "quiet"] {
        let server = Server::start(Speaks::Sessions).await;
        let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 2}", "")).await;
        let client = gateway.client(ALICE).initialize().await;
        for id in ["1", "2"] {
            if what == "late" {
                send_and_leave(&client, &server, &[], &doing(id, what)).await;
            } else {
                let mut response = client.open(Method::POST, &[], &doing(id, what)).await;
                response.body_mut().frame().await.unwrap().unwrap();
                drop(response);
            }
        }
        // Long enough for the gateway to have seen both clients leave: each of these waits for a place.
        for _ in 0..3 {
            let refused = client.call("s__echo", "{}").await;
            assert!(is_busy(&refused), "{what}: {refused:?}");
        }
        let again = client.post(&doing("1", what)).await;
        assert!(
            again.text.contains("unexpected_message") || is_busy(&again),
            "the id is still taken: {again:?}"
        );
        server.script.release();
        until(&client, is_answered).await;
        server.seen.wait("answered", 2).await;
        assert!(server.seen.of("gone").is_empty() && server.seen.of("notifications/cancelled").is_empty());
    }
}

#[tokio::test]
async fn a_call_can_be_cancelled_after_its_client_left() {
    for what in ["late", "quiet"] {
        let server = Server::start(Speaks::Sessions).await;
        let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 1}", "")).await;
        let client = gateway.client(ALICE).initialize().await;
        if what == "late" {
            send_and_leave(&client, &server, &[], &doing("long", what)).await;
        } else {
            let mut response = client.open(Method::POST, &[], &doing("long", what)).await;
            response.body_mut().frame().await.unwrap().unwrap();
            drop(response);
        }
        assert!(is_busy(&client.call("s__echo", "{}").await), "{what}");
        let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"long"}}"#;
        assert_eq!(client.post(note).await.status, StatusCode::ACCEPTED);
        let told = server.seen.wait("notifications/cancelled", 1).await;
        assert_eq!(told[0].1["params"]["requestId"], "long");
        until(&client, is_answered).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_listen_keeps_the_place_of_a_cancelled_call_for_a_moment() {
    for what in ["late", "quiet"] {
        let server = Server::start(Speaks::Sessions).await;
        server.script.deaf.send_replace(true);
        let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 1}", "")).await;
        let client = gateway.client(ALICE).initialize().await;
        let left = tokio::spawn({
            let (client, body) = (client.clone(), doing("long", what));
            async move { client.post(&body).await }
        });
        server.seen.wait("tools/call", 1).await;
        let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"long"}}"#;
        assert_eq!(client.post(note).await.status, StatusCode::ACCEPTED);
        server.seen.wait("notifications/cancelled", 1).await;
        let ended = left.await.unwrap();
        assert!(!ended.text.contains("result"), "{ended:?}");
        for _ in 0..3 {
            assert!(is_busy(&client.call("s__echo", "{}").await), "{what}");
        }
        // Its time to listen ends.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(5)).await;
        tokio::time::resume();
        until(&client, is_answered).await;
    }
}

#[tokio::test]
async fn a_stateless_server_goes_on_for_a_session_whose_client_left() {
    for what in ["late", "quiet"] {
        let server = Server::start(Speaks::Stateless).await;
        let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 1}", "")).await;
        let client = gateway.client(ALICE).initialize().await;
        if what == "late" {
            send_and_leave(&client, &server, &[], &doing("long", what)).await;
        } else {
            let mut response = client.open(Method::POST, &[], &doing("long", what)).await;
            response.body_mut().frame().await.unwrap().unwrap();
            drop(response);
        }
        assert!(is_busy(&client.call("s__echo", "{}").await), "{what}");
        server.script.release();
        until(&client, is_answered).await;
        server.seen.wait("answered", 1).await;
        assert!(server.seen.of("gone").is_empty());
    }
}

#[tokio::test]
async fn a_stateless_client_cancels_by_leaving_before_the_first_byte() {
    for speaks in [Speaks::Sessions, Speaks::Stateless] {
        let server = Server::start(speaks).await;
        let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 1}", "")).await;
        let client = gateway.client(ALICE);
        let (body, headers) = doing_stateless("late");
        send_and_leave(&client, &server, &headers, &body).await;
        match speaks {
            Speaks::Stateless => {
                server.seen.wait("gone", 1).await;
            }
            Speaks::Sessions => {
                let told = server.seen.wait("notifications/cancelled", 1).await;
                let asked = server.seen.of("tools/call");
                assert_eq!(told[0].1["params"]["requestId"], asked[0].1["id"]);
            }
        }
        until(&client.initialize().await, is_answered).await;
    }
}

#[tokio::test]
async fn who_leaves_keeps_a_place_among_the_requests_in_flight() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&config(
        &[("s", server.address)],
        "limits: {maxConcurrentRequests: 1}",
    ))
    .await;
    let client = gateway.client(ALICE).initialize().await;
    send_and_leave(&client, &server, &[], &doing("1", "late")).await;
    until(&client, |answer| answer.text.contains("overloaded")).await;
    server.script.release();
    until(&client, is_answered).await;
}

#[tokio::test]
async fn the_calls_of_a_session_end_with_it() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 2}", "")).await;
    let client = gateway.client(ALICE).initialize().await;
    send_and_leave(&client, &server, &[], &doing("1", "late")).await;
    let mut stream = client.open(Method::POST, &[], &doing("2", "quiet")).await;
    stream.body_mut().frame().await.unwrap().unwrap();
    let ended = client.send(Method::DELETE, &[], "").await;
    assert_eq!(ended.status, StatusCode::OK);
    let rest = tokio::time::timeout(Duration::from_secs(4), stream.into_body().collect());
    let rest = rest.await.expect("the stream goes on").unwrap().to_bytes();
    assert!(rest.is_empty(), "{rest:?}");
    let again = gateway.client(ALICE).initialize().await;
    until(&again, is_answered).await;
    server.seen.wait("gone", 2).await;
}

#[tokio::test]
async fn a_call_without_a_client_ends_by_its_times() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&limited(&server, "{maxConcurrent: 1, timeout: 1s}", "")).await;
    let client = gateway.client(ALICE).initialize().await;
    send_and_leave(&client, &server, &[], &doing("1", "late")).await;
    assert!(is_busy(&client.call("s__echo", "{}").await));
    server.seen.wait("notifications/cancelled", 1).await;
    until(&client, is_answered).await;
}
