//! HTTP/2: ordinary use, the polite end, and its own kinds of abuse.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_gateway::server::tls::Transport;
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{PATIENCE, Server, hasty, limits, rest, serve_on, wait_for};
use super::tls::Certified;

async fn client(certified: &Certified, server: &Server) -> SendRequest<Full<Bytes>> {
    let stream = certified.connect(server, &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let uri = format!("https://localhost{path}");
    Request::post(uri)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

#[tokio::test]
async fn requests_share_a_connection() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    let mut sender = client(&certified, &server).await;
    let held = sender.send_request(request("/hold", ""));
    for _ in 0..3 {
        let response = sender.send_request(request("/", "hello")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
    server.echo.release();
    let response = held.await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes().len(),
        100_000
    );
    assert_eq!(server.listener.registry().len(), 1);
}

#[tokio::test]
async fn leaving_answers_what_runs_and_takes_nothing_new() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    let mut sender = client(&certified, &server).await;
    let held = sender.send_request(request("/hold", ""));
    let running = tokio::spawn(held);
    server.echo.called(1).await;
    server.listener.registry().leave_all();
    server.echo.release();
    let response = running.await.unwrap().unwrap();
    assert!(
        response.headers().get("connection").is_none(),
        "that is HTTP/1's word"
    );
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes().len(),
        100_000
    );
    wait_for(|| server.listener.registry().is_empty()).await;
    assert!(sender.send_request(request("/", "late")).await.is_err());
    assert_eq!(server.echo.calls(), 1);
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    let mut sender = client(&certified, &server).await;
    let mut large = request("/", "");
    large
        .headers_mut()
        .insert("x", "x".repeat(20 << 10).parse().unwrap());
    match sender.send_request(large).await {
        Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        // The client may know the server's setting and not send it at all.
        Err(err) => assert!(err.is_user() || !err.is_timeout(), "{err}"),
    }
    assert_eq!(server.echo.calls(), 0);
}

#[tokio::test]
async fn a_connection_without_a_request_is_dropped() {
    let certified = Certified::new();
    let server = serve_on(hasty(), Transport::tls(certified.server()));
    let mut stream = certified.connect(&server, &[b"h2"]).await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    rest(&mut stream).await;
    wait_for(|| server.listener.registry().is_empty()).await;
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `:method GET`, `:scheme https`, `:path /`, `:authority a`.
pub(super) const HEAD: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'a'];

/// Sends frames and reads until the server closes; the error code of its GOAWAY.
async fn abuse(server: &Server, certified: &Certified, frames: Vec<Vec<u8>>) -> Option<u32> {
    let stream = certified.connect(server, &[b"h2"]).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        for frame in [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])]
            .into_iter()
            .chain(frames)
        {
            if write.write_all(&frame).await.is_err() {
                return write;
            }
        }
        write.flush().await.ok();
        write
    });
    let reading = async {
        loop {
            let mut head = [0; 9];
            if read.read_exact(&mut head).await.is_err() {
                return None;
            }
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if read.read_exact(&mut payload).await.is_err() {
                return None;
            }
            if head[3] == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
    };
    let code = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server bears it for ever");
    drop(writing.await);
    code
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    let frames = (0..20_000u32)
        .map(|n| {
            let stream = 2 * n + 1;
            let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, HEAD);
            let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            [open, reset].concat()
        })
        .collect();
    assert_eq!(abuse(&server, &certified, frames).await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    // One header block that never ends.
    let field = [&[0, 1, b'x', 127, 0x81, 0x07][..], &[b'y'; 1024]].concat();
    let mut frames = vec![frame(HEADERS, 0, 1, HEAD)];
    frames.extend((0..5_000).map(|_| frame(CONTINUATION, 0, 1, &field)));
    assert!(
        abuse(&server, &certified, frames)
            .await
            .is_none_or(|code| code != 0)
    );
    assert_eq!(server.echo.calls(), 0);
}

/// A field that stands in no table, as HPACK writes it.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [
        &[0, length(name)],
        name.as_bytes(),
        &[length(value)],
        value.as_bytes(),
    ]
    .concat()
}

/// Fields that only HTTP/1 has, or that two implementations could read differently (RFC 9113, section 8.2).
#[rstest]
#[case::transfer_encoding(&[HEAD, &literal("transfer-encoding", "chunked")].concat())]
#[case::transfer_encoding_and_length(
    &[HEAD, &literal("content-length", "2"), &literal("transfer-encoding", "chunked")].concat()
)]
#[case::connection(&[HEAD, &literal("connection", "keep-alive, x")].concat())]
#[case::proxy_connection(&[HEAD, &literal("proxy-connection", "close")].concat())]
#[case::upgrade(&[HEAD, &literal("upgrade", "websocket")].concat())]
#[case::upper_case(&[HEAD, &literal("Content-Length", "2")].concat())]
#[case::line_in_a_value(&[HEAD, &literal("x", "a\r\nhost: b")].concat())]
#[case::nul_in_a_value(&[HEAD, &literal("x", "a\0b")].concat())]
#[case::space_in_a_name(&[HEAD, &literal("x y", "a")].concat())]
#[case::two_paths(&[HEAD, &literal(":path", "/other")].concat())]
#[case::two_methods(&[HEAD, &literal(":method", "POST")].concat())]
#[case::unknown_pseudo_field(&[HEAD, &literal(":x", "a")].concat())]
#[case::pseudo_field_that_comes_late(&[&literal("x", "a"), HEAD].concat())]
#[case::status_of_a_request(&[HEAD, &literal(":status", "200")].concat())]
#[case::no_path(&[0x82, 0x87, 0x41, 1, b'a'])]
#[case::no_method(&[0x87, 0x84, 0x41, 1, b'a'])]
#[tokio::test]
async fn malformed_heads_are_reset(#[case] head: &[u8]) {
    let certified = Certified::new();
    let server = serve_on(hasty(), Transport::tls(certified.server()));
    let stream = certified.connect(&server, &[b"h2"]).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let open = frame(HEADERS, END_STREAM | END_HEADERS, 1, head);
    write
        .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &open].concat())
        .await
        .unwrap();
    let ending = async {
        loop {
            let mut start = [0; 9];
            read.read_exact(&mut start).await.expect("a reset before the end");
            let length = usize::from(start[0]) << 16 | usize::from(start[1]) << 8 | usize::from(start[2]);
            let mut payload = vec![0; length];
            read.read_exact(&mut payload).await.unwrap();
            match start[3] {
                RST_STREAM => return payload[..4].to_vec(),
                GOAWAY => return payload[4..8].to_vec(),
                HEADERS => panic!("answered: {payload:?}"),
                _ => {}
            }
        }
    };
    let code = tokio::time::timeout(PATIENCE, ending)
        .await
        .expect("neither answer nor reset");
    assert_ne!(code, [0; 4]);
    assert_eq!(server.echo.calls(), 0);
}

#[tokio::test]
async fn who_chose_http2_speaks_it() {
    let certified = Certified::new();
    let server = serve_on(hasty(), Transport::tls(certified.server()));
    let mut stream = certified.connect(&server, &[b"h2"]).await;
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
        .await
        .unwrap();
    let answer = rest(&mut stream).await;
    assert!(!answer.contains("HTTP/1."), "{answer}");
    assert_eq!(server.echo.calls(), 0);
}
