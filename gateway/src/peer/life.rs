//! Is a replica alive? One that stands still takes connections still, as its kernel does for it; a handshake it cannot do.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::net::Pool;

/// How long an answer may take before its replica has to prove that it lives, and again as often.
const UNPROVEN: Duration = Duration::from_secs(3);
/// A proof is as good for everybody who asks this much later.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of one replica.
#[derive(Default)]
pub struct Life {
    /// The last proof, or its failure. Locked while one is made: whoever asks meanwhile shares it.
    last: tokio::sync::Mutex<Option<(Instant, bool)>>,
    lost: Mutex<CancellationToken>,
}

impl Life {
    /// Resolves when the replica that `pool` leads to gives no sign of life, or when `patience` is over.
    pub async fn lost(&self, pool: &Pool, patience: Duration) {
        let began = Instant::now();
        while began.elapsed() < patience {
            sleep(UNPROVEN).await;
            if !self.is_proven(pool).await {
                return;
            }
        }
    }

    /// Cancelled when it was found to be lost from now on.
    pub fn end(&self) -> CancellationToken {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody waits for what it still has to say.
    pub fn cut(&self) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lost).cancel();
    }

    /// Does it prove now that it lives?
    pub async fn is_proven(&self, pool: &Pool) -> bool {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((at, alive)) = *last
            && (at >= asked || at.elapsed() < FRESH)
        {
            return alive;
        }
        let alive = pool.is_alive().await;
        *last = Some((Instant::now(), alive));
        drop(last);
        if !alive {
            self.cut();
        }
        alive
    }
}
