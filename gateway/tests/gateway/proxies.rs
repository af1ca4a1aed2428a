//! Proxies in front: who is believed about where a client calls from, and who may connect at all.

use std::time::Duration;

use http::HeaderMap;
use rstest::rstest;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::counts::metric;
use crate::hostile::{GOOD, rest, spelled};
use crate::support::{Gateway, Server, Speaks, config};
use crate::web::heads;

/// The tests call from 127.0.0.1.
const HEADER: &str = "network: {trustedProxies: [{cidr: 127.0.0.0/8, mode: XForwardedFor}, {cidr: 10.0.0.0/8, mode: XForwardedFor}]}";
const PROTOCOL: &str = "network: {trustedProxies: [{cidr: 127.0.0.1/32, mode: ProxyProtocol}, {cidr: 10.0.0.0/8, mode: XForwardedFor}]}";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A PROXY protocol header of version 2 for this client.
fn announced(source: [u8; 4]) -> Vec<u8> {
    [
        SIGNATURE,
        &[0x21, 0x11, 0, 12],
        &source,
        &[192, 0, 2, 1, 0xd4, 0x31, 0x20, 0xfb],
    ]
    .concat()
}

/// Sends pieces, and gives all that comes back until the server closes.
async fn sent(gateway: &Gateway, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // It may have closed already.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    rest(&mut stream).await
}

/// [`GOOD`] with these header lines.
fn request(lines: &str) -> String {
    spelled(&GOOD.replace("KEY", &format!("Connection: close\r\n{lines}KEY")))
}

/// The address in the record of each request so far.
async fn clients(gateway: &Gateway) -> Vec<String> {
    let records: Vec<Value> = gateway.audit().await;
    records
        .iter()
        .filter_map(|record| record["client"].as_str())
        .map(str::to_owned)
        .collect()
}

fn status(answer: &str) -> Option<u16> {
    (!answer.is_empty()).then(|| heads(answer)[0].0)
}

#[rstest]
#[case::nobody_is_trusted("", "X-Forwarded-For: 203.0.113.9", 200, "127.0.0.1")]
#[case::nobody_is_trusted_by_that(
    "",
    "Forwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9",
    200,
    "127.0.0.1"
)]
#[case::trusted(HEADER, "X-Forwarded-For: 203.0.113.9", 200, "203.0.113.9")]
#[case::trusted_and_silent(HEADER, "X-Other: 1", 200, "127.0.0.1")]
#[case::only_that_header(
    HEADER,
    "Forwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9",
    200,
    "127.0.0.1"
)]
#[case::spoofed_beyond(
    HEADER,
    "X-Forwarded-For: 127.0.0.1, 198.51.100.1, 203.0.113.9, 10.1.1.1",
    200,
    "203.0.113.9"
)]
#[case::spoofed_nonsense(HEADER, "X-Forwarded-For: <script>, 203.0.113.9", 200, "203.0.113.9")]
#[case::lines(
    HEADER,
    "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.1.1.1",
    200,
    "203.0.113.9"
)]
#[case::unreadable(HEADER, "X-Forwarded-For: unknown", 400, "127.0.0.1")]
#[case::unreadable_within(HEADER, "X-Forwarded-For: 203.0.113.9, x, 10.1.1.1", 400, "127.0.0.1")]
#[tokio::test]
async fn a_client_is_where_a_trusted_proxy_says(
    #[case] network: &str,
    #[case] lines: &str,
    #[case] want: u16,
    #[case] client: &str,
) {
    let gateway = Gateway::start(&config(&[], network)).await;
    let answer = sent(&gateway, &[request(&format!("{lines}\r\n")).as_bytes()]).await;
    assert_eq!(status(&answer), Some(want), "{answer}");
    assert_eq!(clients(&gateway).await, [client]);
}

#[tokio::test]
async fn failures_are_counted_by_the_clients_address_and_not_the_proxys() {
    let gateway = Gateway::start(&config(&[], HEADER)).await;
    let failing = |client: &str| {
        request(&format!("X-Forwarded-For: {client}\r\n")).replace("Bearer pcl_", "Bearer pcl_x")
    };
    let mut last = None;
    for _ in 0..40 {
        last = status(&sent(&gateway, &[failing("203.0.113.9").as_bytes()]).await);
        if last == Some(429) {
            break;
        }
        assert_eq!(last, Some(401));
    }
    assert_eq!(last, Some(429), "a guesser has to wait");
    assert_eq!(
        status(&sent(&gateway, &[failing("203.0.113.10").as_bytes()]).await),
        Some(401)
    );
    // Nor does the guesser get on by writing another address in front.
    let spoofed = failing("198.51.100.77, 203.0.113.9");
    assert_eq!(status(&sent(&gateway, &[spoofed.as_bytes()]).await), Some(429));
}

#[tokio::test]
async fn nothing_of_it_reaches_a_server_or_the_metadata() {
    let server = Server::start(Speaks::Stateless).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], HEADER)).await;
    let client = gateway.client(crate::support::ALICE).initialize().await;
    let said = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.9;host=evil.test"),
        ("x-real-ip", "203.0.113.9"),
        ("via", "1.1 evil"),
    ];
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s__echo","arguments":{}}}"#;
    let answer = client.send(http::Method::POST, &said, call).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen: Vec<HeaderMap> = server
        .seen
        .all()
        .into_iter()
        .map(|(_, headers)| headers)
        .collect();
    assert!(!seen.is_empty());
    for headers in seen {
        for (name, value) in said {
            assert!(!headers.contains_key(name), "{name}");
            assert!(headers.values().all(|found| found != value), "{value}");
        }
    }
}

#[tokio::test]
async fn a_proxy_announces_its_client_before_anything_else() {
    let gateway = Gateway::start(&config(&[], PROTOCOL)).await;
    let plain = request("X-Forwarded-For: 198.51.100.1\r\n");
    let answer = sent(&gateway, &[&announced([203, 0, 113, 9]), plain.as_bytes()]).await;
    assert_eq!(status(&answer), Some(200), "{answer}");
    // Byte by byte, together with what follows.
    let all = [&announced([203, 0, 113, 10])[..], plain.as_bytes()].concat();
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(status(&sent(&gateway, &bytes).await), Some(200));
    // The proxy itself looks whether the gateway is there.
    let itself = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    assert_eq!(
        status(&sent(&gateway, &[&itself, plain.as_bytes()]).await),
        Some(200)
    );
    // A proxy that is announced and trusted may say more.
    let chained = announced([10, 0, 0, 1]);
    assert_eq!(
        status(&sent(&gateway, &[&chained, plain.as_bytes()]).await),
        Some(200)
    );
    assert_eq!(
        clients(&gateway).await,
        ["203.0.113.9", "203.0.113.10", "127.0.0.1", "198.51.100.1"]
    );
}

#[rstest]
#[case::none(&[])]
#[case::version_1(b"PROXY TCP4 203.0.113.9 192.0.2.1 54321 443\r\n")]
#[case::another_version(b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x09\xc0\0\x02\x01\xd4\x31\x20\xfb")]
#[case::udp(b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xcb\0\x71\x09\xc0\0\x02\x01\xd4\x31\x20\xfb")]
#[case::short(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xcb\0\x71\x09")]
#[case::oversized(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\xcb\0\x71\x09")]
#[case::twice(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
#[tokio::test]
async fn a_connection_that_is_not_announced_is_closed_without_a_word(#[case] begin: &[u8]) {
    let gateway = Gateway::start(&config(&[], PROTOCOL)).await;
    let answer = sent(&gateway, &[begin, request("").as_bytes()]).await;
    if begin.windows(12).filter(|bytes| *bytes == SIGNATURE).count() == 2 {
        // The second one is no HTTP.
        assert_eq!(status(&answer), Some(400), "{answer}");
    } else {
        assert_eq!(answer, "");
        let closed = "connections_closed_total{port=\"public\",reason=\"proxy_header\"}";
        assert_eq!(metric(&gateway, closed), Some(1));
    }
    assert!(clients(&gateway).await.is_empty());
}

#[tokio::test]
async fn a_header_that_never_ends_is_not_waited_for() {
    let gateway = Gateway::start(&config(
        &[],
        &format!("{PROTOCOL}\nlimits: {{headerTimeout: 300ms}}"),
    ))
    .await;
    let header = announced([203, 0, 113, 9]);
    for end in [0, 1, 11, 15, 16, 27] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&header[..end]).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), rest(&mut stream)).await;
        assert_eq!(answer.expect("it is borne for ever"), "", "{end}");
    }
}

#[tokio::test]
async fn whoever_is_no_proxy_is_not_believed_when_it_announces() {
    for network in ["", HEADER] {
        let gateway = Gateway::start(&config(&[], network)).await;
        let answer = sent(&gateway, &[&announced([203, 0, 113, 9]), request("").as_bytes()]).await;
        assert_eq!(status(&answer), Some(400), "it is no HTTP: {answer}");
        assert!(clients(&gateway).await.is_empty());
    }
}

#[tokio::test]
async fn only_proxies_may_connect_where_only_they_may() {
    let only = |cidr: &str| {
        config(
            &[],
            &format!(
                "network: {{onlyFromProxies: true, trustedProxies: [{{cidr: {cidr}, mode: XForwardedFor}}]}}"
            ),
        )
    };
    let gateway = Gateway::start(&only("192.0.2.0/24")).await;
    let plain = request("X-Forwarded-For: 192.0.2.7\r\n");
    assert_eq!(sent(&gateway, &[plain.as_bytes()]).await, "");
    let closed = "connections_closed_total{port=\"public\",reason=\"no_proxy\"}";
    assert_eq!(metric(&gateway, closed), Some(1));
    // It is the configuration in force that says so.
    gateway.reload(&only("127.0.0.0/8"));
    assert_eq!(status(&sent(&gateway, &[plain.as_bytes()]).await), Some(200));
    assert_eq!(clients(&gateway).await, ["192.0.2.7"]);
}

#[tokio::test]
async fn load_balancers_are_answered_under_any_name_and_without_a_credential() {
    let gateway = Gateway::start(&config(&[], "network: {publicHealth: /health/live}")).await;
    let ask = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: 10.0.0.7:8443\r\nConnection: close\r\n\r\n")
    };
    for method in ["GET", "HEAD"] {
        let answer = sent(&gateway, &[ask(method, "/health/live").as_bytes()]).await;
        assert_eq!(status(&answer), Some(204));
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    for (method, path, want) in [
        ("POST", "/health/live", 405),
        ("GET", "/health/live/", 403),
        ("GET", "/health", 403),
        ("GET", "/health/live?x", 204),
        ("GET", "/mcp", 403),
    ] {
        assert_eq!(
            status(&sent(&gateway, &[ask(method, path).as_bytes()]).await),
            Some(want),
            "{method} {path}"
        );
    }
    let missing = gateway.app.readiness.gate("test", "not there");
    let answer = sent(&gateway, &[ask("GET", "/health/live").as_bytes()]).await;
    assert_eq!(status(&answer), Some(503));
    assert!(
        answer.ends_with("\r\n\r\n") && !answer.contains("not there"),
        "{answer}"
    );
    missing.open();
    assert_eq!(
        status(&sent(&gateway, &[ask("GET", "/health/live").as_bytes()]).await),
        Some(204)
    );
    assert_eq!(
        metric(&gateway, "requests_total{endpoint=\"health\",outcome=\"ok\"}"),
        Some(5)
    );
    gateway.reload(&config(&[], ""));
    let own_host = ask("GET", "/health/live").replace("10.0.0.7:8443", "gateway.test");
    assert_eq!(status(&sent(&gateway, &[own_host.as_bytes()]).await), Some(404));
}
