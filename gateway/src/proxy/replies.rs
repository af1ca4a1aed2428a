//! Answers to what a server asks on the stream of a call.
//!
//! A server decides how much it asks, so that it is held back by its own pace: one answer is on its way, one more
//! waits, and until that one goes out nothing further is read of the stream. A call never has more than one, a server
//! never more than it may have calls in flight, and none takes longer than `WITHIN`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::channel::Channel;
use super::upstream::Upstream;

/// How long a server may take to accept a message that it need not answer.
pub(super) const WITHIN: Duration = Duration::from_secs(5);

/// Answers of one call.
#[derive(Default)]
pub struct Replies {
    sending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waiting: Option<Bytes>,
}

impl Replies {
    /// Sends `reply`, or keeps it until the one before has arrived: [`Replies::poll`] does both.
    pub fn add(&mut self, reply: Bytes) {
        self.waiting = Some(reply);
    }

    /// Gets on with sending. Pending: the stream may not be read on.
    pub fn poll(
        &mut self,
        upstream: &Arc<Upstream>,
        channel: &Arc<Channel>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            if let Some(sending) = &mut self.sending {
                if sending.as_mut().poll(cx).is_pending() {
                    return if self.waiting.is_some() {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    };
                }
                self.sending = None;
            }
            let Some(reply) = self.waiting.take() else {
                return Poll::Ready(());
            };
            let (upstream, channel) = (Arc::clone(upstream), Arc::clone(channel));
            self.sending = Some(Box::pin(async move {
                notify(&upstream, &channel, reply, "the answer to the server's request").await;
            }));
        }
    }
}

/// Sends a message that is not answered, within `WITHIN`. It may be lost.
pub(super) async fn notify(upstream: &Upstream, channel: &Channel, message: Bytes, what: &'static str) {
    match tokio::time::timeout(WITHIN, upstream.notify(channel, message)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(server = %upstream.full_name, %error, what, "did not arrive");
        }
        Err(_) => {
            tracing::debug!(server = %upstream.full_name, what, "did not arrive in time");
        }
    }
}
