//! Opening, describing and ending sessions, and what the gateway answers by itself.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode};
use tokio::time::timeout;

use super::call::json;
use super::channel::SESSION_ID;
use super::charge;
use super::exchange::Failure;
use super::offered;
use super::opened::{self, Opened, Opener};
use super::registry::{AddError, Held, Session};
use super::stream::Body;
use super::upstream::Upstream;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::refusal::Refusal;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::{Era, Revision};
use crate::mcp::scan::Member;
use crate::mcp::seal::{SealError, TokenKind};
use crate::mcp::session::{self, Capabilities, ClientInfo};
use crate::peer::Owner;

/// A session's longest life.
const SESSION_SECONDS: u64 = 24 * 3600;
/// How long a stateless client may keep what `server/discover` says.
const DISCOVER_TTL_MS: u64 = 60_000;

/// Answers `initialize`: a new session.
pub async fn initialize(mut ctx: Context, message: &Message) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    match open(&mut ctx, message, &id).await {
        Ok(response) => ctx.answer(response),
        Err(refusal) => ctx.refuse(refusal, Some(Era::Session), Some(&id)),
    }
}

async fn open(ctx: &mut Context, message: &Message, id: &[u8]) -> Result<Response<Body>, Refusal> {
    let method = message.method().as_str();
    charge::client(ctx, method)?;
    let requested = message.str(Member::ProtocolVersion).ok_or(Cause::InvalidParams {
        problem: "params.protocolVersion is a string",
    })?;
    let revision = Revision::negotiate(Revision::parse(requested.as_bytes()));
    let mut token = session::Session {
        nonce: ctx.app.discovery.own_nonce(),
        principal: ctx.who.key,
        revision,
        capabilities: message
            .raw(Member::Capabilities)
            .map_or(Capabilities::NONE, Capabilities::read),
        client: message
            .raw(Member::ClientInfo)
            .map(ClientInfo::read)
            .unwrap_or_default(),
        expires: ctx.now + SESSION_SECONDS,
        upstream: None,
    };
    if !ctx.app.registry.has_room(&token.principal, cap(ctx)) {
        return Err(Cause::SessionLimit.into());
    }
    // Ended again by whatever fails from here on.
    let mut held = None;
    let served_one = served(ctx)?;
    charge::shared(ctx, method)?;
    let (server_info, instructions) = match served_one {
        None => (ctx.snapshot.server_info.clone(), None),
        Some(upstream) => {
            ctx.entry.server = Some(Arc::clone(&upstream.full_name));
            let (opened, info, instructions) = meet(&upstream, &token).await?;
            token.upstream = opened.as_ref().and_then(|opened| opened.channel().to_seal());
            held = opened.map(|opened| (Arc::clone(&upstream.full_name), opened));
            (info, instructions)
        }
    };
    let sealed = ctx
        .snapshot
        .sealer
        .seal(
            TokenKind::Session,
            ctx.endpoint.binding(),
            &token.encode().map_err(|_| Cause::SessionTooLarge)?,
        )
        .map_err(|error| match error {
            SealError::TooLong => Cause::SessionTooLarge,
            SealError::NoRandom => Cause::Internal,
        })?;
    let value = HeaderValue::try_from(&sealed).map_err(|_| Cause::Internal)?;
    let session = admit(ctx, &sealed, token, || held).map_err(|error| match error {
        AddError::Ended => Cause::Internal,
        AddError::TooMany => Cause::SessionLimit,
    })?;
    session.set_owned_at(ctx.app.discovery.epoch());
    let body = reply::initialize_result(
        id,
        revision,
        &offered::capabilities(ctx, Era::Session),
        &server_info,
        instructions.as_deref(),
    );
    let mut response = json(StatusCode::OK, body);
    response.headers_mut().insert(SESSION_ID, value);
    Ok(response)
}

/// How many sessions one principal may have.
fn cap(ctx: &Context) -> usize {
    usize::try_from(ctx.snapshot.config.limits.max_sessions_per_client).unwrap_or(usize::MAX)
}

/// Adds a session to those of this replica. What it holds from the start is asked for only if it is added.
pub fn admit(
    ctx: &Context,
    id: &str,
    token: session::Session,
    held: impl FnOnce() -> Option<Held>,
) -> Result<Arc<Session>, AddError> {
    let mine = |nonce: &[u8; 16]| ctx.app.discovery.owner(nonce) == Owner::Me;
    let make = |token| Session::new(ctx.endpoint.binding(), token, held(), ctx.now);
    ctx.app.registry.add(id, token, cap(ctx), ctx.now, mine, make)
}

/// The one server of the endpoint, if it is one for a single server. A server or a set that this principal may use
/// nothing of does not exist.
fn served(ctx: &Context) -> Result<Option<Arc<Upstream>>, Cause> {
    let name = match &ctx.endpoint {
        OwnedEndpoint::Server(name) => name,
        OwnedEndpoint::Federated => return Ok(None),
        OwnedEndpoint::Set(_) => {
            let mut upstreams = ctx.snapshot.upstreams.iter();
            return if upstreams.any(|upstream| offered::exists(ctx, upstream)) {
                Ok(None)
            } else {
                Err(Cause::NotFound)
            };
        }
    };
    let upstream = ctx.snapshot.upstream(name).ok_or(Cause::NotFound)?;
    if offered::exists(ctx, upstream) {
        Ok(Some(Arc::clone(upstream)))
    } else {
        Err(Cause::NotFound)
    }
}

/// Gets to know the one server: its session, opened with the client's own words, where it has sessions.
async fn meet(
    upstream: &Arc<Upstream>,
    token: &session::Session,
) -> Result<(Option<Opened>, bytes::Bytes, Option<String>), Cause> {
    let failed = |failure: Failure| {
        tracing::warn!(server = %upstream.full_name, error = %failure, "no session with the server");
        failure.cause()
    };
    if upstream.credential.is_missing() {
        return Err(Cause::UpstreamUnavailable);
    }
    // A server that hangs holds as many of the gateway's requests as it may have calls, and no more.
    let _slot = upstream.slot().await?;
    let meeting = async {
        let shape = upstream.shape_in_session().await?;
        if !shape.has_sessions() {
            return Ok((None, shape.server_info.clone(), shape.instructions.clone()));
        }
        let opener = Opener::client(upstream, token);
        let (opened, shape) = opened::open(upstream, opener, false).await?;
        Ok((Some(opened), shape.server_info, shape.instructions))
    };
    // The server has its time for all of it.
    let met = timeout(upstream.timeout, meeting).await;
    met.unwrap_or(Err(Failure::Timeout)).map_err(failed)
}

/// Answers `server/discover`.
pub async fn discover(mut ctx: Context, message: &Message) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    let done = async {
        let method = message.method().as_str();
        charge::client(&ctx, method)?;
        let served_one = served(&ctx)?;
        charge::shared(&ctx, method)?;
        match served_one {
            None => Ok((None, ctx.snapshot.server_info.clone(), None)),
            Some(upstream) => {
                let known = upstream.link.shape().clone();
                let shape = if let Some(shape) = known {
                    shape
                } else {
                    let _slot = upstream.slot().await?;
                    upstream.shape().await.map_err(|failure| failure.cause())?
                };
                Ok::<_, Refusal>((
                    Some(Arc::clone(&upstream.full_name)),
                    shape.server_info.clone(),
                    shape.instructions.clone(),
                ))
            }
        }
    };
    match done.await {
        Ok((server, info, instructions)) => {
            ctx.entry.server = server;
            let body = reply::discover_result(
                &id,
                &offered::capabilities(&ctx, Era::Stateless),
                &info,
                instructions.as_deref(),
                DISCOVER_TTL_MS,
            );
            ctx.answer(json(StatusCode::OK, body))
        }
        Err(refusal) => ctx.refuse(refusal, Some(Era::Stateless), Some(&id)),
    }
}

/// Answers `ping`.
pub fn ping(ctx: Context, message: &Message, era: Era) -> Response<Body> {
    let id = message.id().unwrap_or_default();
    let method = message.method().as_str();
    let charged = charge::client(&ctx, method).and_then(|()| charge::shared(&ctx, method));
    match charged {
        Ok(()) => {
            let body = reply::empty_result(id, era);
            ctx.answer(json(StatusCode::OK, body))
        }
        Err(refusal) => ctx.refuse(refusal, Some(era), Some(id)),
    }
}

/// Takes a notification: `cancelled` reaches its call, the others need nothing done.
pub fn heard(session: &Session, message: &Message) {
    if message.method() == Method::Cancelled
        && let Some(id) = message.raw(Member::RequestId)
    {
        session.cancel(id);
    }
}

/// Ends a session: answers DELETE.
pub fn end(ctx: Context, id: &str, session: &Arc<Session>) -> Response<Body> {
    // Charged, and never refused for it: who ends a session gives something back.
    charge::client(&ctx, charge::DELETE).ok();
    ctx.app.registry.end(id, &session.token, ctx.now);
    session.cancel_all();
    session.close();
    // 200, not 202: a client library in wide use reports anything else as a failure.
    ctx.answer(Response::new(Body::Empty))
}
