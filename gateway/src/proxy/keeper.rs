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

/// So often in a row a server may say so for nothing.
const FREE: u32 = 8;

/// Asks until the server is no longer part of the configuration: `current` gives it as the snapshot in force has it.
pub async fn keep<F>(link: Weak<Link>, current: F)
where
    F: Fn(&Arc<Link>) -> Option<Arc<Upstream>> + Send,
{
    let mut retry = FIRST_RETRY;
    let mut told = false;
    let mut futile = 0;
    loop {
        let Some(link) = link.upgrade() else { return };
        let Some(upstream) = current(&link) else { return };
        let asked = Instant::now();
        let before = link.inventory().clone();
        let pause = if upstream.refresh(LEAST).await.is_ok() {
            retry = FIRST_RETRY;
            STEADY
        } else {
            retry = (retry * 2).min(STEADY);
            retry / 2
        };
        drop(upstream);
        let same = match (before, &*link.inventory()) {
            (Some(before), Some(now)) => before.same_as(now),
            _ => false,
        };
        futile = if told && same {
            u32::saturating_add(futile, 1)
        } else {
            0
        };
        // Replicas started together do not ask together.
        let jittered = pause.mul_f64(rand::random_range(0.8..1.2));
        link.wait_stale(jittered).await;
        told = link.what_was_told().is_any();
        if told {
            sleep_until(asked + least(futile)).await;
        }
    }
}

/// At most one question in this time for a server that says that something changed, where so many times in a row nothing
/// had: it is not to be asked, nor those who listen told, again and again for nothing.
fn least(futile: u32) -> Duration {
    (LEAST_TOLD * (1 << futile.saturating_sub(FREE).min(8))).min(STEADY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cries_wolf_is_listened_to_ever_more_seldom() {
        assert_eq!(
            [0, FREE, FREE + 1, FREE + 3].map(|n| least(n).as_millis()),
            [250, 250, 500, 2000]
        );
        assert_eq!([least(FREE + 7), least(u32::MAX)], [STEADY; 2]);
    }
}
