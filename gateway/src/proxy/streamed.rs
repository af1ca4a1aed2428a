//! An answer that comes as a stream: events as they come, signs of life between them, the answer last; for as long as
//! its caller may have it, and as long as the process lives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, sleep_until};

use super::call::report;
use super::exchange::Failure;
use super::origin::Origin;
use super::parked;
use super::place;
use super::relay::{Ended, Item, Relay};
use super::stream::Events;
use super::unfinished;
use crate::app::context::Context;
use crate::app::permit::Permit;
use crate::app::state::App;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::reply::{self, Cause};
use crate::mcp::sse::{self, Event};
use crate::telemetry::metrics::UpstreamOutcome;

/// Between two signs of life.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A call whose answer comes as a stream.
struct Streamed {
    /// Recorded when the stream ends.
    ctx: Context,
    relay: Relay,
    permit: Permit,
    /// The client's id.
    id: Bytes,
    first: First,
    stream: place::Stream,
    /// What the client asked for, where an answer may leave something open.
    origin: Option<Origin>,
    /// The client's progress token, which the server has.
    token: Option<Bytes>,
    _open: OpenStream,
}

/// What came before the answer became a stream.
pub enum First {
    /// Nothing.
    Nothing,
    /// Word of a place alone.
    Place,
    /// A message.
    Message(Bytes),
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
/// `headers` are the client's.
pub fn relay(
    ctx: Context,
    mut relay: Relay,
    headers: &HeaderMap,
    id: Bytes,
    first: First,
    origin: Option<(Origin, Option<Bytes>)>,
) -> Events {
    relay.streams(ctx.snapshot.config.limits.stream_idle_timeout.get());
    let open = OpenStream::new(&ctx.app);
    let permit = Permit::of_call(&ctx, headers, relay.era());
    let stream = match &ctx.entry.thing {
        Some((kind, name)) => place::Stream::Call(*kind, name.clone()),
        None => place::Stream::Own,
    };
    let (origin, token) = origin.unzip();
    let streamed = Streamed {
        token: token.flatten(),
        stream,
        ctx,
        relay,
        permit,
        id,
        first,
        origin,
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
        match std::mem::replace(&mut self.first, First::Nothing) {
            First::Nothing => {}
            First::Place => return Step::Event(self.event(None)),
            First::Message(bytes) => return Step::Event(self.event(Some(bytes))),
        }
        let next = tokio::select! {
            biased;
            next = self.relay.item() => next,
            cause = self.permit.withdrawn() => return self.cut(&cause),
            () = self.ctx.app.drain.end_streams().cancelled() => return self.cut(&Cause::Draining),
            () = sleep_until(Instant::now() + KEEP_ALIVE) => {
                return Step::Event(Bytes::from_static(sse::KEEP_ALIVE));
            }
        };
        if let Some(cause) = self.permit.refusal() {
            return self.cut(&cause);
        }
        match next {
            Ok(Item::Notification(bytes)) => Step::Event(self.event(Some(bytes))),
            Ok(Item::Place) => Step::Event(self.event(None)),
            Ok(Item::Asked(method, bytes)) => {
                self.ctx
                    .entry
                    .asked(self.ctx.entry.server.as_deref(), method.as_str());
                Step::Event(self.event(Some(bytes)))
            }
            Ok(Item::Final { bytes, error }) => self.answered(bytes, error),
            Ok(Item::Question(question)) => self.asked_back(&question),
            Ok(Item::Unfinished(answer)) => {
                let none = Err(Failure::Invalid(unfinished::NOT_ASKED_FOR));
                let error = answer.kind() == Kind::ErrorResponse;
                let answer = self.origin.as_ref().map_or(none, |origin| {
                    unfinished::answer(&self.ctx, origin, &answer, self.relay.mapping())
                });
                match answer {
                    Ok(bytes) => self.answered(bytes, error),
                    Err(failure) => self.failed(&failure),
                }
            }
            Err(Ended::Cancelled) => {
                self.ctx.entry.reason = Some("client_cancelled");
                Step::End
            }
            Err(Ended::ToBeContinued) => {
                self.ctx.entry.upstream = Some(self.relay.ended(UpstreamOutcome::Ok));
                self.ctx.entry.allowed(StatusCode::OK);
                self.ctx.entry.reason = Some("to_be_continued");
                Step::End
            }
            Err(Ended::Failed(failure)) => self.failed(&failure),
        }
    }

    /// The call waits, and this answer to it says for what.
    fn asked_back(&mut self, question: &Message) -> Step {
        let Some(request) = self.origin.as_ref().map(|origin| origin.request) else {
            return self.cut(&Cause::Internal);
        };
        let server = self.ctx.entry.server.as_deref();
        self.ctx.entry.asked(server, question.method().as_str());
        let call = self.relay.take();
        match parked::park(&self.ctx, call, question, request, self.token.take()) {
            Ok(bytes) => {
                self.ctx.entry.answered(StatusCode::OK, false);
                Step::Last(event(bytes))
            }
            Err(cause) => self.refused(&cause),
        }
    }

    fn answered(&mut self, bytes: Bytes, error: bool) -> Step {
        self.ctx.entry.upstream = Some(self.relay.ended(UpstreamOutcome::Ok));
        self.ctx.entry.answered(StatusCode::OK, error);
        Step::Last(self.event(Some(bytes)))
    }

    fn failed(&mut self, failure: &Failure) -> Step {
        self.ctx.entry.upstream = Some(self.relay.failed(failure));
        report(&self.ctx, failure);
        self.refused(&failure.cause())
    }

    /// A message, and the place after it where the client is given that.
    fn event(&mut self, data: Option<Bytes>) -> Bytes {
        let place = self.relay.place();
        let event = place::event(
            &self.ctx,
            self.relay.client(),
            &self.stream,
            data,
            place.as_deref(),
        );
        if event.id.is_some() {
            self.relay.place_was_given();
        }
        sse::encode(&event)
    }

    /// The gateway ends it, and the call with it.
    fn cut(&mut self, cause: &Cause) -> Step {
        let why = "the gateway ended the call's stream";
        self.relay.abandon(why, UpstreamOutcome::Cancelled);
        self.refused(cause)
    }

    fn refused(&mut self, cause: &Cause) -> Step {
        self.ctx.entry.refused(cause, StatusCode::OK);
        Step::Last(error(cause, &self.id))
    }
}

/// A stream that another replica answers: it judges the call, and here it is judged who calls, since the credential came
/// here.
pub fn guarded(app: &Arc<App>, events: Events, permit: Permit, id: Option<Bytes>) -> Events {
    let app = Arc::clone(app);
    Box::pin(futures::stream::unfold(
        Some((app, events, permit, id)),
        |state| async move {
            let (app, mut events, mut permit, id) = state?;
            let ended = tokio::select! {
                biased;
                next = events.next() => match permit.refusal() {
                    None => return Some((next?, Some((app, events, permit, id)))),
                    Some(cause) => cause,
                },
                cause = permit.withdrawn() => cause,
                () = app.drain.end_streams().cancelled() => Cause::Draining,
            };
            app.metrics.refused(ended.label());
            // Without a request there is nobody whom an error would tell something.
            Some((error(&ended, &id?), None))
        },
    ))
}

fn error(cause: &Cause, id: &[u8]) -> Bytes {
    event(reply::error(cause, Some(id)))
}

fn event(message: Bytes) -> Bytes {
    sse::encode(&Event::message(message))
}

/// Counts an open stream.
pub(super) struct OpenStream {
    app: Arc<App>,
}

impl OpenStream {
    pub(super) fn new(app: &Arc<App>) -> Self {
        app.metrics.streams.inc();
        Self { app: Arc::clone(app) }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}
