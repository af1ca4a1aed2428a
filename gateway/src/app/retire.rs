//! Takes leave of servers that are no longer configured: the sessions on them are ended, so that none is left behind.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::state::App;
use crate::clock;
use crate::proxy::upstream::Upstream;

/// Calls in flight may run on for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is still in use.
const PAUSE: Duration = Duration::from_millis(500);
/// For the last farewells: the server has so long to take them.
const FAREWELL: Duration = Duration::from_secs(10);

/// Ends the sessions on `upstream`, which the configuration no longer has: those that nobody uses at once, the others when
/// they are free or time is over.
pub(super) async fn retire(app: Weak<App>, upstream: Arc<Upstream>) {
    let link = &upstream.link;
    if let Some(own) = link.forget_shape() {
        link.sessions.end(own);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let over = Instant::now() >= until;
        let left = link.sessions.shared.end_all(over);
        let Some(app) = app.upgrade() else { return };
        if !app.registry.leave(link, over, clock::now_unix()) && !left {
            break;
        }
        drop(app);
        sleep(PAUSE).await;
    }
    // It is known here alone, and what is being ended needs it.
    let until = Instant::now() + FAREWELL;
    while link.sessions.is_ending() && Instant::now() < until {
        sleep(PAUSE).await;
    }
}
