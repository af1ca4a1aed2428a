//! Waiting for something that usually is there already, with a bound.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::Instant;

use super::cancel::Cancel;

/// Why waiting ended before there was anything.
pub enum Stop {
    /// The client cancelled the call.
    Cancelled,
    /// It took too long.
    TimedOut,
}

/// `future`'s output, unless the client cancels the call first or it takes longer than `until`.
pub async fn wait<F: Future>(
    cancelled: Option<&Cancel>,
    until: impl FnOnce() -> Instant,
    future: F,
) -> Result<F::Output, Stop> {
    let next = within(until, future);
    let next = match cancelled {
        None => next.await,
        Some(cancelled) => tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(Stop::Cancelled),
            next = next => next,
        },
    };
    next.ok_or(Stop::TimedOut)
}

/// `future`'s output, or `None` when it takes longer than `until`. What is there already, as most answers are by the time
/// they are asked for, costs no timer and no look at the clock.
pub async fn within<F: Future>(until: impl FnOnce() -> Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(output) => Some(output),
        Poll::Pending => tokio::time::timeout_at(until(), future).await.ok(),
    }
}
