//! What a client asked for, as far as a later message must show that it is about the same: who, of which server, and
//! with which arguments.

use aws_lc_rs::digest::{Context as Hash, SHA256};
use memchr::memchr2;

use super::tasks::{self, ANYTHING};
use super::upstream::Upstream;
use crate::auth::identity::PrincipalKey;
use crate::mcp::envelope::Message;
use crate::mcp::scan::{Member, Span, contents, unescape};
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
            let passing = passing.map(|member| message.span(member).map(Span::start));
            let mut reader = Reader::new(message.bytes(), params.start());
            reader.object(&|value| !passing.contains(&Some(value)), &mut hash);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        Self(fingerprint)
    }
}

/// Feeds values that were scanned before, each byte once: spaces, the order of members and escapes do not count, numbers
/// count as they are written. Every part goes with what it is and how long, so that no two values feed the same.
struct Reader<'t> {
    json: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    const fn new(json: &'t [u8], at: usize) -> Self {
        Self { json, at }
    }

    fn rest(&self) -> &'t [u8] {
        self.json.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let spaces = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += spaces.count();
        self.rest().first().copied()
    }

    /// Steps over `byte` and spaces before it, if it is there.
    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Steps over so many bytes, and gives them.
    fn take(&mut self, length: usize) -> &'t [u8] {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    /// A string as it is written.
    fn quoted(&mut self) -> &'t [u8] {
        let rest = self.rest();
        let mut end = 1;
        while let Some(next) = rest.get(end..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            end += next;
            if rest.get(end) == Some(&b'"') {
                return self.take(end + 1);
            }
            end += 2;
        }
        self.take(rest.len())
    }

    fn value(&mut self, hash: &mut Hash) {
        match self.peek() {
            Some(b'{') => self.object(&|_| true, hash),
            Some(b'[') => {
                hash.update(b"[");
                self.at += 1;
                while !self.eat(b']') && self.peek().is_some() {
                    self.value(hash);
                    self.eat(b',');
                }
                hash.update(b"]");
            }
            Some(b'"') => {
                hash.update(b"\"");
                text(&plain(self.quoted()), hash);
            }
            _ => {
                let rest = self.rest();
                let end = rest
                    .iter()
                    .position(|byte| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace());
                hash.update(b"=");
                // One byte at least: a text that was not scanned must not stand still here.
                text(self.take(end.unwrap_or(rest.len()).max(1)), hash);
            }
        }
    }

    /// The members that count, by where their values stand: each by itself, and then all in an order that is not theirs.
    fn object(&mut self, counts: &dyn Fn(usize) -> bool, hash: &mut Hash) {
        let mut members = Vec::new();
        self.at += 1;
        while !self.eat(b'}') && self.peek().is_some() {
            let mut member = Hash::new(&SHA256);
            text(&plain(self.quoted()), &mut member);
            self.eat(b':');
            self.peek();
            let at = self.at;
            self.value(&mut member);
            if counts(at) {
                members.push(member.finish());
            }
            self.eat(b',');
        }
        members.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        hash.update(b"{");
        for member in &members {
            hash.update(member.as_ref());
        }
        hash.update(b"}");
    }
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
        let mut reader = Reader::new(json.as_bytes(), 0);
        reader.value(&mut hash);
        assert_eq!(reader.peek(), None, "{json}");
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
    #[case(r#"{"a\"}":"\\"}"#, r#"{ "a\u0022}" :"\u005c" }"#, true)]
    #[case(r#"{"a":{"b":1},"c":2}"#, r#"{"c":2,"a":{"b":1}}"#, true)]
    #[case(r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#, false)]
    #[case("[1 ,2]", "[12]", false)]
    #[case("{}", "[]", false)]
    fn what_is_said_counts_and_not_how(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(print(one) == print(other), same);
    }
}
