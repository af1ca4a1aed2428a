//! Reading events from chunks that end anywhere (WHATWG HTML, section 9.2.6).

use bytes::{Buf as _, Bytes, BytesMut};

use super::Event;

/// An event is longer than allowed. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than allowed")]
pub struct EventTooLarge;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What a line may hold beside a value that is kept: the mark, the longest name, a colon and a space.
const MARKUP: usize = BOM.len() + "event: ".len();

/// Splits a stream into events. Data that arrive in one chunk and on one line are slices of that chunk.
#[derive(Debug)]
pub struct Parser {
    max_event: usize,
    /// What has arrived and is not read yet.
    chunk: Bytes,
    /// The beginning of a line whose end has not arrived.
    partial: BytesMut,
    /// The last line ended in CR: an LF right after it belongs to it.
    after_cr: bool,
    /// Nothing has been read: a byte order mark may follow.
    at_start: bool,
    event: Pending,
}

/// The event being put together.
#[derive(Debug, Default)]
struct Pending {
    fields: Event,
    /// Second and further data lines.
    more: Option<BytesMut>,
    /// Bytes kept so far.
    size: usize,
}

impl Parser {
    /// A parser that refuses events over `max_event` bytes.
    pub fn new(max_event: usize) -> Self {
        Self {
            max_event,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            after_cr: false,
            at_start: true,
            event: Pending::default(),
        }
    }

    /// Gives it the next chunk. Read all events with [`Self::next_event`] before giving another.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut both = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            both.extend_from_slice(&self.chunk);
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
    }

    /// The next event that is complete; `None` when more bytes are needed. An event that the stream's end cuts off is
    /// none.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                let event = std::mem::take(&mut self.event).finish();
                if event != Event::default() {
                    return Ok(Some(event));
                }
            } else {
                self.event.field(line);
                if self.event.size > self.max_event {
                    return Err(EventTooLarge);
                }
            }
        }
        Ok(None)
    }

    /// How many bytes are kept of the event that has not ended yet.
    pub fn held(&self) -> usize {
        self.partial.len() + self.event.size
    }

    /// Whether part of an event has arrived: a stream that ends now has lost it.
    pub fn is_amid(&self) -> bool {
        !self.partial.is_empty() || self.event.size > 0
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        if self.after_cr && !self.chunk.is_empty() {
            self.after_cr = false;
            if self.chunk.first() == Some(&b'\n') {
                self.chunk.advance(1);
            }
        }
        let Some(end) = line_end(&self.chunk) else {
            let rest = std::mem::take(&mut self.chunk);
            self.fits(rest.len())?;
            self.partial.extend_from_slice(&rest);
            return Ok(None);
        };
        // Also of a line that has come at once: what is refused must not depend on where the stream was cut.
        self.fits(end)?;
        let mut line = self.chunk.split_to(end);
        self.after_cr = self.chunk.first() == Some(&b'\r');
        self.chunk.advance(1);
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&line);
            line = self.partial.split().freeze();
        }
        if self.at_start {
            self.at_start = false;
            if line.starts_with(BOM) {
                line.advance(BOM.len());
            }
        }
        Ok(Some(line))
    }

    /// Whether the line that has begun may go on by `more` bytes, whatever it will turn out to be.
    fn fits(&self, more: usize) -> Result<(), EventTooLarge> {
        if self.partial.len() + more + self.event.size > self.max_event.saturating_add(MARKUP) {
            return Err(EventTooLarge);
        }
        Ok(())
    }
}

impl Pending {
    fn field(&mut self, line: Bytes) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            // A comment: kept alive, nothing said.
            Some(0) => return,
            Some(colon) => {
                let mut value = line.slice(colon + 1..);
                if value.first() == Some(&b' ') {
                    value.advance(1);
                }
                (line.slice(..colon), value)
            }
            None => (line, Bytes::new()),
        };
        match &*name {
            b"data" => {
                self.size += value.len() + 1;
                self.data(value);
            }
            b"event" => {
                self.size += value.len();
                self.fields.event = Some(value);
            }
            b"id" if !value.contains(&0) => {
                self.size += value.len();
                self.fields.id = Some(value);
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.fields.retry = std::str::from_utf8(&value)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
    }

    fn data(&mut self, value: Bytes) {
        match (&mut self.more, &self.fields.data) {
            (Some(lines), _) => {
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&value);
            }
            (None, Some(first)) => {
                let mut lines = BytesMut::with_capacity(first.len() + value.len() + 1);
                lines.extend_from_slice(first);
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&value);
                self.more = Some(lines);
            }
            (None, None) => self.fields.data = Some(value),
        }
    }

    fn finish(mut self) -> Event {
        if let Some(lines) = self.more {
            self.fields.data = Some(lines.freeze());
        }
        // An empty type is the ordinary one.
        self.fields.event = self.fields.event.filter(|kind| !kind.is_empty());
        self.fields
    }
}

/// Where the first line ends: at a CR or an LF. Eight bytes are looked at together.
fn line_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let marks = zeros(word ^ eight(b'\n')) | zeros(word ^ eight(b'\r'));
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    rest.iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))
        .map(|found| at + found)
}

/// Eight copies of one byte.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of the lowest zero byte is the lowest bit set.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(eight(1)) & !word & eight(0x80)
}
