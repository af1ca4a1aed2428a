//! The public port beside MCP.

use url::Url;

use super::{Check, is_plain_origin};
use crate::web::{Cors, MAX_HSTS, Web};

/// Most origins of a list.
const MAX_ORIGINS: usize = 64;

pub(super) fn web(check: &mut Check<'_>, web: &Web, production: bool) {
    check.that(
        web.headers.hsts <= MAX_HSTS,
        "web.headers.hsts",
        format!("at most {MAX_HSTS} seconds, two years"),
    );
    cors(check, &web.cors, production);
}

fn cors(check: &mut Check<'_>, cors: &Cors, production: bool) {
    const ORIGINS: &str = "web.cors.allowedOrigins";
    let any = cors.allowed_origins.iter().any(|origin| origin == "*");
    check.that(
        !any || !production,
        ORIGINS,
        "\"*\" is refused under Production: it lets every page of the web call; list the origins",
    );
    check.that(
        !any || !cors.allow_credentials,
        "web.cors.allowCredentials",
        "refused with the origin \"*\": list the origins",
    );
    check.that(
        cors.allowed_origins.len() <= MAX_ORIGINS,
        ORIGINS,
        format!("at most {MAX_ORIGINS}"),
    );
    for origin in &cors.allowed_origins {
        check.that(
            origin == "*" || is_web_origin(origin),
            ORIGINS,
            format!("{origin:?}: write scheme and host, and the port where it is not the scheme's own, such as https://app.example.com"),
        );
    }
}

fn is_web_origin(text: &str) -> bool {
    // Without a path, as browsers write it: the parser adds one.
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && is_plain_origin(&url) && !text.ends_with('/')
    })
}
