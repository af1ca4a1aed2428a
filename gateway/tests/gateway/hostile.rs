//! Odd and hostile shapes of HTTP, by their bytes: what each is answered, and whether the connection goes on after it.
//! Framing that could be read in two ways is in `server/smuggling.rs`.

use std::time::{Duration, Instant};

use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{ALICE, Gateway, config, key};

/// A head may take a second, a body that and a quarter more.
pub(crate) const LIMITS: &str = "limits: {maxRequestBytes: 2048, headerTimeout: 1s}";
/// Longer than anything here should take, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(20);
/// A message that is answered with 200.
const BODY: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
/// What follows on the connection: it is answered with 404, if it is taken for a request.
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n";

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The next request is answered.
    GoesOn,
    /// The server closes it, and answers nothing more.
    Closed,
}
use Then::{Closed, GoesOn};

/// Sends all of it, and returns all that comes until the server closes.
pub(crate) async fn exchange(gateway: &Gateway, bytes: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // It may close before it has read all.
    stream.write_all(bytes.as_bytes()).await.ok();
    rest(&mut stream).await
}

pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        match read.expect("the server neither answers nor closes") {
            Ok(0) | Err(_) => return String::from_utf8(bytes).unwrap(),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// `FORM` is what every message needs, `KEY` a valid credential, `LENGTH` the length of [`BODY`].
pub(crate) fn spelled(text: &str) -> String {
    text.replace(
        "FORM",
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream",
    )
    .replace("KEY", &format!("Authorization: Bearer {}", key(ALICE)))
    .replace("LENGTH", &format!("Content-Length: {}", BODY.len()))
    .replace("BODY", BODY)
}

/// A request that is answered with 200.
pub(crate) const GOOD: &str = "POST /mcp HTTP/1.1\r\nHost: gateway.test\r\nFORM\r\nKEY\r\nLENGTH\r\n\r\nBODY";

#[rstest]
#[case::plain(GOOD, "200", GoesOn)]
#[case::absolute_form(&GOOD.replace("/mcp", "http://gateway.test/mcp"), "200", GoesOn)]
#[case::absolute_form_of_another(&GOOD.replace("/mcp", "http://evil.test/mcp"), "403", GoesOn)]
#[case::absolute_form_and_another_host(
    &GOOD.replace("/mcp", "http://gateway.test/mcp").replace("Host: gateway.test", "Host: evil.test"), "403", GoesOn
)]
#[case::user_in_the_authority(&GOOD.replace("/mcp", "http://gateway.test@evil.test/mcp"), "403", GoesOn)]
#[case::list_of_hosts(&GOOD.replace("Host: gateway.test", "Host: gateway.test, evil.test"), "403", GoesOn)]
#[case::old_version(&GOOD.replace("HTTP/1.1", "HTTP/1.0"), "200", Closed)]
#[case::old_version_that_stays(&GOOD.replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n"), "200", GoesOn)]
#[case::old_version_without_host(
    &GOOD.replace("HTTP/1.1", "HTTP/1.0").replace("Host: gateway.test\r\n", ""), "403", Closed
)]
#[case::newlines_alone(&GOOD.replace("\r\n", "\n"), "200", GoesOn)]
#[case::folded_field(&GOOD.replace("KEY", "X: a\r\n b\r\nKEY"), "400", Closed)]
#[case::too_many_fields(&GOOD.replace("KEY", &"A: b\r\n".repeat(100)), "431", Closed)]
#[case::trailing_fields_of_framing(
    &GOOD.replace("LENGTH", "Transfer-Encoding: chunked")
        .replace("BODY", &format!("{:x}\r\nBODY\r\n0\r\nContent-Length: 5\r\n\r\n", BODY.len())),
    "200", GoesOn
)]
#[case::ambiguous_trailing_fields(
    &GOOD.replace("LENGTH", "Transfer-Encoding: chunked").replace(
        "BODY", &format!("{:x}\r\nBODY\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BODY.len())),
    "400", Closed
)]
#[case::endless_trailing_fields(
    &GOOD.replace("LENGTH", "Transfer-Encoding: chunked")
        .replace("BODY", &format!("{:x}\r\nBODY\r\n0\r\n{}", BODY.len(), "A: b\r\n".repeat(9000))),
    "400", Closed
)]
#[case::endless_extension(
    &GOOD.replace("LENGTH", "Transfer-Encoding: chunked").replace("BODY", &format!("2;{}", "a".repeat(40 << 10))),
    "400", Closed
)]
#[case::large_chunk_size(
    &GOOD.replace("LENGTH", "Transfer-Encoding: chunked").replace("BODY", "ffffffffffffffff\r\n{"), "408", Closed
)]
#[case::large_by_length(&GOOD.replace("LENGTH", "Content-Length: 4096").replace("BODY", ""), "413", Closed)]
#[case::huge_by_length(
    &GOOD.replace("LENGTH", "Content-Length: 18446744073709551613").replace("BODY", "{"), "413", Closed
)]
#[case::large_by_chunks(
    &GOOD.replace("LENGTH", "Transfer-Encoding: chunked")
        .replace("BODY", &format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(3)),
    "413", Closed
)]
#[case::large_without_a_credential(
    &GOOD.replace("KEY\r\n", "").replace("LENGTH", "Content-Length: 10737418240").replace("BODY", "{"), "401", Closed
)]
#[case::expectation(&GOOD.replace("KEY", "KEY\r\nExpect: 100-continue"), "100", GoesOn)]
#[case::expectation_without_a_credential(
    &GOOD.replace("KEY", "Expect: 100-continue").replace("BODY", ""), "401", Closed
)]
#[case::body_that_is_not_read(
    &GOOD.replace("KEY\r\n", "").replace("LENGTH", "Content-Length: 44")
        .replace("BODY", "GET /hidden HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
    "401", GoesOn
)]
#[case::connect(
    "CONNECT gateway.test:80 HTTP/1.1\r\nHost: gateway.test:80\r\nKEY\r\n\r\n",
    "404",
    GoesOn
)]
#[case::connect_elsewhere(
    "CONNECT evil.test:443 HTTP/1.1\r\nHost: gateway.test\r\nKEY\r\n\r\n",
    "403",
    GoesOn
)]
#[case::trace(
    "TRACE /mcp HTTP/1.1\r\nHost: gateway.test\r\nKEY\r\nX: echoed\r\n\r\n",
    "405",
    GoesOn
)]
#[case::options_of_all("OPTIONS * HTTP/1.1\r\nHost: gateway.test\r\nKEY\r\n\r\n", "404", GoesOn)]
#[case::web_socket(
    &GOOD.replace("KEY", "KEY\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"), "200", GoesOn
)]
#[case::http2_by_upgrade(
    &GOOD.replace("KEY", "KEY\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"),
    "200", GoesOn
)]
#[tokio::test]
async fn every_shape_of_http_has_its_answer(#[case] request: &str, #[case] status: &str, #[case] then: Then) {
    let gateway = Gateway::start(&config(&[], LIMITS)).await;
    let answer = exchange(&gateway, &format!("{}{AFTER}", spelled(request))).await;
    let statuses: Vec<&str> = answer
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|answer| answer.get(2..5))
        .collect();
    let mut want = vec![status];
    if status == "100" {
        want.push("200");
    }
    if then == GoesOn {
        want.push("404");
    }
    assert_eq!(statuses, want, "{answer}");
    assert!(!answer.contains("echoed"), "{answer}");
}

#[tokio::test]
async fn http2_is_not_spoken_without_tls() {
    let gateway = Gateway::start(&config(&[], LIMITS)).await;
    let settings = "\0\0\0\u{4}\0\0\0\0\0";
    let answer = exchange(
        &gateway,
        &format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{settings}{AFTER}"),
    )
    .await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer:?}"
    );
    assert!(!answer.contains(" 404"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_dribbles_its_body_is_answered_and_dropped() {
    let gateway = Gateway::start(&config(&[], LIMITS)).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = spelled(
        &GOOD
            .replace("LENGTH", "Content-Length: 2000")
            .replace("BODY", "{"),
    );
    let began = Instant::now();
    let dribble = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..2000 {
            if write.write_all(b" ").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = String::new();
    let reading = tokio::time::timeout(PATIENCE, read.read_to_string(&mut answer)).await;
    // A reset is an end as well: it was still sending.
    reading.expect("the server bears it for ever").ok();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() >= Duration::from_secs(1));
    dribble.abort();
}
