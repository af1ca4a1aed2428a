//! The session-era sessions this replica owns.
//!
//! A session's facts are sealed in its id, so that this table is only a cache of what moves: upstream sessions and calls
//! in flight. An entry that is dropped for idleness comes back with the next request, unless its id names a session of
//! the server's own: that one ends with it. What must be remembered are the sessions that were ended: their ids would
//! still open.

mod entry;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use entry::{Elsewhere, Held, Session, Slot, TrackError, Tracked};

use entry::Left;

use crate::mcp::session;
use crate::proxy::link::Link;

/// Locks over the table; a power of two.
const SHARDS: usize = 64;
/// An entry untouched for this long is dropped from memory; its id stays valid.
pub const IDLE_SECONDS: u64 = 900;
/// A session whose id names the server's own is over when it was not used for this long: the server holds what is its
/// own until it is told, and only an entry in memory can tell it.
pub const IDLE_SEALED_SECONDS: u64 = 4 * 3600;
/// Ended sessions remembered. Past that the oldest is forgotten, long before its expiry at any honest rate.
const MAX_ENDED: usize = 100_000;

/// Sessions by sealed id.
type Shard = Mutex<HashMap<Box<str>, Arc<Session>>>;

/// Numbers of sessions by principal.
type Counts = Mutex<HashMap<[u8; 16], usize>>;

/// All sessions of this replica, by sealed id.
pub struct Registry {
    shards: Box<[Shard]>,
    count: AtomicUsize,
    ended: Mutex<Ended>,
    /// Held while a session is added: by the first byte of its principal.
    adding: Box<[Mutex<()>]>,
    /// How many sessions each principal has: by its first byte.
    counts: Box<[Counts]>,
}

impl Drop for Registry {
    /// A process that ends leaves to the next owner what ids name.
    fn drop(&mut self) {
        for shard in &self.shards {
            lock(shard).values().for_each(|session| session.release());
        }
    }
}

#[derive(Default)]
struct Ended {
    nonces: HashSet<[u8; 16]>,
    order: VecDeque<([u8; 16], u64)>,
}

/// Why a session cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// It was ended.
    Ended,
    /// Its principal has as many as it may, and none of them is idle.
    TooMany,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            ended: Mutex::default(),
            adding: (0..SHARDS).map(|_| Mutex::default()).collect(),
            counts: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Registry {
    /// The session with this id, if it is in memory; touches it.
    pub fn get(&self, id: &str, now: u64) -> Option<Arc<Session>> {
        let session = Arc::clone(lock(self.shard(id)).get(id)?);
        session.last_used.store(now, Ordering::Relaxed);
        (!session.token.is_expired(now)).then_some(session)
    }

    /// May this principal have one more? Asked before anything is opened for it.
    pub fn has_room(&self, principal: &[u8; 16], cap: usize) -> bool {
        self.count_of(principal) < cap || self.oldest(principal).is_some()
    }

    /// Takes over a session whose id has been opened. `cap` bounds the sessions of one principal on this replica, on all
    /// endpoints together: past it the longest idle one makes room, and if all are busy the new one is refused. `mine`
    /// says whether this replica owns a session with this nonce. `make` is called once it is certain that the session is
    /// added, and before another request can find it: that one would open again what is not held yet.
    pub fn add(
        &self,
        id: &str,
        token: session::Session,
        cap: usize,
        now: u64,
        mine: impl Fn(&[u8; 16]) -> bool,
        make: impl FnOnce(session::Session) -> Session,
    ) -> Result<Arc<Session>, AddError> {
        let _one = lock(of(&self.adding, &token.principal));
        if lock(&self.ended).nonces.contains(&token.nonce) {
            return Err(AddError::Ended);
        }
        if let Some(known) = lock(self.shard(id)).get(id) {
            return Ok(Arc::clone(known));
        }
        self.make_room(&token.principal, cap, now, mine)?;
        let session = Arc::new(make(token));
        self.count.fetch_add(1, Ordering::Relaxed);
        *lock(of(&self.counts, &session.token.principal))
            .entry(session.token.principal)
            .or_default() += 1;
        lock(self.shard(id)).insert(id.into(), Arc::clone(&session));
        Ok(session)
    }

    /// Ends a session: it is gone, and its id opens nothing until it expires.
    pub fn end(&self, id: &str, token: &session::Session, now: u64) {
        self.bury(token, now);
        self.take(id);
    }

    /// The server forgot the session that the id of this one names: it cannot go on.
    pub fn lose(&self, session: &Session, now: u64) {
        session.lost.store(true, Ordering::Relaxed);
        self.bury(&session.token, now);
    }

    /// Drops a session from memory, not from validity. Its sessions on servers end with it, but for one that the id
    /// names.
    pub fn remove(&self, id: &str) {
        if let Some(session) = self.take(id) {
            session.release();
        }
    }

    /// The next owner serves it: it is dropped from memory, unless something is in flight here.
    pub fn hand_over(&self, id: &str) {
        let busy = lock(self.shard(id)).get(id).is_some_and(|session| session.busy());
        if !busy {
            self.remove(id);
        }
    }

    fn take(&self, id: &str) -> Option<Arc<Session>> {
        let mut shard = lock(self.shard(id));
        let gone = shard.remove(id)?;
        self.uncount(&gone.token.principal);
        Some(gone)
    }

    /// Remembers that a session is over.
    fn bury(&self, token: &session::Session, now: u64) {
        let mut ended = lock(&self.ended);
        while ended.order.front().is_some_and(|(_, expires)| *expires <= now)
            || ended.order.len() >= MAX_ENDED
        {
            if let Some((nonce, _)) = ended.order.pop_front() {
                ended.nonces.remove(&nonce);
            }
        }
        if ended.nonces.insert(token.nonce) {
            ended.order.push_back((token.nonce, token.expires));
        }
    }

    /// What becomes of a session that leaves memory because nobody used it. One that the server's own session goes with
    /// is over, if it is this replica's to end; all others come back when they are used.
    fn lay_off(&self, session: &Session, now: u64, mine: impl Fn(&[u8; 16]) -> bool) {
        if session.is_sealed() && session.token.expires > now && !session.is_lost() {
            if mine(&session.token.nonce) {
                self.bury(&session.token, now);
            } else {
                session.release();
            }
        }
    }

    /// Sessions in memory.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the sessions on a server that nobody uses, or `also_used` ones. True: some are left.
    pub fn leave(&self, link: &Arc<Link>, also_used: bool, now: u64) -> bool {
        let mut left = false;
        for shard in &self.shards {
            // Ended without the lock.
            let all: Vec<_> = lock(shard).values().cloned().collect();
            for session in all {
                match session.leave(link, also_used) {
                    Left::Used => left = true,
                    // The id names the session that is gone.
                    Left::Ended if session.is_sealed() => self.lose(&session, now),
                    Left::Ended | Left::Nothing => {}
                }
            }
        }
        left
    }

    /// Drops what expired or has been idle, and with it the sessions on servers.
    pub fn sweep(&self, now: u64, mine: impl Fn(&[u8; 16]) -> bool) {
        let mut gone = Vec::new();
        for shard in &self.shards {
            lock(shard).retain(|_, session| {
                let most = if session.is_sealed() {
                    IDLE_SEALED_SECONDS
                } else {
                    IDLE_SECONDS
                };
                let idle = now.saturating_sub(session.last_used.load(Ordering::Relaxed)) > most;
                let over = idle || session.token.expires <= now || session.is_lost();
                let keep = session.busy() || !over;
                if !keep {
                    self.uncount(&session.token.principal);
                    gone.push(Arc::clone(session));
                }
                keep
            });
        }
        for session in gone {
            self.lay_off(&session, now, &mine);
        }
    }

    /// Makes room for one more, more than once if the cap was lowered.
    fn make_room(
        &self,
        principal: &[u8; 16],
        cap: usize,
        now: u64,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) -> Result<(), AddError> {
        loop {
            if self.count_of(principal) < cap {
                return Ok(());
            }
            let Some(id) = self.oldest(principal) else {
                // The last idle one may just have gone by itself.
                let room = self.count_of(principal) < cap;
                return if room { Ok(()) } else { Err(AddError::TooMany) };
            };
            if let Some(session) = self.take(&id) {
                self.lay_off(&session, now, &mine);
            }
        }
    }

    fn count_of(&self, principal: &[u8; 16]) -> usize {
        let counts = lock(of(&self.counts, principal));
        counts.get(principal).copied().unwrap_or_default()
    }

    /// One of its sessions leaves the table, whose part is locked: count and table agree for whoever holds that.
    fn uncount(&self, principal: &[u8; 16]) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut counts = lock(of(&self.counts, principal));
        if let Some(count) = counts.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                counts.remove(principal);
            }
        }
    }

    /// The id of the principal's longest unused session that is not busy. Only who has as many as it may is looked at so
    /// closely: a walk over the table is cheaper than an order that each request would have to keep right.
    fn oldest(&self, principal: &[u8; 16]) -> Option<Box<str>> {
        let mut oldest: Option<(u64, Box<str>)> = None;
        for shard in &self.shards {
            for (id, session) in lock(shard)
                .iter()
                .filter(|(_, session)| session.token.principal == *principal)
            {
                let used = session.last_used.load(Ordering::Relaxed);
                if !session.busy() && oldest.as_ref().is_none_or(|(best, _)| used < *best) {
                    oldest = Some((used, id.clone()));
                }
            }
        }
        oldest.map(|(_, id)| id)
    }

    /// By the last bytes: an id of ours ends in a tag that is as good as random, and with another one there is nothing
    /// to find.
    fn shard(&self, id: &str) -> &Shard {
        let tail = id.bytes().rev().take(4);
        let number = tail.fold(0_usize, |number, byte| {
            number.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        self.shards
            .get(number % SHARDS)
            .expect("less than the number of shards")
    }
}

/// The part that a principal belongs to.
fn of<'p, T>(parts: &'p [T], principal: &[u8; 16]) -> &'p T {
    let [first, ..] = principal;
    parts
        .get(usize::from(*first) % SHARDS)
        .expect("less than the number of shards")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::revision::Revision;
    use crate::mcp::session::Capabilities;

    fn add(registry: &Registry, who: u8, number: u8, now: u64) -> Result<Arc<Session>, AddError> {
        let token = session::Session {
            nonce: [number; 16],
            principal: [who; 16],
            revision: Revision::NEWEST_SESSION,
            capabilities: Capabilities::NONE,
            client: session::ClientInfo::default(),
            expires: 1_000_000,
            upstream: None,
        };
        let make = |token| Session::new("", token, None, now);
        registry.add(&format!("id-{number}"), token, 2, now, |_| true, make)
    }

    #[test]
    fn whatever_way_a_session_goes_its_principal_has_room_again() {
        let registry = Registry::default();
        let counted = |who: u8| registry.count_of(&[who; 16]);
        for number in 0..3 {
            add(&registry, 7, number, u64::from(number)).unwrap();
        }
        assert!(
            registry.get("id-0", 3).is_none(),
            "the longest unused one made room"
        );
        add(&registry, 7, 2, 4).unwrap();
        assert_eq!(
            (counted(7), registry.len()),
            (2, 2),
            "a known one is not counted twice"
        );
        // Another's, whose part of the counts is the same one.
        add(&registry, 7 + 64, 9, 4).unwrap();
        let one = registry.get("id-1", 4).unwrap();
        registry.end("id-1", &one.token, 4);
        registry.end("id-1", &one.token, 4);
        assert_eq!((counted(7), counted(71), registry.len()), (1, 1, 2));
        registry.remove("id-2");
        assert_eq!(counted(7), 0);
        assert!(registry.counts.iter().map(|part| lock(part).len()).sum::<usize>() == 1);
        registry.sweep(4 + IDLE_SECONDS + 1, |_| true);
        assert!(registry.is_empty() && registry.counts.iter().all(|part| lock(part).is_empty()));
    }

    #[test]
    fn busy_sessions_make_no_room() {
        let registry = Registry::default();
        let sessions = [0, 1].map(|number| add(&registry, 7, number, 0).unwrap());
        let calls = sessions.map(|session| session.track("1".into()).unwrap());
        assert!(!registry.has_room(&[7; 16], 2) && registry.has_room(&[8; 16], 2));
        assert_eq!(add(&registry, 7, 2, 0).err(), Some(AddError::TooMany));
        let [first, second] = calls;
        drop(second);
        add(&registry, 7, 2, 0).unwrap();
        assert!(registry.get("id-0", 0).is_some() && registry.get("id-1", 0).is_none());
        drop(first);
    }
}
