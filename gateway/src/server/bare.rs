//! Answers that hyper writes by itself, to a head that it cannot read: a status line and no more. They get the headers
//! that every other answer of the port has, on their way to the socket.

use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderMap;

/// Puts the headers on an answer that every answer of a port has.
pub(crate) trait Dress: Send + Sync {
    /// Adds them; nothing where a port has none.
    fn dress(&self, headers: &mut HeaderMap);
}

/// Looks for bare answers among what is written to an HTTP/1 connection.
pub(crate) struct Bare {
    dress: Arc<dyn Dress>,
}

/// Longer than any answer of hyper's own, and shorter than any that has been dressed.
const LONGEST: usize = 200;
/// What such an answer begins with.
const BEGIN: &[u8] = b"HTTP/1.1 4";
/// What it ends with.
const END: &[u8] = b"\r\n\r\n";

impl Bare {
    pub(crate) fn new(dress: Arc<dyn Dress>) -> Self {
        Self { dress }
    }

    /// What is to be written instead of `bytes`, where those are a bare answer.
    pub(crate) fn dressed(&self, bytes: &[u8]) -> Option<BytesMut> {
        if bytes.len() > LONGEST || !bytes.starts_with(BEGIN) {
            return None;
        }
        let head = bytes.strip_suffix(END)?;
        let mut headers = HeaderMap::new();
        self.dress.dress(&mut headers);
        let mut out = BytesMut::with_capacity(1024);
        out.extend_from_slice(head);
        for (name, value) in &headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(END);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    struct One;

    impl Dress for One {
        fn dress(&self, headers: &mut HeaderMap) {
            headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
        }
    }

    fn dressed(text: &str) -> Option<String> {
        let out = Bare::new(Arc::new(One)).dressed(text.as_bytes())?;
        Some(String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_bare_refusal_is_dressed() {
        assert_eq!(
            dressed("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap(),
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-frame-options: DENY\r\n\r\n"
        );
    }

    #[test]
    fn nothing_else_is_touched() {
        let long = format!("HTTP/1.1 400 Bad Request\r\na: {}\r\n\r\n", "b".repeat(LONGEST));
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "{}",
            "",
            &long,
        ] {
            assert_eq!(dressed(text), None, "{text}");
        }
    }
}
