//! How a call ends before its answer: what its server is told, and how it goes on without its client.

use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::way::Way;
use super::{Ended, Item, Relay};
use crate::mcp::revision::Era;
use crate::proxy::replies;
use crate::proxy::stream::FIRST_WAIT;
use crate::proxy::terms;
use crate::telemetry::metrics::UpstreamOutcome;

impl Relay {
    /// Ends the call, and tells the server that nobody waits any more. A stateless server sees it by the closed stream;
    /// in a session a closed stream means nothing, so it is told in words. It has a moment then to end the call itself,
    /// during which the call keeps its place: who calls and cancels in turns has no more calls running than others.
    pub fn abandon(&mut self, why: &'static str, outcome: UpstreamOutcome) {
        if matches!(self.way, Way::Over) {
            return;
        }
        let mut way = std::mem::replace(&mut self.way, Way::Over);
        self.holds.ended(outcome);
        if self.channel.era() == Era::Stateless {
            return;
        }
        // What has not been sent by now must never be: the server would carry out what was cancelled.
        if !self.holds.call().was_sent() {
            return;
        }
        let message = terms::cancellation(&self.mapping.server_id, why);
        let slot = self.holds.release();
        let (upstream, channel) = (Arc::clone(&self.upstream), Arc::clone(&self.channel));
        // A server that has not even begun to answer in all that time gets no more of it.
        if matches!(way, Way::Sent(_)) && outcome != UpstreamOutcome::Cancelled {
            way = Way::Over;
        }
        spawn(async move {
            let told = replies::notify(&upstream, &channel, message, "the cancellation");
            let both = async { tokio::join!(told, way.ended()) };
            tokio::time::timeout(replies::WITHIN, both).await.ok();
            drop(slot);
        });
    }

    /// The client is gone, and its call is not cancelled by that.
    fn leave(&mut self) {
        // It comes back for the rest, and many servers have one reader for a stream.
        if self.places.given {
            return self.go_on_elsewhere();
        }
        let mut left = self.take();
        left.left = true;
        spawn(left.without_client());
    }

    /// The client reads the rest on another stream, and the call stays one that it can cancel. Its place at the server it
    /// keeps for as long as the server may be silent, so that calls which are begun and left in turns are no more at
    /// once than others.
    fn go_on_elsewhere(&mut self) {
        self.way = Way::Over;
        let mut holds = std::mem::take(&mut self.holds);
        holds.ended(UpstreamOutcome::Ok);
        holds.uncount();
        let (Some(session), Some(cancelled)) = (holds.session().cloned(), self.cancelled.take()) else {
            return;
        };
        let answered = session.goes_on_elsewhere(&self.mapping.client_id);
        let (upstream, channel) = (Arc::clone(&self.upstream), Arc::clone(&self.channel));
        let message = terms::cancellation(&self.mapping.server_id, "the client cancelled the call");
        let (silent, over) = (self.times.until(), Instant::now() + self.times.left());
        let mut slot = holds.take_slot();
        spawn(async move {
            let run_out = async {
                sleep_until(silent).await;
                slot = None;
                sleep_until(over).await;
            };
            let told = tokio::select! {
                biased;
                () = answered.answered() => false,
                () = session.gone.cancelled() => false,
                () = cancelled.cancelled() => true,
                () = run_out => false,
            };
            if told {
                replies::notify(&upstream, &channel, message, "the cancellation").await;
            }
            drop((slot, holds));
        });
    }

    /// Goes on until the server has answered or the times are over. It counts among the requests in flight as long as
    /// it would have if the client had stayed: until an answer, or until that would have become a stream.
    async fn without_client(mut self) {
        let places = (!self.times.is_stream()).then(|| Arc::clone(&self.upstream.places));
        let mut end = pin!(self.run_out());
        if let Some(places) = places {
            tokio::select! {
                biased;
                () = &mut end => return,
                () = hold(&places) => {}
            }
        }
        end.await;
    }

    async fn run_out(&mut self) {
        let outcome = loop {
            match self.item().await {
                Ok(Item::Notification(_) | Item::Place) => {}
                Ok(Item::Asked(method, bytes)) => self.ask_elsewhere(method, bytes),
                Ok(Item::Final { .. } | Item::Unfinished(_) | Item::Question(_))
                | Err(Ended::ToBeContinued) => {
                    break UpstreamOutcome::Ok;
                }
                // Noted already.
                Err(Ended::Cancelled) => return,
                Err(Ended::Failed(failure)) => break failure.outcome(),
            }
        };
        self.ended(outcome);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        if self.places.left {
            return self.go_on_elsewhere();
        }
        if matches!(self.way, Way::Over) {
            return;
        }
        match self.mapping.era {
            Era::Stateless => self.abandon("the client went away", UpstreamOutcome::Cancelled),
            Era::Session => self.leave(),
        }
    }
}

/// Keeps one of the gateway's places for requests in flight, as long as an answer is waited for without a stream.
async fn hold(places: &Semaphore) {
    let waited = tokio::time::timeout(FIRST_WAIT, async {
        let _place = places.acquire().await;
        std::future::pending::<()>().await;
    });
    waited.await.ok();
}

/// Starts a task from a place where something is dropped: at the end of the process there is nothing to start it on.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}
