//! What a client says to servers beside its requests: answers to their questions, progress on them, changed roots.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, timeout};

use super::asks::{self, Ask, To};
use super::channel::Channel;
use super::registry::Session;
use super::replies;
use super::upstream::Upstream;
use crate::config::snapshot::Snapshot;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;

/// How long the client waits for a server to take its answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Passes on what a client says. It waits for the servers that it is for, in one of few places at each: a server that hangs
/// must not keep the gateway's places for requests.
pub async fn said(session: &Arc<Session>, snapshot: &Snapshot, message: &Message) -> Result<(), Cause> {
    match message.kind() {
        Kind::Response | Kind::ErrorResponse => answered(session, message).await,
        _ => {
            told(session, snapshot, message).await;
            Ok(())
        }
    }
}

async fn answered(session: &Arc<Session>, message: &Message) -> Result<(), Cause> {
    let Some(id) = message.id() else { return Ok(()) };
    let place = match session.asks.asked_by(id) {
        Some(upstream) => Some(place(&upstream).ok_or(Cause::Overloaded)?),
        None => None,
    };
    match session.asks.take(id).map(Ask::into_to) {
        Some(To::Server {
            upstream,
            channel,
            id,
            ..
        }) => {
            let Some(answer) = asks::answer(message, &id) else {
                return Ok(());
            };
            // In a task of its own: nobody can say it again, whether this client stays or not.
            let sent = tokio::spawn(send(upstream, channel, answer, place));
            sent.await.ok();
        }
        Some(To::Retry(waiting)) => {
            waiting.send(message.slice(Member::Result)).ok();
        }
        None => tracing::debug!("an answer of a client is to no question that waits here"),
    }
    Ok(())
}

async fn send(
    upstream: Arc<Upstream>,
    channel: Arc<Channel>,
    answer: Bytes,
    place: Option<OwnedSemaphorePermit>,
) {
    let sent = upstream.notify(&channel, answer);
    if !matches!(timeout(WITHIN, sent).await, Ok(Ok(()))) {
        tracing::info!(server = %upstream.full_name, "the client's answer did not reach the server");
    }
    drop(place);
}

async fn told(session: &Session, snapshot: &Snapshot, message: &Message) {
    match message.method() {
        Method::Progress => {
            if let Some((upstream, channel, bytes)) = session.asks.progress(message)
                && let Some(_place) = place(&upstream)
            {
                replies::notify(&upstream, &channel, bytes, "the client's progress").await;
            }
        }
        Method::RootsListChanged => {
            let open = session.open_channels();
            let told = snapshot
                .upstreams
                .iter()
                .filter(|upstream| upstream.features.roots);
            let told = told.filter_map(|upstream| {
                let (_, channel) = open.iter().find(|(server, _)| *server == upstream.full_name)?;
                let place = place(upstream).filter(|_| channel.era() == Era::Session)?;
                let bytes = message.bytes().clone();
                Some(async move {
                    replies::notify(upstream, channel, bytes, "that roots changed").await;
                    drop(place);
                })
            });
            futures::future::join_all(told).await;
        }
        _ => {}
    }
}

/// A place among those who say something to that server.
pub fn place(upstream: &Upstream) -> Option<OwnedSemaphorePermit> {
    Arc::clone(&upstream.link.sessions.words).try_acquire_owned().ok()
}
