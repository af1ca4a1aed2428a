//! JSON bodies of our own answers, written straight to bytes around a raw id.

use std::io::Write as _;

use bytes::Bytes;

use super::cause::Cause;
use super::refuse;
use crate::mcp::revision::{Era, Revision};

/// Writes `text` as a JSON string.
pub fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
    {
        let (plain, after) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = after.split_first() else {
            break;
        };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                b'0' + (byte >> 4),
                HEX[usize::from(byte & 15)],
            ]),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

const HEX: [u8; 16] = *b"0123456789abcdef";

/// Writes a number in decimal.
pub(super) fn write_number(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("writing to memory does not fail");
}

/// `{"jsonrpc":"2.0","id":ID` with the id as it came; null for none, as JSON-RPC has it.
fn head(id: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.unwrap_or(b"null"));
}

/// An error up to its message; the caller writes `data` and closes both objects.
pub(super) fn error_head(id: Option<&[u8]>, code: i32, message: &str, out: &mut Vec<u8>) {
    head(id, out);
    out.extend_from_slice(b",\"error\":{\"code\":");
    write_number(code, out);
    out.extend_from_slice(b",\"message\":");
    json_string(message, out);
}

/// The JSON-RPC error for a cause, as a message of its own: for streams and for the items of a batch.
pub fn error(cause: &Cause, id: Option<&[u8]>) -> Bytes {
    refuse::body(cause, id)
}

/// A response with `result`, which is a JSON object.
pub fn result(id: &[u8], result: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(id.len() + result.len() + 40);
    head(Some(id), &mut out);
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(result);
    out.push(b'}');
    out.into()
}

/// A response without content: to `ping`, to `logging/setLevel`.
pub fn empty_result(id: &[u8], era: Era) -> Bytes {
    match era {
        Era::Session => result(id, b"{}"),
        Era::Stateless => result(id, br#"{"resultType":"complete"}"#),
    }
}

/// The answer to `initialize`. `capabilities` and `server_info` are JSON objects.
pub fn initialize_result(
    id: &[u8],
    revision: Revision,
    capabilities: &[u8],
    server_info: &[u8],
    instructions: Option<&str>,
) -> Bytes {
    let mut out = Vec::with_capacity(256);
    head(Some(id), &mut out);
    out.extend_from_slice(b",\"result\":{\"protocolVersion\":\"");
    out.extend_from_slice(revision.as_str().as_bytes());
    out.extend_from_slice(b"\",\"capabilities\":");
    out.extend_from_slice(capabilities);
    out.extend_from_slice(b",\"serverInfo\":");
    out.extend_from_slice(server_info);
    write_instructions(instructions, &mut out);
    out.extend_from_slice(b"}}");
    out.into()
}

/// The answer to `server/discover`. Private, since what it offers may depend on the caller.
pub fn discover_result(
    id: &[u8],
    capabilities: &[u8],
    server_info: &[u8],
    instructions: Option<&str>,
    ttl_ms: u64,
) -> Bytes {
    let mut out = Vec::with_capacity(384);
    head(Some(id), &mut out);
    out.extend_from_slice(b",\"result\":{\"resultType\":\"complete\",\"supportedVersions\":[");
    for (at, revision) in Revision::SERVED.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json_string(revision.as_str(), &mut out);
    }
    out.extend_from_slice(b"],\"capabilities\":");
    out.extend_from_slice(capabilities);
    write_instructions(instructions, &mut out);
    write_cache(ttl_ms, &mut out);
    write_server_info(server_info, &mut out);
    out.extend_from_slice(b"}}");
    out.into()
}

fn write_instructions(instructions: Option<&str>, out: &mut Vec<u8>) {
    if let Some(text) = instructions {
        out.extend_from_slice(b",\"instructions\":");
        json_string(text, out);
    }
}

fn write_cache(ttl_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"ttlMs\":");
    write_number(ttl_ms, out);
    out.extend_from_slice(b",\"cacheScope\":\"private\"");
}

fn write_server_info(server_info: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":");
    out.extend_from_slice(server_info);
    out.push(b'}');
}

/// A page of a list, put together item by item.
pub struct Page {
    out: Vec<u8>,
    items: usize,
}

impl Page {
    /// Begins the answer to a list request; `list` is the member's name, such as `tools`.
    pub fn new(id: &[u8], list: &'static str) -> Self {
        let mut out = Vec::with_capacity(1024);
        head(Some(id), &mut out);
        out.extend_from_slice(b",\"result\":{\"");
        out.extend_from_slice(list.as_bytes());
        out.extend_from_slice(b"\":[");
        Self { out, items: 0 }
    }

    /// How many items it has.
    pub const fn len(&self) -> usize {
        self.items
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// How long it has become.
    pub const fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Adds an item that is written in parts: what stands before the changed piece, the piece, what stands after.
    pub fn push(&mut self, parts: &[&[u8]]) {
        if self.items > 0 {
            self.out.push(b',');
        }
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.items += 1;
    }

    /// Ends it. The stateless era adds its members: private, because lists are filtered by caller.
    pub fn finish(mut self, era: Era, next_cursor: Option<&str>, ttl_ms: u64, server_info: &[u8]) -> Bytes {
        self.out.push(b']');
        if let Some(cursor) = next_cursor {
            self.out.extend_from_slice(b",\"nextCursor\":");
            json_string(cursor, &mut self.out);
        }
        if era == Era::Stateless {
            self.out.extend_from_slice(b",\"resultType\":\"complete\"");
            write_cache(ttl_ms, &mut self.out);
            write_server_info(server_info, &mut self.out);
        }
        self.out.extend_from_slice(b"}}");
        self.out.into()
    }
}
