//! What a client asked for, as far as a later message must show that it is about the same: who, of which server, and
//! with which arguments.

use aws_lc_rs::digest::{Context as Hash, SHA256};

use super::tasks::{self, ANYTHING};
use super::upstream::Upstream;
use crate::auth::identity::PrincipalKey;
use crate::mcp::envelope::Message;
use crate::mcp::scan::{Member, Span, contents, elements, fields, unescape};
use crate::mcp::session::Capabilities;

/// Which request it was. Two are the same if principal, server, method and `params` are, however those are written;
/// `_meta` and what only a retry has do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A request whose answer may leave something open.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Which.
    pub request: Fingerprint,
    /// What its client can do for a server, less what is off for that one.
    pub declared: Capabilities,
    /// What the server may ask any client.
    pub allowed: Capabilities,
    /// Does the client know tasks?
    pub tasks: bool,
}

impl Origin {
    /// Notes a request.
    pub fn new(who: &PrincipalKey, upstream: &Upstream, message: &Message) -> Self {
        let declared = message.raw(Member::MetaClientCapabilities).unwrap_or(b"{}");
        Self {
            request: Fingerprint::new(who, &upstream.full_name, message),
            declared: upstream.may_ask(Capabilities::read(declared)),
            allowed: upstream.may_ask(ANYTHING),
            tasks: tasks::declares(message),
        }
    }
}

impl Fingerprint {
    /// That of a request of this principal to `server`.
    pub fn new(who: &PrincipalKey, server: &str, message: &Message) -> Self {
        let mut hash = Hash::new(&SHA256);
        hash.update(who);
        text(server.as_bytes(), &mut hash);
        text(message.method().as_str().as_bytes(), &mut hash);
        if let Some(params) = message.span(Member::Params) {
            let passing = [Member::Meta, Member::RequestState, Member::InputResponses];
            let passing = passing.map(|member| message.span(member));
            members(
                message.bytes(),
                params,
                &|value| !passing.contains(&Some(value)),
                &mut hash,
            );
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        Self(fingerprint)
    }
}

/// Feeds a value: spaces, the order of members and escapes do not count; numbers count as they are written. Every part
/// goes with what it is and how long, so that no two values feed the same.
fn value(json: &[u8], at: Span, hash: &mut Hash) {
    match at.first(json) {
        b'{' => members(json, at, &|_| true, hash),
        b'[' => {
            hash.update(b"[");
            for element in elements(json, at).map_while(Result::ok) {
                value(json, element, hash);
            }
            hash.update(b"]");
        }
        b'"' => string(at.of(json), hash),
        _ => {
            hash.update(b"=");
            text(at.of(json), hash);
        }
    }
}

fn members(json: &[u8], at: Span, counts: &dyn Fn(Span) -> bool, hash: &mut Hash) {
    let mut members: Vec<(Vec<u8>, Span)> = fields(json, at)
        .map_while(Result::ok)
        .filter(|(_, value)| counts(*value))
        .map(|(key, value)| (plain(key.of(json)), value))
        .collect();
    members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    hash.update(b"{");
    for (key, at) in members {
        text(&key, hash);
        value(json, at, hash);
    }
    hash.update(b"}");
}

fn string(quoted: &[u8], hash: &mut Hash) {
    hash.update(b"\"");
    text(&plain(quoted), hash);
}

/// The text of a string; one that is no text (half of a surrogate pair) counts as it is written.
fn plain(quoted: &[u8]) -> Vec<u8> {
    unescape(quoted).map_or_else(
        |_| [b"\\", contents(quoted)].concat(),
        |text| text.into_owned().into_bytes(),
    )
}

fn text(bytes: &[u8], hash: &mut Hash) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn print(json: &str) -> Vec<u8> {
        let mut hash = Hash::new(&SHA256);
        value(json.as_bytes(), Span::new(0, json.len()).unwrap(), &mut hash);
        hash.finish().as_ref().to_vec()
    }

    #[rstest]
    #[case(r#"{"a":1,"b":[true,null]}"#, r#" { "b" : [ true , null ], "\u0061" : 1 }"#.trim_start(), true)]
    #[case(r#"["\u00e9\n"]"#, "[\"é\\u000a\"]", true)]
    #[case(r#"{"a":1}"#, r#"{"a":1.0}"#, false)]
    #[case(r#"{"a":1}"#, r#"{"a":"1"}"#, false)]
    #[case("[[1],2]", "[[1,2]]", false)]
    #[case(r#"["a","b"]"#, r#"["b","a"]"#, false)]
    #[case(r#"["ab",""]"#, r#"["a","b"]"#, false)]
    #[case(r#"{"a":{},"b":1}"#, r#"{"a":{"b":1}}"#, false)]
    #[case(r#"["\ud800"]"#, r#"["\ud801"]"#, false)]
    fn what_is_said_counts_and_not_how(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(print(one) == print(other), same);
    }
}
