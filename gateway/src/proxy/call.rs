//! `tools/call` and what else goes to one server: find what it is about, ask the rules and the limits, send it on, and
//! put what comes back into the client's terms.

mod way;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use way::{channel, declared, forget, own};

use super::channel::Channel;
use super::exchange::{Exchange, Failure, Outgoing};
use super::handshake::{MCP_METHOD, UNSUPPORTED_VERSION};
use super::holds::Holds;
use super::origin::{Fingerprint, Origin};
use super::outgoing;
use super::parked;
use super::registry::{Session, TrackError};
use super::relay::{Ended, Item, Relay};
use super::rounds::Rounds;
use super::states;
use super::stream::{self, Body};
use super::streamed::{self, First};
use super::target::{self, Target};
use super::terms::{self, Mapping};
use super::times::Times;
use super::unfinished;
use super::upstream::Upstream;
use super::wait::within;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::refusal::Refusal;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method;
use crate::mcp::params;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::ratelimit::{Quota, headers as quota_headers};
use crate::telemetry::metrics::UpstreamOutcome;

/// A header is not what the body says (stateless era).
const HEADER_MISMATCH: i64 = -32_020;
/// How long headers may become that repeat arguments: servers refuse longer heads.
const MAX_PARAM_HEADERS: usize = 8 << 10;

/// `Mcp-Name` of the stateless era.
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Answers a request that goes to one server. `session` is the client's, in the session era.
pub async fn call(
    mut ctx: Context,
    message: &Message,
    era: Era,
    client_headers: &HeaderMap,
    session: Option<Arc<Session>>,
) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    let parked = match era {
        Era::Stateless if message.span(Member::RequestState).is_some() => parked::ticket(&ctx, message),
        _ => None,
    };
    let sent = match parked {
        // Boxed: rare, and every call would carry the room.
        Some(ticket) => Box::pin(go_on(&mut ctx, message, &ticket.nonce)).await,
        None => send(&mut ctx, message, era, client_headers, session.as_ref()).await,
    };
    let (mut relay, quota) = match sent {
        Ok(Start::Sent(relay, quota)) => (relay, quota),
        Ok(Start::Answered(response, error)) => {
            ctx.entry.answered(response.status(), error);
            return response;
        }
        Ok(Start::Nothing) => return nothing(),
        Err(refusal) => return ctx.refuse(refusal, Some(era), Some(&id)),
    };
    let wait = || Instant::now() + stream::FIRST_WAIT;
    let first = within(wait, relay.item()).await;
    let failed;
    let mut response = match first {
        Some(Ok(Item::Final { bytes, error })) => {
            failed = error;
            ctx.entry.upstream = Some(relay.ended(UpstreamOutcome::Ok));
            json(StatusCode::OK, bytes)
        }
        Some(Ok(Item::Unfinished(answer))) => {
            let origin = Origin::new(&ctx.who.key, relay.upstream(), message);
            match unfinished::answer(&ctx, &origin, &answer, relay.mapping()) {
                Ok(bytes) => {
                    failed = answer.kind() == Kind::ErrorResponse;
                    ctx.entry.upstream = Some(relay.ended(UpstreamOutcome::Ok));
                    json(StatusCode::OK, bytes)
                }
                Err(failure) => {
                    ctx.entry.upstream = Some(relay.failed(&failure));
                    report(&ctx, &failure);
                    return ctx.refuse(failure.cause().into(), Some(era), Some(&id));
                }
            }
        }
        Some(Ok(Item::Question(question))) => {
            let request = Fingerprint::new(&ctx.who.key, &relay.upstream().full_name, message);
            ctx.entry
                .asked(ctx.entry.server.as_deref(), question.method().as_str());
            let token = message.slice(Member::MetaProgressToken);
            match parked::park(&ctx, relay, &question, request, token) {
                Ok(bytes) => {
                    failed = false;
                    json(StatusCode::OK, bytes)
                }
                Err(cause) => return ctx.refuse(cause.into(), Some(era), Some(&id)),
            }
        }
        Some(Err(Ended::Cancelled | Ended::ToBeContinued)) => {
            ctx.entry.reason = Some("client_cancelled");
            return nothing();
        }
        Some(Err(Ended::Failed(failure))) => {
            ctx.entry.upstream = Some(relay.failed(&failure));
            report(&ctx, &failure);
            return ctx.refuse(failure.cause().into(), Some(era), Some(&id));
        }
        first => {
            let first = match first {
                Some(Ok(Item::Notification(bytes))) => First::Message(bytes),
                Some(Ok(Item::Asked(method, bytes))) => {
                    ctx.entry.asked(ctx.entry.server.as_deref(), method.as_str());
                    First::Message(bytes)
                }
                Some(Ok(Item::Place)) => First::Place,
                _ => First::Nothing,
            };
            let origin = (era == Era::Stateless).then(|| {
                let origin = Origin::new(&ctx.who.key, relay.upstream(), message);
                (origin, message.slice(Member::MetaProgressToken))
            });
            let mut response = events(streamed::relay(ctx, relay, client_headers, id, first, origin));
            if let Some(quota) = &quota {
                quota_headers::apply(quota, response.headers_mut());
            }
            return response;
        }
    };
    if let Some(quota) = &quota {
        quota_headers::apply(quota, response.headers_mut());
    }
    ctx.entry.answered(response.status(), failed);
    response
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and moved once"
)]
enum Start {
    /// A call on its way, ready for whichever form its answer takes.
    Sent(Relay, Option<Quota>),
    /// The server refused it with an HTTP status and a JSON-RPC error that are the client's to see (true).
    Answered(Response<Body>, bool),
    /// The client cancelled it.
    Nothing,
}

/// The client expects no answer to what it cancelled; the stream just ends.
fn nothing() -> Response<Body> {
    events(Box::pin(futures::stream::empty()))
}

async fn send(
    ctx: &mut Context,
    message: &Message,
    era: Era,
    client_headers: &HeaderMap,
    session: Option<&Arc<Session>>,
) -> Result<Start, Refusal> {
    let (mut target, quota) = target::admit(ctx, message, era).await?;
    if era == Era::Stateless && !target.params().is_empty() {
        params::check(target.params(), client_headers, message.raw(Member::Arguments))?;
    }
    let server = &target.upstream.full_name;
    let state = states::restore(ctx, message, || Fingerprint::new(&ctx.who.key, server, message))?;
    let upstream = Arc::clone(&target.upstream);
    let pass = upstream.pass(&ctx.who)?;
    let slot = upstream.slot().await?;
    let tracked = match (session, message.slice(Member::Id)) {
        (Some(session), Some(id)) => Some(session.track(id).map_err(|error| match error {
            TrackError::DuplicateId => Cause::Unexpected("a request with this id is already in flight"),
            TrackError::TooMany => Cause::Overloaded,
        })?),
        _ => None,
    };
    let began = Instant::now();
    let deadline = began + ctx.snapshot.config.limits.max_call_duration.get();
    let mut holds = Holds::new(&upstream, slot, tracked, began.into_std(), pass);
    let mut again = true;
    let mut relist = true;
    loop {
        let declared = declared(message, &upstream, era);
        let mut aside = None;
        let channel = match declared {
            // Boxed: rare, and every call would carry the room.
            Some(declared) => Box::pin(own(message, &upstream, declared, &mut holds))
                .await
                .map(|own| {
                    aside = own.1;
                    own.0
                }),
            None => channel(ctx, &upstream, era, session).await,
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(failure) => {
                holds.failed(&failure);
                report(ctx, &failure);
                return Err(failure.cause().into());
            }
        };
        let in_session = session.map(Arc::as_ref);
        if era == Era::Session && channel.era() == Era::Stateless && is_subscription(message.method()) {
            holds.ended(UpstreamOutcome::Ok);
            let body = subscribe(message, &target, in_session)?;
            return Ok(Start::Answered(json(StatusCode::OK, body), false));
        }
        let (bytes, mapping) =
            outgoing::prepare(message, &target, era, &channel, in_session, state.as_deref())?;
        let extra = extra_headers(&target, message, &channel, era, client_headers)?;
        // A client in a session is asked by the gateway what a stateless server needs to know.
        let rounds = match (session, channel.era()) {
            (Some(session), Era::Stateless) if !upstream.may_ask(session.token.capabilities).is_empty() => {
                Some(Rounds::new(bytes.clone(), extra.clone()))
            }
            _ => None,
        };
        let posted = Outgoing {
            message: bytes,
            channel: &channel,
            extra,
            credential: upstream.credential.shown(),
            bounds: upstream.bounds,
        };
        let start = Exchange::start(&upstream.link, posted, Some(holds.call().clone()));
        let times = Times::new(Instant::now(), upstream.timeout, deadline);
        let own = session.is_some() && channel.era() == Era::Session && !channel.shared;
        let mut relay = Relay::new(Arc::clone(&upstream), channel, mapping, start, times, holds);
        // A place in the stream of a batch would be one of all its calls.
        if own && !ctx.entry.part && matches!(ctx.endpoint, OwnedEndpoint::Server(_)) {
            relay.give_places();
        }
        if let Some(rounds) = rounds {
            relay.may_ask(rounds);
        }
        if let Some(declared) = declared {
            relay.may_park(declared, aside);
        }
        let failure = match relay.head().await {
            Ok(()) => return Ok(Start::Sent(relay, quota)),
            Err(Ended::Cancelled | Ended::ToBeContinued) => {
                ctx.entry.reason = Some("client_cancelled");
                return Ok(Start::Nothing);
            }
            Err(Ended::Failed(failure)) => failure,
        };
        let (of, through) = (Arc::clone(relay.upstream()), Arc::clone(relay.channel()));
        // Boxed: rare, and every call would carry the room.
        let failure = Box::pin(is_lost(failure, &of, &through)).await;
        // The server wants other headers than its list said: it did not process the call.
        if relist && is_refused_with(&failure, HEADER_MISMATCH) {
            relist = false;
            if Box::pin(target.relist(began)).await {
                holds = relay.into_holds();
                holds.call().set_unsent();
                continue;
            }
        }
        match failure {
            // The server forgot the session: it did not process the call, and a new session can take it, unless the
            // session is what the client itself holds on to.
            Failure::SessionLost if again => {
                again = false;
                forget(ctx, &upstream, relay.channel(), session);
                if let Some(session) = session.filter(|session| session.is_sealed()) {
                    ctx.app.registry.lose(session, ctx.now);
                    relay.ended(UpstreamOutcome::HttpError);
                    return Err(Cause::SessionUnknown.into());
                }
                holds = relay.into_holds();
                holds.call().set_unsent();
            }
            // It speaks another revision than it did: the handshake no longer holds.
            failure if is_refused_with(&failure, UNSUPPORTED_VERSION) => {
                // Unless another call has found that out, and what it speaks now.
                let old = upstream
                    .link
                    .shape()
                    .as_ref()
                    .is_none_or(|shape| shape.era() == Era::Stateless);
                if old && let Some(shared) = upstream.link.forget_shape() {
                    upstream.link.sessions.end(shared);
                }
                upstream.link.mark_stale();
                if !again {
                    ctx.entry.upstream = Some(relay.failed(&failure));
                    report(ctx, &failure);
                    return Err(failure.cause().into());
                }
                again = false;
                holds = relay.into_holds();
                holds.call().set_unsent();
            }
            Failure::Status(status, Some(answer)) if is_clients_to_see(status, &answer, relay.mapping()) => {
                ctx.entry.upstream = Some(relay.ended(UpstreamOutcome::HttpError));
                let status = if era == Era::Stateless {
                    status
                } else {
                    StatusCode::OK
                };
                let mapping = relay.mapping();
                let answer = if mapping.task.is_some() {
                    // It may name the task, which the client knows by another id.
                    let origin = Origin::new(&ctx.who.key, relay.upstream(), message);
                    unfinished::answer(ctx, &origin, &answer, mapping).map_err(|failure| failure.cause())?
                } else {
                    terms::answer(*answer, mapping)
                };
                return Ok(Start::Answered(json(status, answer), true));
            }
            failure => {
                ctx.entry.upstream = Some(relay.failed(&failure));
                report(ctx, &failure);
                return Err(failure.cause().into());
            }
        }
    }
}

/// Many servers say with 400 that they do not know a session (it should be 404), and so they do of much else: what they
/// say of an ordinary request tells.
async fn is_lost(failure: Failure, upstream: &Upstream, channel: &Channel) -> Failure {
    let refused = match &failure {
        Failure::Status(StatusCode::BAD_REQUEST, Some(answer)) => {
            answer.raw(Member::Id).is_none_or(|id| id == b"null")
        }
        Failure::Status(StatusCode::BAD_REQUEST, None) => true,
        _ => false,
    };
    if refused && channel.session_id.is_some() && upstream.has_forgotten(channel).await {
        return Failure::SessionLost;
    }
    failure
}

/// Goes on with a call that has waited for its client.
async fn go_on(ctx: &mut Context, message: &Message, nonce: &[u8; 16]) -> Result<Start, Refusal> {
    let (target, quota) = target::admit(ctx, message, Era::Stateless).await?;
    let upstream = Arc::clone(&target.upstream);
    let request = Fingerprint::new(&ctx.who.key, &upstream.full_name, message);
    let slot = upstream.slot().await?;
    let (call, answer) = parked::take(ctx, message, nonce, request)?;
    let mut relay = call.relay;
    let id = message.slice(Member::Id).unwrap_or_default();
    relay.go_on(slot, id, message.slice(Member::MetaProgressToken), call.token);
    let channel = Arc::clone(relay.channel());
    if let Err(failure) = upstream.notify(&channel, answer).await {
        ctx.entry.upstream = Some(relay.failed(&failure));
        report(ctx, &failure);
        return Err(failure.cause().into());
    }
    Ok(Start::Sent(relay, quota))
}

const fn is_subscription(method: Method) -> bool {
    matches!(method, Method::ResourcesSubscribe | Method::ResourcesUnsubscribe)
}

/// Subscriptions of sessions are the gateway's to keep where the server has none.
fn subscribe(message: &Message, target: &Target, session: Option<&Session>) -> Result<Bytes, Cause> {
    let known = target.upstream.link.shape();
    let can = known.as_ref().is_some_and(|shape| shape.subscribe);
    let (Some(session), Some(uri)) = (session.filter(|_| can), target.uri()) else {
        return Err(Cause::MethodUnknown);
    };
    let server = &target.upstream.full_name;
    if message.method() == Method::ResourcesUnsubscribe {
        session.subscribed.remove(server, uri);
    } else if !session.subscribed.add(server, uri) {
        return Err(Cause::InvalidParams {
            problem: "a session has at most 64 subscriptions to servers of this kind",
        });
    }
    session.one_more.notify_one();
    Ok(reply::empty_result(
        message.id().unwrap_or_default(),
        Era::Session,
    ))
}

fn extra_headers(
    target: &Target,
    message: &Message,
    channel: &Channel,
    era: Era,
    client: &HeaderMap,
) -> Result<HeaderMap, Cause> {
    let mut extra = HeaderMap::with_capacity(10);
    let method = message.method();
    if channel.era() == Era::Stateless {
        extra.insert(MCP_METHOD, HeaderValue::from_static(method.as_str()));
        if let Some(name) = target.header(method) {
            extra.insert(MCP_NAME, name);
        }
        if era == Era::Stateless {
            for (name, value) in client {
                if name.as_str().starts_with("mcp-param-") {
                    extra.append(name, value.clone());
                }
            }
        }
        if !target.params().is_empty() {
            let mut room = MAX_PARAM_HEADERS;
            for (name, value) in params::headers_for(target.params(), message.raw(Member::Arguments)) {
                room = room
                    .checked_sub(name.as_str().len() + value.len())
                    .ok_or(Cause::InvalidParams {
                        problem: "arguments that this tool wants repeated in headers are too long for that",
                    })?;
                extra.insert(name, value);
            }
        }
    }
    Ok(extra)
}

/// A protocol error of the server about this very request. Never its own 401 or 403: those are about the gateway's
/// credential, and would send the client to the wrong authorization server.
fn is_clients_to_see(status: StatusCode, answer: &Message, mapping: &Mapping) -> bool {
    // The only request of its exchange is meant where an error says null, as JSON-RPC has it for what was not read on.
    let is_its_id = |id: &[u8]| id == b"null" || terms::same_id(id, &mapping.server_id);
    matches!(status.as_u16(), 400 | 404)
        && answer.kind() == Kind::ErrorResponse
        && answer.raw(Member::Id).is_some_and(is_its_id)
}

/// Did a stateless server refuse the message with this error, which says that it did not process it?
fn is_refused_with(failure: &Failure, code: i64) -> bool {
    let Failure::Status(StatusCode::BAD_REQUEST, Some(answer)) = failure else {
        return false;
    };
    answer.kind() == Kind::ErrorResponse && answer.integer(Member::ErrorCode) == Some(code)
}

pub(super) fn report(ctx: &Context, failure: &Failure) {
    tracing::warn!(
        request_id = ctx.entry.request_id.as_str(),
        server = ctx.entry.server.as_deref().unwrap_or_default(),
        error = %failure,
        "a call failed at its server"
    );
}

/// A JSON answer.
pub fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // At once for what is added on the way out as well.
    headers.reserve(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A stream of events as an answer.
pub fn events(stream: stream::Events) -> Response<Body> {
    let mut response = Response::new(Body::Stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}
