//! Browsers: whose pages may call, what they are told before they do, and what a page can make a browser send.

use http::HeaderMap;
use rstest::rstest;

use crate::hostile::{GOOD, LIMITS, exchange, spelled};
use crate::permits::{Issuer, trusting};
use crate::support::{Gateway, assert_dressed, config};
use crate::web::heads;

const APP: &str = "https://app.test";
const DOCUMENT: &str = "GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
const PREFLIGHT: &str = "OPTIONS /mcp HTTP/1.1\r\nHost: gateway.test\r\nAccess-Control-Request-Method: POST\r\n\
    Access-Control-Request-Headers: authorization, content-type, mcp-param-region\r\n\r\n";

/// A gateway that pages of [`APP`] may call.
async fn gateway(profile: &str, more: &str) -> Gateway {
    let text = config(
        &[],
        &format!("{LIMITS}\nweb: {{cors: {{allowedOrigins: ['{APP}'], {more}}}}}"),
    );
    let mut text: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    text["gateway"]["profile"] = profile.into();
    if profile == "Production" {
        text["rateLimits"] =
            serde_json::json!([{"name":"c","key":"Client","requests":1000,"per":"1m","burst":100}]);
    }
    Gateway::start(&trusting(&text, &[Issuer::new("k").jwk()])).await
}

/// One request with these header lines, on a connection of its own.
async fn asked(gateway: &Gateway, request: &str, lines: &str) -> (u16, HeaderMap) {
    let begin = format!(" HTTP/1.1\r\nConnection: close\r\n{lines}");
    let answer = exchange(gateway, &spelled(&request.replace(" HTTP/1.1\r\n", &begin))).await;
    let mut heads = heads(&answer);
    assert_eq!(heads.len(), 1, "{answer}");
    assert_dressed(&heads[0].1);
    heads.remove(0)
}

fn origin(of: &str) -> String {
    format!("Origin: {of}\r\n")
}

#[tokio::test]
async fn a_page_that_may_call_is_told_so_and_gets_the_answer() {
    let gateway = gateway("Production", "").await;
    for page in [APP, "http://gateway.test"] {
        for path in ["/mcp", "/servers/files/mcp", "/sets/some/mcp"] {
            let (status, headers) = asked(&gateway, &PREFLIGHT.replace("/mcp", path), &origin(page)).await;
            assert_eq!(status, 204, "{path}");
            assert_eq!(headers["access-control-allow-origin"], page);
            assert_eq!(headers["access-control-allow-methods"], "GET, POST, DELETE");
            assert_eq!(headers["access-control-max-age"], "600");
            assert_eq!(headers["vary"], "Origin");
            let allowed = headers["access-control-allow-headers"]
                .to_str()
                .unwrap()
                .to_ascii_lowercase();
            for name in [
                "authorization",
                "content-type",
                "accept",
                "mcp-session-id",
                "mcp-protocol-version",
                "mcp-method",
                "mcp-name",
                "last-event-id",
                "mcp-param-region",
            ] {
                assert!(allowed.split(", ").any(|one| one == name), "{name} in {allowed}");
            }
            assert!(!headers.contains_key("access-control-allow-credentials"));
        }
        let document = DOCUMENT
            .replace("GET", "OPTIONS")
            .replace("\r\n\r\n", "\r\nAccess-Control-Request-Method: GET\r\n\r\n");
        let (status, headers) = asked(&gateway, &document, &origin(page)).await;
        assert_eq!(
            (status, &headers["access-control-allow-methods"]),
            (204, &"GET, HEAD".parse().unwrap())
        );
        // The answers themselves, refusals too: the page is to see the challenge.
        for (request, want) in [
            (GOOD.to_owned(), 200),
            (GOOD.replace("KEY\r\n", ""), 401),
            (GOOD.replace("/mcp", "/nothing"), 404),
            (DOCUMENT.to_owned(), 200),
        ] {
            let (status, headers) = asked(&gateway, &request, &origin(page)).await;
            assert_eq!(status, want);
            assert_eq!(headers["access-control-allow-origin"], page);
            let exposed = headers["access-control-expose-headers"].to_str().unwrap();
            for name in ["Mcp-Session-Id", "WWW-Authenticate", "Retry-After", "RateLimit"] {
                assert!(exposed.split(", ").any(|one| one == name), "{name} in {exposed}");
            }
        }
    }
}

#[rstest]
#[case::foreign("Origin: https://evil.test\r\n")]
#[case::opaque("Origin: null\r\n")]
#[case::empty("Origin: \r\n")]
#[case::longer("Origin: https://gateway.test.evil.com\r\n")]
#[case::user("Origin: https://gateway.test@evil.com\r\n")]
#[case::longer_app("Origin: https://app.test.evil.com\r\n")]
#[case::subdomain("Origin: https://x.app.test\r\n")]
#[case::other_scheme("Origin: http://app.test\r\n")]
#[case::other_port("Origin: https://app.test:8443\r\n")]
#[case::trailing_dot("Origin: https://app.test.\r\n")]
#[case::slash("Origin: https://app.test/\r\n")]
#[case::list("Origin: https://app.test https://evil.test\r\n")]
#[case::twice("Origin: https://app.test\r\nOrigin: https://app.test\r\n")]
#[case::one_of_two("Origin: https://evil.test\r\nOrigin: https://app.test\r\n")]
#[case::star("Origin: *\r\n")]
#[case::extension("Origin: chrome-extension://abcdef\r\n")]
#[case::loopback("Origin: http://localhost:6274\r\n")]
#[case::not_text("Origin: https://app.te\u{e4}st\r\n")]
#[tokio::test]
async fn a_page_of_somebody_else_gets_nothing(#[case] lines: &str) {
    let gateway = gateway("Production", "allowCredentials: true").await;
    for request in [
        GOOD,
        PREFLIGHT,
        &GOOD.replace("KEY\r\n", ""),
        &GOOD.replace("/mcp", "/x"),
    ] {
        let (status, headers) = asked(&gateway, request, lines).await;
        assert_eq!(status, 403, "{request}");
        for name in headers.keys() {
            assert!(!name.as_str().starts_with("access-control-"), "{headers:?}");
        }
    }
    // What everybody may read, everybody may; the page's browser keeps it from the page.
    let (status, headers) = asked(&gateway, DOCUMENT, lines).await;
    assert_eq!((status, &headers["vary"]), (200, &"Origin".parse().unwrap()));
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[rstest]
#[case::no_question(
    "Origin: https://app.test\r\n",
    "Access-Control-Request-Method: POST\r\n",
    401
)]
#[case::no_page("", "", 401)]
#[case::another_host("Origin: https://app.test\r\n", "Host: gateway.test\r\n", 400)]
#[tokio::test]
async fn what_is_no_preflight_is_judged_like_any_request(
    #[case] lines: &str,
    #[case] without: &str,
    #[case] want: u16,
) {
    let gateway = gateway("Production", "").await;
    let (status, _) = asked(&gateway, &PREFLIGHT.replace(without, ""), lines).await;
    assert_eq!(status, want);
}

#[tokio::test]
async fn a_preflight_to_another_host_or_path_is_refused() {
    let gateway = gateway("Production", "").await;
    for (request, want) in [
        (PREFLIGHT.replace("gateway.test", "evil.test"), 403),
        (PREFLIGHT.replace("/mcp", "/nothing"), 404),
        (PREFLIGHT.replace("/mcp", "/servers/UPPER/mcp"), 404),
    ] {
        let (status, headers) = asked(&gateway, &request, &origin(APP)).await;
        assert_eq!(status, want);
        assert!(!headers.contains_key("access-control-allow-methods"));
    }
}

#[tokio::test]
async fn no_page_reaches_a_private_network_through_us_and_credentials_need_a_word() {
    let gateway = gateway("Development", "allowCredentials: true").await;
    let private = format!("{}Access-Control-Request-Private-Network: true\r\n", origin(APP));
    let (status, headers) = asked(&gateway, PREFLIGHT, &private).await;
    assert_eq!(
        (status, &headers["access-control-allow-credentials"]),
        (204, &"true".parse().unwrap())
    );
    assert!(!headers.contains_key("access-control-allow-private-network"));
    // A developer's own pages may call under Development.
    for page in [
        "http://localhost:6274",
        "http://127.0.0.1:3000",
        "http://[::1]:8080",
    ] {
        assert_eq!(asked(&gateway, PREFLIGHT, &origin(page)).await.0, 204, "{page}");
        assert_eq!(asked(&gateway, GOOD, &origin(page)).await.0, 200, "{page}");
    }
    assert_eq!(
        asked(&gateway, GOOD, &origin("http://localhost.evil.test"))
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn under_development_every_page_may_call_if_asked_for() {
    let gateway = Gateway::start(&config(&[], "web: {cors: {allowedOrigins: ['*']}}")).await;
    let (status, headers) = asked(&gateway, PREFLIGHT, &origin("https://any.example")).await;
    assert_eq!(
        (status, &headers["access-control-allow-origin"]),
        (204, &"https://any.example".parse().unwrap())
    );
    assert!(!headers.contains_key("access-control-allow-credentials"));
    assert_eq!(asked(&gateway, PREFLIGHT, &origin("null")).await.0, 403);
}

#[rstest]
#[case::its_own("gateway.test", 200)]
#[case::own_port("gateway.test:80", 200)]
#[case::upper_case("GATEWAY.TEST", 200)]
#[case::other_port("gateway.test:8080", 403)]
#[case::trailing_dot("gateway.test.", 403)]
#[case::dot_and_port("gateway.test.:80", 403)]
#[case::empty_port("gateway.test:", 403)]
#[case::longer("gateway.test.evil.com", 403)]
#[case::rebound("rebound.evil.com", 403)]
#[case::address("127.0.0.1", 403)]
#[case::literal("[::1]", 403)]
#[case::mapped("[::ffff:127.0.0.1]:80", 403)]
#[case::loopback("localhost", 403)]
#[case::user("gateway.test@evil.com", 403)]
#[case::our_user("evil.com@gateway.test", 403)]
#[case::path("gateway.test/x", 403)]
#[case::space("gateway.test evil.com", 403)]
#[case::empty("", 403)]
#[case::not_text("gateway.te\u{e4}st", 403)]
#[tokio::test]
async fn a_rebound_name_opens_nothing(#[case] host: &str, #[case] want: u16) {
    let gateway = gateway("Production", "").await;
    let named = |request: &str| request.replace("Host: gateway.test", &format!("Host: {host}"));
    let (status, _) = asked(&gateway, &named(GOOD), "").await;
    assert_eq!(status, want);
    let preflight = if want == 200 { 204 } else { want };
    assert_eq!(
        asked(&gateway, &named(PREFLIGHT), &origin(APP)).await.0,
        preflight
    );
    // A page under a rebound name calls its own origin.
    let (status, headers) = asked(&gateway, &named(GOOD), &origin("http://rebound.evil.com")).await;
    assert_eq!(status, 403);
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[rstest]
#[case::second_host(&GOOD.replace("FORM", "Host: evil.test\r\nFORM"), 400)]
#[case::same_host_twice(&GOOD.replace("FORM", "Host: gateway.test\r\nFORM"), 400)]
#[case::absolute_form(&GOOD.replace("POST /mcp", "POST http://evil.test/mcp"), 403)]
#[case::absolute_form_with_user(&GOOD.replace("POST /mcp", "POST http://gateway.test@evil.test/mcp"), 403)]
#[case::absolute_form_with_dot(&GOOD.replace("POST /mcp", "POST http://gateway.test./mcp"), 403)]
#[case::forwarded_host(&GOOD.replace("Host: gateway.test", "Host: evil.test\r\nX-Forwarded-Host: gateway.test"), 403)]
#[case::forwarded(&GOOD.replace("Host: gateway.test", "Host: evil.test\r\nForwarded: host=gateway.test"), 403)]
#[tokio::test]
async fn only_one_host_is_named_and_by_nobody_else(#[case] request: &str, #[case] want: u16) {
    let gateway = gateway("Production", "").await;
    assert_eq!(asked(&gateway, request, "").await.0, want);
}
