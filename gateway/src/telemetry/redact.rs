//! Text from outside on its way into a log line: short, printable, and without what looks like a credential.
//!
//! The rule is that secrets are never handed to a log at all. This is the second line, for error texts of libraries
//! and of upstreams that quote what they were given.

use std::fmt;

/// Longest text that is logged, in characters.
const MAX_CHARS: usize = 256;

/// Shortest run of token characters that may be a secret: shorter than our API keys, JWTs and usual tokens.
const SECRET_RUN: usize = 32;

const MASK: &str = "[redacted]";

/// Shows `text` shortened, with control characters escaped and everything that looks like a credential masked.
pub fn text(text: &str) -> impl fmt::Display + '_ {
    Redacted(text)
}

struct Redacted<'a>(&'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX_CHARS;
        let mut rest = self.0;
        let mut mask_next = false;
        while !rest.is_empty() {
            if left == 0 {
                return f.write_str("...");
            }
            let run = rest
                .find(|character: char| !is_token_char(character))
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(run);
            if !word.is_empty() {
                if mask_next || looks_secret(word) || (tail.starts_with('@') && has_userinfo(word)) {
                    f.write_str(MASK)?;
                    left = left.saturating_sub(MASK.len());
                } else {
                    let shown: String = word.chars().take(left).collect();
                    left -= shown.chars().count();
                    f.write_str(&shown)?;
                }
                mask_next = announces_secret(word);
                rest = tail;
            }
            let mut characters = rest.chars();
            if let Some(separator) = characters.next() {
                if !matches!(separator, ' ' | ':' | '=' | '"' | '\'') {
                    mask_next = false;
                }
                if separator.is_control() {
                    write!(f, "{}", separator.escape_default())?;
                } else {
                    write!(f, "{separator}")?;
                }
                left = left.saturating_sub(1);
                rest = characters.as_str();
            }
        }
        Ok(())
    }
}

fn is_token_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~+/".contains(character)
}

/// A long run with letters and digits mixed, one of our keys, or a JSON Web Token.
fn looks_secret(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    word.starts_with("pcl_")
        || word.starts_with("eyJ")
        || (word.len() >= SECRET_RUN
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
            && !word.contains('/')
            && word.matches('.').count() < 2)
}

/// What stands before `@` in a URL with a password: `//name:password`, of which `word` is the last part.
fn has_userinfo(word: &str) -> bool {
    !word.is_empty() && !word.starts_with("//")
}

fn announces_secret(word: &str) -> bool {
    [
        "bearer",
        "basic",
        "password",
        "token",
        "secret",
        "api-key",
        "authorization",
    ]
    .iter()
    .any(|name| word.eq_ignore_ascii_case(name))
}
