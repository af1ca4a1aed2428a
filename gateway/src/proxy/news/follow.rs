//! Keeps a stream of a server open: again after it was lost, and only as long as it is wanted.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::source::{self, Stream};
use crate::mcp::envelope::{Kind, Message};
use crate::proxy::channel::Channel;
use crate::proxy::exchange::Failure;
use crate::proxy::link::Link;
use crate::proxy::pauses::Pauses;
use crate::proxy::upstream::Upstream;

/// Until a server that has no such stream is asked again: it may have become another one.
const NONE_THERE: Duration = Duration::from_secs(300);

/// Who listens.
pub trait Listener: Send + Sync {
    /// Is the stream wanted at all, of the server as it is now?
    fn wants(&self, upstream: &Upstream) -> bool;

    /// Opens it.
    fn open(&mut self, upstream: &Arc<Upstream>) -> impl Future<Output = Result<Stream, Unopened>> + Send;

    /// A stateless server said what it grants. False: nothing.
    fn granted(&mut self, word: &Message) -> bool;

    /// It is open. `again`: there was one before, and what happened since was told to nobody.
    fn begin(
        &mut self,
        upstream: &Arc<Upstream>,
        stream: &Stream,
        again: bool,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The server says something.
    fn hear(&mut self, upstream: &Upstream, message: &Message);

    /// The server forgot the session that the stream belongs to.
    fn forgotten(&mut self, _upstream: &Upstream, _channel: &Arc<Channel>) {}

    /// The stream is over, and whatever hung on it.
    fn lost(&mut self) {}

    /// The server has no such stream.
    fn none_there(&mut self) {}

    /// Waits until there is something to do for the listener itself.
    fn woken(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Does it. `stream` is there while one is open.
    fn work(
        &mut self,
        _upstream: &Arc<Upstream>,
        _stream: Option<&Stream>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Is nobody listening any more?
    fn is_over(&self) -> bool {
        false
    }
}

/// Why a stream was not opened, and the session in which it was tried.
pub type Unopened = (Failure, Option<Arc<Channel>>);

/// How a stream ended.
enum End {
    /// The server ended it, or it broke, or it never began.
    Lost(Failure),
    /// The server has none, or has nothing to say.
    NoneThere,
    /// What is in force changed.
    Changed,
}

/// Where a server stands in the configuration in force.
pub struct Place<F> {
    /// It.
    pub link: Weak<Link>,
    /// Gives it as the snapshot in force has it.
    pub current: F,
    /// Moves with that.
    pub changes: watch::Receiver<()>,
    /// Streams are to end.
    pub end: CancellationToken,
}

/// Listens until the server is no longer part of the configuration, streams are to end, or nobody listens any more.
pub async fn follow<F, L>(mut place: Place<F>, mut listener: L)
where
    F: Fn(&Arc<Link>) -> Option<Arc<Upstream>> + Send + Sync,
    L: Listener,
{
    let end = place.end.clone();
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = until_over(&mut place, &mut listener) => {}
    }
}

async fn until_over<F, L>(place: &mut Place<F>, listener: &mut L)
where
    F: Fn(&Arc<Link>) -> Option<Arc<Upstream>> + Send + Sync,
    L: Listener,
{
    let mut pauses = Pauses::default();
    let mut again = false;
    loop {
        place.changes.mark_unchanged();
        let upstream = place.link.upgrade().and_then(|link| (place.current)(&link));
        let Some(upstream) = upstream else { return };
        let wait = if listener.wants(&upstream) {
            let since = Instant::now();
            let ended = listen(place, &upstream, listener, &mut again).await;
            listener.lost();
            if listener.is_over() {
                return;
            }
            match ended {
                End::Changed => continue,
                End::NoneThere => {
                    again = false;
                    listener.none_there();
                    NONE_THERE
                }
                End::Lost(failure) => {
                    tracing::debug!(server = %upstream.full_name, error = %failure, "a stream of a server's news ended");
                    pauses.after(since.elapsed())
                }
            }
        } else {
            again = false;
            listener.none_there();
            NONE_THERE
        };
        // Replicas that lost it together do not come back together.
        let until = Instant::now() + wait.mul_f64(rand::random_range(0.8..1.2));
        loop {
            if listener.is_over() {
                return;
            }
            tokio::select! {
                changed = place.changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                () = listener.woken() => {
                    listener.work(&upstream, None).await.ok();
                    if wait == NONE_THERE {
                        listener.none_there();
                    }
                }
                () = sleep_until(until) => break,
            }
        }
    }
}

/// Listens on one stream.
async fn listen<F, L>(
    place: &mut Place<F>,
    upstream: &Arc<Upstream>,
    listener: &mut L,
    again: &mut bool,
) -> End
where
    F: Fn(&Arc<Link>) -> Option<Arc<Upstream>> + Send + Sync,
    L: Listener,
{
    let mut stream = match listener.open(upstream).await {
        Ok(stream) => stream,
        Err((Failure::SessionLost, Some(channel))) => return gone(upstream, listener, &channel).await,
        Err((failure, _)) => return end(failure),
    };
    if !stream.is_ready() {
        let first = timeout(upstream.timeout, stream.next()).await;
        match first.unwrap_or(Err(Failure::Timeout)) {
            Ok(Some(message)) if source::is_word(&message) && listener.granted(&message) => {}
            // It grants nothing: some end the stream then, others leave it open without a word.
            Ok(_) => return End::NoneThere,
            Err(failure) => return end(failure),
        }
    }
    let again = std::mem::replace(again, true);
    if let Err(failure) = listener.begin(upstream, &stream, again).await {
        return End::Lost(failure);
    }
    loop {
        if listener.is_over() {
            return End::Changed;
        }
        tokio::select! {
            next = stream.next() => match next {
                Ok(Some(message)) => match message.kind() {
                    Kind::Notification => listener.hear(upstream, &message),
                    _ => stream.refuse(upstream, &message).await,
                },
                Ok(None) => return End::Lost(Failure::CutOff),
                Err(Failure::SessionLost) => return gone(upstream, listener, stream.channel()).await,
                Err(failure) => return end(failure),
            },
            () = listener.woken() => {
                if let Err(failure) = listener.work(upstream, Some(&stream)).await {
                    return End::Lost(failure);
                }
            }
            changed = place.changes.changed() => {
                let now = (place.current)(&upstream.link);
                let same = now.is_some_and(|now| {
                    now.features == upstream.features && now.credential == upstream.credential
                });
                if changed.is_err() || !same {
                    return End::Changed;
                }
            }
        }
    }
}

/// The server says that it does not know the session (404). Some say so of everything at a place where they have no stream:
/// only one that no longer knows the session in an ordinary request either has forgotten it.
async fn gone<L: Listener>(upstream: &Upstream, listener: &mut L, channel: &Arc<Channel>) -> End {
    if !upstream.has_forgotten(channel).await {
        return End::NoneThere;
    }
    listener.forgotten(upstream, channel);
    End::Lost(Failure::SessionLost)
}

fn end(failure: Failure) -> End {
    if failure.is_unknown_there() {
        End::NoneThere
    } else {
        End::Lost(failure)
    }
}
