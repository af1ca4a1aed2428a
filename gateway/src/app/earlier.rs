//! What a client says about something in flight when its session has another owner than before, since a replica came, leaves or
//! could not be reached for a while: it is said to those as well that had the session under earlier sets, as the call that is
//! answered or cancelled is still theirs.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};

use super::context::Context;
use super::forward;
use super::serve;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::headers::McpHeaders;
use crate::mcp::seal::TokenKind;
use crate::mcp::session;
use crate::peer::Owner;
use crate::proxy::registry::Session;
use crate::proxy::stream::Body;
use crate::proxy::{lifecycle, said};

/// What is said.
pub(super) enum Said<'m> {
    /// An answer to a question, or a notification.
    Message(&'m Message),
    /// The session is over.
    End,
}

/// A request as it is passed on.
pub(super) struct Passed<'r> {
    pub(super) id: Option<&'r [u8]>,
    pub(super) uri: &'r Uri,
    pub(super) headers: &'r HeaderMap,
}

/// Says it to earlier owners, this replica among them. Nobody waits for the others.
pub(super) async fn tell(ctx: &Context, passed: &Passed<'_>, said: Said<'_>) {
    let discovery = &ctx.app.discovery;
    if !discovery.has_changed() {
        return;
    }
    let Some(id) = passed.id.and_then(|id| std::str::from_utf8(id).ok()) else {
        return;
    };
    let own = known(ctx, id);
    let nonce = own.as_ref().map(|session| session.token.nonce);
    let Some(nonce) = nonce.or_else(|| opened(ctx, id)) else {
        return;
    };
    let owner = discovery.owner(&nonce);
    let (method, body) = match &said {
        Said::Message(message) => (Method::POST, message.bytes().clone()),
        Said::End => (Method::DELETE, Bytes::new()),
    };
    for to in discovery.earlier_owners(&nonce, owner) {
        copy(ctx, to, &method, passed, body.clone());
    }
    if owner != Owner::Me
        && let Some(session) = own
    {
        hear(ctx, id, &session, said).await;
    }
}

/// A copy that came from another replica. It is not charged: the owner is told too, and charges it.
pub(super) async fn take(
    mut ctx: Context,
    method: &Method,
    headers: &HeaderMap,
    body: Option<Bytes>,
) -> Response<Body> {
    // The owner makes the record.
    ctx.entry.recorded = false;
    let mcp = McpHeaders::read(headers).ok();
    let id = mcp.and_then(|mcp| std::str::from_utf8(mcp.session?).ok());
    let session = id.and_then(|id| Some((id, known(&ctx, id)?)));
    if let Some((id, session)) = session {
        let depth = ctx.snapshot.config.limits.max_json_depth;
        match body.and_then(|body| Message::from_client(body, depth).ok()) {
            Some(message) if message.kind() != Kind::Request => {
                hear(&ctx, id, &session, Said::Message(&message)).await;
            }
            None if *method == Method::DELETE => hear(&ctx, id, &session, Said::End).await,
            _ => {}
        }
    }
    let mut response = serve::taken(ctx);
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// The session with this id, if this replica has it and it is this principal's on this endpoint.
fn known(ctx: &Context, id: &str) -> Option<Arc<Session>> {
    let session = ctx.app.registry.get(id, ctx.now)?;
    let its = session.token.principal == ctx.who.key && *session.endpoint == *ctx.endpoint.binding();
    its.then_some(session)
}

/// The nonce in the id of a session of this principal.
fn opened(ctx: &Context, id: &str) -> Option<[u8; 16]> {
    let sealer = &ctx.snapshot.sealer;
    let plain = sealer.open(TokenKind::Session, ctx.endpoint.binding(), id.as_bytes());
    let token = session::Session::decode(&plain.ok()?).ok()?;
    (token.principal == ctx.who.key && !token.is_expired(ctx.now)).then_some(token.nonce)
}

async fn hear(ctx: &Context, id: &str, session: &Arc<Session>, said: Said<'_>) {
    match said {
        Said::Message(message) => {
            lifecycle::heard(session, message);
            if let Err(cause) = said::said(session, &ctx.snapshot, message).await {
                tracing::info!(
                    reason = cause.audit_reason(),
                    "what a client said did not reach its server"
                );
            }
        }
        Said::End => {
            ctx.app.registry.end(id, &session.token, ctx.now);
            session.cancel_all();
            session.close();
        }
    }
}

fn copy(ctx: &Context, to: SocketAddr, method: &Method, passed: &Passed<'_>, body: Bytes) {
    let Some(hop) = ctx.app.hop.load_full() else {
        return;
    };
    let mut forwarded = forward::vouch(ctx);
    forwarded.copy = true;
    let app = Arc::clone(&ctx.app);
    let (method, headers) = (method.clone(), passed.headers.clone());
    let path = passed.uri.path().parse().unwrap_or_default();
    tokio::spawn(async move {
        let sent = hop.copy(to, method, path, &headers, &forwarded, body).await;
        if let Err(error) = sent {
            tracing::debug!(replica = %to, %error, "nothing is in flight where a session was before");
            app.discovery.gone(to.ip());
        }
    });
}
