//! The body of an answer: nothing, one piece, or events as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use super::call::{self, Holds};
use super::relay::{Ended, Item, Relay};
use crate::app::context::Context;
use crate::app::state::App;
use crate::mcp::reply;
use crate::mcp::sse::{self, Event};
use crate::telemetry::metrics::UpstreamOutcome;

/// Events for a client. Dropped when the client goes away.
pub type Events = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// A response body that costs nothing where it is one piece.
pub enum Body {
    /// Nothing.
    Empty,
    /// One piece.
    Full(Bytes),
    /// As it comes, never more than one item at a time: a slow reader holds the server back.
    Stream(Events),
}

impl Body {
    /// Is this a stream, which does not count as a request in flight?
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// How long an answer is waited for before the client is given a stream that is kept alive.
pub const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A call whose answer comes as a stream.
pub struct Relayed {
    /// Recorded when the stream ends.
    pub ctx: Context,
    /// The call.
    pub relay: Relay,
    /// What it occupies.
    pub(super) holds: Holds,
    /// The client's id.
    pub id: Bytes,
    /// What came already.
    pub first: Option<Bytes>,
}

/// Events as they come, the answer last. A failure on the way is the answer then: the status has gone out.
pub fn relay(relayed: Relayed) -> Events {
    let app = Arc::clone(&relayed.ctx.app);
    app.metrics.streams.inc();
    let open = OpenStream { app };
    Box::pin(futures::stream::unfold(
        Some((relayed, open)),
        |state| async move {
            let (mut relayed, open) = state?;
            if let Some(first) = relayed.first.take() {
                return Some((sse::encode(&Event::message(first)), Some((relayed, open))));
            }
            let next = tokio::time::timeout(KEEP_ALIVE, relayed.relay.item()).await;
            // What is permitted may have changed since the call began.
            if let Some(cause) = relayed.ctx.no_longer_allowed(relayed.relay.era()) {
                relayed.ctx.entry.refused(&cause, StatusCode::OK);
                let bytes = reply::error(&cause, Some(&relayed.id));
                return Some((sse::encode(&Event::message(bytes)), None));
            }
            match next {
                Err(_) => Some((Bytes::from_static(sse::KEEP_ALIVE), Some((relayed, open)))),
                Ok(Ok(Item::Notification(bytes))) => {
                    Some((sse::encode(&Event::message(bytes)), Some((relayed, open))))
                }
                Ok(Ok(Item::Final(bytes))) => {
                    relayed.ctx.entry.upstream = Some(relayed.holds.ended(UpstreamOutcome::Ok));
                    relayed.ctx.entry.allowed(StatusCode::OK);
                    Some((sse::encode(&Event::message(bytes)), None))
                }
                Ok(Err(Ended::Cancelled)) => {
                    relayed.holds.ended(UpstreamOutcome::Cancelled);
                    relayed.ctx.entry.reason = Some("client_cancelled");
                    None
                }
                Ok(Err(Ended::Failed(failure))) => {
                    relayed.ctx.entry.upstream = Some(relayed.holds.ended(call::outcome(&failure)));
                    let cause = failure.cause();
                    relayed.ctx.entry.refused(&cause, StatusCode::OK);
                    let bytes = reply::error(&cause, Some(&relayed.id));
                    Some((sse::encode(&Event::message(bytes)), None))
                }
            }
        },
    ))
}

/// Counts an open stream.
struct OpenStream {
    app: Arc<App>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}
