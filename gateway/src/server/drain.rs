//! The end of the process, in order: not ready, still accepting, finishing, deadline.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::server::readiness::Gate;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not begun.
    Serving = 0,
    /// Not ready, and accepting: load balancers are still learning that this replica goes.
    Grace = 1,
    /// The port is closed; what runs is finished, streams are told to end.
    Finishing = 2,
    /// What still runs is dropped.
    Aborting = 3,
}

/// Watches the end of the process. Clones watch the same.
#[derive(Clone, Debug)]
pub struct Drain {
    stage: Arc<watch::Sender<Stage>>,
    stop_accepting: CancellationToken,
    end_streams: CancellationToken,
    gauge: Gauge,
}

impl Drain {
    /// A process that serves. `gauge` shows the stage.
    pub fn new(gauge: Gauge) -> Self {
        Self {
            stage: Arc::new(watch::Sender::new(Stage::Serving)),
            stop_accepting: CancellationToken::new(),
            end_streams: CancellationToken::new(),
            gauge,
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Cancelled when listeners close their ports.
    pub fn stop_accepting(&self) -> &CancellationToken {
        &self.stop_accepting
    }

    /// Cancelled when open streams should end with a proper last frame.
    pub fn end_streams(&self) -> &CancellationToken {
        &self.end_streams
    }

    /// Waits until `stage` or a later one is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut receiver = self.stage.subscribe();
        if receiver.wait_for(|now| *now >= stage).await.is_err() {
            // The sender lives in `self`.
        }
    }

    fn enter(&self, stage: Stage) {
        tracing::info!(?stage, "shutting down");
        self.gauge.set(stage as i64);
        self.stage.send_replace(stage);
    }

    /// Ends the process's serving: `what` runs until it is finished, `hurry` resolves when somebody wants it at once.
    /// True: everything that ran came to its end.
    pub async fn run(
        &self,
        gate: &Gate,
        grace: Duration,
        deadline: Duration,
        what: &impl Finish,
        hurry: impl Future<Output = ()>,
    ) -> bool {
        let began = Instant::now();
        let mut hurry = std::pin::pin!(hurry);
        gate.close("shutting down");
        self.enter(Stage::Grace);
        what.leave();
        let finished = async {
            tokio::time::sleep(grace.min(deadline)).await;
            self.enter(Stage::Finishing);
            self.stop_accepting.cancel();
            self.end_streams.cancel();
            what.finish();
            what.finished().await;
        };
        let clean = tokio::select! {
            () = finished => true,
            () = sleep_until(began + deadline) => {
                tracing::warn!("the deadline has passed");
                false
            }
            () = &mut hurry => {
                tracing::warn!("told to end at once");
                false
            }
        };
        if !clean {
            self.enter(Stage::Aborting);
            self.stop_accepting.cancel();
            self.end_streams.cancel();
            let dropped = what.abort();
            tracing::warn!(connections = dropped, "dropped what was still running");
        }
        clean
    }
}

/// What has to come to an end.
pub trait Finish {
    /// Tell clients to go elsewhere, close nothing.
    fn leave(&self);
    /// Close what waits, finish what runs.
    fn finish(&self);
    /// Until nothing runs.
    fn finished(&self) -> impl Future<Output = ()> + Send;
    /// Drop what runs. Returns how many connections that were.
    fn abort(&self) -> usize;
}
