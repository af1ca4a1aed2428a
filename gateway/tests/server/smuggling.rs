//! Requests that two implementations could read differently are refused, whatever hyper would have made of them.

use rstest::rstest;

use super::support::{hasty, serve};

/// One refusal, the connection closed, the handler never asked: in particular not for what hides in the body.
async fn is_refused(bytes: &[u8]) {
    let server = serve(hasty());
    let answer = server.exchange(bytes).await;
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    assert!(
        answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"),
        "{answer}"
    );
    assert_eq!(server.echo.calls(), 0, "the handler was asked: {answer}");
}

const HIDDEN: &str = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

#[rstest]
#[case::length_and_chunked("Content-Length: 44\r\nTransfer-Encoding: chunked")]
#[case::chunked_and_length("Transfer-Encoding: chunked\r\nContent-Length: 44")]
#[case::length_and_chunked_far_apart(
    "Content-Length: 44\r\nA: b\r\nC: d\r\nTransfer-Encoding: chunked\r\nE: f"
)]
#[case::zero_length_and_chunked("Content-Length: 0\r\nTransfer-Encoding: chunked")]
#[case::case_variants("cONTENT-lENGTH: 44\r\nTRANSFER-encoding: Chunked")]
#[case::equal_lengths("Content-Length: 44\r\nContent-Length: 44")]
#[case::different_lengths("Content-Length: 44\r\nContent-Length: 0")]
#[case::list_of_lengths("Content-Length: 44, 44")]
#[case::signed_length("Content-Length: +44")]
#[case::negative_length("Content-Length: -1")]
#[case::hexadecimal_length("Content-Length: 0x2c")]
#[case::spaced_length("Content-Length: 4 4")]
#[case::empty_length("Content-Length:")]
#[case::overflowing_length("Content-Length: 18446744073709551660")]
#[case::folded_length("Content-Length:\r\n 44")]
#[case::space_before_colon("Content-Length : 44")]
#[case::tab_before_colon("Transfer-Encoding\t: chunked")]
#[case::two_codings("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")]
#[case::equal_codings("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")]
#[case::another_coding("Transfer-Encoding: gzip")]
#[case::identity("Transfer-Encoding: identity")]
#[case::chunked_not_last("Transfer-Encoding: chunked, gzip")]
#[case::chunked_behind_another("Transfer-Encoding: gzip, chunked")]
#[case::chunked_twice("Transfer-Encoding: chunked, chunked")]
#[case::almost_chunked("Transfer-Encoding: xchunked")]
#[case::quoted_chunked("Transfer-Encoding: \"chunked\"")]
#[case::vertical_tab("Transfer-Encoding: \u{b}chunked")]
#[case::folded_coding("Transfer-Encoding:\r\n chunked")]
#[case::nul_in_a_value("X: a\0b\r\nContent-Length: 44")]
#[case::bare_return_in_a_value("X: a\rContent-Length: 0\r\nContent-Length: 44")]
#[case::no_colon("Content-Length 44")]
#[case::empty_name(": 44")]
#[case::two_hosts("Host: b\r\nContent-Length: 44")]
#[tokio::test]
async fn ambiguous_bodies_are_refused(#[case] fields: &str) {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    is_refused(format!("{head}{HIDDEN}").as_bytes()).await;
}

#[rstest]
#[case::no_host("GET / HTTP/1.1\r\n\r\n")]
#[case::chunked_in_1_0("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
#[case::version_two("GET / HTTP/2.0\r\nHost: a\r\n\r\n")]
#[case::version_nine("GET / HTTP/1.9\r\nHost: a\r\n\r\n")]
#[case::no_version("GET /\r\n\r\n")]
#[case::two_spaces("GET  / HTTP/1.1\r\nHost: a\r\n\r\n")]
#[case::control_in_target("GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n")]
#[case::space_in_target("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n")]
#[case::method_with_a_delimiter("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n")]
#[case::tls_on_plaintext("\u{16}\u{3}\u{1}\u{0}\u{5}\r\n\r\n")]
#[tokio::test]
async fn malformed_heads_are_refused(#[case] head: &str) {
    is_refused(head.as_bytes()).await;
}

#[rstest]
#[case::no_number("zz\r\n{}\r\n0\r\n\r\n")]
#[case::negative("-2\r\n{}\r\n0\r\n\r\n")]
#[case::overflow("ffffffffffffffff2\r\n{}\r\n0\r\n\r\n")]
#[case::too_long("2\r\n{}x\r\n0\r\n\r\n")]
#[case::hexadecimal_prefix("0x2\r\n{}\r\n0\r\n\r\n")]
#[case::bare_newline("2\n{}\n0\n\n")]
#[tokio::test]
async fn broken_chunks_end_the_connection(#[case] body: &str) {
    let server = serve(hasty());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = server
        .exchange(format!("{head}{body}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        server.echo.calls() <= 1,
        "what followed was taken for a request: {answer}"
    );
}

#[tokio::test]
async fn after_an_ambiguous_request_nothing_on_the_connection_is_answered() {
    let server = serve(hasty());
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    let bad =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    // All in one packet: what came before may or may not still be answered, the bad one and what follows never is.
    let answer = server.exchange(format!("{good}{bad}{good}")).await;
    assert!(server.echo.calls() <= 1, "{answer}");
    assert!(answer.contains("HTTP/1.1 400"), "{answer}");
}

#[rstest]
#[case::length("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")]
#[case::chunked(
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
)]
#[case::chunk_extension(
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n"
)]
#[case::trailers(
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n"
)]
#[case::expectation("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}")]
#[tokio::test]
async fn plain_requests_are_answered(#[case] request: &str) {
    let server = serve(hasty());
    // Twice on one connection, and closed by the second.
    let last = request.replace("Host: a\r\n", "Host: a\r\nConnection: close\r\n");
    let answer = server.exchange(format!("{request}{last}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(server.echo.calls(), 2);
}
