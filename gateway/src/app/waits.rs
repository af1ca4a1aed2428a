//! Who waits for an answer that another replica is to give: nobody, a request, or those of a batch.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::context::Context;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::mcp::sse::{Event, Parser};
use crate::proxy::call::json;
use crate::proxy::stream::Body;

/// The raw ids of the requests without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// One message: a request, if it has an id.
    One(Option<Bytes>),
    /// One request without a session.
    Stateless(Option<Bytes>),
    /// The requests of a batch.
    Batch(Vec<Bytes>),
}

impl Waits {
    /// Notes what has been answered, after `events` went out. Of one request only the last events count: its answer ends
    /// its stream.
    pub fn note(&mut self, events: &Bytes, depth: u32) {
        let Self::Batch(ids) = self else { return };
        for answer in answers(events, depth) {
            if let Some(id) = answer.id() {
                ids.retain(|waiting| waiting != id);
            }
        }
    }

    /// Has everybody been answered, `last` being the last events that came?
    pub fn is_over(&self, last: &Bytes, depth: u32) -> bool {
        match self {
            Self::One(_) | Self::Stateless(_) => answers(last, depth).next().is_some(),
            Self::Batch(ids) => ids.is_empty(),
        }
    }

    /// The errors for those that wait.
    pub fn errors(&self, cause: &Cause) -> Vec<Bytes> {
        let ids = match self {
            Self::One(id) | Self::Stateless(id) => id.as_slice(),
            Self::Batch(ids) => ids,
        };
        ids.iter().map(|id| reply::error(cause, Some(id))).collect()
    }

    /// Refuses them all.
    pub fn refuse(&self, mut ctx: Context, cause: Cause) -> Response<Body> {
        match self {
            Self::One(id) => ctx.refuse(cause.into(), Some(Era::Session), id.as_deref()),
            Self::Stateless(id) => ctx.refuse(cause.into(), Some(Era::Stateless), id.as_deref()),
            Self::Batch(ids) if ids.is_empty() => ctx.refuse(cause.into(), Some(Era::Session), None),
            Self::Batch(_) => {
                ctx.entry.refused(&cause, StatusCode::OK);
                json(StatusCode::OK, array(&self.errors(&cause)))
            }
        }
    }
}

impl From<Option<Bytes>> for Waits {
    fn from(id: Option<Bytes>) -> Self {
        Self::One(id)
    }
}

/// These messages as one JSON array.
pub(super) fn array(messages: &[Bytes]) -> Bytes {
    let mut out = Vec::with_capacity(messages.iter().map(|message| message.len() + 1).sum::<usize>() + 2);
    out.push(b'[');
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(message);
    }
    out.push(b']');
    out.into()
}

/// The answers among these events.
fn answers(events: &Bytes, depth: u32) -> impl Iterator<Item = Message> + use<> {
    let mut parser = Parser::new(usize::MAX);
    parser.push(events.clone());
    std::iter::from_fn(move || parser.next_event().ok().flatten())
        .filter(Event::is_message)
        .filter_map(move |event| Message::from_server(event.data?, depth).ok())
        .filter(|message| matches!(message.kind(), Kind::Response | Kind::ErrorResponse))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n", true)]
    #[case(
        "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"m\"}}\n\n",
        true
    )]
    #[case(
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n",
        false
    )]
    #[case(": keep-alive\n\n", false)]
    #[case("", false)]
    fn an_answer_is_told_from_what_comes_before_it(#[case] events: &'static str, #[case] expected: bool) {
        let one = Waits::One(None);
        assert_eq!(one.is_over(&Bytes::from_static(events.as_bytes()), 64), expected);
    }

    #[test]
    fn a_batch_waits_for_its_last_answer() {
        let mut batch = Waits::Batch(vec!["1".into(), "\"b\"".into()]);
        batch.note(
            &"data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"b\",\"result\":{}}\n\n"
                .into(),
            64,
        );
        assert_eq!(batch, Waits::Batch(vec!["1".into()]));
        assert!(!batch.is_over(&Bytes::new(), 64));
        let left = batch.errors(&Cause::OwnerLost);
        assert!(left.len() == 1 && left[0].starts_with(b"{\"jsonrpc\":\"2.0\",\"id\":1,"));
        batch.note(
            &"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n".into(),
            64,
        );
        assert!(batch.is_over(&Bytes::new(), 64) && batch.errors(&Cause::OwnerLost).is_empty());
    }
}
