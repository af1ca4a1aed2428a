//! Text from outside on its way into a log line: short, printable, and without what looks like a credential.
//!
//! The rule is that secrets are never handed to a log at all. This is the second line, for error texts of libraries
//! and of upstreams that quote what they were given. It rather masks too much than too little.

use std::fmt;

/// Longest text that is logged, in characters.
const MAX_CHARS: usize = 256;

/// Shortest run of token characters that may be a secret: shorter than API keys and tokens usually are.
const SECRET_RUN: usize = 32;

const MASK: &str = "[redacted]";

/// Authentication schemes: what follows after a space is a credential.
const SCHEMES: [&str; 3] = ["bearer", "basic", "digest"];

/// Names whose value, after a colon or an equals sign, is a secret.
const NAMES: [&str; 8] = [
    "authorization",
    "password",
    "passwd",
    "secret",
    "token",
    "api-key",
    "apikey",
    "access_token",
];

/// Shows `text` shortened, with control characters escaped and everything that looks like a credential masked.
pub fn text(text: &str) -> impl fmt::Display + '_ {
    Redacted(text)
}

struct Redacted<'a>(&'a str);

/// What the words so far say of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Plain,
    /// A name was read: its value follows if it is assigned.
    Named,
    Secret,
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX_CHARS;
        let mut rest = self.0;
        let mut next = Next::Plain;
        while !rest.is_empty() {
            if left == 0 {
                return f.write_str("...");
            }
            let end = rest
                .find(|character| !is_token_char(character))
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            if !word.is_empty() {
                if next == Next::Secret || looks_secret(word) || tail.starts_with('@') {
                    f.write_str(MASK)?;
                    left = left.saturating_sub(MASK.len());
                } else {
                    let cut = word.len().min(left);
                    f.write_str(word.get(..cut).unwrap_or_default())?;
                    left -= cut;
                }
                next = announces(word, tail);
            }
            let mut characters = tail.chars();
            if let Some(separator) = characters.next() {
                next = match (next, separator) {
                    (Next::Named, ':' | '=') => Next::Secret,
                    (next, ' ' | '"' | '\'' | ':' | '=') => next,
                    _ => Next::Plain,
                };
                if separator.is_control() {
                    write!(f, "{}", separator.escape_default())?;
                } else {
                    write!(f, "{separator}")?;
                }
                left = left.saturating_sub(1);
            }
            rest = characters.as_str();
        }
        Ok(())
    }
}

/// The characters of tokens, keys and base64 in all its forms; all of them ASCII.
fn is_token_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~+/".contains(character)
}

/// One of our keys, a JSON Web Token, or a long run of letters and digits that is no path and no host name.
fn looks_secret(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    word.starts_with("pcl_")
        || word.starts_with("eyJ")
        || (word.len() >= SECRET_RUN
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
            && !word.starts_with('/')
            && word.matches('.').count() < 2)
}

fn announces(word: &str, tail: &str) -> Next {
    let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if is(&SCHEMES) && tail.starts_with(' ') {
        Next::Secret
    } else if is(&NAMES) {
        Next::Named
    } else {
        Next::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const KEY: &str = "pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_00000000";

    #[rstest]
    #[case("Authorization: Bearer abc", "Authorization: [redacted] [redacted]")]
    #[case("got Bearer abc.def", "got Bearer [redacted]")]
    #[case("password=hunter2 refused", "password=[redacted] refused")]
    #[case("{\"token\": \"short\"}", "{\"token\": \"[redacted]\"}")]
    #[case("https://user:pass@host/path", "https://user:[redacted]@host/path")]
    #[case("https://pass@host/path", "https:[redacted]@host/path")]
    #[case("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "[redacted]")]
    #[case(
        "key 0123456789abcdef0123456789abcdef was refused",
        "key [redacted] was refused"
    )]
    fn credentials_are_masked(#[case] given: &str, #[case] shown: &str) {
        assert_eq!(text(given).to_string(), shown);
    }

    #[rstest]
    #[case("the token expired at 2026-01-01T00:00:00Z")]
    #[case("no configuration; a secret is missing")]
    #[case("connection refused (os error 111)")]
    #[case("/etc/portcullis/secrets/everything-credential-0/token is missing")]
    #[case("server-everything.default.svc.cluster.local:3001: time-out")]
    fn ordinary_messages_stay_readable(#[case] given: &str) {
        assert_eq!(text(given).to_string(), given);
    }

    #[test]
    fn our_own_keys_never_show() {
        for given in [
            KEY.to_owned(),
            format!("x={KEY}"),
            format!("\"{KEY}\""),
            format!("{KEY},{KEY}"),
        ] {
            assert!(!text(&given).to_string().contains("pcl_"), "{given}");
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(text("a\r\nb\u{1b}[31m").to_string(), "a\\r\\nb\\u{1b}[31m");
    }

    proptest! {
        #[test]
        fn it_is_short_and_printable_whatever_comes(given in "\\PC*|[\\x00-\\x7f]*") {
            let shown = text(&given).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            // Escapes and the mask may each add a little to the last piece.
            prop_assert!(shown.chars().count() <= 8 * MAX_CHARS);
        }

        #[test]
        fn a_key_is_masked_wherever_it_stands(before in "[ -~]{0,40}", after in "[ \",;]{0,5}") {
            let shown = text(&format!("{before} {KEY}{after}")).to_string();
            prop_assert!(!shown.contains("pcl_AAAA"));
        }
    }
}
