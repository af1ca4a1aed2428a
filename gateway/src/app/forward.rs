//! Whose session is it, and the hop to its owner.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::context::Context;
use super::passed;
use super::waits::Waits;
use crate::auth::identity::Identity;
use crate::mcp::reply::Cause;
use crate::mcp::seal::TokenKind;
use crate::mcp::session;
use crate::net::pool::ExchangeError;
use crate::net::{Lease, Pool};
use crate::peer::Owner;
use crate::peer::hop::Forwarded;
use crate::proxy::channel::Channel;
use crate::proxy::lifecycle;
use crate::proxy::opened::Opened;
use crate::proxy::registry::{AddError, Session};
use crate::proxy::stream::Body;

/// How much longer than a server's answer the owner's may be: an envelope, and links in its federated spelling.
const ADDED: usize = 1 << 20;
/// What becomes of a byte at most in an event: a line break begins another `data` field.
const LINE_BREAK: usize = 7;
/// The owner keeps the limits of the call; this is only for a hop that hangs.
const MARGIN: Duration = Duration::from_secs(5);

/// Where a session is served.
pub enum Located {
    /// By this replica.
    Here(Arc<Session>),
    /// By that one.
    At(SocketAddr),
}

/// Finds the session with this id, or its owner. `stay`: this replica serves it, whoever owns it.
pub fn locate(ctx: &Context, id: Option<&[u8]>, stay: bool) -> Result<Located, Cause> {
    let id = id.ok_or(Cause::SessionMissing)?;
    let id = std::str::from_utf8(id).map_err(|_| Cause::SessionUnknown)?;
    let app = &ctx.app;
    let epoch = app.discovery.epoch();
    if let Some(session) = app.registry.get(id, ctx.now) {
        // A session is bound to its principal: with another's token it does not exist.
        if session.token.principal != ctx.who.key || *session.endpoint != *ctx.endpoint.binding() {
            return Err(Cause::SessionUnknown);
        }
        if session.is_lost() {
            return Err(Cause::SessionUnknown);
        }
        if stay || session.owned_at(epoch) {
            return Ok(Located::Here(session));
        }
        return match app.discovery.owner(&session.token.nonce) {
            Owner::Me => {
                session.set_owned_at(epoch);
                Ok(Located::Here(session))
            }
            Owner::Peer(to) => {
                // The next owner opens its own sessions on servers; one that the id itself names goes on.
                app.registry.remove(id);
                Ok(Located::At(to))
            }
        };
    }
    let plain = ctx
        .snapshot
        .sealer
        .open(TokenKind::Session, ctx.endpoint.binding(), id.as_bytes())
        .map_err(|_| Cause::SessionUnknown)?;
    let token = session::Session::decode(&plain).map_err(|_| Cause::SessionUnknown)?;
    if token.principal != ctx.who.key || token.is_expired(ctx.now) {
        return Err(Cause::SessionUnknown);
    }
    if !stay && let Owner::Peer(to) = app.discovery.owner(&token.nonce) {
        return Ok(Located::At(to));
    }
    let channel = token.upstream.as_ref().and_then(Channel::from_seal);
    // Not before it is certain that this replica takes it over: who holds it and lets go of it ends it.
    let held = || {
        let upstream = ctx.snapshot.upstream(ctx.endpoint.binding())?;
        Some((
            Arc::clone(&upstream.full_name),
            Opened::new(&upstream.link, channel?),
        ))
    };
    let session = lifecycle::admit(ctx, id, token, held).map_err(|error| match error {
        AddError::Ended => Cause::SessionUnknown,
        AddError::TooMany => Cause::SessionLimit,
    })?;
    session.set_owned_at(epoch);
    Ok(Located::Here(session))
}

/// What became of a hop.
pub enum Sent {
    /// The owner's answer, or a refusal.
    Answered(Response<Body>),
    /// There is nobody: the request was not processed.
    NobodyThere(Box<Context>),
}

/// Sends a request to the owner of its session, or of the call that it goes on with.
pub async fn send(
    mut ctx: Context,
    to: SocketAddr,
    method: Method,
    uri: Uri,
    headers: &HeaderMap,
    body: Bytes,
    waits: Waits,
) -> Sent {
    let Some(hop) = ctx.app.hop.load_full() else {
        return Sent::NobodyThere(Box::new(ctx));
    };
    let forwarded = vouch(&ctx);
    let limits = &ctx.snapshot.config.limits;
    let most = usize::try_from(limits.max_response_bytes)
        .unwrap_or(usize::MAX)
        .saturating_add(ADDED);
    let patience = limits.max_call_duration.get() + MARGIN;
    let path = uri.path().parse().unwrap_or_default();
    let exchange = async {
        let (response, lease, pool) = hop.forward(to, method, path, headers, &forwarded, body).await?;
        Ok::<_, ExchangeError>(take(response, lease, pool, most).await)
    };
    match tokio::time::timeout(patience, exchange).await {
        Ok(Ok(Some(Taken::Whole(response)))) => {
            ctx.entry.allowed(response.status());
            // The owner makes the record.
            ctx.entry.recorded = false;
            Sent::Answered(response)
        }
        Ok(Ok(Some(Taken::Stream(head, body, lease, pool)))) => {
            let finished = move || pool.put(lease);
            let most = most.saturating_mul(LINE_BREAK);
            let events = passed::events(ctx, to.ip(), body, waits, most, finished);
            Sent::Answered(Response::from_parts(head, Body::Stream(events)))
        }
        Ok(Err(ExchangeError::Connect(error))) => {
            tracing::info!(replica = %to, %error, "a replica cannot be reached; its sessions go to the next");
            ctx.app.discovery.suspect(to.ip());
            Sent::NobodyThere(Box::new(ctx))
        }
        Ok(Ok(Some(Taken::TooLong))) => Sent::Answered(waits.refuse(ctx, Cause::ResponseTooLarge)),
        Ok(Ok(None) | Err(ExchangeError::Broken(..))) | Err(_) => {
            tracing::warn!(replica = %to, "a replica was lost with a call in flight");
            ctx.app.discovery.suspect(to.ip());
            Sent::Answered(waits.refuse(ctx, Cause::OwnerLost))
        }
    }
}

fn vouch(ctx: &Context) -> Forwarded {
    let texts = |list: &[Arc<str>]| list.iter().map(|text| text.as_ref().to_owned()).collect();
    Forwarded {
        method: ctx.who.method.as_ref().to_owned(),
        subject: ctx.who.subject.as_ref().to_owned(),
        groups: texts(&ctx.who.groups),
        scopes: texts(&ctx.who.scopes),
        expires: ctx.who.expires,
        client: ctx.entry.client,
        request_id: ctx.entry.request_id.as_str().to_owned(),
    }
}

/// The principal another replica vouches for.
pub fn identity(forwarded: &Forwarded) -> Identity {
    let texts = |list: &[String]| list.iter().map(|text| Arc::from(text.as_str())).collect();
    Identity::new(
        forwarded.method.as_str().into(),
        forwarded.subject.as_str().into(),
        texts(&forwarded.groups),
        texts(&forwarded.scopes),
        forwarded.expires,
    )
}

/// The owner's answer.
enum Taken {
    /// In one piece.
    Whole(Response<Body>),
    /// As it comes. The connection is given back at its end.
    Stream(http::response::Parts, Incoming, Lease, Arc<Pool>),
    /// Longer than any that a replica sends.
    TooLong,
}

/// The owner's answer as ours. `None`: it was cut off.
async fn take(response: Response<Incoming>, lease: Lease, pool: Arc<Pool>, most: usize) -> Option<Taken> {
    let (mut head, body) = response.into_parts();
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::DATE,
    ] {
        head.headers.remove(name);
    }
    let streamed = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == b"text/event-stream");
    if streamed {
        return Some(Taken::Stream(head, body, lease, pool));
    }
    match Limited::new(body, most).collect().await {
        Ok(bytes) => {
            pool.put(lease);
            let body = Body::from(bytes.to_bytes());
            Some(Taken::Whole(Response::from_parts(head, body)))
        }
        Err(error) => error.is::<LengthLimitError>().then_some(Taken::TooLong),
    }
}
