//! What everybody may read: `robots.txt`, `security.txt` and custom files.

use http::StatusCode;
use rstest::rstest;

use crate::counts::metric;
use crate::hostile::exchange;
use crate::permits::{Issuer, trusting};
use crate::support::{Gateway, assert_dressed, config};
use crate::web::heads;

const WEB: &str = "
web:
  cors: {allowedOrigins: ['https://app.test']}
  wellKnown:
    securityTxt: {contacts: ['mailto:security@gateway.test'], expires: '2027-06-30T00:00:00Z'}
    custom: {assetlinks.json: '[]', page.html: '<script>alert(1)</script>'}
";

async fn gateway() -> Gateway {
    let text = serde_yaml::from_str(&config(&[], WEB)).unwrap();
    Gateway::start(&trusting(&text, &[Issuer::new("k").jwk()])).await
}

async fn ask(gateway: &Gateway, line: &str, more: &str) -> (u16, http::HeaderMap, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: gateway.test\r\n{more}Connection: close\r\n\r\n");
    let answer = exchange(gateway, &request).await;
    let (status, headers) = heads(&answer).remove(0);
    assert_dressed(&headers);
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, headers, body)
}

#[rstest]
#[case("/robots.txt", "text/plain; charset=utf-8", "User-agent: *\nDisallow: /\n")]
#[case(
    "/.well-known/robots.txt",
    "text/plain; charset=utf-8",
    "User-agent: *\nDisallow: /\n"
)]
#[case(
    "/.well-known/security.txt",
    "text/plain; charset=utf-8",
    "Contact: mailto:security@gateway.test\nExpires: 2027-06-30T00:00:00Z\n"
)]
#[case("/.well-known/assetlinks.json", "application/json", "[]")]
#[case(
    "/.well-known/page.html",
    "text/plain; charset=utf-8",
    "<script>alert(1)</script>"
)]
#[tokio::test]
async fn documents_are_read_counted_and_recorded(#[case] path: &str, #[case] kind: &str, #[case] text: &str) {
    let gateway = gateway().await;
    let (status, headers, body) = ask(&gateway, &format!("GET {path}"), "").await;
    assert_eq!((status, &*body), (200, text));
    assert_eq!(headers["content-type"], kind);
    assert_eq!(headers["cache-control"], "public, max-age=300");
    let (status, head, body) = ask(&gateway, &format!("HEAD {path}"), "").await;
    assert_eq!((status, &*body), (200, ""));
    assert_eq!(head["content-length"], text.len().to_string());
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, headers, _) = ask(&gateway, &format!("{method} {path}"), "").await;
        assert_eq!(
            (status, &headers["allow"]),
            (405, &"GET, HEAD".parse().unwrap()),
            "{method}"
        );
    }
    // Whatever it is called by, and whatever page asks: the browser keeps it from foreign ones.
    let named = format!(
        "GET {path} HTTP/1.1\r\nHost: evil.test\r\nOrigin: https://evil.test\r\nConnection: close\r\n\r\n"
    );
    let (status, headers) = heads(&exchange(&gateway, &named).await).remove(0);
    assert_eq!(
        (status, headers.contains_key("access-control-allow-origin")),
        (200, false)
    );
    let (_, headers, _) = ask(&gateway, &format!("GET {path}"), "Origin: https://app.test\r\n").await;
    assert_eq!(headers["access-control-allow-origin"], "https://app.test");
    assert_eq!(
        metric(&gateway, &format!("documents_read_total{{path=\"{path}\"}}")),
        Some(4)
    );
    let records = gateway.audit().await;
    let reads: Vec<_> = records
        .iter()
        .filter(|record| record.to_string().contains(path) && record.to_string().contains("\"allow\""))
        .collect();
    assert_eq!(reads.len(), 4, "{records:?}");
}

#[tokio::test]
async fn what_is_not_configured_is_not_there() {
    let gateway = gateway().await;
    for path in [
        "/security.txt",
        "/.well-known/",
        "/.well-known",
        "/.well-known/other",
        "/.well-known/../robots.txt",
        "/.well-known/%72obots.txt",
        "/.well-known/robots.txt/",
        "//robots.txt",
        "/ROBOTS.TXT",
        "/health",
        "/",
    ] {
        let (status, ..) = ask(&gateway, &format!("GET {path}"), "").await;
        assert_eq!(status, StatusCode::NOT_FOUND.as_u16(), "{path}");
    }
    assert!(!gateway.app.metrics.render().contains("documents_read_total{"));
}

#[tokio::test]
async fn documents_follow_the_configuration() {
    let gateway = Gateway::start(&config(&[], "")).await;
    assert_eq!(ask(&gateway, "GET /.well-known/security.txt", "").await.0, 404);
    gateway.reload(&config(&[], WEB));
    assert_eq!(ask(&gateway, "GET /.well-known/security.txt", "").await.0, 200);
    gateway.reload(&config(
        &[],
        "web: {wellKnown: {robots: \"User-agent: *\\nAllow: /\\n\"}}",
    ));
    assert_eq!(ask(&gateway, "GET /.well-known/security.txt", "").await.0, 404);
    assert_eq!(
        ask(&gateway, "GET /robots.txt", "").await.2,
        "User-agent: *\nAllow: /\n"
    );
}
