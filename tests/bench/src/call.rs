//! The messages: rendered once, with numbers of fixed width that are written over for each call.

use crate::wire;

/// Digits of a number in a template.
const WIDTH: usize = 10;
/// The least number: all have the same width then, without leading zeros.
const FIRST: u64 = 1_000_000_000;
/// Stands for the number while a template is made.
const PLACE: &str = "##########";

/// The name by which the gateway is called.
pub(crate) const HOST: &str = "mcp.example.com";
/// The tool that is called.
pub(crate) const TOOL: &str = "echo";

/// The protocol's two ways of working, measured separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// `initialize`, then a session id on every request (2025-11-25).
    Session,
    /// Everything in each request (2026-07-28).
    Stateless,
}

impl Era {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Session, Self::Stateless];

    /// In reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Stateless => "stateless",
        }
    }

    /// The server behind the gateway that speaks it.
    pub(crate) const fn server(self) -> &'static str {
        match self {
            Self::Session => "legacy",
            Self::Stateless => "modern",
        }
    }

    /// The endpoint of that server.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Session => "/servers/legacy/mcp",
            Self::Stateless => "/servers/modern/mcp",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Session => "2025-11-25",
            Self::Stateless => "2026-07-28",
        }
    }
}

/// A text with places for one number.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    fn new(text: &str) -> Self {
        let places = text.match_indices(PLACE).map(|(at, _)| at).collect();
        Self {
            bytes: text.as_bytes().to_vec(),
            places,
        }
    }

    /// The text with this number.
    pub(crate) fn with(&mut self, number: u64) -> &[u8] {
        let mut digits = [b'0'; WIDTH];
        let mut rest = FIRST + number % FIRST;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        for at in &self.places {
            if let Some(place) = self.bytes.get_mut(*at..at + WIDTH) {
                place.copy_from_slice(&digits);
            }
        }
        &self.bytes
    }
}

/// What a client sends besides the message.
pub(crate) struct Sender<'a> {
    /// Which rules it keeps.
    pub(crate) era: Era,
    /// Its token.
    pub(crate) token: &'a str,
    /// Its session, in the session era.
    pub(crate) session: Option<&'a str>,
}

impl Sender<'_> {
    /// A `tools/call` and the body of its answer, for any number.
    pub(crate) fn tools_call(&self) -> (Template, Template) {
        let meta = match self.era {
            Era::Session => String::new(),
            Era::Stateless => format!(
                r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{}","io.modelcontextprotocol/clientInfo":{{"name":"bench","version":"1.0.0"}},"io.modelcontextprotocol/clientCapabilities":{{"elicitation":{{}}}}}}"#,
                self.era.version()
            ),
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{PLACE},"method":"tools/call","params":{{"name":"{TOOL}","arguments":{{"text":"{}","limit":10}}{meta}}}}}"#,
            text(PLACE)
        );
        let head = match self.era {
            Era::Session => String::new(),
            Era::Stateless => format!("Mcp-Method: tools/call\r\nMcp-Name: {TOOL}\r\n"),
        };
        (
            Template::new(&self.post(&head, &body)),
            Template::new(&answer(self.era, PLACE, &text(PLACE))),
        )
    }

    /// Opens a session.
    pub(crate) fn initialize(&self) -> String {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{}","capabilities":{{"elicitation":{{}}}},"clientInfo":{{"name":"bench","version":"1.0.0"}}}}}}"#,
            self.era.version()
        );
        self.post("", &body)
    }

    /// Follows `initialize`.
    pub(crate) fn initialized(&self) -> String {
        self.post("", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
    }

    /// Listens to what belongs to no call.
    pub(crate) fn listen(&self) -> String {
        self.bare("GET", "Accept: text/event-stream\r\n")
    }

    /// Ends the session.
    pub(crate) fn end(&self) -> String {
        self.bare("DELETE", "")
    }

    fn bare(&self, method: &str, extra: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\
             MCP-Protocol-Version: {version}\r\nMcp-Session-Id: {session}\r\n{extra}\r\n",
            path = self.era.path(),
            token = self.token,
            version = self.era.version(),
            session = self.session.unwrap_or_default(),
        )
    }

    /// The headers are those of the Python SDK's client, which sends the most.
    fn post(&self, extra: &str, body: &str) -> String {
        let session = self
            .session
            .map(|id| format!("Mcp-Session-Id: {id}\r\n"))
            .unwrap_or_default();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json, text/event-stream\r\n\
             Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n\
             MCP-Protocol-Version: {version}\r\n{session}{extra}Content-Length: {length}\r\n\r\n{body}",
            path = self.era.path(),
            token = self.token,
            version = self.era.version(),
            length = body.len(),
        )
    }
}

/// What the tool is asked to repeat.
fn text(number: &str) -> String {
    format!("{number} the quick brown fox jumps over the lazy dog, caf\\u00e9 included")
}

/// The server's answer to a call.
pub(crate) fn answer(era: Era, id: &str, text: &str) -> String {
    let kind = match era {
        Era::Session => "",
        Era::Stateless => r#""resultType":"complete","#,
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{{kind}"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    )
}

/// The raw JSON after `key` in a message of ours, up to the first byte that ends it.
pub(crate) fn member<'m>(message: &'m [u8], key: &[u8], end: fn(&u8) -> bool) -> Option<&'m str> {
    let (_, value) = message.split_at_checked(wire::find(message, key)? + key.len())?;
    let length = value.iter().position(end)?;
    std::str::from_utf8(value.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_gets_the_number() {
        let sender = Sender {
            era: Era::Stateless,
            token: "t",
            session: None,
        };
        let (mut request, mut expected) = sender.tools_call();
        let request = request.with(42).to_vec();
        let frame = wire::frame(&request).unwrap().unwrap();
        assert_eq!(frame.end, request.len());
        let body: serde_json::Value = serde_json::from_slice(&request[frame.head..]).unwrap();
        assert_eq!(body["id"], 1_000_000_042);
        let said = body["params"]["arguments"]["text"].as_str().unwrap();
        assert!(said.starts_with("1000000042 "));
        let answer: serde_json::Value = serde_json::from_slice(expected.with(42)).unwrap();
        assert_eq!(answer["id"], 1_000_000_042);
        assert_eq!(answer["result"]["content"][0]["text"], said);
    }

    #[test]
    fn members_are_cut_out_raw() {
        let message = br#"{"id":"a","text":"x\u00e9"}"#;
        assert_eq!(member(message, b"\"id\":", |byte| *byte == b','), Some("\"a\""));
        assert_eq!(
            member(message, b"\"text\":\"", |byte| *byte == b'"'),
            Some("x\\u00e9")
        );
    }
}
