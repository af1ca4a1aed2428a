//! The sessions, on a server of the session era, of clients that have none of their own: one for each principal, so that
//! nothing that a server keeps in a session passes from one principal to another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout};

use super::channel::Channel;
use super::exchange::Failure;
use super::opened::{self, Opened, Opener};
use super::registry::Slot;
use super::upstream::Upstream;
use crate::auth::identity::PrincipalKey;

/// Sessions kept on one server. Only calls in flight can make them more.
const MOST: usize = 1024;
/// One that nobody used for this long is ended.
pub const IDLE_SECONDS: u64 = 900;

/// The sessions on one server, by principal.
#[derive(Default)]
pub struct Shared(Mutex<HashMap<PrincipalKey, Entry>>);

struct Entry {
    slot: Arc<Slot>,
    used: u64,
}

impl Entry {
    /// Is somebody opening it, or calling on it? Who does holds a part of it, and got that under the table's lock.
    fn busy(&self) -> bool {
        Arc::strong_count(&self.slot) > 1 || self.slot.get().is_some_and(Opened::is_used)
    }
}

impl Shared {
    /// The principal's session, or the place where it is to be opened.
    fn get(&self, who: &PrincipalKey, now: u64) -> Result<Arc<Channel>, Arc<Slot>> {
        let mut all = self.lock();
        if let Some(entry) = all.get_mut(who) {
            entry.used = now;
            return match entry.slot.get() {
                Some(opened) => Ok(Arc::clone(opened.channel())),
                None => Err(Arc::clone(&entry.slot)),
            };
        }
        let evicted = if all.len() < MOST {
            None
        } else {
            let idle = all.iter().filter(|(_, entry)| !entry.busy());
            let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(who, _)| *who);
            oldest.and_then(|who| all.remove(&who))
        };
        let slot = Arc::<Slot>::default();
        let entry = Entry {
            slot: Arc::clone(&slot),
            used: now,
        };
        all.insert(*who, entry);
        drop(all);
        // Letting go of it ends it on the server, which needs no lock of ours.
        drop(evicted);
        Err(slot)
    }

    /// The server forgot this session: the next call opens another.
    pub fn forget(&self, who: &PrincipalKey, lost: &Arc<Channel>) {
        let mut all = self.lock();
        let is_lost = |opened: &&Opened| Arc::ptr_eq(opened.channel(), lost);
        let known = all.get(who).and_then(|entry| entry.slot.get());
        if let Some(opened) = known.filter(is_lost) {
            opened.release();
            all.remove(who);
        }
    }

    /// Ends those that nobody has used for a while.
    pub fn sweep(&self, now: u64) {
        let over: Vec<Entry> = self
            .lock()
            .extract_if(|_, entry| !entry.busy() && now.saturating_sub(entry.used) > IDLE_SECONDS)
            .map(|(_, entry)| entry)
            .collect();
        drop(over);
    }

    /// Ends those that nobody uses, or `also_used` ones. True: some are left.
    pub fn end_all(&self, also_used: bool) -> bool {
        let mut all = self.lock();
        let over: Vec<Entry> = all
            .extract_if(|_, entry| also_used || !entry.busy())
            .map(|(_, entry)| entry)
            .collect();
        let left = !all.is_empty();
        drop(all);
        for entry in over {
            if let Some(opened) = entry.slot.get() {
                opened.end();
            }
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PrincipalKey, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The principal's session on a server: opened by whichever of its calls comes first, for all that wait.
pub async fn channel(
    upstream: &Arc<Upstream>,
    who: &PrincipalKey,
    now: u64,
) -> Result<Arc<Channel>, Failure> {
    match upstream.link.sessions.shared.get(who, now) {
        Ok(channel) => Ok(channel),
        // Boxed: large and rare, and every call would carry the room.
        Err(slot) => Box::pin(open(upstream, &slot)).await,
    }
}

async fn open(upstream: &Arc<Upstream>, slot: &Slot) -> Result<Arc<Channel>, Failure> {
    let link = &upstream.link;
    let came = Instant::now();
    let opening = slot.get_or_try_init(|| async {
        // Who waited for another's try shares its failure.
        if let Some(failure) = link.failed_since(came) {
            return Err(failure);
        }
        let opening = opened::open(upstream, Opener::gateway(), true);
        let (opened, shape) = opening.await.map_err(|failure| link.set_failed(failure))?;
        link.set_shape(shape);
        Ok(opened)
    });
    let opened = timeout(upstream.timeout, opening)
        .await
        .unwrap_or_else(|_| Err(link.set_failed(Failure::Timeout)))?;
    Ok(Arc::clone(opened.channel()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(number: usize) -> PrincipalKey {
        u128::try_from(number).unwrap().to_le_bytes()
    }

    #[test]
    fn only_sessions_in_use_go_beyond_the_bound() {
        let shared = Shared::default();
        // All are being opened.
        let busy: Vec<_> = (0..=MOST).map(|n| shared.get(&principal(n), 1)).collect();
        assert_eq!(shared.lock().len(), MOST + 1);
        drop(busy);
        let again = shared.get(&principal(0), 2);
        assert!(again.is_err(), "nothing was opened");
        assert!(shared.get(&principal(MOST + 1), 3).is_err());
        assert_eq!(shared.lock().len(), MOST + 1);
        assert!(shared.lock().contains_key(&principal(0)), "it is in use");
        drop(again);
        shared.sweep(IDLE_SECONDS + 2);
        assert_eq!(shared.lock().len(), 2, "those of the second moments 2 and 3");
        shared.sweep(IDLE_SECONDS + 4);
        assert!(shared.lock().is_empty());
    }
}
