//! Slow, silent, greedy and numerous clients.

use std::time::{Duration, Instant};

use portcullis_gateway::server::tls::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{PATIENCE, hasty, limits, post, rest, serve, serve_on, until, wait_for};
use super::tls::Certified;

const TIMED_OUT: &str =
    "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"header_timeout\"}";
const FULL: &str = "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"full\"}";
const STALLED: &str = "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"write_stalled\"}";
const IDLE: &str = "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"idle\"}";
const OPEN: &str = "portcullis_gateway_connections_open{port=\"public\"}";

#[tokio::test]
async fn a_client_that_sends_nothing_is_dropped() {
    let server = serve(hasty());
    assert_eq!(rest(&mut server.connect().await).await, "");
    assert_eq!(server.metric(TIMED_OUT), 1);
    wait_for(|| server.metric(OPEN) == 0).await;
}

#[tokio::test]
async fn a_client_that_dribbles_its_head_is_dropped() {
    let server = serve(hasty());
    let (mut read, mut write) = server.connect().await.into_split();
    let dribble = tokio::spawn(async move {
        for byte in std::iter::repeat_n(b"A: b\r\n", 10_000).flatten() {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(rest(&mut read).await, "");
    assert_eq!(server.metric(TIMED_OUT), 1);
    dribble.abort();
}

#[tokio::test]
async fn the_deadline_counts_from_a_requests_first_byte_not_from_the_last_answer() {
    let server = serve(hasty());
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream.write_all(post("/", "{}").as_bytes()).await.unwrap();
        until(&mut stream, "{}\r\n0\r\n\r\n").await;
        // Longer than the deadline, and nobody minds.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    stream.write_all(b"POST / HTTP/1.1\r\nHo").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(server.metric(TIMED_OUT), 1);
    assert_eq!(server.echo.calls(), 2);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_dropped() {
    let certified = Certified::new();
    let server = serve_on(hasty(), Transport::tls(certified.server()));
    assert_eq!(rest(&mut server.connect().await).await, "");
    // The first bytes of a ClientHello, and no more.
    let mut stream = server.connect().await;
    stream.write_all(&[0x16, 3, 1, 0, 200, 1]).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(server.metric(TIMED_OUT), 2);
    // And after a handshake without a request, too.
    let mut stream = certified.connect(&server, &[b"http/1.1"]).await;
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(server.metric(TIMED_OUT), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let mut limits = limits();
    limits.deadlines.idle = Duration::from_millis(300);
    limits.deadlines.idle_pressed = Duration::from_millis(300);
    limits.deadlines.stalled_pressed = Duration::from_millis(300);
    let server = serve(limits);
    let mut stream = server.connect().await;
    stream.write_all(post("/", "{}").as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.ends_with("{}\r\n0\r\n\r\n"), "{answer}");
    assert_eq!(server.metric(IDLE), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_before_it_is_complete() {
    let server = serve(limits());
    for bytes in [17 << 10, 1 << 20] {
        let mut stream = server.connect().await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(bytes));
        // The server may close before it has read all of this.
        stream.write_all(head.as_bytes()).await.ok();
        stream.write_all(b"\r\n\r\n").await.ok();
        let answer = rest(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
    let many = "A: b\r\n".repeat(200);
    let answer = server
        .exchange(format!("POST / HTTP/1.1\r\nHost: a\r\n{many}\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(15 << 10));
    assert!(
        server
            .exchange(long.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(server.echo.calls(), 1);
}

#[tokio::test]
async fn beyond_the_cap_connections_are_closed_and_counted() {
    let mut limits = limits();
    limits.max_connections = 2;
    let server = serve(limits);
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(post("/hold", "").as_bytes()).await.unwrap();
        busy.push(stream);
    }
    server.echo.called(2).await;
    assert_eq!(server.exchange(post("/", "{}")).await, "");
    assert_eq!(server.metric(FULL), 1);
    // A place that becomes free is taken again.
    server.echo.release();
    server.echo.release();
    for mut stream in busy {
        until(&mut stream, "0\r\n\r\n").await;
    }
    let mut stream = server.connect().await;
    stream.write_all(post("/", "{}").as_bytes()).await.unwrap();
    drop(until(&mut stream, "{}\r\n0\r\n\r\n").await);
}

#[tokio::test]
async fn at_the_cap_idle_connections_make_room() {
    let mut limits = limits();
    limits.max_connections = 2;
    limits.deadlines.idle_pressed = Duration::from_millis(50);
    limits.deadlines.stalled_pressed = Duration::from_millis(50);
    let server = serve(limits);
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(post("/", "{}").as_bytes()).await.unwrap();
        until(&mut stream, "{}\r\n0\r\n\r\n").await;
        idle.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut fresh = server.connect().await;
    fresh.write_all(post("/", "{}").as_bytes()).await.unwrap();
    until(&mut fresh, "{}\r\n0\r\n\r\n").await;
    assert_eq!(server.metric(FULL), 0);
    assert!(server.metric(IDLE) >= 1);
}

#[tokio::test]
async fn a_lower_cap_counts_connections_that_are_open_already() {
    let server = serve(limits());
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(post("/hold", "").as_bytes()).await.unwrap();
        busy.push(stream);
    }
    server.echo.called(3).await;
    let mut lower = limits();
    lower.max_connections = 2;
    server.listener.set_limits(lower);
    assert_eq!(server.exchange(post("/", "{}")).await, "");
    // One of three ends: still two, and none free.
    server.echo.release();
    wait_for(|| server.echo.calls() == 3).await;
    drop(busy);
    wait_for(|| server.metric(OPEN) == 0).await;
    let mut higher = limits();
    higher.max_connections = 3;
    server.listener.set_limits(higher);
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(post("/", "{}").as_bytes()).await.unwrap();
        until(&mut stream, "{}\r\n0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let mut limits = limits();
    limits.deadlines.stalled_write = Duration::from_millis(300);
    limits.deadlines.header = Duration::from_millis(300);
    let server = serve(limits);
    let stream = server.connect().await;
    let (_read, mut write) = stream.into_split();
    // Answers of 100 kB each, until the socket's buffers are full.
    let asking = tokio::spawn(async move {
        loop {
            if write.write_all(post("/hold", "").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    for _ in 0..10_000 {
        server.echo.release();
    }
    wait_for(|| server.metric(STALLED) == 1).await;
    wait_for(|| server.metric(OPEN) == 0).await;
    asking.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_while_its_request_runs() {
    let server = serve(limits());
    let mut stream = server.connect().await;
    stream.write_all(post("/hold", "").as_bytes()).await.unwrap();
    server.echo.called(1).await;
    let began = Instant::now();
    // A half-close says the same: for HTTP, who stops sending in the middle of an answer has gone.
    stream.shutdown().await.unwrap();
    wait_for(|| server.echo.dropped.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn an_answer_is_not_lost_because_the_client_is_still_sending() {
    let server = serve(limits());
    // Several times, because it is a race that is lost otherwise.
    for _ in 0..10 {
        let mut stream = server.connect().await;
        let head = "POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 3_000_000]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("ignored\r\n0\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_never_closes_does_not_hold_the_connection() {
    let server = serve(limits());
    let mut stream = server.connect().await;
    let request = post("/", "{}").replace("Host: a", "Host: a\r\nConnection: close");
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await;
    assert_eq!(server.metric(OPEN), 1, "it waits for the client to close");
    wait_for(|| server.metric(OPEN) == 0).await;
    drop(stream);
}

#[tokio::test]
async fn a_body_that_is_not_wanted_does_not_hold_the_connection() {
    let server = serve(hasty());
    // Announced: a megabyte. Sent: nothing. The answer comes, and then the connection ends.
    let request = "POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let answer = server.exchange(request).await;
    assert!(answer.contains("ignored"), "{answer}");
}
