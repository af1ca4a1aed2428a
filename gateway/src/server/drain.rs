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
    /// The port is closed; what runs is finished, and so are streams: each is the answer to a call.
    Finishing = 2,
    /// What still runs, although streams had their last word, is dropped.
    Aborting = 3,
}

/// How long before the deadline streams are ended, so that their last frame still goes out.
const LAST_FRAMES: Duration = Duration::from_millis(500);

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

    /// Cancelled when there is no time left and open streams should end with a proper last frame.
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
        let last = LAST_FRAMES.min(deadline / 4);
        let mut hurry = std::pin::pin!(hurry);
        gate.close("shutting down");
        self.enter(Stage::Grace);
        what.leave();
        let finished = async {
            tokio::time::sleep(grace.min(deadline)).await;
            self.enter(Stage::Finishing);
            self.stop_accepting.cancel();
            what.finish();
            what.finished().await;
        };
        let clean = tokio::select! {
            () = finished => true,
            () = sleep_until(began + deadline.saturating_sub(last)) => {
                tracing::warn!("the deadline has passed");
                false
            }
            () = &mut hurry => {
                tracing::warn!("told to end at once");
                false
            }
        };
        if !clean {
            self.stop_accepting.cancel();
            self.end_streams.cancel();
            what.finish();
            tokio::time::timeout(last, what.finished()).await.ok();
            self.enter(Stage::Aborting);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::readiness::Readiness;
    use std::future::pending;
    use std::sync::Mutex;
    use tokio::sync::Notify;

    const GRACE: Duration = Duration::from_secs(5);
    const DEADLINE: Duration = Duration::from_secs(60);

    /// Notes what it is told and when.
    #[derive(Default)]
    struct Work {
        told: Mutex<Vec<(&'static str, Duration)>>,
        done: Notify,
        began: Option<Instant>,
    }

    impl Work {
        fn new() -> Self {
            Self {
                began: Some(Instant::now()),
                ..Self::default()
            }
        }

        fn note(&self, what: &'static str) {
            let at = self.began.unwrap().elapsed();
            self.told.lock().unwrap().push((what, at));
        }

        fn told(&self) -> Vec<(&'static str, u64)> {
            let told = self.told.lock().unwrap();
            told.iter().map(|(what, at)| (*what, at.as_secs())).collect()
        }
    }

    impl Finish for Work {
        fn leave(&self) {
            self.note("leave");
        }
        fn finish(&self) {
            self.note("finish");
        }
        async fn finished(&self) {
            self.done.notified().await;
        }
        fn abort(&self) -> usize {
            self.note("abort");
            1
        }
    }

    fn drain() -> (Drain, Readiness, Gate) {
        let readiness = Readiness::new();
        let gate = readiness.gate("serving", "starting");
        gate.open();
        (Drain::new(Gauge::default()), readiness, gate)
    }

    #[tokio::test(start_paused = true)]
    async fn it_leaves_at_once_finishes_after_the_grace_and_ends_with_the_work() {
        let (drain, readiness, gate) = drain();
        let work = Work::new();
        work.done.notify_one();
        assert!(drain.run(&gate, GRACE, DEADLINE, &work, pending()).await);
        assert_eq!(work.told(), [("leave", 0), ("finish", 5)]);
        assert_eq!(drain.stage(), Stage::Finishing);
        assert_eq!(readiness.pending(), ["serving: shutting down"]);
        assert!(drain.stop_accepting().is_cancelled());
        assert!(
            !drain.end_streams().is_cancelled(),
            "there was time for all of them"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn during_the_grace_nothing_is_closed() {
        let (drain, readiness, gate) = drain();
        let work = Work::new();
        let watching = async {
            drain.reached(Stage::Grace).await;
            tokio::time::sleep(GRACE.saturating_sub(Duration::from_millis(1))).await;
            assert!(!readiness.is_ready());
            assert!(!drain.stop_accepting().is_cancelled() && !drain.end_streams().is_cancelled());
            assert_eq!(work.told(), [("leave", 0)]);
            work.done.notify_one();
        };
        let (clean, ()) = tokio::join!(drain.run(&gate, GRACE, DEADLINE, &work, pending()), watching);
        assert!(clean);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_aborted_at_the_deadline() {
        let (drain, _, gate) = drain();
        let work = Work::new();
        assert!(!drain.run(&gate, GRACE, DEADLINE, &work, pending()).await);
        assert_eq!(
            work.told(),
            [("leave", 0), ("finish", 5), ("finish", 59), ("abort", 60)]
        );
        assert!(drain.end_streams().is_cancelled());
        assert_eq!(drain.stage(), Stage::Aborting);
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_deadline_streams_have_a_last_word() {
        let (drain, _, gate) = drain();
        let work = Work::new();
        let stream = async {
            drain.end_streams().cancelled().await;
            work.note("last frame");
            work.done.notify_one();
        };
        let (clean, ()) = tokio::join!(drain.run(&gate, GRACE, DEADLINE, &work, pending()), stream);
        assert!(!clean, "its call was not finished");
        let told = work.told();
        assert!(told.contains(&("last frame", 59)), "{told:?}");
        assert_eq!(told.last(), Some(&("abort", 59)), "nothing was left to wait for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_it_at_once_even_in_the_grace() {
        let (drain, _, gate) = drain();
        let work = Work::new();
        let hurry = tokio::time::sleep(Duration::from_secs(2));
        assert!(!drain.run(&gate, GRACE, DEADLINE, &work, hurry).await);
        assert_eq!(work.told(), [("leave", 0), ("finish", 2), ("abort", 2)]);
        assert!(drain.stop_accepting().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_longer_than_the_deadline_does_not_outlast_it() {
        let (drain, _, gate) = drain();
        let work = Work::new();
        assert!(!drain.run(&gate, DEADLINE * 2, DEADLINE, &work, pending()).await);
        assert_eq!(work.told().last(), Some(&("abort", 60)));
    }
}
