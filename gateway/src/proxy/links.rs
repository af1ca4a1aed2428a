//! URIs of resources in what servers send: where they stand, and how they are written on a federated endpoint.

use std::sync::Arc;

use super::routes::Routes;
use super::uris;
use crate::auth::glob::Glob;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::json_string;
use crate::mcp::scan::{self, Member, Span};

/// URIs of one answer that are looked at.
const MAX_LINKS: usize = 4096;

/// A URI where it stands.
type Link = (Span, String);

/// How a server's answer is put into the words of a federated endpoint.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The endpoint's names.
    pub routes: Arc<Routes>,
    /// The server, among the snapshot's.
    pub server: usize,
    /// What it answers.
    pub method: Method,
}

impl Rewrite {
    /// What has to be written otherwise in `message`.
    pub fn edits(&self, message: &Message) -> Vec<(Span, Box<[u8]>)> {
        let mut edits = Vec::new();
        for (at, own) in in_result(message, self.method) {
            let public = self.routes.public_uri(self.server, &own);
            if *public != *own {
                edits.push((at, json(&public)));
            }
        }
        edits
    }
}

/// `text` as a JSON string.
pub fn json(text: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len() + 2);
    json_string(text, &mut out);
    out.into()
}

/// What a URI template (RFC 6570) can become: its literals, and anything in place of its expressions.
pub fn pattern(template: &str) -> Glob {
    let mut literals = Vec::new();
    let mut rest = template;
    loop {
        let expression = rest
            .split_once('{')
            .and_then(|(literal, after)| Some((literal, after.split_once('}')?.1)));
        let Some((literal, after)) = expression else {
            literals.push(rest);
            return Glob::around(literals);
        };
        literals.push(literal);
        rest = after;
    }
}

/// The resources that a tool's object names as its user interface (MCP Apps).
pub fn in_tool(tool: &[u8]) -> Vec<Link> {
    let mut found = Vec::new();
    let meta = Span::new(0, tool.len()).and_then(|whole| scan::field(tool, whole, "_meta"));
    if let Some(meta) = meta {
        let ui = scan::field(tool, meta, "ui").and_then(|ui| scan::field(tool, ui, "resourceUri"));
        let flat = scan::field(tool, meta, "ui/resourceUri");
        for at in [ui, flat].into_iter().flatten() {
            push(tool, at, &mut found);
        }
    }
    found
}

/// The resources that an answer names.
fn in_result(message: &Message, method: Method) -> Vec<Link> {
    const URI: &[u8] = b"\"uri\"";
    let text = message.bytes();
    let mut found = Vec::new();
    let Some(result) = message.span(Member::Result) else {
        return found;
    };
    // Most answers name none: one look at the bytes settles it.
    if !text.windows(URI.len()).any(|window| window == URI) {
        return found;
    }
    match method {
        Method::ToolsCall => {
            if let Some(content) = message.span(Member::ResultContent) {
                blocks(text, content, &mut found);
            }
        }
        Method::PromptsGet => {
            for message in list(text, result, "messages") {
                if let Some(content) = scan::field(text, message, "content") {
                    blocks(text, content, &mut found);
                }
            }
        }
        Method::TasksGet => {
            let of_call = scan::field(text, result, "result");
            if let Some(content) = of_call.and_then(|of_call| scan::field(text, of_call, "content")) {
                blocks(text, content, &mut found);
            }
        }
        Method::ResourcesRead => {
            for contents in list(text, result, "contents") {
                if let Some(at) = scan::field(text, contents, "uri") {
                    push(text, at, &mut found);
                }
            }
        }
        _ => {}
    }
    found
}

fn list<'t>(text: &'t [u8], object: Span, name: &str) -> impl Iterator<Item = Span> + use<'t> {
    scan::field(text, object, name)
        .into_iter()
        .flat_map(move |at| scan::elements(text, at).map_while(Result::ok))
}

/// Content: one block, or a list of them.
fn blocks(text: &[u8], content: Span, found: &mut Vec<Link>) {
    if content.first(text) == b'{' {
        block(text, content, found);
    }
    for at in scan::elements(text, content).map_while(Result::ok) {
        block(text, at, found);
    }
}

fn block(text: &[u8], at: Span, found: &mut Vec<Link>) {
    let kind = scan::field(text, at, "type").map(|kind| kind.of(text));
    let holder = match kind {
        Some(b"\"resource_link\"") => Some(at),
        Some(b"\"resource\"") => scan::field(text, at, "resource"),
        _ => None,
    };
    if let Some(uri) = holder.and_then(|holder| scan::field(text, holder, "uri")) {
        let before = found.len();
        push(text, uri, found);
        // A link into the web is followed by the client itself, and must lead there.
        if found.get(before).is_some_and(|(_, uri)| uris::is_web(uri)) {
            found.truncate(before);
        }
    }
}

/// Notes a URI. One that is no text stays as it is.
fn push(text: &[u8], at: Span, found: &mut Vec<Link>) {
    if at.first(text) == b'"'
        && found.len() < MAX_LINKS
        && let Ok(uri) = scan::unescape(at.of(text))
    {
        found.push((at, uri.into_owned()));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("file:///{path}", "file:///a/b", true)]
    #[case("file:///{path}", "file://a", false)]
    #[case("x://{a}/y/{b}", "x://1/y/2", true)]
    #[case("x://{a}/y/{b}", "x://1/z/2", false)]
    #[case("x://a?b*", "x://a?b*", true)]
    #[case("x://a?b*", "x://aXbY", false)]
    #[case("x://{open", "x://{open", true)]
    #[case("x://{a}{?q*}", "x://b?q=1", true)]
    #[case("{+all}", "", true)]
    fn templates_match_what_they_can_become(
        #[case] template: &str,
        #[case] uri: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(pattern(template).matches(uri), expected);
    }

    #[rstest]
    #[case(
        Method::ToolsCall,
        r#"{"content":[{"type":"resource_link","uri":"a:1"},{"type":"text","uri":"no"},{"type":"resource","resource":{"text":"","uri":"b\u003a2"}},{"type":"resource_link","uri":"https://x"}],"structuredContent":{"uri":"no"}}"#,
        &["a:1", "b:2"]
    )]
    #[case(
        Method::PromptsGet,
        r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"c:3"}}},{"content":[{"type":"resource_link","uri":"d:4"}]},{"content":{"type":"text","text":"\"uri\""}}]}"#,
        &["c:3", "d:4"]
    )]
    #[case(Method::ResourcesRead, r#"{"contents":[{"uri":"e:5","text":"uri"},{"uri":7},{"uri":"https://y"}]}"#, &["e:5", "https://y"])]
    #[case(Method::TasksGet, r#"{"result":{"content":[{"type":"resource_link","uri":"g:7"}]},"content":[{"type":"resource_link","uri":"no"}]}"#, &["g:7"])]
    #[case(Method::CompletionComplete, r#"{"completion":{"values":["x"],"uri":"f:6"}}"#, &[])]
    fn uris_are_found_where_the_protocol_has_them(
        #[case] method: Method,
        #[case] result: &str,
        #[case] expected: &[&str],
    ) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let message = Message::from_server(Bytes::from(text), 64).unwrap();
        let found = in_result(&message, method);
        let uris: Vec<&str> = found.iter().map(|(_, uri)| &**uri).collect();
        assert_eq!(uris, expected);
    }

    #[test]
    fn a_tools_own_page_is_found_in_both_spellings() {
        let tool = br#"{"name":"t","_meta":{"ui":{"resourceUri":"ui://a"},"ui/resourceUri":"ui://b","x":{"resourceUri":"ui://c"}}}"#;
        let uris: Vec<String> = in_tool(tool).into_iter().map(|(_, uri)| uri).collect();
        assert_eq!(uris, ["ui://a", "ui://b"]);
    }
}
