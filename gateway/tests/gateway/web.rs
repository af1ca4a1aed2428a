//! What browsers and scanners see: headers on every answer, whoever writes it.

use http::{HeaderMap, HeaderName, Method};
use rstest::rstest;

use crate::calls::SLOW;
use crate::hostile::{GOOD, LIMITS, exchange, spelled};
use crate::permits::{Issuer, trusting};
use crate::support::{ALICE, Gateway, Server, Speaks, assert_dressed, config};

/// The headers of each answer in a connection's bytes.
pub(crate) fn heads(text: &str) -> Vec<(u16, HeaderMap)> {
    text.split("HTTP/1.")
        .skip(1)
        .map(|answer| {
            let (head, _) = answer.split_once("\r\n\r\n").expect("a whole head");
            let mut lines = head.lines();
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let mut headers = HeaderMap::new();
            for line in lines {
                let (name, value) = line.split_once(": ").unwrap();
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            (status, headers)
        })
        .collect()
}

#[rstest]
#[case::answer(GOOD, 200)]
#[case::no_credential(&GOOD.replace("KEY\r\n", ""), 401)]
#[case::no_such_path(&GOOD.replace("/mcp", "/nothing"), 404)]
#[case::another_host(&GOOD.replace("gateway.test", "evil.test"), 403)]
#[case::another_origin(&GOOD.replace("KEY", "KEY\r\nOrigin: https://evil.test"), 403)]
#[case::method(&GOOD.replace("POST", "PATCH"), 405)]
#[case::large(&GOOD.replace("LENGTH", "Content-Length: 4096").replace("BODY", ""), 413)]
#[case::document(
    "GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    200
)]
#[case::no_such_document(
    "GET /.well-known/oauth-protected-resource/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    404
)]
#[case::document_by_post(
    "POST /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    405
)]
#[case::no_host(&GOOD.replace("Host: gateway.test\r\n", ""), 400)]
#[case::two_lengths(&GOOD.replace("LENGTH", "LENGTH\r\nTransfer-Encoding: chunked"), 400)]
#[case::unreadable("nonsense\r\n\r\n", 400)]
#[case::unreadable_field(&GOOD.replace("KEY", "X: a\r\n b\r\nKEY"), 400)]
#[case::too_many_fields(&GOOD.replace("KEY", &"A: b\r\n".repeat(100)), 431)]
#[case::long_target(&GOOD.replace("/mcp", &format!("/{}", "a".repeat(1 << 16))), 431)]
#[tokio::test]
async fn every_answer_is_dressed(#[case] request: &str, #[case] status: u16) {
    let text = config(&[], &format!("{LIMITS}\nweb: {{headers: {{hsts: 60}}}}"));
    let text = trusting(&serde_yaml::from_str(&text).unwrap(), &[Issuer::new("k").jwk()]);
    let gateway = Gateway::start(&text).await;
    let answer = exchange(
        &gateway,
        &spelled(&request.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nConnection: close\r\n")),
    )
    .await;
    let heads = heads(&answer);
    let (found, headers) = heads.last().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!((heads.len(), *found), (1, status), "{answer}");
    assert_dressed(headers);
}

#[tokio::test]
async fn streams_and_answers_of_servers_are_dressed_and_no_cookie_passes() {
    for speaks in [Speaks::Sessions, Speaks::Stateless] {
        let server = Server::start(speaks).await;
        let gateway = Gateway::start(&config(&[("s", server.address)], "")).await;
        // The client of these tests always brings a cookie, and the server always sets one: both ends look for the other's.
        let client = gateway.client(ALICE).initialize().await;
        let answer = client.post(SLOW).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = client.call("s__echo", "{}").await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_dressed(&answer.headers);
        let single = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
        let response = single.open(Method::GET, &[], "").await;
        assert_dressed(response.headers());
        let seen = server.seen.all();
        assert!(seen.iter().any(|(method, _)| method == "tools/call"));
        assert!(seen.iter().all(|(_, headers)| !headers.contains_key("cookie")));
    }
}

#[tokio::test]
async fn frames_may_be_those_of_the_same_origin() {
    let gateway = Gateway::start(&config(&[], "web: {headers: {frameOptions: SAMEORIGIN}}")).await;
    let head = |answer: String| heads(&answer).remove(0).1;
    for request in [GOOD, "nonsense\r\n\r\n"] {
        let headers = head(
            exchange(
                &gateway,
                &spelled(&request.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nConnection: close\r\n")),
            )
            .await,
        );
        assert_eq!(headers["x-frame-options"], "SAMEORIGIN");
        assert_eq!(
            headers["content-security-policy"],
            "default-src 'none'; frame-ancestors 'self'"
        );
    }
    gateway.reload(&config(&[], ""));
    assert_dressed(&head(exchange(&gateway, "nonsense\r\n\r\n").await));
}
