use rstest::rstest;

use super::*;

fn origins(listed: &[&str], development: bool) -> Origins {
    let cors = Cors {
        allowed_origins: listed.iter().map(ToString::to_string).collect(),
        allow_credentials: false,
    };
    Origins::new(&cors, "https://mcp.example.com", development)
}

fn asked(names: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in names {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[rstest]
#[case("https://mcp.example.com", true)]
#[case("https://mcp.example.com:443", true)]
#[case("https://MCP.example.com", true)]
#[case("https://app.example.com:8443", true)]
#[case("http://inside.example", true)]
#[case("http://inside.example:80", true)]
#[case("https://app.example.com:8443:443", false)]
#[case("https://app.example.com", false)]
#[case("https://inside.example", false)]
#[case("http://inside.example:443", false)]
#[case("http://mcp.example.com", false)]
#[case("https://mcp.example.com:80", false)]
#[case("https://mcp.example.com.evil.com", false)]
#[case("https://mcp.example.com@evil.com", false)]
#[case("https://mcp.example.com/", false)]
#[case("https://mcp.example.com.", false)]
#[case("https://evilmcp.example.com", false)]
#[case("https://sub.mcp.example.com", false)]
#[case("https://mcp.example.com https://evil.com", false)]
#[case("https://mcp.example.com, https://evil.com", false)]
#[case("http://localhost:6274", false)]
#[case("mcp.example.com", false)]
#[case("file://", false)]
#[case("null", false)]
#[case("*", false)]
#[case("", false)]
fn origins_are_exact(#[case] origin: &'static str, #[case] ours: bool) {
    let origins = origins(&["https://app.example.com:8443", "http://inside.example"], false);
    let caller = origins.judge(&asked(&[("origin", origin)]));
    let want = if ours {
        Caller::Ours(HeaderValue::from_static(origin))
    } else {
        Caller::Foreign
    };
    assert_eq!(caller, want);
}

#[rstest]
#[case("http://localhost", true)]
#[case("http://localhost:6274", true)]
#[case("https://127.0.0.1:8443", true)]
#[case("http://[::1]:3000", true)]
#[case("http://localhost.evil.com", false)]
#[case("http://localhost:6274.evil.com", false)]
#[case("http://localhost@evil.com", false)]
#[case("http://localhost:+80", false)]
#[case("http://localhost:99999", false)]
#[case("http://localhost/x", false)]
#[case("http://127.0.0.1.evil.com", false)]
#[case("http://[::1].evil.com", false)]
#[case("http://[::2]", false)]
#[case("ftp://localhost", false)]
#[case("null", false)]
fn under_development_this_machines_pages_may_call(#[case] origin: &'static str, #[case] ours: bool) {
    let headers = asked(&[("origin", origin)]);
    assert_eq!(origins(&[], true).judge(&headers) != Caller::Foreign, ours);
    assert_eq!(origins(&[], false).judge(&headers), Caller::Foreign);
}

#[rstest]
#[case("https://anything.example:1", true)]
#[case("http://10.0.0.1", true)]
#[case("null", false)]
#[case("file://", false)]
#[case("https://a b", false)]
fn any_origin_is_any_page_of_the_web(#[case] origin: &'static str, #[case] ours: bool) {
    let caller = origins(&["*"], false).judge(&asked(&[("origin", origin)]));
    assert_eq!(caller != Caller::Foreign, ours);
}

#[test]
fn two_origins_are_none_of_ours() {
    let own = ("origin", "https://mcp.example.com");
    assert_eq!(origins(&[], false).judge(&asked(&[own, own])), Caller::Foreign);
    assert_eq!(origins(&[], false).judge(&asked(&[])), Caller::NoPage);
}

#[test]
fn credentials_are_told_only_where_they_are_allowed() {
    let mut told = HeaderMap::new();
    let own = HeaderValue::from_static("https://mcp.example.com");
    origins(&[], false).apply(own.clone(), &mut told);
    assert_eq!(told[ACCESS_CONTROL_ALLOW_ORIGIN], own);
    assert_eq!(told[VARY], "Origin");
    assert!(!told.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let cors = Cors {
        allowed_origins: Vec::new(),
        allow_credentials: true,
    };
    Origins::new(&cors, "https://mcp.example.com", false).apply(own, &mut told);
    assert_eq!(told[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
}

#[test]
fn parameters_are_named_as_far_as_they_are_asked_for() {
    let mut answer = HeaderMap::new();
    let request = asked(&[
        (
            "access-control-request-headers",
            "content-type, mcp-param-region,x-evil",
        ),
        (
            "access-control-request-headers",
            "Mcp-Param-Size , mcp-param-a b, cookie, mcp-param-",
        ),
    ]);
    preflight(&request, "GET", &mut answer);
    let listed = answer[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
    let more = listed.strip_prefix(ALLOWED).unwrap();
    assert_eq!(more, ", mcp-param-region, mcp-param-size, mcp-param-");

    let many: Vec<String> = (0..1000).map(|n| format!("mcp-param-{n}")).collect();
    let mut request = HeaderMap::new();
    request.insert(ACCESS_CONTROL_REQUEST_HEADERS, many.join(",").parse().unwrap());
    preflight(&request, "GET", &mut answer);
    let listed = answer[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
    assert_eq!(listed.matches(PARAM_PREFIX).count(), MAX_PARAMS);
}
