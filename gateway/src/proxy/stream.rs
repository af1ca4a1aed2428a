//! The body of an answer: nothing, one piece, or events as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// When a client's stream of news that begins now ends, if it may become so old: the client comes back then, and a new
/// replica gets its share. Those that begin together do not end together.
pub fn end_of_life(age: Duration) -> Instant {
    Instant::now() + age.mul_f64(rand::random_range(0.8..1.0))
}

/// Events for a client. Dropped when the client goes away.
pub type Events = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// A response body that costs nothing where it is one piece.
pub enum Body {
    /// Nothing.
    Empty,
    /// One piece.
    Full(Bytes),
    /// As it comes, never more than one item at a time: a slow reader holds the server back.
    Stream(Events),
}

impl Body {
    /// Is this a stream, which does not count as a request in flight?
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// How long an answer is waited for before the client is given a stream that is kept alive.
pub const FIRST_WAIT: Duration = Duration::from_secs(5);
