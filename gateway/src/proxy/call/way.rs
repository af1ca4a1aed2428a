//! The way to the server for one call: which session on it, if any.

use std::sync::Arc;

use tokio::time::timeout;

use crate::app::context::Context;
use crate::mcp::envelope::Message;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::mcp::session::Capabilities;
use crate::proxy::channel::Channel;
use crate::proxy::exchange::Failure;
use crate::proxy::holds::Holds;
use crate::proxy::level::Level;
use crate::proxy::logging;
use crate::proxy::opened::{self, Opener};
use crate::proxy::registry::Session;
use crate::proxy::shared;
use crate::proxy::source::{self, Source};
use crate::proxy::upstream::Upstream;

/// What a client without a session can be asked by a server that has them: where that is something, or where it wants to
/// have logged what happens, the call needs a session of its own there.
pub(super) fn declared(message: &Message, upstream: &Upstream, era: Era) -> Option<Capabilities> {
    let known = upstream.link.shape();
    let stateful = known.as_ref().is_some_and(|shape| shape.era() == Era::Session);
    if era == Era::Session || !stateful {
        return None;
    }
    let raw = message
        .raw(Member::MetaClientCapabilities)
        .filter(|raw| *raw != b"{}");
    let declared = raw.map_or(Capabilities::NONE, |raw| {
        upstream.may_ask(Capabilities::read(raw))
    });
    let logs = message.span(Member::MetaLogLevel).is_some() && upstream.routable().logging;
    (logs || !declared.is_empty()).then_some(declared)
}

/// A session on the server for this call alone.
pub(super) async fn own(
    message: &Message,
    upstream: &Arc<Upstream>,
    declared: Capabilities,
    holds: &mut Holds,
) -> Result<(Arc<Channel>, Option<Source>), Failure> {
    let opening = async {
        let opener = Opener::request(message, declared);
        let (opened, _) = opened::open(upstream, opener, false).await?;
        let channel = Arc::clone(opened.channel());
        holds.keep(opened);
        if let Some(level) = Level::asked(message) {
            logging::set_for_call(upstream, &channel, level).await;
        }
        let aside = if declared.is_empty() {
            None
        } else {
            source::opened(upstream, &channel).await
        };
        Ok((channel, aside))
    };
    // The server has its time for all of it.
    let opened = timeout(upstream.timeout, opening).await;
    opened.unwrap_or(Err(Failure::Timeout))
}

/// The way to the server for this call.
pub(super) async fn channel(
    ctx: &Context,
    upstream: &Arc<Upstream>,
    era: Era,
    session: Option<&Arc<Session>>,
) -> Result<Arc<Channel>, Failure> {
    // One that is open needs nothing else: a server that refuses new ones may serve it still.
    if let (Era::Session, Some(session)) = (era, session)
        && let Some(channel) = session.opened(&upstream.full_name)
    {
        return Ok(channel);
    }
    let shape = match session {
        Some(_) => upstream.shape_in_session().await?,
        None => upstream.shape().await?,
    };
    match (shape.era(), era, session) {
        (_, Era::Session, Some(session)) if shape.has_sessions() => {
            let slot = session.slot(&upstream.full_name);
            if let Some(opened) = slot.get() {
                return Ok(Arc::clone(opened.channel()));
            }
            let open = || async {
                let opener = Opener::client(upstream, &session.token);
                let (opened, _) = opened::open(upstream, opener, false).await?;
                logging::settle(upstream, opened.channel(), session).await;
                Ok(opened)
            };
            // Boxed: large, once per session, and every call would carry the room. Calls that wait for another's try have
            // no more time than it.
            let opened = Box::pin(timeout(upstream.timeout, slot.get_or_try_init(open)))
                .await
                .unwrap_or(Err(Failure::Timeout))?;
            session.one_more.notify_one();
            Ok(Arc::clone(opened.channel()))
        }
        (Era::Stateless, ..) => Ok(upstream.link.stateless()),
        (Era::Session, ..) => shared::channel(upstream, &ctx.who.key, ctx.now).await,
    }
}

pub(super) fn forget(
    ctx: &Context,
    upstream: &Upstream,
    channel: &Arc<Channel>,
    session: Option<&Arc<Session>>,
) {
    if channel.shared {
        upstream.link.sessions.shared.forget(&ctx.who.key, channel);
    } else if let Some(session) = session {
        session.forget(&upstream.full_name, channel);
    }
}
