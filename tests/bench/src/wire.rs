//! As much HTTP/1.1 as a load generator and its server need: where a message ends, and the few headers they look at.

use std::io::BufRead as _;

/// One message at the start of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where the body begins.
    pub(crate) head: usize,
    /// Where the message ends.
    pub(crate) end: usize,
    /// `Authorization` is there.
    pub(crate) authorized: bool,
    /// `Mcp-Session-Id` is there.
    pub(crate) session: bool,
}

/// Finds the first message of `buffer`. `None`: it is not complete yet.
pub(crate) fn frame(buffer: &[u8]) -> anyhow::Result<Option<Frame>> {
    let mut found = Frame::default();
    let mut length = 0;
    let mut rest = buffer;
    loop {
        let line_and_more = rest;
        // The standard library's fast search for a byte.
        let size = rest.skip_until(b'\n').unwrap_or(0);
        let line = line_and_more.get(..size).unwrap_or_default();
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        found.head += size;
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'\r' | b'\n') => break,
            Some(b'c') => {
                if let Some(value) = value(line, b"content-length:") {
                    length = value.parse()?;
                }
            }
            Some(b't') if value(line, b"transfer-encoding:").is_some() => {
                anyhow::bail!("a body in chunks, where every body has a known length");
            }
            Some(b'a') => found.authorized |= value(line, b"authorization:").is_some(),
            Some(b'm') => found.session |= value(line, b"mcp-session-id:").is_some(),
            _ => {}
        }
    }
    found.end = found.head + length;
    Ok((buffer.len() >= found.end).then_some(found))
}

/// The value of the first header called `name` (lower case, with its colon).
pub(crate) fn header<'m>(head: &'m [u8], name: &[u8]) -> Option<&'m str> {
    head.split(|byte| *byte == b'\n')
        .find_map(|line| value(line, name))
}

/// The status of an answer's first line.
pub(crate) fn status(message: &[u8]) -> Option<u16> {
    std::str::from_utf8(message.get(9..12)?).ok()?.parse().ok()
}

fn value<'m>(line: &'m [u8], name: &[u8]) -> Option<&'m str> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(())?;
    Some(std::str::from_utf8(value).ok()?.trim())
}

/// Where `part` first stands in `text`.
pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"POST / HTTP/1.1\r\nAuthorization: x\r\nCONTENT-length: 3\r\nMcp-Session-Id: s\r\n\r\nabc";

    #[test]
    fn a_message_is_found_once_it_is_whole_and_not_before() {
        for cut in 0..MESSAGE.len() {
            assert_eq!(frame(&MESSAGE[..cut]).unwrap(), None, "cut at {cut}");
        }
        let found = frame(&[MESSAGE, b"GET"].concat()).unwrap().unwrap();
        assert_eq!(&MESSAGE[found.head..found.end], b"abc");
        assert!(found.authorized && found.session);
        assert_eq!(header(MESSAGE, b"mcp-session-id:"), Some("s"));
        assert_eq!(header(MESSAGE, b"host:"), None);
    }

    #[test]
    fn chunks_are_refused() {
        assert!(frame(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn the_status_is_read() {
        assert_eq!(status(b"HTTP/1.1 429 Too Many Requests\r\n"), Some(429));
        assert_eq!(status(b"HTTP"), None);
    }
}
