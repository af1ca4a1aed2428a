//! The one place where long-lived background tasks start, so that all of them are named, end at shutdown, and never die unseen.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts background tasks and ends them together. Clones are the same spawner.
#[derive(Clone, Debug, Default)]
pub struct Spawner {
    tasks: TaskTracker,
    stop: CancellationToken,
    broken: Arc<AtomicBool>,
}

impl Spawner {
    /// A spawner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` until it ends or [`Spawner::shutdown`] is called, whichever comes first: shutdown drops it at its
    /// next await. A panic is logged and makes the process report itself as not alive, because a gateway whose
    /// configuration watcher or key fetcher is gone must be restarted rather than serve old rules for ever.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let broken = Arc::clone(&self.broken);
        self.tasks.spawn(async move {
            let work = AssertUnwindSafe(future).catch_unwind();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                ended = work => if ended.is_err() {
                    broken.store(true, Ordering::Relaxed);
                    tracing::error!(task = name, "a background task panicked");
                }
            }
        });
    }

    /// Cancelled when the process ends; for tasks that have something to say before they go.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Did a background task panic? Then `/livez` says no.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Ends all tasks. False when some did not yield within `limit`.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.tasks.close();
        self.stop.cancel();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_ends_tasks_that_would_run_for_ever() {
        let spawner = Spawner::new();
        spawner.spawn("sleeper", std::future::pending());
        assert!(spawner.shutdown(Duration::from_secs(1)).await);
        assert!(!spawner.is_broken());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_noticed() {
        let spawner = Spawner::new();
        spawner.spawn("faulty", async { panic!("on purpose") });
        assert!(spawner.shutdown(Duration::from_secs(1)).await);
        // Whether the panic or the stop comes first is the scheduler's choice only if the task had not run before.
        let spawner = Spawner::new();
        spawner.spawn("faulty", async { panic!("on purpose") });
        tokio::task::yield_now().await;
        assert!(spawner.is_broken());
    }
}
