//! The client's `notifications/cancelled` on its way to the call it is about.
//!
//! A general cancellation token keeps a list of waiters behind a lock; here exactly one task waits, for a moment, on
//! every call, and nearly always in vain.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;

/// One call's cancellation. Clones are the same; only one of them is waited on at a time.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    sent: AtomicBool,
    waker: AtomicWaker,
}

impl Cancel {
    /// Cancels the call.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    /// Notes that the call goes out to its server.
    pub fn set_sent(&self) {
        self.0.sent.store(true, Ordering::Relaxed);
    }

    /// The server did not take it, and it may go out once more.
    pub fn set_unsent(&self) {
        self.0.sent.store(false, Ordering::Relaxed);
    }

    /// Whether the server may have seen the call.
    pub fn was_sent(&self) -> bool {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Waits until it is cancelled.
    pub async fn cancelled(&self) {
        poll_fn(|cx| {
            // The waker first: what is cancelled in between is then seen by the load, or wakes it.
            self.0.waker.register(cx.waker());
            if self.0.cancelled.load(Ordering::Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn it_is_seen_whether_it_came_before_or_after_the_wait() {
        let cancel = Cancel::default();
        assert!(cancel.cancelled().now_or_never().is_none());
        cancel.clone().cancel();
        assert!(cancel.cancelled().now_or_never().is_some());
        assert!(cancel.cancelled().now_or_never().is_some(), "it stays so");
    }

    #[tokio::test]
    async fn it_wakes_who_waits() {
        let cancel = Cancel::default();
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.cancelled().await }
        });
        tokio::task::yield_now().await;
        cancel.cancel();
        waiting.await.unwrap();
    }
}
