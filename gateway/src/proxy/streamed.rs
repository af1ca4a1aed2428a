//! An answer that comes as a stream: events as they come, signs of life between them, the answer last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::relay::{Ended, Item, Relay};
use super::stream::Events;
use crate::app::context::Context;
use crate::app::state::App;
use crate::mcp::reply::{self, Cause};
use crate::mcp::sse::{self, Event};
use crate::telemetry::metrics::UpstreamOutcome;

/// Between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A call whose answer comes as a stream.
struct Streamed {
    /// Recorded when the stream ends.
    ctx: Context,
    relay: Relay,
    /// The client's id.
    id: Bytes,
    /// What came already.
    first: Option<Bytes>,
    _open: OpenStream,
}

/// What goes out next.
enum Step {
    /// More follows.
    Event(Bytes),
    /// The last one.
    Last(Bytes),
    /// Nothing more.
    End,
}

/// The rest of a call as events; `first` came already. A failure on the way is the answer then: the status has gone out.
pub fn relay(ctx: Context, mut relay: Relay, id: Bytes, first: Option<Bytes>) -> Events {
    relay.streams(ctx.snapshot.config.limits.stream_idle_timeout.get());
    let open = OpenStream::new(&ctx.app);
    let streamed = Streamed {
        ctx,
        relay,
        id,
        first,
        _open: open,
    };
    Box::pin(futures::stream::unfold(Some(streamed), |state| async move {
        let mut streamed = state?;
        match streamed.step().await {
            Step::Event(bytes) => Some((bytes, Some(streamed))),
            Step::Last(bytes) => Some((bytes, None)),
            Step::End => None,
        }
    }))
}

impl Streamed {
    async fn step(&mut self) -> Step {
        if let Some(first) = self.first.take() {
            return Step::Event(event(first));
        }
        let next = timeout_at(Instant::now() + KEEP_ALIVE, self.relay.item()).await;
        // What is permitted may have changed since the call began.
        if let Some(cause) = self.ctx.no_longer_allowed(self.relay.era()) {
            self.relay
                .abandon("the caller may no longer have it", UpstreamOutcome::Cancelled);
            return self.refused(&cause);
        }
        match next {
            Err(_) => Step::Event(Bytes::from_static(sse::KEEP_ALIVE)),
            Ok(Ok(Item::Notification(bytes))) => Step::Event(event(bytes)),
            Ok(Ok(Item::Final(bytes))) => {
                self.ctx.entry.upstream = Some(self.relay.ended(UpstreamOutcome::Ok));
                self.ctx.entry.allowed(StatusCode::OK);
                Step::Last(event(bytes))
            }
            Ok(Err(Ended::Cancelled)) => {
                self.ctx.entry.reason = Some("client_cancelled");
                Step::End
            }
            Ok(Err(Ended::Failed(failure))) => {
                self.ctx.entry.upstream = Some(self.relay.ended(failure.outcome()));
                self.refused(&failure.cause())
            }
        }
    }

    fn refused(&mut self, cause: &Cause) -> Step {
        self.ctx.entry.refused(cause, StatusCode::OK);
        Step::Last(event(reply::error(cause, Some(&self.id))))
    }
}

fn event(message: Bytes) -> Bytes {
    sse::encode(&Event::message(message))
}

/// Counts an open stream.
struct OpenStream {
    app: Arc<App>,
}

impl OpenStream {
    fn new(app: &Arc<App>) -> Self {
        app.metrics.streams.inc();
        Self { app: Arc::clone(app) }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}
