//! The public port beside MCP.

use url::Url;

use super::{Check, is_plain_origin};
use crate::web::well_known::{MAX_CUSTOM, MAX_DOCUMENT, MAX_NAME, OWN_NAMES};
use crate::web::{Cors, MAX_HSTS, SecurityTxt, Web, WellKnown};

/// Most origins of a list.
const MAX_ORIGINS: usize = 64;

pub(super) fn web(check: &mut Check<'_>, web: &Web, production: bool) {
    check.that(
        web.headers.hsts <= MAX_HSTS,
        "web.headers.hsts",
        format!("at most {MAX_HSTS} seconds, two years"),
    );
    cors(check, &web.cors, production);
    well_known(check, &web.well_known);
}

fn well_known(check: &mut Check<'_>, well_known: &WellKnown) {
    let WellKnown {
        robots,
        security_txt,
        custom,
    } = well_known;
    check.that(
        robots.len() <= MAX_DOCUMENT,
        "web.wellKnown.robots",
        format!("at most {MAX_DOCUMENT} bytes"),
    );
    check.that(
        custom.len() <= MAX_CUSTOM,
        "web.wellKnown.custom",
        format!("at most {MAX_CUSTOM} files"),
    );
    for (name, text) in custom {
        let path = format!("web.wellKnown.custom[{name:?}]");
        let own = OWN_NAMES.contains(&name.as_str()) || name.starts_with("oauth-protected-resource");
        check.that(!own, path.clone(), "is a name of the gateway's own");
        check.that(
            is_file_name(name),
            path.clone(),
            format!("1 to {MAX_NAME} letters, digits, '-', '_' and '.', a letter or digit first"),
        );
        check.that(
            text.len() <= MAX_DOCUMENT,
            path,
            format!("at most {MAX_DOCUMENT} bytes"),
        );
    }
    if let Some(text) = security_txt {
        security(check, text);
    }
}

fn is_file_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Each field is one line: a value that is not visible ASCII could begin another.
fn security(check: &mut Check<'_>, text: &SecurityTxt) {
    const CONTACTS: &str = "web.wellKnown.securityTxt.contacts";
    check.that(
        !text.contacts.is_empty(),
        CONTACTS,
        "at least one is required (RFC 9116)",
    );
    let one_line = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    for contact in &text.contacts {
        let reachable = ["mailto:", "https://", "tel:"]
            .iter()
            .any(|scheme| contact.starts_with(scheme));
        check.that(
            one_line(contact) && reachable,
            CONTACTS,
            format!("{contact:?}: write a URI that begins with mailto:, https:// or tel:"),
        );
    }
    for (name, value) in text.links() {
        let scheme = value.starts_with("https://")
            || (name == "Encryption" && (value.starts_with("openpgp4fpr:") || value.starts_with("dns:")));
        check.that(
            one_line(value) && scheme,
            format!("web.wellKnown.securityTxt ({name})"),
            format!("{value:?}: write an https URL"),
        );
    }
    for tag in &text.preferred_languages {
        check.that(
            !tag.is_empty()
                && tag
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "web.wellKnown.securityTxt.preferredLanguages",
            format!("{tag:?}: write a language tag, such as en"),
        );
    }
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
