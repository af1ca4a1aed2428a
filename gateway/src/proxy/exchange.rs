//! One message to a server, and the messages that come back: one JSON body, or a stream of events.

mod body;
mod events;
mod failure;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio_util::task::AbortOnDropHandle;

use body::{Media, media_type, read, read_on};

pub(super) use body::read_short;
use events::Events;
pub use failure::Failure;

use super::cancel::Cancel;
use super::channel::{Channel, SESSION_ID};
use super::legacy::Waiting;
use super::link::Link;
use super::upstream::Upstream;
use crate::budget::Pieces;
use crate::mcp::envelope::Message;
use crate::mcp::headers::LAST_EVENT_ID;
use crate::mcp::sse;
use crate::net::Lease;

/// Nesting of a server's JSON.
pub(super) const MAX_DEPTH: u32 = 256;
/// The longest id of an event that is kept.
const MAX_EVENT_ID: usize = 512;
/// The longest body of an error answer that is looked at.
const MAX_ERROR_BODY: usize = 64 << 10;

/// How long a stream's head is waited for before it is listened to without: many servers send it with the first event.
const OPENING: Duration = Duration::from_millis(100);

/// How much a server may send.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A JSON body.
    pub response: usize,
    /// One event of a stream.
    pub event: usize,
}

/// What goes to the server.
pub struct Outgoing<'a> {
    /// The JSON-RPC message.
    pub message: Bytes,
    /// In which session.
    pub channel: &'a Channel,
    /// Headers beyond those of the channel: `Mcp-Method` and the like.
    pub extra: HeaderMap,
    /// The gateway's own credential for this server.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// What may come back.
    pub bounds: Bounds,
}

/// The messages that come back. Dropping it before the end closes the connection.
pub struct Exchange {
    link: Arc<Link>,
    lease: Option<Lease>,
    bounds: Bounds,
    state: State,
    /// The server's `Mcp-Session-Id`, where it gave one.
    pub session_id: Option<HeaderValue>,
    /// Where in the stream one could go on, should it break off. In a box: most answers are no streams.
    pub place: Option<Box<Place>>,
}

/// What comes of an answer.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are messages, and a box would be one more for each"
)]
pub enum Said {
    /// A message.
    Message(Message),
    /// [`Exchange::place`] has moved.
    Place,
}

/// A place in a stream (specification, Resumability and Redelivery).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The last event that has an id. Copied: it is a part of what was read with it.
    pub id: Option<HeaderValue>,
    /// How long the server wants to be left alone before.
    pub retry: Option<Duration>,
}

impl Place {
    fn note(&mut self, event: &sse::Event) {
        if let Some(id) = event.id.as_deref() {
            // An empty id takes the last one back (WHATWG HTML, section 9.2.6).
            self.id = Some(id)
                .filter(|id| (1..=MAX_EVENT_ID).contains(&id.len()))
                .and_then(|id| HeaderValue::from_bytes(id).ok());
        }
        if let Some(retry) = event.retry {
            self.retry = Some(Duration::from_millis(retry));
        }
    }
}

enum State {
    /// A stream whose head has not come yet.
    Opening(AbortOnDropHandle<Result<Exchange, Failure>>),
    /// A JSON body, read as far as it came.
    Json(Incoming, Pieces),
    /// A stream of events.
    Events(Incoming, Box<Events>),
    /// A part of the stream that a session is, in the first revision.
    Session(Waiting),
    /// Nothing more.
    Done,
}

impl Exchange {
    /// Sends `outgoing` and waits for the head of the answer. What is given borrows nothing: it may outlive the request
    /// that it was made for.
    pub fn start(
        link: &Arc<Link>,
        outgoing: Outgoing<'_>,
        call: Option<Cancel>,
    ) -> impl Future<Output = Result<Self, Failure>> + Send + use<> {
        let target = link.pool.target();
        let legacy = outgoing.channel.legacy.clone();
        let legacy = legacy.map(|legacy| (legacy, outgoing.message.clone()));
        let mut request = Request::new(Full::new(outgoing.message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.path.clone();
        let mut headers = outgoing.extra;
        headers.insert(header::HOST, target.authority.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        outgoing.channel.set_headers(&mut headers);
        if let Some((name, value)) = outgoing.credential {
            headers.insert(name, value);
        }
        *request.headers_mut() = headers;
        let (link, bounds) = (Arc::clone(link), outgoing.bounds);
        let pinned = outgoing.channel.pinned;
        let in_session = outgoing.channel.session_id.is_some();
        async move {
            if let Some((legacy, message)) = legacy {
                // Boxed: rare, and every call would carry the room.
                let sent = Box::pin(legacy.post(&link, message, request, pinned, call)).await;
                return sent.map(|waiting| Self::in_stream(link, bounds, waiting));
            }
            let (response, lease) = link
                .pool
                .send_noting(request, pinned, || call.iter().for_each(Cancel::set_sent))
                .await?;
            Self::begin(link, response, lease, in_session, bounds).await
        }
    }

    async fn begin(
        link: Arc<Link>,
        response: Response<Incoming>,
        lease: Lease,
        in_session: bool,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        let (head, body) = response.into_parts();
        let kind = media_type(&head.headers);
        if !head.status.is_success() {
            let text = match kind {
                Some(Media::Json) => read(body, MAX_ERROR_BODY, &link.budget).await.ok(),
                _ => None,
            };
            let message = text.and_then(|text| Message::from_server(text, MAX_DEPTH).ok());
            let failure = Failure::Status(head.status, message.map(Box::new));
            // The answer to a method that it does not know says nothing about the session.
            let is_lost = head.status == StatusCode::NOT_FOUND && in_session && !failure.is_unknown_there();
            return Err(if is_lost { Failure::SessionLost } else { failure });
        }
        // Copied: the value is a part of the buffer that was read into, and would keep all of it for a session's life.
        let session_id = head
            .headers
            .get(SESSION_ID)
            .and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        let state = match kind {
            Some(Media::Json) => State::Json(body, Pieces::default()),
            Some(Media::Events) => State::Events(body, Box::new(Events::new(bounds.event))),
            // 202 to a notification: no body, or one that means nothing.
            None if body.is_end_stream() => State::Done,
            None if head.status == StatusCode::ACCEPTED => {
                read(body, MAX_ERROR_BODY, &link.budget).await.map(drop)?;
                State::Done
            }
            None => {
                return Err(Failure::Invalid(
                    "its content type is neither JSON nor an event stream",
                ));
            }
        };
        let mut exchange = Self {
            link,
            lease: Some(lease),
            bounds,
            state,
            session_id,
            place: None,
        };
        if matches!(exchange.state, State::Done) {
            exchange.give_back();
        }
        Ok(exchange)
    }

    /// Opens the stream on which the server says what belongs to no request (specification, Listening for Messages from
    /// the Server). `after` is the id of the last event that was read there. Its head may still be to come: many servers have
    /// nothing to say at first, and send it with what they say. That there is no such stream ([`Failure::is_unknown_there`]) may
    /// turn out as late.
    pub fn listen(
        upstream: &Upstream,
        channel: &Channel,
        after: Option<&HeaderValue>,
    ) -> impl Future<Output = Result<Self, Failure>> + Send + use<> {
        let link = Arc::clone(&upstream.link);
        let target = link.pool.target();
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = target.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, target.authority.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        channel.set_headers(headers);
        if let Some((name, value)) = upstream.credential.shown() {
            headers.insert(name, value);
        }
        if let Some(after) = after {
            headers.insert(LAST_EVENT_ID.clone(), after.clone());
        }
        let (pinned, bounds) = (channel.pinned, upstream.bounds);
        let in_session = channel.session_id.is_some();
        let legacy = channel.legacy.clone();
        async move {
            if let Some(legacy) = legacy {
                let waiting = legacy.listen()?;
                return Ok(Self::in_stream(link, bounds, Some(waiting)));
            }
            let by = Arc::clone(&link);
            let opening = async move {
                let (response, lease) = by.pool.send(request, pinned).await?;
                let opened = Self::begin(Arc::clone(&by), response, lease, in_session, bounds).await?;
                match opened.state {
                    State::Events(..) => Ok(opened),
                    // Something else altogether is there.
                    _ => Err(Failure::Status(StatusCode::METHOD_NOT_ALLOWED, None)),
                }
            };
            let mut opening = AbortOnDropHandle::new(tokio::spawn(opening));
            match tokio::time::timeout(OPENING, &mut opening).await {
                Ok(opened) => opened.unwrap_or(Err(Failure::CutOff)),
                Err(_) => Ok(Self {
                    state: State::Opening(opening),
                    ..Self::in_stream(link, bounds, None)
                }),
            }
        }
    }

    /// What is said in a session of the first revision: nothing, to what is not answered.
    fn in_stream(link: Arc<Link>, bounds: Bounds, waiting: Option<Waiting>) -> Self {
        Self {
            link,
            lease: None,
            bounds,
            state: waiting.map_or(State::Done, State::Session),
            session_id: None,
            place: None,
        }
    }

    /// Waits for the head of a stream that was still to come. What is dropped while it waits loses nothing.
    async fn opened(&mut self) -> Result<(), Failure> {
        if let State::Opening(opening) = &mut self.state {
            let opened = opening.await;
            self.state = State::Done;
            *self = opened.unwrap_or(Err(Failure::CutOff))?;
        }
        Ok(())
    }

    /// The next event of a stream, whatever it is.
    pub(super) async fn event(&mut self) -> Result<Option<sse::Event>, Failure> {
        self.opened().await?;
        let State::Events(body, events) = &mut self.state else {
            return Ok(None);
        };
        loop {
            if let Some(event) = events.next(&self.link.budget)? {
                return Ok(Some(event));
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        events.push(chunk);
                    }
                }
                Some(Err(_)) => return Err(Failure::CutOff),
                None => return Ok(None),
            }
        }
    }

    /// Where the connection goes.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.lease.as_ref().map(Lease::address)
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            match self.said().await? {
                Some(Said::Message(message)) => return Ok(Some(message)),
                Some(Said::Place) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next message, or word of a place to go on from; `None` at the end.
    pub async fn said(&mut self) -> Result<Option<Said>, Failure> {
        self.opened().await?;
        match &mut self.state {
            State::Done | State::Opening(_) => Ok(None),
            State::Session(waiting) => waiting.next().await.map(|message| Some(Said::Message(message))),
            State::Json(body, pieces) => {
                let text = read_on(pieces, body, self.bounds.response, &self.link.budget).await;
                self.state = State::Done;
                let text = text?;
                self.give_back();
                if text.is_empty() {
                    return Ok(None);
                }
                message(text).map(Some)
            }
            State::Events(body, events) => loop {
                match events.next(&self.link.budget) {
                    // An event without data only says where one could go on.
                    Ok(Some(mut event)) => {
                        let placed = event.id.is_some() || event.retry.is_some();
                        if placed {
                            self.place.get_or_insert_default().note(&event);
                        }
                        // What is said under another name than `message` is not for MCP: signs of life, mostly.
                        let data = if event.is_message() {
                            event.data.take()
                        } else {
                            None
                        };
                        match data {
                            Some(data) => return message(data).map(Some),
                            _ if placed => return Ok(Some(Said::Place)),
                            _ => {}
                        }
                    }
                    Ok(None) => match body.frame().await {
                        Some(Ok(frame)) => {
                            if let Ok(chunk) = frame.into_data() {
                                events.push(chunk);
                            }
                        }
                        Some(Err(_)) => {
                            self.state = State::Done;
                            return Err(Failure::CutOff);
                        }
                        None => {
                            self.state = State::Done;
                            self.give_back();
                            return Ok(None);
                        }
                    },
                    Err(_) => {
                        self.state = State::Done;
                        return Err(Failure::TooLarge);
                    }
                }
            },
        }
    }

    /// The answer to the one request came: whatever else the server sends on this stream is not for anybody. The
    /// connection is kept if the stream ends right here, as it does with every server that closes after the answer.
    pub fn finish(mut self) {
        if let State::Events(body, _) = &mut self.state {
            let ended = loop {
                match body.frame().now_or_never() {
                    Some(None) => break true,
                    Some(Some(Ok(_))) => {}
                    _ => break false,
                }
            };
            if ended {
                self.give_back();
            }
        }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.link.pool.put(lease);
        }
    }
}

fn message(text: Bytes) -> Result<Said, Failure> {
    Message::from_server(text, MAX_DEPTH)
        .map(Said::Message)
        .map_err(|_| Failure::Invalid("not a JSON-RPC message"))
}
