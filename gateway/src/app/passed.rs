//! The owner's stream as it is passed on: whole events only, and an end that says what happened.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use memchr::memmem;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::waits::Waits;
use crate::mcp::reply::Cause;
use crate::mcp::sse::{self, Event};
use crate::proxy::stream::Events;
use crate::proxy::streamed::KEEP_ALIVE;

/// Three signs of life that did not come: the owner, or the way to it, is lost.
const SILENCE: Duration = KEEP_ALIVE.saturating_mul(3);

/// Between two events.
const END: &[u8] = b"\n\n";

/// Passes on `body`, the answer of the owner at `owner`, to those who wait for it. No event may be longer than
/// `most`. `end`: the owner was found to be lost. `finished` is called when it was read to its end.
pub(crate) fn events<B>(
    mut ctx: Context,
    owner: IpAddr,
    body: B,
    waits: Waits,
    most: usize,
    end: CancellationToken,
    finished: impl FnOnce() + Send + 'static,
) -> Events
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    // The owner makes the record, unless it is lost.
    ctx.entry.recorded = false;
    let passed = Passed {
        ctx,
        owner,
        stream: Whole::new(body, most, end),
        waits,
        finished,
    };
    Box::pin(futures::stream::unfold(Some(passed), |state| async move {
        let mut passed = state?;
        match passed.stream.next().await {
            Next::Events(bytes) => {
                let depth = passed.ctx.snapshot.config.limits.max_json_depth;
                passed.waits.note(&bytes, depth);
                Some((bytes, Some(passed)))
            }
            Next::End => {
                passed.ctx.entry.allowed(StatusCode::OK);
                (passed.finished)();
                None
            }
            Next::Silent => {
                passed.ctx.app.discovery.suspect(passed.owner);
                passed.cut(&Cause::OwnerLost).map(|last| (last, None))
            }
            // Why it broke off cannot be told from here; if nobody is there any more, the next request finds that out.
            Next::Lost => passed.cut(&Cause::OwnerLost).map(|last| (last, None)),
            Next::TooLong => passed.cut(&Cause::ResponseTooLarge).map(|last| (last, None)),
        }
    }))
}

struct Passed<B, F> {
    ctx: Context,
    owner: IpAddr,
    stream: Whole<B>,
    waits: Waits,
    finished: F,
}

impl<B, F> Passed<B, F> {
    /// Nothing more comes of the owner's stream: the client's last event says why, and so does the record.
    fn cut(mut self, cause: &Cause) -> Option<Bytes> {
        let depth = self.ctx.snapshot.config.limits.max_json_depth;
        if self.waits.is_over(&self.stream.last, depth) {
            self.ctx.entry.allowed(StatusCode::OK);
            return None;
        }
        tracing::warn!(replica = %self.owner, reason = cause.audit_reason(), "another replica's stream broke off");
        self.ctx.entry.recorded = true;
        self.ctx.entry.refused(cause, StatusCode::OK);
        let errors = self.waits.errors(cause).into_iter();
        let events = errors.map(|error| sse::encode(&Event::message(error)));
        events.reduce(|all, event| [all, event].concat().into())
    }
}

/// What comes next of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// One or more whole events.
    Events(Bytes),
    /// It ended as it should.
    End,
    /// It broke off in the middle of an event.
    Lost,
    /// Nothing came, not even a sign of life.
    Silent,
    /// An event is longer than any that a replica sends.
    TooLong,
}

/// A stream cut where its events end. Half an event is kept back, since it may stay one.
struct Whole<B> {
    body: B,
    most: usize,
    /// Somebody found that nothing will come any more.
    end: CancellationToken,
    /// The beginning of an event.
    begun: BytesMut,
    /// What was given last.
    last: Bytes,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Whole<B> {
    fn new(body: B, most: usize, end: CancellationToken) -> Self {
        Self {
            body,
            most,
            end,
            begun: BytesMut::new(),
            last: Bytes::new(),
        }
    }

    async fn next(&mut self) -> Next {
        loop {
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(SILENCE, self.body.frame()) => next,
                () = self.end.cancelled() => return Next::Silent,
            };
            let chunk = match next {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(None) if self.begun.is_empty() => return Next::End,
                Ok(None | Some(Err(_))) => return Next::Lost,
                Err(_) => return Next::Silent,
            };
            let whole = self.whole(chunk);
            if self.begun.len() > self.most {
                return Next::TooLong;
            }
            if !whole.is_empty() {
                self.last = whole.clone();
                return Next::Events(whole);
            }
        }
    }

    /// The whole events that `chunk` ends, nearly always the chunk itself.
    fn whole(&mut self, mut chunk: Bytes) -> Bytes {
        if self.begun.is_empty() {
            let end = memmem::rfind(&chunk, END).map_or(0, |at| at + END.len());
            self.begun.extend_from_slice(&chunk.split_off(end));
            return chunk;
        }
        // The end may lie across the seam.
        let from = self.begun.len().saturating_sub(1);
        self.begun.extend_from_slice(&chunk);
        let fresh = self.begun.get(from..).unwrap_or_default();
        match memmem::rfind(fresh, END) {
            Some(at) => self.begun.split_to(from + at + END.len()).freeze(),
            None => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;
    use rstest::rstest;

    use super::*;

    /// Chunks as they come, then the end, an error, or nothing ever again.
    struct Chunks(VecDeque<&'static str>, bool);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn whole(chunks: &[&'static str], ends: bool) -> Whole<Chunks> {
        let end = CancellationToken::new();
        Whole::new(Chunks(chunks.iter().copied().collect(), ends), 20, end)
    }

    #[rstest]
    #[case(&["data: a\n\n", "data: b\n\n"], &["data: a\n\n", "data: b\n\n"])]
    #[case(&["data: a\n\ndata: b\n\nda", "ta: c\n", "\n"], &["data: a\n\ndata: b\n\n", "data: c\n\n"])]
    #[case(&["da", "ta: a\n\n:", " x\n\n"], &["data: a\n\n", ": x\n\n"])]
    #[case(&["", ":\n\n"], &[":\n\n"])]
    #[tokio::test]
    async fn only_whole_events_are_passed_on(
        #[case] chunks: &[&'static str],
        #[case] expected: &[&'static str],
    ) {
        let mut stream = whole(chunks, true);
        for events in expected {
            assert_eq!(
                stream.next().await,
                Next::Events(Bytes::from_static(events.as_bytes()))
            );
        }
        assert_eq!(stream.next().await, Next::End);
    }

    #[rstest]
    #[case::half_an_event(&["data: a\n"], Next::Lost)]
    #[case::an_event_without_end(&["data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "data: b\n\n"], Next::TooLong)]
    #[tokio::test]
    async fn what_is_no_stream_of_events_is_cut(#[case] chunks: &[&'static str], #[case] expected: Next) {
        assert_eq!(whole(chunks, true).next().await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_gives_no_sign_of_life_is_lost() {
        let mut stream = whole(&[": x\n\n"], false);
        assert!(matches!(stream.next().await, Next::Events(_)));
        let began = tokio::time::Instant::now();
        assert_eq!(stream.next().await, Next::Silent);
        assert_eq!(began.elapsed().as_secs(), 45);
    }
}
