//! The end of a listener: nothing that was begun is lost.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::support::{PATIENCE, limits, post, rest, serve, until, wait_for};

#[tokio::test]
async fn a_request_in_flight_is_answered_whole_and_the_client_is_told_to_move_on() {
    let server = serve(limits());
    let mut stream = server.connect().await;
    stream.write_all(post("/hold", "").as_bytes()).await.unwrap();
    server.echo.called(1).await;
    let registry = server.listener.registry();
    registry.leave_all();
    server.stop.cancel();
    registry.finish_all();
    server.echo.release();
    let answer = rest(&mut stream).await;
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"));
    assert_eq!(answer.matches('x').count(), 100_000);
    assert!(answer.ends_with("0\r\n\r\n"));
    tokio::time::timeout(PATIENCE, server.running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn while_leaving_waiting_connections_are_served_once_more_and_then_closed() {
    let server = serve(limits());
    let mut waiting = server.connect().await;
    waiting.write_all(post("/", "one").as_bytes()).await.unwrap();
    let first = until(&mut waiting, "one\r\n0\r\n\r\n").await;
    assert!(!first.to_lowercase().contains("connection: close"));
    server.listener.registry().leave_all();
    // Nothing was closed under the client's hands.
    tokio::time::sleep(Duration::from_millis(100)).await;
    waiting.write_all(post("/", "two").as_bytes()).await.unwrap();
    let second = rest(&mut waiting).await;
    assert!(
        second.to_lowercase().contains("\r\nconnection: close\r\n"),
        "{second}"
    );
    assert!(second.ends_with("two\r\n0\r\n\r\n"));
    // New ones are still taken, and told the same.
    let third = server.exchange(post("/", "three")).await;
    assert!(
        third.to_lowercase().contains("\r\nconnection: close\r\n"),
        "{third}"
    );
}

#[tokio::test]
async fn finishing_closes_what_waits_and_ends_the_listener() {
    let server = serve(limits());
    let mut waiting = server.connect().await;
    waiting.write_all(post("/", "one").as_bytes()).await.unwrap();
    until(&mut waiting, "one\r\n0\r\n\r\n").await;
    let mut silent = server.connect().await;
    wait_for(|| server.listener.registry().len() == 2).await;
    server.stop.cancel();
    server.listener.registry().finish_all();
    assert_eq!(rest(&mut waiting).await, "");
    assert_eq!(rest(&mut silent).await, "");
    tokio::time::timeout(PATIENCE, server.running)
        .await
        .unwrap()
        .unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn a_stream_goes_on_until_it_ends_by_itself() {
    let server = serve(limits());
    let mut stream = server.connect().await;
    stream.write_all(post("/stream", "").as_bytes()).await.unwrap();
    until(&mut stream, "first \r\n").await;
    server.stop.cancel();
    server.listener.registry().finish_all();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.echo.release();
    assert!(rest(&mut stream).await.contains("second\r\n0\r\n\r\n"));
    tokio::time::timeout(PATIENCE, server.running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_the_kernel_had_queued_is_still_served() {
    let server = serve(limits());
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect().await;
        stream.write_all(post("/", "queued").as_bytes()).await.unwrap();
        streams.push(stream);
    }
    server.stop.cancel();
    server.listener.registry().leave_all();
    for stream in &mut streams {
        until(stream, "queued\r\n0\r\n\r\n").await;
    }
    assert_eq!(server.echo.calls(), 20);
}

#[tokio::test]
async fn aborting_drops_what_runs() {
    let server = serve(limits());
    let mut stream = server.connect().await;
    stream.write_all(post("/hold", "").as_bytes()).await.unwrap();
    server.echo.called(1).await;
    server.stop.cancel();
    assert_eq!(server.listener.registry().abort_all(), 1);
    assert_eq!(rest(&mut stream).await, "");
    tokio::time::timeout(PATIENCE, server.running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.echo.dropped.load(std::sync::atomic::Ordering::SeqCst), 1);
}
