//! What a server says, put into the client's terms: ids, progress tokens and the members of its era. No I/O.

use bytes::Bytes;

use super::level::Level;
use super::links::Rewrite;
use crate::mcp::edit::Patch;
use crate::mcp::envelope::Message;
use crate::mcp::meta;
use crate::mcp::method::Method;
use crate::mcp::reply;
use crate::mcp::revision::Era;
use crate::mcp::scan::{self, Member, Span};

/// How the client knows a call that the server knows otherwise.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The client's id, as it wrote it.
    pub client_id: Bytes,
    /// The id the server was given.
    pub server_id: Bytes,
    /// The client's progress token and the server's. None: the client wants no word of progress.
    pub token: Option<(Bytes, Bytes)>,
    /// The client's era.
    pub era: Era,
    /// The server's.
    pub server_era: Era,
    /// What was asked.
    pub method: Method,
    /// How URIs in the answer are written for the client, where not as the server writes them.
    pub rewrite: Option<Rewrite>,
    /// From which level on the client wants to have what the server logs about the call, if at all.
    pub log: Option<Level>,
    /// The task that is asked for. In a box: hardly any call is about one.
    pub task: Option<Box<TaskIds>>,
}

impl Mapping {
    /// Keeps nothing of the whole messages that its parts were read in.
    pub fn detach(&mut self) {
        let copy = |part: &Bytes| Bytes::copy_from_slice(part);
        self.client_id = copy(&self.client_id);
        self.server_id = copy(&self.server_id);
        self.token = self
            .token
            .as_ref()
            .map(|(client, server)| (copy(client), copy(server)));
    }
}

/// A task's two names, as JSON.
#[derive(Clone, Debug)]
pub struct TaskIds {
    /// The server's own.
    pub own: Box<[u8]>,
    /// What the client calls it by.
    pub clients: Bytes,
}

/// Tells a server in a session, in words, that nobody waits for a call any more.
pub(super) fn cancellation(server_id: &[u8], why: &str) -> Bytes {
    let mut out = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#.to_vec();
    out.extend_from_slice(server_id);
    out.extend_from_slice(b",\"reason\":");
    reply::json_string(why, &mut out);
    out.extend_from_slice(b"}}");
    out.into()
}

/// Up to here every whole number is a float of its own.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// Is it one id, however it is written? A server that reads and writes JSON anew may drop an escape or `.0`.
pub(crate) fn same_id(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let is_integer = |raw: &[u8]| raw.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9'));
    // Integers have one spelling each. They may be longer than a float is exact.
    if is_integer(a) && is_integer(b) {
        return false;
    }
    let number = |raw: &[u8]| {
        let number = std::str::from_utf8(raw).ok()?.parse::<f64>().ok()?;
        (number.abs() <= EXACT).then_some(number)
    };
    match (a.first(), b.first()) {
        (Some(b'"'), Some(b'"')) => {
            matches!((scan::unescape(a), scan::unescape(b)), (Ok(a), Ok(b)) if a == b)
        }
        (Some(b'"'), _) | (_, Some(b'"')) => false,
        _ => matches!((number(a), number(b)), (Some(a), Some(b)) if a.total_cmp(&b).is_eq()),
    }
}

/// The answer with the client's id, the members of its era and the URIs of its endpoint; untouched where nothing
/// differs.
pub(super) fn answer(message: Message, mapping: &Mapping) -> Bytes {
    let to_session = mapping.era == Era::Session;
    // The client's id comes back as the client wrote it, also from a server that wrote it anew.
    let rename = message.id() != Some(&mapping.client_id[..]);
    let result = message.span(Member::Result);
    let has_type = message.span(Member::ResultType).is_some();
    // Only what is read may be kept by clients, and what may be read differs between them.
    let cacheable = mapping.method == Method::ResourcesRead;
    let scope = message
        .span(Member::ResultCacheScope)
        .filter(|scope| cacheable && !to_session && scope.of(message.bytes()) != PRIVATE);
    let unkept = cacheable
        && (message.span(Member::ResultTtl).is_none() || message.span(Member::ResultCacheScope).is_none());
    // A result of the era before has no type, and means that it is complete.
    let complete = result.is_some() && !to_session && (!has_type || unkept);
    let strip = result.is_some() && to_session && has_type;
    let code = not_found(&message, mapping);
    let links = mapping
        .rewrite
        .as_ref()
        .map(|rewrite| rewrite.edits(&message))
        .unwrap_or_default();
    if !rename && !complete && !strip && scope.is_none() && code.is_none() && links.is_empty() {
        return message.into_bytes();
    }
    let mut patch = Patch::new(message.bytes());
    if let (true, Some(id)) = (rename, message.span(Member::Id)) {
        patch.replace(id, &mapping.client_id);
    }
    if complete {
        meta::complete_result(&message, cacheable, &mut patch);
    }
    if strip {
        meta::strip_result(&message, &mut patch);
    }
    if let Some(scope) = scope {
        patch.replace(scope, PRIVATE);
    }
    if let Some((at, code)) = code {
        patch.replace(at, code);
    }
    for (at, uri) in &links {
        patch.replace(*at, uri);
    }
    patch.apply().unwrap_or_else(|_| message.into_bytes())
}

const PRIVATE: &[u8] = b"\"private\"";

/// "No such resource" as the other era says it: where the code stands, and what has to stand there.
fn not_found(message: &Message, mapping: &Mapping) -> Option<(Span, &'static [u8])> {
    const SESSION: &[u8] = b"-32002";
    const STATELESS: &[u8] = b"-32602";
    if mapping.method != Method::ResourcesRead || mapping.era == mapping.server_era {
        return None;
    }
    let (from, to) = match mapping.era {
        Era::Session => (STATELESS, SESSION),
        Era::Stateless => (SESSION, STATELESS),
    };
    let at = message.span(Member::ErrorCode)?;
    (at.of(message.bytes()) == from).then_some((at, to))
}

/// A progress notification with the client's token. `None`: it is not about this call.
pub(super) fn progress(message: &Message, mapping: &Mapping) -> Option<Bytes> {
    let token = message.span(Member::ProgressToken)?;
    let (client, server) = mapping.token.as_ref()?;
    // One of another call, or of none, could be anybody's. A repeated request may want none any more.
    if client.is_empty() || !same_id(token.of(message.bytes()), server) {
        return None;
    }
    if token.of(message.bytes()) == &client[..] {
        return Some(message.bytes().clone());
    }
    let mut patch = Patch::new(message.bytes());
    patch.replace(token, client);
    patch.apply().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn message(text: &str) -> Message {
        Message::from_server(Bytes::copy_from_slice(text.as_bytes()), 64).unwrap()
    }

    fn mapping(era: Era) -> Mapping {
        Mapping {
            client_id: Bytes::from_static(b"\"a\""),
            server_id: Bytes::from_static(b"7"),
            token: Some((Bytes::from_static(b"\"t\""), Bytes::from_static(b"9"))),
            era,
            server_era: Era::Session,
            method: Method::ToolsCall,
            rewrite: None,
            log: None,
            task: None,
        }
    }

    #[rstest]
    #[case(
        Era::Session,
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"x":1.0}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"content":[],"x":1.0}}"#
    )]
    #[case(
        Era::Session,
        r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[]}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"content":[]}}"#
    )]
    #[case(
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","content":[]}}"#
    )]
    #[case(
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete"}}"#
    )]
    #[case(
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":"m"}}"#
    )]
    fn answers_are_put_into_the_clients_terms(#[case] era: Era, #[case] from: &str, #[case] to: &str) {
        assert_eq!(answer(message(from), &mapping(era)), to);
    }

    #[rstest]
    #[case::a_result_that_may_be_kept(
        Era::Stateless,
        Era::Session,
        r#"{"jsonrpc":"2.0","id":7,"result":{"contents":[]}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[]}}"#
    )]
    #[case::never_in_common(
        Era::Stateless,
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","ttlMs":9,"cacheScope":"public"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","ttlMs":9,"cacheScope":"private"}}"#
    )]
    #[case(
        Era::Session,
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","contents":[],"ttlMs":9,"cacheScope":"public"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"contents":[]}}"#
    )]
    #[case(
        Era::Session,
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32002,"message":"m"}}"#
    )]
    #[case(
        Era::Stateless,
        Era::Session,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"m"}}"#
    )]
    #[case(
        Era::Stateless,
        Era::Stateless,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32002,"message":"m"}}"#
    )]
    fn what_was_read_is_put_into_the_clients_terms(
        #[case] era: Era,
        #[case] server_era: Era,
        #[case] from: &str,
        #[case] to: &str,
    ) {
        let mapping = Mapping {
            server_era,
            method: Method::ResourcesRead,
            ..mapping(era)
        };
        assert_eq!(answer(message(from), &mapping), to);
    }

    #[rstest]
    #[case("\"a\"", "\"\\u0061\"", true)]
    #[case("1.0", "1", true)]
    #[case("1", "\"1\"", false)]
    #[case("1", "2", false)]
    #[case("9007199254740993", "9007199254740993", true)]
    #[case("9007199254740993", "9007199254740992", false)]
    #[case("9007199254740993", "9007199254740993.0", false)]
    #[case("1e400", "1e401", false)]
    #[case("10", "1e1", true)]
    fn ids_are_compared_by_what_they_say(#[case] a: &str, #[case] b: &str, #[case] expected: bool) {
        assert_eq!(same_id(a.as_bytes(), b.as_bytes()), expected);
    }

    #[test]
    fn progress_of_another_call_is_not_passed_on() {
        let text = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9,"progress":1}}"#;
        let mapped = progress(&message(text), &mapping(Era::Session)).unwrap();
        assert_eq!(mapped, text.replace(":9,", ":\"t\","));
        assert!(progress(&message(&text.replace(":9,", ":8,")), &mapping(Era::Session)).is_none());
        let none = Mapping {
            token: None,
            ..mapping(Era::Session)
        };
        assert!(progress(&message(text), &none).is_none(), "nobody asked for it");
    }
}
