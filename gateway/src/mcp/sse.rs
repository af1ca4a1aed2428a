//! Server-sent events: the framing that streams of messages have.

mod parse;
mod write;

pub use parse::{EventTooLarge, Parser};
pub use write::{KEEP_ALIVE, encode, head, is_one_line};

use bytes::Bytes;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; absent means `message`.
    pub event: Option<Bytes>,
    /// Its data, the lines joined by line feeds. Absent when there was no data field: such an event only carries an id
    /// or a delay, and is none for the application.
    pub data: Option<Bytes>,
    /// Its id.
    pub id: Option<Bytes>,
    /// How long to wait before reconnecting, in milliseconds.
    pub retry: Option<u64>,
}

impl Event {
    /// A message without an id.
    pub fn message(data: Bytes) -> Self {
        Self {
            data: Some(data),
            ..Self::default()
        }
    }

    /// Whether it carries a JSON-RPC message: of type `message`, with data. (A stream's first event may have an id and
    /// empty data, to mark a place to resume from.)
    pub fn is_message(&self) -> bool {
        self.event.as_deref().is_none_or(|kind| kind == b"message")
            && self.data.as_ref().is_some_and(|data| !data.is_empty())
    }
}

#[cfg(test)]
mod tests;
