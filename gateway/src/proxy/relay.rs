//! A call in flight: waits for what its server says, within the call's times, and tells the server when nobody waits
//! any more.
//!
//! A call can be dropped at any moment, which is how a client's disconnect arrives here. What that means depends on the
//! client's era: stateless, it is a cancellation. In a session it is none. The server goes on then, and so does the
//! call, in a task of its own that keeps what the call occupies (its place at the server, its id in the session, so
//! that it can still be cancelled) until the server has answered or the call's times are over. There are never more
//! such tasks than calls in flight, because each holds the place of one.

mod asked;
mod leaving;
mod told;
mod way;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use asked::Asked;
use way::{First, Way, poll_aside};

use super::cancel::Cancel;
use super::channel::Channel;
use super::exchange::{Exchange, Failure, Place, Said};
use super::holds::Holds;
use super::registry::Session;
use super::replies::Replies;
use super::rounds::{self, Rounds};
use super::source::{self, Source};
use super::terms::{self, Mapping};
use super::times::Times;
use super::unfinished;
use super::upstream::Upstream;
use super::wait::{Stop, wait};
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method;
use crate::mcp::revision::Era;
use crate::mcp::session::Capabilities;
use crate::telemetry::metrics::UpstreamOutcome;

/// One thing for the client.
pub enum Item {
    /// A notification about its call.
    Notification(Bytes),
    /// A question of the server.
    Asked(Method, Bytes),
    /// A question of the server that the client, which has no session, is asked in the answer. Nothing follows.
    Question(Box<Message>),
    /// Where the client could go on, should its stream break off: see [`Relay::place`].
    Place,
    /// The answer. Nothing follows.
    Final {
        /// In the client's terms.
        bytes: Bytes,
        /// The server's own JSON-RPC error. (An error of a tool is a result.)
        error: bool,
    },
    /// An answer that leaves something open, or is about such a one: [`super::unfinished`]. Nothing follows.
    Unfinished(Box<Message>),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Ended {
    /// The client cancelled the call: it expects none.
    Cancelled,
    /// The server ended the stream before its answer, and the client was told from where it can go on.
    ToBeContinued,
    /// It failed.
    Failed(Failure),
}

/// A call in flight.
pub struct Relay {
    upstream: Arc<Upstream>,
    channel: Arc<Channel>,
    mapping: Mapping,
    way: Way,
    times: Times,
    cancelled: Option<Cancel>,
    replies: Replies,
    asked: Option<Asked>,
    places: Places,
    rounds: Option<Box<Rounds>>,
    /// What the server may ask, where the call can wait for the answer.
    parks: Capabilities,
    /// The server's own stream in the session of this call alone.
    aside: Option<Source>,
    /// What came there before the head of the answer.
    early: Option<Box<Message>>,
    /// Questions that the client is to be asked next.
    questions: VecDeque<rounds::Asked>,
    holds: Holds,
    /// The client is gone, and the call already goes on without it.
    left: bool,
}

/// Who goes on when the server's stream breaks off, and from where.
#[derive(Default)]
struct Places {
    /// The client, which is given the server's places. Otherwise the gateway does.
    client: bool,
    /// It was given one.
    given: bool,
    /// The stream ended, and it was told from where it can go on.
    left: bool,
    last: Option<Box<Place>>,
}

impl Relay {
    /// A call whose request is `start`, which begins with the first wait for it.
    pub fn new(
        upstream: Arc<Upstream>,
        channel: Arc<Channel>,
        mapping: Mapping,
        start: impl Future<Output = Result<Exchange, Failure>> + Send + 'static,
        times: Times,
        holds: Holds,
    ) -> Self {
        Self {
            upstream,
            channel,
            mapping,
            way: Way::Sent(Box::pin(start)),
            times,
            cancelled: holds.cancelled(),
            replies: Replies::default(),
            asked: None,
            places: Places::default(),
            rounds: None,
            parks: Capabilities::NONE,
            aside: None,
            early: None,
            questions: VecDeque::new(),
            holds,
            left: false,
        }
    }

    /// The client's era.
    pub const fn era(&self) -> Era {
        self.mapping.era
    }

    /// The server.
    pub const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// How the client knows the call.
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// How the server is reached.
    pub const fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// What the call occupies, for another try.
    pub fn into_holds(mut self) -> Holds {
        self.way = Way::Over;
        std::mem::take(&mut self.holds)
    }

    /// Notes how the call ended. Gives how long it took.
    pub fn ended(&mut self, outcome: UpstreamOutcome) -> Duration {
        self.holds.ended(outcome)
    }

    /// Notes that the call failed. Gives how long it took.
    pub fn failed(&mut self, failure: &Failure) -> Duration {
        self.holds.failed(failure)
    }

    /// The client gets its answer as a stream, which may be without an event for `idle`.
    pub fn streams(&mut self, idle: Duration) {
        self.times.streams(idle, Instant::now());
    }

    /// The client is given the server's places, and goes on from there by itself.
    pub const fn give_places(&mut self) {
        self.places.client = true;
    }

    /// The client has no session, and the server one for this call alone: it may ask so much of the client, and the call
    /// waits for the answer.
    /// `aside` is the server's own stream in that session.
    pub fn may_park(&mut self, declared: Capabilities, aside: Option<Source>) {
        self.parks = declared;
        self.aside = aside;
    }

    /// The call waits for its client.
    pub fn pause(&mut self) {
        self.holds.pause();
        self.mapping.detach();
    }

    /// How long the call may last from now on.
    pub fn left(&self) -> Duration {
        self.times.left()
    }

    /// The call goes on as the answer to another request: under its id, with its progress token for that of the first.
    pub fn go_on(
        &mut self,
        slot: OwnedSemaphorePermit,
        id: Bytes,
        token: Option<Bytes>,
        first: Option<Bytes>,
    ) {
        self.holds.go_on(slot);
        self.times.go_on(Instant::now());
        self.mapping.client_id = id;
        self.mapping.token = first.map(|first| (token.unwrap_or_default(), first));
    }

    /// Takes the call out of here, which is left without one.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            upstream: Arc::clone(&self.upstream),
            channel: Arc::clone(&self.channel),
            mapping: self.mapping.clone(),
            way: std::mem::replace(&mut self.way, Way::Over),
            times: self.times,
            cancelled: self.cancelled.take(),
            replies: std::mem::take(&mut self.replies),
            asked: self.asked.take(),
            places: std::mem::take(&mut self.places),
            rounds: self.rounds.take(),
            parks: self.parks,
            aside: self.aside.take(),
            early: self.early.take(),
            questions: std::mem::take(&mut self.questions),
            holds: std::mem::take(&mut self.holds),
            left: self.left,
        }
    }

    /// The stateless server may come back with questions for the client, which has a session.
    pub fn may_ask(&mut self, rounds: Rounds) {
        self.rounds = Some(Box::new(rounds));
    }

    /// The client's session, where it has one of its own.
    pub fn client(&self) -> Option<&Session> {
        self.holds.session().map(Arc::as_ref)
    }

    /// The place of the last item, where the client is to be given it.
    pub fn place(&mut self) -> Option<Box<Place>> {
        if !self.places.client {
            return None;
        }
        let place = match &mut self.way {
            Way::Answering(exchange) => exchange.place.take(),
            Way::Sent(_) | Way::Over => None,
        };
        place.or_else(|| self.places.last.take())
    }

    /// The client was given the last place.
    pub const fn place_was_given(&mut self) {
        self.places.given = true;
    }

    /// Waits for the head of the server's answer.
    pub async fn head(&mut self) -> Result<(), Ended> {
        let Way::Sent(start) = &mut self.way else {
            return Ok(());
        };
        let aside = &mut self.aside;
        let first = poll_fn(|cx| match start.as_mut().poll(cx) {
            Poll::Ready(started) => Poll::Ready(First::Head(started)),
            Poll::Pending => poll_aside(aside, cx).map(First::Aside),
        });
        match wait(self.cancelled.as_ref(), || self.times.until(), first).await {
            Ok(First::Head(Ok(exchange))) => {
                self.way = Way::Answering(exchange);
                Ok(())
            }
            // It is at work, and says so elsewhere first.
            Ok(First::Aside(message)) => {
                self.early = Some(Box::new(message));
                Ok(())
            }
            Ok(First::Head(Err(failure))) => {
                self.way = Way::Over;
                Err(Ended::Failed(failure))
            }
            Err(stop) => Err(self.stopped(&stop)),
        }
    }

    /// The next thing for the client. What is dropped while it waits loses nothing.
    pub async fn item(&mut self) -> Result<Item, Ended> {
        loop {
            if let Some(question) = self.questions.pop_front() {
                self.times.passed_on(Instant::now());
                return Ok(Item::Asked(question.method, question.bytes));
            }
            let message = match self.said().await? {
                Said::Message(message) => message,
                Said::Place if self.places.client => return Ok(Item::Place),
                Said::Place => continue,
            };
            self.holds.answered();
            match message.kind() {
                Kind::Response | Kind::ErrorResponse => {
                    if message
                        .id()
                        .is_some_and(|id| terms::same_id(id, &self.mapping.server_id))
                    {
                        if let Way::Answering(mut exchange) = std::mem::replace(&mut self.way, Way::Over) {
                            self.places.last = exchange.place.take();
                            exchange.finish();
                        }
                        if self.rounds.is_some() && rounds::asks(&message) {
                            self.another_round(&message)?;
                            continue;
                        }
                        let across =
                            (self.mapping.era, self.mapping.server_era) != (Era::Session, Era::Session);
                        if across && (self.mapping.task.is_some() || unfinished::is_unfinished(&message)) {
                            return Ok(Item::Unfinished(Box::new(message)));
                        }
                        let error = message.kind() == Kind::ErrorResponse;
                        let whole = message.bytes().as_ptr();
                        let mut bytes = terms::answer(message, &self.mapping);
                        // A copy in the client's terms is held for as long as the client takes to read it.
                        if bytes.as_ptr() != whole {
                            let counted = self.upstream.link.budget.count(bytes);
                            bytes = counted.map_err(|full| Ended::Failed(full.into()))?;
                        }
                        return Ok(Item::Final { bytes, error });
                    }
                }
                Kind::Notification => {
                    let now = Instant::now();
                    self.times.heard(now);
                    if let Some(bytes) = self.notification(&message) {
                        self.times.passed_on(now);
                        return Ok(Item::Notification(bytes));
                    }
                }
                Kind::Request => {
                    if let Some(asked) = self.request(&message) {
                        self.times.passed_on(Instant::now());
                        return Ok(asked);
                    }
                }
            }
        }
    }

    /// Time is over: only because the server is silent while it waits for the client? It is not counted then.
    fn waits_for_client(&mut self) -> bool {
        let now = Instant::now();
        let Some(asked) = self.asked.as_mut().filter(|_| !self.times.are_over(now)) else {
            return false;
        };
        if asked.waits() {
            self.times.heard(now);
            return true;
        }
        // The server's time begins anew with the answer.
        if let Some(answered) = asked.session.asks.answered() {
            self.times.heard_by(answered);
        }
        self.times.until() > now
    }

    /// The next message of the server. While the client is asked, it is the client's time that passes.
    async fn said(&mut self) -> Result<Said, Ended> {
        if let Some(early) = self.early.take() {
            return Ok(Said::Message(*early));
        }
        let next = loop {
            let next = {
                let mut next = pin!(self.way.next());
                let (replies, upstream, channel) = (&mut self.replies, &self.upstream, &self.channel);
                let aside = &mut self.aside;
                let next = poll_fn(|cx| {
                    ready!(replies.poll(upstream, channel, cx));
                    match next.as_mut().poll(cx) {
                        Poll::Pending => {
                            poll_aside(aside, cx).map(|message| Ok(Some(Said::Message(message))))
                        }
                        ready @ Poll::Ready(_) => ready,
                    }
                });
                wait(self.cancelled.as_ref(), || self.times.until(), next).await
            };
            let again = match &next {
                Err(Stop::TimedOut) => self.waits_for_client(),
                Ok(Ok(None) | Err(Failure::CutOff | Failure::Exchange(_))) => self.goes_on(),
                _ => false,
            };
            if !again {
                break next;
            }
        };
        if let Ok(Ok(Some(said))) = next {
            return Ok(said);
        }
        if let Err(stop) = next {
            return Err(self.stopped(&stop));
        }
        self.way = Way::Over;
        if self.places.given {
            self.places.left = true;
            return Err(Ended::ToBeContinued);
        }
        Err(Ended::Failed(match next {
            Ok(Err(failure)) => failure,
            _ => Failure::Invalid("it ended the stream without an answer"),
        }))
    }

    /// The server's stream ended before its answer: the gateway goes on from where it ended, if the server said how and
    /// the client does not do so itself. The call's times bound how often.
    fn goes_on(&mut self) -> bool {
        if self.places.client {
            return false;
        }
        if let Way::Answering(exchange) = &mut self.way {
            self.places.last = exchange.place.take().or_else(|| self.places.last.take());
        }
        let Some(place) = self.places.last.clone().filter(|place| place.id.is_some()) else {
            return false;
        };
        self.way = Way::Sent(Box::pin(source::go_on(
            Arc::clone(&self.upstream),
            Arc::clone(&self.channel),
            place,
        )));
        true
    }

    fn stopped(&mut self, stop: &Stop) -> Ended {
        match stop {
            Stop::Cancelled => {
                self.abandon("the client cancelled the call", UpstreamOutcome::Cancelled);
                Ended::Cancelled
            }
            Stop::TimedOut => {
                self.abandon(
                    "the gateway's time limit for the call is over",
                    UpstreamOutcome::Timeout,
                );
                Ended::Failed(Failure::Timeout)
            }
        }
    }
}
