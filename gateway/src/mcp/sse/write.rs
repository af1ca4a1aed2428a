//! Writing events.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Event;

/// A comment that keeps a quiet stream open.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// The bytes of an event. Data of several lines become several data fields.
pub fn encode(event: &Event) -> Bytes {
    let data = event.data.as_deref();
    let length = data.map_or(0, <[u8]>::len) + event.id.as_ref().map_or(0, Bytes::len);
    let mut out = BytesMut::with_capacity(length + 64);
    write_fields(event, &mut out);
    if let Some(data) = data {
        for line in lines(data) {
            out.put_slice(b"data: ");
            out.put_slice(line);
            out.put_u8(b'\n');
        }
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// An event's bytes up to its data, for data that are sent as they are ([`is_one_line`]) and followed by two line
/// feeds: nothing long is copied.
pub fn head(event: &Event) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    write_fields(event, &mut out);
    out.put_slice(b"data: ");
    out.freeze()
}

/// Whether data need not be split into lines.
pub fn is_one_line(data: &[u8]) -> bool {
    !data.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

fn write_fields(event: &Event, out: &mut BytesMut) {
    // An event without data has no type to announce.
    if event.data.is_some() {
        field("event", event.event.as_deref().unwrap_or(b"message"), out);
    }
    if let Some(id) = event.id.as_deref().filter(|id| !id.contains(&0)) {
        field("id", id, out);
    }
    if let Some(retry) = event.retry {
        out.put_slice(format!("retry: {retry}\n").as_bytes());
    }
}

/// A field of one line. A line break in its value would begin another field: such a field is left out.
fn field(name: &str, value: &[u8], out: &mut BytesMut) {
    if is_one_line(value) {
        out.put_slice(name.as_bytes());
        out.put_slice(b": ");
        out.put_slice(value);
        out.put_u8(b'\n');
    }
}

/// Splits at CR, LF and CRLF. JSON has these between its tokens only, where one is as good as another.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at_checked(end)?;
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..));
        Some(line)
    })
}
