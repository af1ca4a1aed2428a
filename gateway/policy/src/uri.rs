//! URIs as rules are held against them.
//!
//! One resource can be written in many ways, and a server may take them all for the same: upper case in the scheme,
//! `%61` for `a`, `x/../y` for `y`. A rule must not be passed by writing a URI differently, so a URI is judged both as
//! it is written and in its normal form (RFC 3986, section 6.2.2), and one that only a server can make sense of is
//! refused.

use std::borrow::Cow;

/// The longest URI that is judged; longer ones are refused.
pub const MAX_BYTES: usize = 4096;

/// The normal form of `uri`: scheme and authority in lower case, percent-encoding only where it is needed and in upper
/// case. `None`: refused, because it has dot segments (encoded ones too), backslashes or control characters, or is too
/// long.
pub fn normal(uri: &str) -> Option<Cow<'_, str>> {
    if uri.is_empty() || uri.len() > MAX_BYTES || uri.chars().any(|c| c == '\\' || c.is_control()) {
        return None;
    }
    let end = authority_end(uri);
    let (front, rest) = uri.split_at_checked(end)?;
    let plain = !front.bytes().any(|byte| byte.is_ascii_uppercase()) && !uri.contains('%');
    let normal: Cow<'_, str> = if plain {
        uri.into()
    } else {
        (decoded(front).to_ascii_lowercase() + &decoded(rest)).into()
    };
    has_no_dot_segment(&normal).then_some(normal)
}

/// Where scheme and authority end.
fn authority_end(uri: &str) -> usize {
    let Some(colon) = uri.find(':') else { return 0 };
    let scheme = uri.get(..colon).unwrap_or_default();
    if scheme.contains(['/', '?', '#', '{']) {
        return 0;
    }
    let after = colon + 1;
    match uri.get(after..).and_then(|rest| rest.strip_prefix("//")) {
        None => after,
        Some(authority) => after + 2 + authority.find(['/', '?', '#']).unwrap_or(authority.len()),
    }
}

/// Percent-encoded letters, digits and `-._~` as themselves, what else is encoded in upper case.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = after
            .get(..2)
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = code else {
            out.push('%');
            rest = after;
            continue;
        };
        let (hex, after) = after.split_at_checked(2).unwrap_or_default();
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex.to_ascii_uppercase());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// No `.` and no `..` between slashes, whichever way those are written. In a query or a fragment neither: some servers
/// take paths there.
fn has_no_dot_segment(normal: &str) -> bool {
    let slashes = normal.replace("%2F", "/").replace("%5C", "/");
    !slashes
        .split(['/', '?', '#', '=', '&', ':'])
        .any(|segment| matches!(segment, "." | ".."))
        && !normal.contains("%00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("file:///a/b.txt", Some("file:///a/b.txt"))]
    #[case("FILE:///a/B", Some("file:///a/B"))]
    #[case("file://HOST/A", Some("file://host/A"))]
    #[case("file:///%61%2fb", Some("file:///a%2Fb"))]
    #[case("f%49le:///a", Some("file:///a"))]
    #[case("note", Some("note"))]
    #[case("a/B:c", Some("a/B:c"))]
    #[case("urn:X:Y", Some("urn:X:Y"))]
    #[case("x://{Id}/y", Some("x://{id}/y"))]
    #[case("100%", Some("100%"))]
    #[case("a%zz%4", Some("a%zz%4"))]
    #[case("file:///a/.../b", Some("file:///a/.../b"))]
    #[case("file:///a/../b", None)]
    #[case("file:///a/./b", None)]
    #[case("file:///a/%2e%2E/b", None)]
    #[case("file:///a%2f..%2Fb", None)]
    #[case("file:///a%5c..", None)]
    #[case("..", None)]
    #[case("x:..", None)]
    #[case("x:?p=../../etc", None)]
    #[case("file:///a\\..\\b", None)]
    #[case("file:///a%00b", None)]
    #[case("file:///a\nb", None)]
    #[case("", None)]
    fn uris_have_one_form_or_none(#[case] uri: &str, #[case] expected: Option<&str>) {
        assert_eq!(normal(uri).as_deref(), expected);
    }

    #[test]
    fn endless_uris_are_refused() {
        assert!(normal(&"a".repeat(MAX_BYTES)).is_some());
        assert!(normal(&"a".repeat(MAX_BYTES + 1)).is_none());
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(uri in "[a-zA-Z%0-9:/?#{}.~é-]{0,40}") {
            if let Some(first) = normal(&uri) {
                let first = first.into_owned();
                // `%%361` becomes `%61`: decoded again, it would be another text, which is why it is judged once.
                if !uri.contains("%%") && !uri.contains("%25") {
                    prop_assert!(normal(&first).is_some_and(|again| *again == *first));
                }
            }
        }
    }
}
