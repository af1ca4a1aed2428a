//! Keeps what is known of a server up to date: asks on start, then again and again, and at once when told.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::link::Link;
use super::upstream::Upstream;

/// Between two questions to a healthy server.
const STEADY: Duration = Duration::from_secs(30);
/// First pause after a failure; it doubles up to [`STEADY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// At most one unscheduled question in this time, however many calls name unknown tools.
const LEAST: Duration = Duration::from_secs(2);
/// At most one question in this time, however often the server says that something changed.
const LEAST_TOLD: Duration = Duration::from_millis(250);

/// Asks until the server is no longer part of the configuration: `current` gives it as the snapshot in force has it.
pub async fn keep<F>(link: Weak<Link>, current: F)
where
    F: Fn(&Arc<Link>) -> Option<Arc<Upstream>> + Send,
{
    let mut retry = FIRST_RETRY;
    loop {
        let Some(link) = link.upgrade() else { return };
        let Some(upstream) = current(&link) else { return };
        let asked = Instant::now();
        let pause = if upstream.refresh(LEAST).await.is_ok() {
            retry = FIRST_RETRY;
            STEADY
        } else {
            retry = (retry * 2).min(STEADY);
            retry / 2
        };
        drop(upstream);
        // Replicas started together do not ask together.
        let jittered = pause.mul_f64(rand::random_range(0.8..1.2));
        link.wait_stale(jittered).await;
        if link.what_was_told().is_any() {
            sleep_until(asked + LEAST_TOLD).await;
        }
    }
}
