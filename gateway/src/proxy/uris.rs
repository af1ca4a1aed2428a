//! URIs of resources on the federated endpoint: `PREFIX+URI`, and `ui://PREFIX+REST` for those that clients know by
//! their scheme (MCP Apps).
//!
//! Schemes and hosts are the same in upper and lower case, and clients do change them: so a prefix is written in the
//! characters of a scheme (RFC 3986, section 3.1), in lower case, and so that no two prefixes are written alike.

use std::borrow::Cow;

/// What stands between a prefix and the URI.
const SEPARATOR: char = '+';
/// The scheme that has to stay in front.
const UI: &str = "ui://";

/// A server's prefix as it stands in URIs. Injective: an underscore is `..`, a capital is a dot and its small letter,
/// and what would not begin with a letter begins with `x.-`; no other prefix gives any of these.
pub fn scheme(prefix: &str) -> Box<str> {
    let mut out = String::with_capacity(prefix.len() + 4);
    for c in prefix.chars() {
        match c {
            '_' => out.push_str(".."),
            'A'..='Z' => {
                out.push('.');
                out.push(c.to_ascii_lowercase());
            }
            _ => out.push(c),
        }
    }
    if !out.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.insert_str(0, "x.-");
    }
    out.into()
}

/// A server's URI under its prefix as [`scheme`] writes it.
pub fn prefixed(scheme: &str, uri: &str) -> String {
    match uri.strip_prefix(UI) {
        Some(rest) => [UI, scheme, "+", rest].concat(),
        None => [scheme, "+", uri].concat(),
    }
}

/// The reverse of [`prefixed`]: what may be a prefix, in lower case, and the server's own URI.
pub fn parts(uri: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let lower = |text: &str| -> Cow<'static, str> { text.to_ascii_lowercase().into() };
    let ui = uri
        .split_at_checked(UI.len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(UI));
    if let Some((_, rest)) = ui {
        let (scheme, rest) = rest.split_once(SEPARATOR)?;
        return Some((lower(scheme), format!("{UI}{rest}").into()));
    }
    let (scheme, rest) = uri.split_once(SEPARATOR)?;
    Some((lower(scheme), rest.into()))
}

/// May clients fetch it themselves? Servers are to use this scheme where they can (specification, Common URI Schemes).
pub fn is_web(uri: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| {
        uri.get(..scheme.len())
            .is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("files", "file:///a", "files+file:///a")]
    #[case("files", "note", "files+note")]
    #[case("files", "{scheme}://x", "files+{scheme}://x")]
    #[case("team-a", "a+b://c", "team-a+a+b://c")]
    #[case("apps", "ui://clock/page", "ui://apps+clock/page")]
    #[case("Files_1", "x:y", "x.-.files..1+x:y")]
    #[case("1a", "x:y", "x.-1a+x:y")]
    fn uris_go_and_come_back(#[case] prefix: &str, #[case] own: &str, #[case] public: &str) {
        let scheme = scheme(prefix);
        assert_eq!(prefixed(&scheme, own), public);
        let (found, rest) = parts(public).unwrap();
        assert_eq!((&*found, &*rest), (&*scheme, own));
    }

    #[test]
    fn a_client_that_changes_the_case_of_a_scheme_is_understood() {
        assert_eq!(parts("Files+file:///A").unwrap().0, "files");
        assert_eq!(parts("UI://Apps+x").unwrap(), ("apps".into(), "ui://x".into()));
        assert!(parts("file:///a").is_none());
    }

    #[rstest]
    #[case("https://a", true)]
    #[case("HTTP://a", true)]
    #[case("httpsx://a", false)]
    #[case("files+https://a", false)]
    fn the_web_is_known_by_its_scheme(#[case] uri: &str, #[case] expected: bool) {
        assert_eq!(is_web(uri), expected);
    }

    proptest! {
        #[test]
        fn no_two_prefixes_are_written_alike(
            a in "[A-Za-z0-9](_?[-A-Za-z0-9]){0,8}",
            b in "[A-Za-z0-9](_?[-A-Za-z0-9]){0,8}",
        ) {
            prop_assert_eq!(a == b, scheme(&a) == scheme(&b));
            let written = scheme(&a);
            prop_assert!(written.starts_with(|c: char| c.is_ascii_lowercase()));
            prop_assert!(written.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c)));
        }
    }
}
