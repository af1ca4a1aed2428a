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
use super::state::App;
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
/// Replicas that are asked before this one serves a session itself.
const MAX_HOPS: usize = 3;
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
            Owner::Peer(to) => Ok(Located::At(to)),
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
    let owner = app.discovery.owner(&token.nonce);
    if !stay && let Owner::Peer(to) = owner {
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
    // Another's request was sent here by somebody who could not reach the owner: the next one may find it again.
    if owner == Owner::Me {
        session.set_owned_at(epoch);
    }
    Ok(Located::Here(session))
}

/// A request of a session that another replica owns.
pub struct Asked<'r> {
    /// The session's id.
    pub id: Option<&'r [u8]>,
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Who waits for the answer.
    pub waits: Waits,
}

/// Who serves a request of a session.
pub enum Reached {
    /// Its owner did.
    Answered(Response<Body>),
    /// This replica is to, since there is nobody else.
    Here(Box<Context>, Arc<Session>),
    /// Nobody.
    Refused(Box<Context>, Cause),
}

/// Sends a request to the owner of its session, which is at `to`. Where nobody is there, the next in line is asked: all
/// replicas that cannot reach the owner agree on that one.
pub async fn reach(mut ctx: Context, mut to: SocketAddr, asked: Asked<'_>) -> Reached {
    for hop in 1..=MAX_HOPS {
        let app = Arc::clone(&ctx.app);
        let (method, uri) = (asked.method.clone(), asked.uri.clone());
        let (body, waits) = (asked.body.clone(), asked.waits.clone());
        match send(ctx, to, method, uri, asked.headers, body, waits).await {
            Sent::Answered(response) => {
                // It opens its own sessions on servers; one that the id itself names goes on.
                if let Some(id) = asked.id.and_then(|id| std::str::from_utf8(id).ok()) {
                    app.registry.hand_over(id);
                }
                return Reached::Answered(response);
            }
            Sent::NobodyThere(back) => ctx = *back,
        }
        to = match locate(&ctx, asked.id, hop == MAX_HOPS) {
            Ok(Located::Here(session)) => return Reached::Here(Box::new(ctx), session),
            Ok(Located::At(next)) => next,
            Err(cause) => return Reached::Refused(Box::new(ctx), cause),
        };
    }
    Reached::Refused(Box::new(ctx), Cause::OwnerLost)
}

/// Does another replica own the session with this nonce, and is it there?
pub async fn is_elsewhere(app: &App, nonce: &[u8; 16]) -> bool {
    let Owner::Peer(to) = app.discovery.owner(nonce) else {
        return false;
    };
    let Some(hop) = app.hop.load_full() else {
        return false;
    };
    let way = hop.way(to);
    way.life.is_proven(&way.pool).await
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
    // Whoever listens or ends a session may do so twice.
    let again = matches!(method, Method::GET | Method::DELETE);
    let limits = &ctx.snapshot.config.limits;
    let most = usize::try_from(limits.max_response_bytes)
        .unwrap_or(usize::MAX)
        .saturating_add(ADDED);
    let patience = limits.max_call_duration.get() + MARGIN;
    let path = uri.path().parse().unwrap_or_default();
    let way = hop.way(to);
    let end = way.life.end();
    let exchange = async {
        let (response, lease) = hop.forward(&way, method, path, headers, &forwarded, body).await?;
        Ok::<_, ExchangeError>(take(response, lease, Arc::clone(&way.pool), most).await)
    };
    let answered = tokio::select! {
        biased;
        answered = exchange => Ok(answered),
        () = way.life.lost(&way.pool, patience) => Err(Lost),
    };
    match answered {
        Ok(Ok(Some(Taken::Whole(response)))) => {
            ctx.entry.allowed(response.status());
            // The owner makes the record.
            ctx.entry.recorded = false;
            Sent::Answered(response)
        }
        Ok(Ok(Some(Taken::Stream(head, body, lease, pool)))) => {
            let finished = move || pool.put(lease);
            let most = most.saturating_mul(LINE_BREAK);
            let events = passed::events(ctx, to.ip(), body, waits, most, end, finished);
            Sent::Answered(Response::from_parts(head, Body::Stream(events)))
        }
        Ok(Err(ExchangeError::Connect(error))) => {
            tracing::info!(replica = %to, %error, "a replica cannot be reached; its sessions go to the next");
            if error.is_silence() {
                way.life.cut();
            }
            ctx.app.discovery.suspect(to.ip());
            Sent::NobodyThere(Box::new(ctx))
        }
        Ok(Ok(Some(Taken::TooLong))) => Sent::Answered(waits.refuse(ctx, Cause::ResponseTooLarge)),
        Ok(Ok(None) | Err(ExchangeError::Broken(..))) | Err(Lost) => {
            tracing::warn!(replica = %to, "a replica was lost with a call in flight");
            hop.forget(to);
            ctx.app.discovery.suspect(to.ip());
            if again {
                return Sent::NobodyThere(Box::new(ctx));
            }
            Sent::Answered(waits.refuse(ctx, Cause::OwnerLost))
        }
    }
}

/// A replica that gives no sign of life.
struct Lost;

/// What this replica vouches for to another.
pub(super) fn vouch(ctx: &Context) -> Forwarded {
    let texts = |list: &[Arc<str>]| list.iter().map(|text| text.as_ref().to_owned()).collect();
    Forwarded {
        method: ctx.who.method.as_ref().to_owned(),
        subject: ctx.who.subject.as_ref().to_owned(),
        groups: texts(&ctx.who.groups),
        scopes: texts(&ctx.who.scopes),
        expires: ctx.who.expires,
        client: ctx.entry.client,
        request_id: ctx.entry.request_id.as_str().to_owned(),
        copy: false,
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
