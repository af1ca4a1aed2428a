//! The events of a stream, counted against the memory there is for them.

use std::sync::Arc;

use bytes::Bytes;

use super::Failure;
use crate::budget::{Budget, Charge};
use crate::mcp::sse::{Event, Parser};

/// A stream's events as they come.
pub(super) struct Events {
    parser: Parser,
    /// What has come of the next one.
    charge: Charge,
}

impl Events {
    /// Of a stream whose events have at most so many bytes.
    pub(super) fn new(max_event: usize) -> Self {
        Self {
            parser: Parser::new(max_event),
            charge: Charge::default(),
        }
    }

    /// The next chunk.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.parser.push(chunk);
    }

    /// The next event that is complete, if there is one.
    pub(super) fn next(&mut self, budget: &Arc<Budget>) -> Result<Option<Event>, Failure> {
        let Some(mut event) = self.parser.next_event().map_err(|_| Failure::TooLarge)? else {
            self.charge.grow(budget, self.parser.held())?;
            return Ok(None);
        };
        let mut charge = std::mem::take(&mut self.charge);
        if let Some(data) = event.data.take() {
            charge.grow(budget, data.len())?;
            event.data = Some(charge.keep(data));
        }
        Ok(Some(event))
    }
}
