//! `logging/setLevel`: which log messages of servers a session's client wants.

use std::sync::Arc;

use futures::future::join_all;
use http::{Response, StatusCode};
use tokio::time::{Duration, timeout};

use super::call::json;
use super::channel::Channel;
use super::charge;
use super::exchange::Failure;
use super::level::Level;
use super::registry::Session;
use super::said;
use super::stream::Body;
use super::upstream::Upstream;
use crate::app::context::Context;
use crate::app::refusal::Refusal;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;

/// How long a server has to take a level.
const WITHIN: Duration = Duration::from_secs(5);

/// Answers `logging/setLevel`: it counts for every server that the session reaches, now or later.
pub async fn set_level(ctx: Context, message: &Message, session: &Session) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    match set(&ctx, message, session).await {
        Ok(()) => ctx.answer(json(StatusCode::OK, reply::empty_result(&id, Era::Session))),
        Err(refusal) => ctx.refuse(refusal, Some(Era::Session), Some(&id)),
    }
}

async fn set(ctx: &Context, message: &Message, session: &Session) -> Result<(), Refusal> {
    let method = message.method().as_str();
    charge::client(ctx, method)?;
    charge::shared(ctx, method)?;
    let level = message
        .str(Member::LogLevel)
        .and_then(|name| Level::parse(&name))
        .ok_or(Cause::InvalidParams {
            problem: "params.level is one of debug, info, notice, warning, error, critical, alert, emergency",
        })?;
    session.level.set(level);
    let open = session
        .open_channels()
        .into_iter()
        .filter_map(|(server, channel)| {
            let mut upstreams = ctx.snapshot.upstreams.iter();
            let upstream = upstreams.find(|upstream| upstream.full_name == server)?;
            Some((Arc::clone(upstream), channel))
        });
    let told = join_all(open.map(|(upstream, channel)| async move {
        let told = tell(&upstream, &channel, level).await;
        (upstream, told)
    }));
    // Boxed: large and rare.
    for (upstream, told) in Box::pin(told).await {
        if let Err(error) = told {
            tracing::info!(server = %upstream.full_name, %error, "the server did not take the client's log level");
        }
    }
    Ok(())
}

/// A session on a server was opened for one call, which says from which level on it wants to know what is logged.
pub async fn set_for_call(upstream: &Upstream, channel: &Channel, level: Level) {
    if let Err(error) = tell(upstream, channel, level).await {
        tracing::info!(server = %upstream.full_name, %error, "the server did not take the client's log level");
    }
}

/// A session on a server was opened for a client that has set its level already.
pub async fn settle(upstream: &Upstream, channel: &Channel, session: &Session) {
    if let Some(level) = session.level.get()
        && let Err(error) = tell(upstream, channel, level).await
    {
        tracing::info!(server = %upstream.full_name, %error, "the server did not take the client's log level");
    }
}

async fn tell(upstream: &Upstream, channel: &Channel, level: Level) -> Result<(), Failure> {
    if !upstream.routable().logging || channel.era() == Era::Stateless {
        return Ok(());
    }
    // What it says beneath the level is not passed on anyway: a server that hangs must not hold anybody up.
    let Some(_place) = said::place(upstream) else {
        return Err(Failure::Timeout);
    };
    let params = format!("{{\"level\":\"{}\"}}", level.as_str());
    let asked = upstream.ask(channel, "logging/setLevel", &params);
    let (answer, ..) = timeout(WITHIN, asked).await.unwrap_or(Err(Failure::Timeout))?;
    match answer.kind() {
        Kind::Response => Ok(()),
        _ => Err(Failure::Invalid("it refused the level")),
    }
}
