//! What a message asks for: its era, its session, and who answers it.
//!
//! Futures that are large are boxed here: a future is moved at every level it is awaited through, and every request
//! would pay for the largest.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Uri};

use super::batch;
use super::context::{Context, OwnedEndpoint};
use super::earlier::{self, Said};
use super::forward::{self, Asked, Located, Reached};
use super::permit::Permit;
use super::state::App;
use super::waits::Waits;
use crate::auth::identity::Identity;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::era;
use crate::mcp::headers::McpHeaders;
use crate::mcp::method::Method;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::mcp::scan::{self, Member};
use crate::proxy::primitive::Primitive;
use crate::proxy::registry::Session;
use crate::proxy::stream::Body;
use crate::proxy::{
    call, charge, lifecycle, list, listen, listening, logging, offered, parked, said, streamed,
};
use crate::telemetry::metrics::Method as MethodLabel;

/// The method of what names none.
pub(super) const NOTHING: &str = "";

/// Answers a POST.
pub async fn post(
    mut ctx: Context,
    headers: &HeaderMap,
    body: Bytes,
    uri: Uri,
    forwarded: bool,
) -> Response<Body> {
    let mcp = match McpHeaders::read(headers) {
        Ok(mcp) => mcp,
        Err(cause) => return refuse(ctx, cause, None, None, NOTHING),
    };
    if scan::is_batch(&body) {
        return Box::pin(batch::post(ctx, &mcp, headers, body, uri, forwarded)).await;
    }
    // The one parse of the message.
    let message = match Message::from_client(body, ctx.snapshot.config.limits.max_json_depth) {
        Ok(message) => message,
        Err(refused) => {
            let cause = Cause::Malformed(refused.fault);
            return refuse(ctx, cause, None, refused.id.as_deref(), NOTHING);
        }
    };
    ctx.entry.method = label(&message);
    let id = message.id().and_then(|_| message.slice(Member::Id));
    let era = match era::era(&mcp, &message) {
        Ok(era) => era,
        Err(cause) => return refuse(ctx, cause, None, id.as_deref(), message.method().as_str()),
    };
    let kept = match era {
        Era::Stateless => era::check_stateless(&mcp, &message),
        Era::Session => era::check_session(&message),
    };
    if let Err(cause) = kept {
        return refuse(ctx, cause, Some(era), id.as_deref(), message.method().as_str());
    }
    if ctx.snapshot.config.gateway.suspend {
        return ctx.refuse(Cause::Suspended.into(), Some(era), id.as_deref());
    }
    match era {
        Era::Stateless => match waits_at(&ctx, &message, forwarded) {
            None => stateless(ctx, &message, headers).await,
            Some(to) => Box::pin(at_owner(ctx, &message, headers, uri, to)).await,
        },
        Era::Session if message.method() == Method::Initialize => {
            Box::pin(lifecycle::initialize(ctx, &message)).await
        }
        Era::Session => {
            if !forwarded && message.kind() != Kind::Request {
                let passed = earlier::Passed {
                    id: mcp.session,
                    uri: &uri,
                    headers,
                };
                Box::pin(earlier::tell(&ctx, &passed, Said::Message(&message))).await;
            }
            match forward::locate(&ctx, mcp.session, forwarded) {
                Ok(Located::Here(session)) => in_session(ctx, &message, headers, session).await,
                Ok(Located::At(to)) => {
                    let caller = Caller::of(&ctx);
                    let asked = Asked {
                        id: mcp.session,
                        method: http::Method::POST,
                        uri,
                        headers,
                        body: message.bytes().clone(),
                        waits: id.clone().into(),
                    };
                    match Box::pin(forward::reach(ctx, to, asked)).await {
                        Reached::Answered(response) => {
                            response.map(|body| caller.guard(body, headers, id.clone()))
                        }
                        Reached::Here(ctx, session) => in_session(*ctx, &message, headers, session).await,
                        Reached::Refused(ctx, cause) => ctx.refuse(cause.into(), Some(era), id.as_deref()),
                    }
                }
                Err(cause) => refuse(ctx, cause, Some(era), id.as_deref(), message.method().as_str()),
            }
        }
    }
}

/// The other replica at which the call waits that this request goes on with.
fn waits_at(ctx: &Context, message: &Message, forwarded: bool) -> Option<std::net::SocketAddr> {
    if forwarded || message.span(Member::RequestState).is_none() {
        return None;
    }
    let discovery = &ctx.app.discovery;
    let at = parked::ticket(ctx, message)?.at?;
    (discovery.me() != Some(at)).then_some(())?;
    Some(std::net::SocketAddr::new(at, discovery.port()?))
}

/// Sends a stateless request to the replica at which its call waits. Where that is gone, so is the call.
async fn at_owner(
    ctx: Context,
    message: &Message,
    headers: &HeaderMap,
    uri: Uri,
    to: std::net::SocketAddr,
) -> Response<Body> {
    let id = message.slice(Member::Id);
    let caller = Caller::of(&ctx);
    let body = message.bytes().clone();
    let post = http::Method::POST;
    let waits = Waits::Stateless(id.clone());
    match forward::send(ctx, to, post, uri, headers, body, waits).await {
        forward::Sent::Answered(response) => response.map(|body| caller.guard(body, headers, id)),
        forward::Sent::NobodyThere(ctx) => {
            ctx.refuse(Cause::OwnerLost.into(), Some(Era::Stateless), id.as_deref())
        }
    }
}

async fn stateless(ctx: Context, message: &Message, headers: &HeaderMap) -> Response<Body> {
    if message.kind() == Kind::Notification {
        return accepted(ctx, message, Era::Stateless);
    }
    match message.method() {
        Method::ToolsCall => Box::pin(call::call(ctx, message, Era::Stateless, headers, None)).await,
        Method::ToolsList => Box::pin(list::answer(ctx, message, None, Primitive::Tools)).await,
        Method::Discover => Box::pin(lifecycle::discover(ctx, message)).await,
        Method::SubscriptionsListen => Box::pin(listen::answer(ctx, message, headers)).await,
        // Prompts, resources, completions; what is not offered is unknown.
        _ => Box::pin(offered::answer(ctx, message, Era::Stateless, headers, None)).await,
    }
}

pub(super) async fn in_session(
    ctx: Context,
    message: &Message,
    headers: &HeaderMap,
    session: Arc<Session>,
) -> Response<Body> {
    match message.kind() {
        Kind::Request => match message.method() {
            Method::ToolsCall => {
                Box::pin(call::call(ctx, message, Era::Session, headers, Some(session))).await
            }
            Method::ToolsList => Box::pin(list::answer(ctx, message, Some(&session), Primitive::Tools)).await,
            Method::Ping => lifecycle::ping(ctx, message, Era::Session),
            Method::LoggingSetLevel if offered::logs(&ctx) => {
                Box::pin(logging::set_level(ctx, message, &session)).await
            }
            _ => {
                Box::pin(offered::answer(
                    ctx,
                    message,
                    Era::Session,
                    headers,
                    Some(session),
                ))
                .await
            }
        },
        Kind::Notification => {
            // Whatever its quota: who cancels gives something back.
            lifecycle::heard(&session, message);
            said(ctx, message, &session).await
        }
        Kind::Response | Kind::ErrorResponse => said(ctx, message, &session).await,
    }
}

/// What a client says beside its requests goes to the servers that it is for.
async fn said(ctx: Context, message: &Message, session: &Arc<Session>) -> Response<Body> {
    if let Err(limited) = charge::client(&ctx, message.method().as_str()) {
        return ctx.refuse(limited, Some(Era::Session), None);
    }
    match Box::pin(said::said(session, &ctx.snapshot, message)).await {
        Ok(()) => taken(ctx),
        Err(cause) => ctx.refuse(cause.into(), Some(Era::Session), None),
    }
}

/// Answers a GET: the client listens to what belongs to none of its requests.
pub async fn get(mut ctx: Context, headers: &HeaderMap, uri: Uri, forwarded: bool) -> Response<Body> {
    ctx.entry.method = MethodLabel::Stream;
    let mcp = match McpHeaders::read(headers) {
        Ok(mcp) => mcp,
        Err(cause) => return refuse(ctx, cause, None, None, charge::GET),
    };
    if let Err(cause) = era::era_without_body(&mcp) {
        return refuse(ctx, cause, None, None, charge::GET);
    }
    if !ctx.snapshot.config.features.any_push() {
        let allow = "POST, DELETE";
        return refuse(ctx, Cause::MethodNotAllowed { allow }, None, None, charge::GET);
    }
    if ctx.snapshot.config.gateway.suspend {
        return ctx.refuse(Cause::Suspended.into(), None, None);
    }
    match forward::locate(&ctx, mcp.session, forwarded) {
        Ok(Located::Here(session)) => listening::open(ctx, headers, session),
        Ok(Located::At(to)) => {
            let caller = Caller::of(&ctx);
            let asked = Asked {
                id: mcp.session,
                method: http::Method::GET,
                uri,
                headers,
                body: Bytes::new(),
                waits: None.into(),
            };
            match Box::pin(forward::reach(ctx, to, asked)).await {
                Reached::Answered(response) => response.map(|body| caller.guard(body, headers, None)),
                Reached::Here(ctx, session) => listening::open(*ctx, headers, session),
                Reached::Refused(ctx, cause) => ctx.refuse(cause.into(), None, None),
            }
        }
        Err(cause) => refuse(ctx, cause, None, None, charge::GET),
    }
}

/// Who calls, and what for.
pub(super) struct Caller {
    app: Arc<App>,
    who: Arc<Identity>,
    endpoint: OwnedEndpoint,
}

impl Caller {
    pub(super) fn of(ctx: &Context) -> Self {
        Self {
            app: Arc::clone(&ctx.app),
            who: Arc::clone(&ctx.who),
            endpoint: ctx.endpoint.clone(),
        }
    }

    /// The owner's answer: who calls is judged here for as long as it lasts, since the credential came here.
    pub(super) fn guard(&self, body: Body, headers: &HeaderMap, id: Option<Bytes>) -> Body {
        match body {
            Body::Stream(events) => {
                let permit = Permit::of_caller(&self.app, &self.who, &self.endpoint, headers);
                Body::Stream(streamed::guarded(&self.app, events, permit, id))
            }
            whole => whole,
        }
    }
}

/// Answers a DELETE: the end of a session.
pub async fn delete(ctx: Context, headers: &HeaderMap, uri: Uri, forwarded: bool) -> Response<Body> {
    let mcp = match McpHeaders::read(headers) {
        Ok(mcp) => mcp,
        Err(cause) => return refuse(ctx, cause, None, None, charge::DELETE),
    };
    if let Err(cause) = era::era_without_body(&mcp) {
        return refuse(ctx, cause, None, None, charge::DELETE);
    }
    let id = mcp
        .session
        .and_then(|id| std::str::from_utf8(id).ok())
        .unwrap_or_default();
    let located = forward::locate(&ctx, mcp.session, forwarded);
    if !forwarded && located.is_ok() {
        let passed = earlier::Passed {
            id: mcp.session,
            uri: &uri,
            headers,
        };
        Box::pin(earlier::tell(&ctx, &passed, Said::End)).await;
    }
    match located {
        Ok(Located::Here(session)) => lifecycle::end(ctx, id, &session),
        Ok(Located::At(to)) => {
            let asked = Asked {
                id: mcp.session,
                method: http::Method::DELETE,
                uri,
                headers,
                body: Bytes::new(),
                waits: None.into(),
            };
            match Box::pin(forward::reach(ctx, to, asked)).await {
                Reached::Answered(response) => response,
                Reached::Here(ctx, session) => lifecycle::end(*ctx, id, &session),
                Reached::Refused(ctx, cause) => ctx.refuse(cause.into(), None, None),
            }
        }
        Err(cause) => refuse(ctx, cause, None, None, charge::DELETE),
    }
}

/// Refuses what cannot be served. It is charged like everything else: reading it was work, and it can be sent again and
/// again.
pub(super) fn refuse(
    ctx: Context,
    cause: Cause,
    era: Option<Era>,
    id: Option<&[u8]>,
    method: &str,
) -> Response<Body> {
    let refusal = match charge::client(&ctx, method) {
        Ok(()) => cause.into(),
        Err(limited) => limited,
    };
    ctx.refuse(refusal, era, id)
}

/// 202, the answer to what has none. It is charged like everything else: reading it was work.
fn accepted(ctx: Context, message: &Message, era: Era) -> Response<Body> {
    if let Err(limited) = charge::client(&ctx, message.method().as_str()) {
        return ctx.refuse(limited, Some(era), None);
    }
    taken(ctx)
}

pub(super) fn taken(ctx: Context) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::ACCEPTED;
    ctx.answer(response)
}

pub(super) fn label(message: &Message) -> MethodLabel {
    match message.kind() {
        Kind::Response | Kind::ErrorResponse => MethodLabel::Response,
        Kind::Request | Kind::Notification => match message.method() {
            Method::ToolsCall => MethodLabel::ToolsCall,
            method => MethodLabel::of(method.as_str()),
        },
    }
}
