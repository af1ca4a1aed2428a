//! One audit record and its JSON.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Version of the record's schema (`docs/audit.md`): raised when a member changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Longest text of a member, in bytes; what is longer is cut and ends in an ellipsis.
const MAX_TEXT: usize = 512;

/// Shadow rules that a record names; there are not many in one place.
const MAX_SHADOWS: usize = 16;

/// Room for a record of ordinary length.
const USUAL: usize = 512;

/// What was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Let through.
    #[default]
    Allow,
    /// Refused: no credential, not permitted, or not a request we answer.
    Deny,
    /// Refused: over a limit.
    Limit,
    /// Permitted, and it failed.
    Error,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Limit => "limit",
            Self::Error => "error",
        }
    }
}

/// Who did what, what was decided, and how it ended. Never a credential, never an argument's value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// `namespace/name` of the gateway.
    pub gateway: &'a str,
    /// Also in the access log and in refusals.
    pub request_id: &'a str,
    /// Method name and subject. None: nobody authenticated.
    pub principal: Option<(&'a str, &'a str)>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The path that was asked for.
    pub endpoint: &'a str,
    /// The MCP method.
    pub mcp_method: Option<&'a str>,
    /// `namespace/name` of the server.
    pub server: Option<&'a str>,
    /// The server's own name of the tool.
    pub tool: Option<&'a str>,
    /// The server's own name of the prompt.
    pub prompt: Option<&'a str>,
    /// The server's own URI of the resource, or of the template.
    pub resource: Option<&'a str>,
    /// What was decided.
    pub decision: Decision,
    /// Why, as a word: the refusal's reason.
    pub reason: Option<&'a str>,
    /// The rule or the limit that decided.
    pub rule: Option<&'a str>,
    /// Shadow rules that match.
    pub shadows: &'a [Arc<str>],
    /// Shadow rules whose condition cannot be told.
    pub shadows_unclear: &'a [Arc<str>],
    /// HTTP status of the answer.
    pub status: u16,
    /// From the request's head to the end of the answer.
    pub duration: Option<Duration>,
    /// The server's share of it.
    pub upstream: Option<Duration>,
}

impl Record<'_> {
    /// Appends the record as one line.
    pub(super) fn write(&self, out: &mut Vec<u8>, time: &[u8]) {
        out.reserve(USUAL);
        out.extend_from_slice(b"{\"log\":\"audit\",\"v\":1,\"time\":\"");
        out.extend_from_slice(time);
        out.push(b'"');
        text(out, b",\"gateway\":\"", self.gateway);
        text(out, b",\"requestId\":\"", self.request_id);
        if let Some(client) = self.client {
            out.extend_from_slice(b",\"client\":\"");
            address(out, client);
            out.push(b'"');
        }
        if let Some((method, subject)) = self.principal {
            text(out, b",\"principal\":{\"method\":\"", method);
            text(out, b",\"subject\":\"", subject);
            out.push(b'}');
        }
        text(out, b",\"endpoint\":\"", self.endpoint);
        optional(out, b",\"method\":\"", self.mcp_method);
        optional(out, b",\"server\":\"", self.server);
        optional(out, b",\"tool\":\"", self.tool);
        optional(out, b",\"prompt\":\"", self.prompt);
        optional(out, b",\"resource\":\"", self.resource);
        text(out, b",\"decision\":\"", self.decision.as_str());
        optional(out, b",\"reason\":\"", self.reason);
        optional(out, b",\"rule\":\"", self.rule);
        list(out, b",\"shadow\":[", self.shadows);
        list(out, b",\"shadowUnclear\":[", self.shadows_unclear);
        out.extend_from_slice(b",\"status\":");
        number(out, u64::from(self.status), 1);
        if let Some(duration) = self.duration {
            out.extend_from_slice(b",\"durationMs\":");
            millis(out, duration);
        }
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b",\"upstreamMs\":");
            millis(out, upstream);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// `IpAddr` prints with padding in mind; most addresses are four small numbers.
fn address(out: &mut Vec<u8>, client: IpAddr) {
    use std::io::Write as _;
    match client {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet), 1);
            }
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect("writing to a Vec does not fail"),
    }
}

fn optional(out: &mut Vec<u8>, opening: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        text(out, opening, value);
    }
}

/// A member whose value is a list of strings. An empty one is left out.
fn list(out: &mut Vec<u8>, opening: &[u8], values: &[Arc<str>]) {
    for (at, value) in values.iter().take(MAX_SHADOWS).enumerate() {
        out.extend_from_slice(if at == 0 { opening } else { b"," });
        text(out, b"\"", value);
    }
    if !values.is_empty() {
        out.push(b']');
    }
}

/// A member whose value is a string (RFC 8259, section 7), cut to [`MAX_TEXT`]. `opening` is all that stands before the
/// string's contents.
fn text(out: &mut Vec<u8>, opening: &[u8], value: &str) {
    out.extend_from_slice(opening);
    let cut = value.floor_char_boundary(MAX_TEXT.min(value.len()));
    let (kept, rest) = value.split_at(cut);
    let mut bytes = kept.as_bytes();
    // Looked at as a whole first, without a branch per byte: nearly no text needs escapes.
    if bytes.iter().fold(false, |any, byte| any | is_special(*byte)) {
        while let Some(at) = bytes.iter().position(|byte| is_special(*byte)) {
            let (plain, special) = bytes.split_at(at);
            out.extend_from_slice(plain);
            if let Some((byte, tail)) = special.split_first() {
                escape(out, *byte);
                bytes = tail;
            }
        }
    }
    out.extend_from_slice(bytes);
    if !rest.is_empty() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let hex = |nibble: u8| {
                if nibble < 10 {
                    b'0' + nibble
                } else {
                    b'a' + nibble - 10
                }
            };
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

/// Decimal digits, at least `width`.
fn number(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        if value == 0 && used >= width {
            break;
        }
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
    }
    let (_, used) = digits.split_at(digits.len() - used);
    out.extend_from_slice(used);
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, value: Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1000, 1);
    out.push(b'.');
    number(out, micros % 1000, 3);
}

/// The time as RFC 3339 in UTC with microseconds. The part down to the second is kept from record to record.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: Vec<u8>,
    /// Length of the part down to the second.
    whole: usize,
}

impl Stamp {
    pub(super) fn at(&mut self, since_epoch: Duration) -> &[u8] {
        let second = since_epoch.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            let time = i64::try_from(second)
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok())
                .unwrap_or_default();
            let time = time.to_string();
            self.text.clear();
            self.text.extend_from_slice(time.trim_end_matches('Z').as_bytes());
            self.whole = self.text.len();
        }
        self.text.truncate(self.whole);
        self.text.push(b'.');
        number(&mut self.text, u64::from(since_epoch.subsec_micros()), 6);
        self.text.push(b'Z');
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(record: &Record<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        record.write(
            &mut out,
            Stamp::default().at(Duration::from_micros(1_700_000_000_000_042)),
        );
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_whole_record_is_as_documented() {
        let record = Record {
            gateway: "default/main",
            request_id: "r1",
            principal: Some(("corp", "alice")),
            client: Some("192.0.2.7".parse().unwrap()),
            endpoint: "/mcp",
            mcp_method: Some("tools/call"),
            server: Some("default/everything"),
            tool: Some("echo"),
            prompt: None,
            resource: None,
            decision: Decision::Limit,
            reason: Some("rate_limited"),
            rule: Some("per-client"),
            shadows: &["a".into(), "b".into()],
            shadows_unclear: &["c".into()],
            status: 429,
            duration: Some(Duration::from_micros(1_234)),
            upstream: Some(Duration::from_millis(1)),
        };
        let expected = serde_json::json!({
            "log": "audit", "v": SCHEMA, "time": "2023-11-14T22:13:20.000042Z", "gateway": "default/main",
            "requestId": "r1", "client": "192.0.2.7", "principal": {"method": "corp", "subject": "alice"},
            "endpoint": "/mcp", "method": "tools/call", "server": "default/everything", "tool": "echo",
            "decision": "limit", "reason": "rate_limited", "rule": "per-client", "shadow": ["a", "b"], "shadowUnclear": ["c"], "status": 429,
            "durationMs": 1.234, "upstreamMs": 1.0,
        });
        assert_eq!(line(&record), expected);
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let value = line(&Record::default());
        for name in [
            "client",
            "principal",
            "method",
            "server",
            "tool",
            "reason",
            "rule",
            "shadow",
            "shadowUnclear",
            "durationMs",
            "upstreamMs",
        ] {
            assert!(value.get(name).is_none(), "{name}");
        }
        assert_eq!(value["decision"], "allow");
    }

    #[test]
    fn the_second_is_taken_anew_when_it_passes() {
        let mut stamp = Stamp::default();
        assert_eq!(
            stamp.at(Duration::from_millis(999)),
            b"1970-01-01T00:00:00.999000Z"
        );
        assert_eq!(
            stamp.at(Duration::from_millis(999)),
            b"1970-01-01T00:00:00.999000Z"
        );
        assert_eq!(
            stamp.at(Duration::from_secs(86_400)),
            b"1970-01-02T00:00:00.000000Z"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_the_way_through_json(tool in ".{0,120}") {
            let record = Record { tool: Some(&tool), ..Record::default() };
            let value = line(&record);
            prop_assert_eq!(value["tool"].as_str(), Some(tool.as_str()));
        }

        #[test]
        fn long_text_is_cut_between_characters(tool in "[aé€😀]{500,700}") {
            let record = Record { tool: Some(&tool), ..Record::default() };
            let value = line(&record);
            let shown = value["tool"].as_str().unwrap();
            prop_assert!(shown.len() <= MAX_TEXT + 3);
            prop_assert!(tool.starts_with(shown.trim_end_matches('…')));
        }

        #[test]
        fn numbers_are_printed_as_they_are(value: u64) {
            let mut out = Vec::new();
            number(&mut out, value, 1);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
