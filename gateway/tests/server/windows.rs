//! HTTP/2 clients that do not take their answers, and those that only rest.

use std::time::Duration;

use portcullis_gateway::server::limits::ConnectionLimits;
use portcullis_gateway::server::tls::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::http2::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame};
use super::support::{PATIENCE, Server, limits, serve_on, wait_for};
use super::tls::Certified;

const DATA: u8 = 0;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;

const STALLED: &str = "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"write_stalled\"}";
const IDLE: &str = "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"idle\"}";
const FULL: &str = "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"full\"}";

/// A client that speaks frames.
struct Raw {
    read: ReadHalf<TlsStream<TcpStream>>,
    write: WriteHalf<TlsStream<TcpStream>>,
}

/// A frame: its kind, flags, stream and payload.
type Frame = (u8, u8, u32, Vec<u8>);

impl Raw {
    /// Connects, and lets the server send `window` bytes on each stream.
    async fn connect(certified: &Certified, server: &Server, window: u32) -> Self {
        let stream = certified.connect(server, &[b"h2"]).await;
        let (read, write) = tokio::io::split(stream);
        let mut raw = Self { read, write };
        let setting = [&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        raw.send(PREFACE).await;
        raw.send(&frame(SETTINGS, 0, 0, &setting)).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
        self.write.flush().await.unwrap();
    }

    async fn get(&mut self, stream: u32, path: &str) {
        // GET, https, a path, and the authority `a`
        let length = u8::try_from(path.len()).unwrap();
        let head = [&[0x82, 0x87, 0x04, length][..], path.as_bytes(), &[0x41, 1, b'a']].concat();
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &head))
            .await;
    }

    async fn open_window(&mut self, stream: u32, bytes: u32) {
        self.send(&frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()))
            .await;
    }

    /// The next frame, pings answered. None: the server closed.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = tokio::time::timeout(PATIENCE, self.read.read_exact(&mut head)).await;
        read.expect("the server neither sends nor closes").ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.read.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        if head[3] == PING && head[4] & ACK == 0 {
            self.write.write_all(&frame(PING, ACK, 0, &payload)).await.ok()?;
            self.write.flush().await.ok()?;
        }
        Some((head[3], head[4], stream, payload))
    }

    /// Frames up to the one that `is_last` finds. Panics when the server closes first.
    async fn until(&mut self, is_last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut seen = Vec::new();
        loop {
            let frame = self
                .frame()
                .await
                .unwrap_or_else(|| panic!("closed after {seen:?}"));
            let last = is_last(&frame);
            seen.push(frame);
            if last {
                return seen;
            }
        }
    }

    /// Frames until the server closes.
    async fn rest(&mut self) -> Vec<Frame> {
        let mut seen = Vec::new();
        while let Some(frame) = self.frame().await {
            seen.push(frame);
        }
        seen
    }
}

fn ends(stream: u32) -> impl Fn(&Frame) -> bool {
    move |(kind, flags, on, _)| *kind == DATA && *on == stream && flags & END_STREAM != 0
}

fn has_goaway(frames: &[Frame]) -> bool {
    frames
        .iter()
        .any(|(kind, _, _, payload)| *kind == GOAWAY && payload[4..8] == [0; 4])
}

/// A stalled answer is given up soon.
fn impatient() -> ConnectionLimits {
    let mut limits = limits();
    limits.deadlines.stalled_write = Duration::from_millis(300);
    limits.deadlines.header = Duration::from_millis(300);
    limits
}

fn tls(limits: ConnectionLimits) -> (Certified, Server) {
    let certified = Certified::new();
    let server = serve_on(limits, Transport::tls(certified.server()));
    (certified, server)
}

#[tokio::test]
async fn a_client_whose_windows_stay_shut_is_dropped() {
    let (certified, server) = tls(impatient());
    let mut client = Raw::connect(&certified, &server, 0).await;
    client.get(1, "/ignore").await;
    let seen = client.rest().await;
    assert!(seen.iter().all(|(kind, ..)| *kind != DATA), "{seen:?}");
    assert!(has_goaway(&seen), "{seen:?}");
    assert_eq!(server.metric(STALLED), 1);
    wait_for(|| server.listener.registry().is_empty()).await;
}

#[tokio::test]
async fn one_byte_of_window_does_not_keep_an_answer_in_memory() {
    let (certified, server) = tls(impatient());
    let mut client = Raw::connect(&certified, &server, 1).await;
    server.echo.release();
    client.get(1, "/hold").await;
    let seen = client.rest().await;
    let bytes: usize = seen
        .iter()
        .filter(|(kind, ..)| *kind == DATA)
        .map(|(.., data)| data.len())
        .sum();
    assert_eq!(bytes, 1);
    assert_eq!(server.metric(STALLED), 1);
    wait_for(|| server.listener.registry().is_empty()).await;
}

#[tokio::test]
async fn a_stalled_answer_takes_no_other_with_it() {
    let (certified, server) = tls(impatient());
    let mut client = Raw::connect(&certified, &server, 0).await;
    client.get(1, "/ignore").await;
    client.get(3, "/hold").await;
    let seen = client
        .until(|(kind, _, stream, _)| (*kind, *stream) == (RST_STREAM, 1))
        .await;
    assert!(!seen.iter().any(ends(3)), "{seen:?}");
    server.echo.release();
    client.open_window(0, 200_000).await;
    client.open_window(3, 200_000).await;
    let seen = client.until(ends(3)).await;
    let bytes: usize = seen
        .iter()
        .filter(|(kind, ..)| *kind == DATA)
        .map(|(.., data)| data.len())
        .sum();
    assert_eq!(bytes, 100_000);
    // The client is asked to come anew, and leaves in peace.
    assert!(has_goaway(&[seen, client.rest().await].concat()));
    assert_eq!(server.metric(STALLED), 1);
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_it() {
    let (certified, server) = tls(impatient());
    let mut client = Raw::connect(&certified, &server, 0).await;
    server.echo.release();
    client.get(1, "/hold").await;
    client.open_window(0, 200_000).await;
    let mut bytes = 0;
    while bytes < 100_000 {
        // Seven of these: together longer than the deadline, each of them shorter.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.open_window(1, 16 << 10).await;
        let seen = client.until(|(kind, ..)| *kind == DATA).await;
        bytes += seen.last().unwrap().3.len();
    }
    assert_eq!(bytes, 100_000);
    assert_eq!(server.metric(STALLED), 0);
}

#[tokio::test]
async fn a_request_that_is_worked_on_is_not_stalled() {
    let (certified, server) = tls(impatient());
    let mut client = Raw::connect(&certified, &server, 0).await;
    client.open_window(0, 200_000).await;
    client.get(1, "/stream").await;
    client.open_window(1, 100).await;
    client.until(|(kind, ..)| *kind == DATA).await;
    // The client took what there is; the next piece comes when it comes.
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.echo.release();
    client.until(ends(1)).await;
    assert_eq!(server.metric(STALLED), 0);
}

#[tokio::test]
async fn at_the_cap_who_takes_nothing_makes_room() {
    let mut limits = limits();
    limits.max_connections = 1;
    limits.deadlines.idle_pressed = Duration::from_millis(50);
    limits.deadlines.stalled_pressed = Duration::from_millis(50);
    let (certified, server) = tls(limits);
    let mut client = Raw::connect(&certified, &server, 0).await;
    client.get(1, "/ignore").await;
    client.until(|(kind, ..)| *kind == HEADERS).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let mut other = Raw::connect(&certified, &server, 1000).await;
    other.get(1, "/ignore").await;
    other.until(ends(1)).await;
    assert_eq!((server.metric(STALLED), server.metric(FULL)), (1, 0));
}

#[tokio::test]
async fn what_a_client_sends_between_requests_does_not_end_the_connection() {
    let mut limits = impatient();
    limits.deadlines.idle = Duration::from_millis(1500);
    limits.deadlines.idle_pressed = Duration::from_millis(1500);
    limits.deadlines.stalled_pressed = Duration::from_millis(1500);
    let (certified, server) = tls(limits);
    let mut client = Raw::connect(&certified, &server, 1000).await;
    client.get(1, "/ignore").await;
    client.until(ends(1)).await;
    // Twice the deadline of a head.
    for _ in 0..6 {
        client.send(&frame(PING, 0, 0, b"are we??")).await;
        client
            .until(|(kind, flags, ..)| (*kind, *flags) == (PING, ACK))
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.get(3, "/ignore").await;
    client.until(ends(3)).await;
    // In the end it is closed with a word, not under the client's hands.
    assert!(has_goaway(&client.rest().await));
    assert_eq!(server.metric(IDLE), 1);
}

#[tokio::test]
async fn half_a_head_does_not_hold_the_connection() {
    let mut limits = limits();
    limits.deadlines.ping = Duration::from_millis(200);
    limits.deadlines.pong = Duration::from_millis(200);
    let (certified, server) = tls(limits);
    let mut client = Raw::connect(&certified, &server, 1000).await;
    client.get(1, "/ignore").await;
    client.until(ends(1)).await;
    client.send(&frame(HEADERS, END_STREAM, 3, &[0x82])).await;
    // Silent from here on: the answer to a ping may not come before the head's end.
    let mut bytes = Vec::new();
    let reading = client.read.read_to_end(&mut bytes);
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it is held for ever")
        .ok();
    assert_eq!(server.echo.calls(), 1);
    wait_for(|| server.listener.registry().is_empty()).await;
}
