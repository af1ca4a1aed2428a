//! Texts in headers: what is written is read again, what is read was written in one way only, and the headers that
//! repeat a call's arguments hold against these arguments and no others.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use portcullis_gateway::mcp::envelope::Message;
use portcullis_gateway::mcp::headers::{self, McpHeaders, decode, encode};
use portcullis_gateway::mcp::params;
use portcullis_gateway::mcp::reply::json_string;
use portcullis_gateway::mcp::scan::{Members, Strictness, scan_message};

/// Divides the bytes: it stands in no UTF-8.
const DIVIDER: u8 = 0xFF;

/// Without a divider a header's value, with one a tool's schema and a call's arguments.
pub fn check(data: &[u8]) {
    match data.iter().position(|byte| *byte == DIVIDER) {
        None => value(data),
        Some(at) => repeated(&data[..at], &data[at + 1..]),
    }
}

fn value(data: &[u8]) {
    read(data);
    if let Ok(text) = std::str::from_utf8(data) {
        written(text);
        named(text);
    }
    if let Ok(value) = HeaderValue::from_bytes(data) {
        negotiated(&value);
    }
}

/// A value off the wire.
fn read(data: &[u8]) {
    let Ok(text) = decode(data) else { return };
    assert!(data.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
    let marked = data
        .strip_prefix(b"=?base64?")
        .and_then(|rest| rest.strip_suffix(b"?="));
    match marked {
        None => assert_eq!(text.as_bytes(), data),
        // A text has one spelling in base64, or rules could be matched by one and missed by another.
        Some(coded) => {
            use base64::Engine as _;
            assert_eq!(base64::prelude::BASE64_STANDARD.encode(&*text).as_bytes(), coded);
        }
    }
    written(&text);
}

/// A text for the wire.
fn written(text: &str) {
    let value = encode(text);
    let bytes = value.as_bytes();
    assert!(bytes.iter().all(|byte| matches!(byte, b' '..=b'~')), "{value:?}");
    // What stands at the ends is cut off on the way.
    assert_eq!(bytes.trim_ascii(), bytes);
    assert_eq!(decode(bytes).expect("what was written is read"), text);
}

/// `Mcp-Name` against the name in a body.
fn named(text: &str) {
    let mut body = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":".to_vec();
    json_string(text, &mut body);
    body.extend_from_slice(b",\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}}}");
    let message = Message::from_client(Bytes::from(body), 16).expect("a call");
    let mut headers = HeaderMap::new();
    headers.insert(&headers::PROTOCOL_VERSION, HeaderValue::from_static("2026-07-28"));
    headers.insert(&headers::METHOD, HeaderValue::from_static("tools/call"));
    let agree =
        |headers: &HeaderMap| McpHeaders::read(headers).and_then(|read| headers::agree(&read, &message));
    assert!(agree(&headers).is_err(), "the name is missing");
    headers.insert(&headers::NAME, encode(text));
    assert!(agree(&headers).is_ok(), "{text:?}");
    headers.append(&headers::NAME, encode(text));
    assert!(agree(&headers).is_err(), "the name stands twice");
    headers.insert(&headers::NAME, encode(&format!("{text}x")));
    assert!(agree(&headers).is_err(), "another name");
}

/// `Accept` and `Content-Type`, which differ neither by case nor by space around their parts.
fn negotiated(value: &HeaderValue) {
    let taken = |value: &[u8]| {
        let value = HeaderValue::from_bytes(value).expect("made of a value");
        let accept = HeaderMap::from_iter([(ACCEPT, value.clone())]);
        let content = HeaderMap::from_iter([(CONTENT_TYPE, value.clone())]);
        let both = headers::accepts_json_and_event_stream(&accept);
        let stream = headers::accepts_event_stream(&accept);
        assert!(stream || !both);
        assert_eq!(headers::check_accept_post(&accept).is_ok(), both);
        assert_eq!(headers::check_accept_get(&accept).is_ok(), stream);
        let json = headers::is_json(value.as_bytes());
        assert_eq!(headers::check_content(&content).is_ok(), json);
        (both, stream, json)
    };
    let bytes = value.as_bytes();
    let plain = taken(bytes);
    assert_eq!(taken(&bytes.to_ascii_uppercase()), plain);
    let spaced: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| match byte {
            b',' | b';' => vec![b' ', *byte, b' '],
            other => vec![*other],
        })
        .collect();
    assert_eq!(taken(&spaced), plain);
}

/// Headers that repeat arguments.
fn repeated(schema: &[u8], arguments: &[u8]) {
    let Ok(annotations) = params::annotations(schema) else {
        return;
    };
    let mut members = Members::none();
    if scan_message(arguments, Strictness::Request, 16, &mut members).is_err() {
        return;
    }
    let arguments = arguments.trim_ascii();
    let made = params::headers_for(&annotations, Some(arguments));
    assert!(made.len() <= annotations.len());
    let map: HeaderMap = made.iter().cloned().collect();
    assert_eq!(map.len(), made.len(), "a header for each argument");
    let holds = |map: &HeaderMap| params::check(&annotations, map, Some(arguments)).is_ok();
    assert!(holds(&map), "{map:?}");
    assert!(params::check(&annotations, &HeaderMap::new(), None).is_ok());
    for (name, value) in &made {
        let mut other = map.clone();
        other.remove(name);
        assert!(!holds(&other), "{name} is missing");
        let mut other = map.clone();
        other.append(name, value.clone());
        assert!(!holds(&other), "{name} stands twice");
        let mut other = map.clone();
        let text = decode(value.as_bytes()).expect("written here");
        other.insert(name, encode(&format!("{text}x")));
        assert!(!holds(&other), "{name} differs");
    }
}
