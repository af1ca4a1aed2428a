//! Requests about whose end two HTTP implementations could disagree (RFC 9112, section 11.2) are refused.
//!
//! hyper resolves such a request as the RFC allows: `Transfer-Encoding` wins, `Content-Length` is dropped, equal
//! lengths are folded, and the connection ends afterwards. By then nobody can see that it was ambiguous, so the bytes
//! are looked at as they come in. `Scan` follows lines only: it never needs to know where a body ends, because a
//! request's header lines always lie between two empty lines without one in between, and JSON bodies have no line that
//! begins with these names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Version};

/// Longest prefix of a line that has to be seen to know it: `transfer-encoding:`.
const PREFIX: usize = 18;

/// Set once an ambiguous request has come in; from then on no request of the connection is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ambiguity(Arc<AtomicBool>);

impl Ambiguity {
    pub(crate) fn found(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks at an HTTP/1 connection's incoming bytes.
#[derive(Debug)]
pub(crate) struct Scan {
    ambiguity: Ambiguity,
    /// Beginning of the line that the last bytes ended in.
    line: [u8; PREFIX],
    /// How much of `line` is filled; more than `PREFIX` once the line cannot matter.
    seen: usize,
    lengths: u8,
    encodings: u8,
}

impl Scan {
    pub(crate) fn new(ambiguity: Ambiguity) -> Self {
        Self {
            ambiguity,
            line: [0; PREFIX],
            seen: 0,
            lengths: 0,
            encodings: 0,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.seen != 0 {
            // The line began in an earlier read: finish it byte by byte, as far as it matters.
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (head, tail) = match end {
                Some(end) => rest.split_at(end + 1),
                None => (rest, &[][..]),
            };
            for byte in head {
                self.push(*byte);
            }
            if end.is_none() {
                return;
            }
            let line = self.line;
            self.line_begins(line.get(..self.seen.min(PREFIX)).unwrap_or(&line));
            self.seen = 0;
            rest = tail;
        }
        while !rest.is_empty() {
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, tail) = rest.split_at(length);
            rest = tail;
            let prefix = line.get(..PREFIX).unwrap_or(line);
            if line.last() == Some(&b'\n') {
                self.line_begins(prefix);
            } else {
                for byte in prefix {
                    self.push(*byte);
                }
                self.seen = line.len();
            }
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.line.get_mut(self.seen) {
            *slot = byte;
        }
        self.seen += 1;
    }

    /// A whole line has come, of which this is the beginning.
    fn line_begins(&mut self, line: &[u8]) {
        match line.first().map(|byte| byte | 0x20) {
            // An empty line ends a head (0x2a and 0x2d are LF and CR with the case bit set).
            Some(0x2a | 0x2d) if matches!(line, b"\n" | b"\r\n") => {
                self.lengths = 0;
                self.encodings = 0;
            }
            Some(b'c') if begins_with(line, b"content-length") => {
                self.lengths = self.lengths.saturating_add(1);
                self.judge();
            }
            Some(b't') if begins_with(line, b"transfer-encoding") => {
                self.encodings = self.encodings.saturating_add(1);
                self.judge();
            }
            _ => {}
        }
    }

    fn judge(&self) {
        if self.lengths > 1 || self.encodings > 1 || (self.lengths == 1 && self.encodings == 1) {
            self.ambiguity.0.store(true, Ordering::Relaxed);
        }
    }
}

fn begins_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Is a parsed HTTP/1 head one that is answered at all? Its framing must be plain `chunked` or a length, and it names
/// at most one host (RFC 9112, section 3.2).
pub(crate) fn is_plain(version: Version, headers: &HeaderMap) -> bool {
    if version > Version::HTTP_11 {
        return true;
    }
    let mut hosts = headers.get_all(HOST).iter();
    let one_host = match (hosts.next(), hosts.next()) {
        (Some(_), None) => true,
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    };
    one_host
        && headers
            .get(TRANSFER_ENCODING)
            .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn found(pieces: &[&[u8]]) -> bool {
        let ambiguity = Ambiguity::default();
        let mut scan = Scan::new(ambiguity.clone());
        for piece in pieces {
            scan.feed(piece);
        }
        ambiguity.found()
    }

    const PLAIN: &[u8] =
        b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    const CHUNKED: &[u8] =
        b"POST /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";

    #[rstest]
    #[case::both(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n")]
    #[case::both_reversed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n")]
    #[case::any_case(b"POST / HTTP/1.1\r\ncOnTeNt-LeNgTh: 2\r\ntRANSFER-eNCODING: chunked\r\n\r\n")]
    #[case::bare_newlines(b"POST / HTTP/1.1\nContent-Length: 2\nTransfer-Encoding: chunked\n\n")]
    #[case::equal_lengths(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n")]
    #[case::far_apart(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nA: b\r\nC: d\r\nContent-Length: 2\r\n\r\n")]
    #[case::two_codings(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    )]
    #[case::space_before_colon(
        b"POST / HTTP/1.1\r\nContent-Length : 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    )]
    fn ambiguous_heads_are_found_however_they_are_cut(#[case] head: &[u8]) {
        assert!(found(&[head]));
        for cut in 0..head.len() {
            let (one, two) = head.split_at(cut);
            assert!(found(&[one, two]), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = head.chunks(1).collect();
        assert!(found(&bytes));
        // Behind other requests of the same connection, their bodies without a line end.
        let behind = [PLAIN, PLAIN, CHUNKED, PLAIN, head].concat();
        assert!(found(&[&behind]));
    }

    #[test]
    fn ordinary_traffic_is_not_suspected() {
        assert!(!found(&[PLAIN, PLAIN, CHUNKED, PLAIN, CHUNKED, CHUNKED, PLAIN]));
        let all = [PLAIN, CHUNKED, PLAIN, CHUNKED].concat();
        assert!(!found(&[&all]));
        for cut in 0..all.len() {
            let (one, two) = all.split_at(cut);
            assert!(!found(&[one, two]), "cut at {cut}");
        }
    }

    #[test]
    fn a_pretty_printed_body_is_not_suspected() {
        let body = b"{\n  \"content-length\": 1,\n  \"transfer-encoding\": \"chunked\",\n  \"content-length\": 2\n}\n";
        assert!(!found(&[PLAIN, body, PLAIN, body, CHUNKED]));
    }

    proptest! {
        #[test]
        fn cutting_never_changes_the_verdict(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("Content-Length: 1"), Just("content-length: 1"), Just("Transfer-Encoding: chunked"),
                    Just(""), Just("X: y"), Just("Content-Lengthy: 1"), Just("T"), Just("C"),
                ],
                0..12,
            ),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let text: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.sort_unstable();
            cuts.insert(0, 0);
            cuts.push(text.len());
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(found(&pieces), found(&[&text]));
        }
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        map
    }

    #[rstest]
    #[case(Version::HTTP_11, &[("host", "a")], true)]
    #[case(Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "chunked")], true)]
    #[case(Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "CHUNKED")], true)]
    #[case(Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "gzip, chunked")], false)]
    #[case(Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "chunked, chunked")], false)]
    #[case(Version::HTTP_11, &[("host", "a"), ("host", "b")], false)]
    #[case(Version::HTTP_11, &[("host", "a"), ("host", "a")], false)]
    #[case(Version::HTTP_11, &[], false)]
    #[case(Version::HTTP_10, &[], true)]
    #[case(Version::HTTP_10, &[("host", "a"), ("host", "b")], false)]
    #[case(Version::HTTP_2, &[], true)]
    fn only_plain_heads_are_answered(
        #[case] version: Version,
        #[case] list: &[(&'static str, &'static str)],
        #[case] plain: bool,
    ) {
        assert_eq!(is_plain(version, &headers(list)), plain);
    }
}
