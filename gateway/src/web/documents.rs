//! Documents for everybody, made once for each configuration: `robots.txt`, `security.txt` (RFC 9116) and custom files.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Response};
use portcullis_config::web::{SecurityTxt, WellKnown};
use serde_json::value::RawValue;

use crate::proxy::stream::Body;

/// Where documents stand by convention (RFC 8615).
const WELL_KNOWN: &str = "/.well-known/";
/// For how long they may be kept.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The documents by path.
#[derive(Debug, Default)]
pub struct Documents {
    by_path: HashMap<Box<str>, Document>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    kind: &'static str,
    text: Bytes,
}

impl Documents {
    /// Writes them. `origin` is the gateway's own, `https://...` where it speaks TLS.
    pub fn new(well_known: &WellKnown, origin: &str) -> Self {
        let WellKnown {
            robots,
            security_txt,
            custom,
        } = well_known;
        let at = |name: &str| [WELL_KNOWN, name].concat().into_boxed_str();
        // Custom ones first: whatever their names are, they take the place of none of ours.
        let mut by_path: HashMap<Box<str>, Document> = custom
            .iter()
            .map(|(name, text)| (at(name), Document::new(kind(name, text), text.clone())))
            .collect();
        let robots = Document::new(TEXT, robots.clone());
        by_path.insert("/robots.txt".into(), robots.clone());
        by_path.insert(at("robots.txt"), robots);
        if let Some(fields) = security_txt {
            by_path.insert(at("security.txt"), Document::new(TEXT, security(fields, origin)));
        }
        Self { by_path }
    }

    /// The document at a path, exactly.
    pub fn get(&self, path: &str) -> Option<&Document> {
        self.by_path.get(path)
    }
}

impl Document {
    /// What is sent, `text` with its media type.
    pub fn new(kind: &'static str, text: impl Into<Bytes>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// JSON.
    pub fn json(text: Bytes) -> Self {
        Self::new(JSON, text)
    }

    /// The answer to `GET` or `HEAD`. Which origin may read it is said by whoever knows who asks.
    pub fn answer(&self, method: &Method) -> Response<Body> {
        let mut response = Response::new(if *method == Method::HEAD {
            Body::Empty
        } else {
            Body::from(self.text.clone())
        });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.text.len()));
        headers.insert(CACHE_CONTROL, KEPT);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        response
    }
}

/// The media type by a file's name, and where that says nothing, by what it holds. Never one that a browser runs or shows
/// as a page.
fn kind(name: &str, text: &str) -> &'static str {
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => JSON,
        None if text.trim_start().starts_with(['{', '['])
            && serde_json::from_str::<&RawValue>(text).is_ok() =>
        {
            JSON
        }
        _ => TEXT,
    }
}

/// The fields as lines.
fn security(fields: &SecurityTxt, origin: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name}: {value}").expect("writing to a string cannot fail");
    };
    for contact in &fields.contacts {
        line("Contact", contact);
    }
    line("Expires", &fields.expires.to_string());
    for (name, value) in fields.links() {
        line(name, value);
    }
    // The document is only good where it came by TLS.
    if fields.canonical.is_empty() && origin.starts_with("https://") {
        line("Canonical", &[origin, WELL_KNOWN, "security.txt"].concat());
    }
    if !fields.preferred_languages.is_empty() {
        line("Preferred-Languages", &fields.preferred_languages.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ORIGIN: &str = "https://mcp.example.com";

    fn fields(more: &str) -> SecurityTxt {
        serde_yaml::from_str(&format!(
            "{{contacts: ['mailto:security@example.com', 'tel:+1-201-555-0123'], expires: '2027-06-30T00:00:00Z', {more}}}"
        ))
        .unwrap()
    }

    #[test]
    fn every_field_of_rfc_9116_is_a_line() {
        let all = fields(
            "preferredLanguages: [en, de-AT], policy: 'https://example.com/policy', encryption: 'openpgp4fpr:5f2de5521c63a801ab59ccb603d49de44b29100f', \
             acknowledgments: 'https://example.com/thanks', canonical: 'https://example.com/.well-known/security.txt', hiring: 'https://example.com/jobs'",
        );
        let text = security(&all, ORIGIN);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "Acknowledgments: https://example.com/thanks",
                "Canonical: https://example.com/.well-known/security.txt",
                "Contact: mailto:security@example.com",
                "Contact: tel:+1-201-555-0123",
                "Encryption: openpgp4fpr:5f2de5521c63a801ab59ccb603d49de44b29100f",
                "Expires: 2027-06-30T00:00:00Z",
                "Hiring: https://example.com/jobs",
                "Policy: https://example.com/policy",
                "Preferred-Languages: en, de-AT",
            ]
        );
        assert!(
            text.starts_with("Contact: mailto:"),
            "the preferred one comes first"
        );
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn where_it_stands_is_told_by_the_public_host_over_tls_only() {
        let text = security(&fields(""), ORIGIN);
        assert!(text.contains("\nCanonical: https://mcp.example.com/.well-known/security.txt\n"));
        assert!(!text.contains("Preferred-Languages") && !text.contains("Policy"));
        assert!(!security(&fields(""), "http://mcp.example.com").contains("Canonical"));
    }

    #[rstest]
    #[case("assetlinks.json", "[]", JSON)]
    #[case("Assets.JSON", "nonsense", JSON)]
    #[case("apple-app-site-association", "{\"applinks\": {}}", JSON)]
    #[case("apple-app-site-association", "{nonsense", TEXT)]
    #[case("change.txt", "{}", TEXT)]
    #[case("page.html", "<script>alert(1)</script>", TEXT)]
    #[case("code.js", "alert(1)", TEXT)]
    #[case("picture.svg", "<svg onload='alert(1)'/>", TEXT)]
    #[case("plain", "x", TEXT)]
    fn no_file_is_a_page(#[case] name: &str, #[case] text: &str, #[case] want: &str) {
        assert_eq!(kind(name, text), want);
    }

    #[test]
    fn paths_are_exact_and_none_of_ours_is_taken() {
        let mut well_known = WellKnown {
            security_txt: Some(fields("")),
            ..WellKnown::default()
        };
        for name in ["robots.txt", "security.txt", "other"] {
            well_known.custom.insert(name.into(), "mine".into());
        }
        let documents = Documents::new(&well_known, ORIGIN);
        let text = |path: &str| documents.get(path).map(|document| document.text.clone());
        assert_eq!(text("/robots.txt").unwrap(), "User-agent: *\nDisallow: /\n");
        assert_eq!(text("/robots.txt"), text("/.well-known/robots.txt"));
        assert!(
            text("/.well-known/security.txt")
                .unwrap()
                .starts_with(b"Contact: ")
        );
        assert_eq!(text("/.well-known/other").unwrap(), "mine");
        for path in [
            "/security.txt",
            "/other",
            "/.well-known/",
            "/.well-known/Other",
            "/.well-known/other/",
            "robots.txt",
            "//robots.txt",
        ] {
            assert_eq!(text(path), None, "{path}");
        }
    }
}
