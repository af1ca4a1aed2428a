//! The answers of one HTTP/2 connection: each goes on for as long as its client takes it.
//!
//! On HTTP/1 a client that does not read fills its socket, and the registry sees that. On HTTP/2 the socket flows while
//! a stream's window is shut: the answer lies in memory and the connection looks well. So every stream watches itself:
//! a body says whether the last thing it gave out was a piece, and a stream that rests after that waits for its window.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use hyper::rt::Executor;
use tokio::time::Sleep;

use crate::server::registry::Link;
use crate::telemetry::metrics::{CloseReason, ConnectionMetrics};

/// The largest piece of an answer that is handed over at once. What is handed over is no longer ours to take back when
/// the window stays shut, and one byte of window takes a whole piece. A frame is no larger either.
const PIECE: usize = 16 << 10;

/// What a body did last while its stream was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gave {
    /// It was not asked: the stream still waits for what it waited for before.
    NotAsked,
    /// A piece. If the stream rests now, then because the client takes nothing.
    Piece,
    /// Nothing yet, or its end.
    Nothing,
}

thread_local! {
    // hyper stands between a stream's task and its body and passes nothing from one to the other. Both run in one
    // poll, so that a note on the thread is enough; it is read where it was left.
    static GAVE: Cell<Gave> = const { Cell::new(Gave::NotAsked) };
}

/// Cuts a body into pieces, and leaves the note.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    rest: Bytes,
}

impl Pieces {
    /// Bytes that are left of the last piece of the body.
    pub(crate) fn rest(&self) -> u64 {
        self.rest.len() as u64
    }

    /// The next piece: of what is left, or of what `next` gives.
    pub(crate) fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let whole = if self.rest.is_empty() {
            match next(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => {
                        GAVE.set(Gave::Nothing);
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                other => {
                    GAVE.set(Gave::Nothing);
                    return other;
                }
            }
        } else {
            std::mem::take(&mut self.rest)
        };
        GAVE.set(Gave::Piece);
        let mut piece = whole;
        if piece.len() > PIECE {
            self.rest = piece.split_off(PIECE);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Rules>);

struct Rules {
    link: Arc<Link>,
    /// How long a client may take nothing of an answer.
    stalled: Duration,
    metrics: ConnectionMetrics,
}

impl Streams {
    pub(crate) fn new(link: Arc<Link>, stalled: Duration, metrics: ConnectionMetrics) -> Self {
        Self(Arc::new(Rules {
            link,
            stalled,
            metrics,
        }))
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let rules = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut stream = pin!(stream);
            let mut held = None;
            poll_fn(|cx| watch(&rules, &mut held, stream.as_mut(), cx)).await;
        });
    }
}

/// Polls a stream; ready when it is done, or when its client has taken nothing of its answer for too long.
fn watch<F: Future<Output = ()>>(
    rules: &Arc<Rules>,
    held: &mut Option<Held>,
    stream: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    GAVE.set(Gave::NotAsked);
    if stream.poll(cx).is_ready() {
        return Poll::Ready(());
    }
    match (GAVE.get(), &mut *held) {
        (Gave::NotAsked, None) => return Poll::Pending,
        (Gave::NotAsked, Some(_)) => {}
        (Gave::Nothing, held) => {
            *held = None;
            return Poll::Pending;
        }
        // Another piece: the client took the one before.
        (Gave::Piece, held) => *held = Some(Held::new(rules)),
    }
    let over = held
        .as_mut()
        .is_some_and(|held| held.timer.as_mut().poll(cx).is_ready());
    if !over {
        return Poll::Pending;
    }
    rules.metrics.closed(CloseReason::WriteStalled);
    rules.link.forsake();
    Poll::Ready(())
}

/// A stream whose client takes nothing now. Only these have a timer.
struct Held {
    rules: Arc<Rules>,
    timer: Pin<Box<Sleep>>,
}

impl Held {
    fn new(rules: &Arc<Rules>) -> Self {
        rules.link.held();
        Self {
            rules: Arc::clone(rules),
            timer: Box::pin(tokio::time::sleep(rules.stalled)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rules.link.moved();
    }
}
