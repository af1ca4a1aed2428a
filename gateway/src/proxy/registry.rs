//! The session-era sessions this replica owns.
//!
//! A session's facts are sealed in its id, so that this table is only a cache of what moves: upstream sessions and calls
//! in flight. An entry that is dropped for idleness comes back with the next request, unless its id names a session of
//! the server's own: that one ends with it. What must be remembered are the sessions that were ended: their ids would
//! still open.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::asks::Asks;
use super::cancel::Cancel;
use super::channel::Channel;
use super::level::{self, Level};
use super::opened::Opened;
use super::subscribed::Subscribed;
use crate::mcp::meta::StatelessMeta;
use crate::mcp::revision::Era;
use crate::mcp::session::{self, Capabilities};

/// Locks over the table; a power of two.
const SHARDS: usize = 64;
/// An entry untouched for this long is dropped from memory; its id stays valid.
pub const IDLE_SECONDS: u64 = 900;
/// A session whose id names the server's own is over when it was not used for this long: the server holds what is its
/// own until it is told, and only an entry in memory can tell it.
pub const IDLE_SEALED_SECONDS: u64 = 4 * 3600;
/// Ended sessions remembered. Past that the oldest is forgotten, long before its expiry at any honest rate.
const MAX_ENDED: usize = 100_000;
/// Calls in flight on one session.
const MAX_IN_FLIGHT: usize = 256;

/// A session and what it holds on this replica.
pub struct Session {
    /// What its id says.
    pub token: session::Session,
    /// The endpoint it was opened on: empty for the federated one, else the server's name in the path.
    pub endpoint: Box<str>,
    /// What servers ask of its client.
    pub asks: Asks,
    /// The least level of log messages that its client wants.
    pub level: level::Current,
    /// What its calls carry to a stateless server: the last one made.
    meta: Mutex<Option<Made>>,
    /// The way to the stream that its client listens on.
    outlet: Mutex<Option<mpsc::Sender<Bytes>>>,
    /// Tells the stream that a server's session was opened, or that there is something else to listen to.
    pub one_more: Notify,
    /// What it subscribed to on servers without sessions.
    pub subscribed: Subscribed,
    /// One per server it has used, by `namespace/name`.
    channels: Mutex<Vec<(Arc<str>, Arc<Slot>)>>,
    in_flight: Mutex<Vec<InFlight>>,
    last_used: AtomicU64,
    owner_epoch: AtomicU64,
    lost: AtomicBool,
}

/// What calls carry to a stateless server, and what it was made for.
struct Made {
    level: Option<Level>,
    capabilities: Capabilities,
    meta: Arc<StatelessMeta>,
}

/// The place of one server's upstream session: opened once, by whichever call comes first.
pub type Slot = tokio::sync::OnceCell<Opened>;

struct InFlight {
    id: Bytes,
    cancel: Cancel,
}

/// Messages for a client's stream that wait to be read.
const OUTLET: usize = 16;

/// A call's place among those in flight; leaving it ends the call for `notifications/cancelled`.
pub struct Tracked {
    /// The client's session.
    pub session: Arc<Session>,
    id: Bytes,
    /// Fires when the client cancels this call.
    pub cancelled: Cancel,
}

/// Why a call cannot be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackError {
    /// The same id is in flight already: a protocol error of the client.
    DuplicateId,
    /// Too many.
    TooMany,
}

/// A server, and the session on it.
pub type Held = (Arc<str>, Opened);

impl Session {
    /// What is opened on `endpoint`, with the upstream session that goes with it from the start.
    pub fn new(endpoint: &str, token: session::Session, held: Option<Held>, now: u64) -> Self {
        let held = held.map(|(server, opened)| (server, Arc::new(Slot::from(opened))));
        Self {
            token,
            endpoint: endpoint.into(),
            asks: Asks::default(),
            level: level::Current::default(),
            meta: Mutex::default(),
            outlet: Mutex::default(),
            one_more: Notify::new(),
            subscribed: Subscribed::default(),
            channels: Mutex::new(held.into_iter().collect()),
            in_flight: Mutex::default(),
            last_used: AtomicU64::new(now),
            owner_epoch: AtomicU64::new(u64::MAX),
            lost: AtomicBool::new(false),
        }
    }

    /// What its calls carry to a stateless server that may ask for `capabilities`: what the client said at `initialize`, and
    /// the level of log messages it has set since.
    pub fn stateless_meta(&self, capabilities: Capabilities) -> Arc<StatelessMeta> {
        let level = self.level.get();
        let mut meta = lock(&self.meta);
        match &*meta {
            Some(made) if (made.level, made.capabilities) == (level, capabilities) => Arc::clone(&made.meta),
            _ => {
                let info = self.token.client.to_json();
                let declared = capabilities.to_json(Era::Stateless);
                let made = StatelessMeta::new(&declared, Some(&info), level.map(Level::as_str));
                let made = Arc::new(made);
                *meta = Some(Made {
                    level,
                    capabilities,
                    meta: Arc::clone(&made),
                });
                made
            }
        }
    }

    /// The client listens from now on, and no longer where it did. What is sent here reaches it.
    pub fn listen(&self) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(OUTLET);
        *lock(&self.outlet) = Some(sender);
        receiver
    }

    /// Tells the client, if it listens and keeps up.
    pub fn tell(&self, message: Bytes) -> bool {
        let outlet = lock(&self.outlet);
        outlet
            .as_ref()
            .is_some_and(|outlet| outlet.try_send(message).is_ok())
    }

    /// Ends the stream that the client listens on.
    pub fn hang_up(&self) {
        *lock(&self.outlet) = None;
    }

    fn is_heard(&self) -> bool {
        lock(&self.outlet)
            .as_ref()
            .is_some_and(|outlet| !outlet.is_closed())
    }

    /// The sessions on servers that are open: by `namespace/name`, the way there.
    pub fn open_channels(&self) -> Vec<(Arc<str>, Arc<Channel>)> {
        lock(&self.channels)
            .iter()
            .filter_map(|(server, slot)| Some((Arc::clone(server), Arc::clone(slot.get()?.channel()))))
            .collect()
    }

    /// The place of `server`'s upstream session.
    pub fn slot(&self, server: &Arc<str>) -> Arc<Slot> {
        let mut channels = lock(&self.channels);
        if let Some((_, slot)) = channels.iter().find(|(name, _)| name == server) {
            return Arc::clone(slot);
        }
        let slot = Arc::<Slot>::default();
        channels.push((Arc::clone(server), Arc::clone(&slot)));
        slot
    }

    /// Forgets `server`'s upstream session if it still is `lost`, so that the next call opens another.
    pub fn forget(&self, server: &str, lost: &Arc<Channel>) {
        lock(&self.channels).retain(|(name, slot)| {
            let Some(opened) = slot.get().filter(|_| &**name == server) else {
                return true;
            };
            let is_lost = Arc::ptr_eq(opened.channel(), lost);
            if is_lost {
                opened.release();
            }
            !is_lost
        });
    }

    /// Ends the client's stream and every upstream session it holds, now. Those still being opened end when they are let go of.
    pub fn close(&self) {
        self.hang_up();
        for (_, slot) in &*lock(&self.channels) {
            if let Some(opened) = slot.get() {
                opened.end();
            }
        }
    }

    /// Leaves the session that the id names to whoever serves that id next. Its client comes back there to listen.
    fn release(&self) {
        self.hang_up();
        if self.is_sealed() {
            for (_, slot) in &*lock(&self.channels) {
                if let Some(opened) = slot.get() {
                    opened.release();
                }
            }
        }
    }

    /// Does the id name the server's own session?
    pub fn is_sealed(&self) -> bool {
        self.token.upstream.is_some()
    }

    /// Did the server forget the session that the id names?
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Notes a call in flight under the client's `id` (raw JSON).
    pub fn track(self: &Arc<Self>, id: Bytes) -> Result<Tracked, TrackError> {
        let mut in_flight = lock(&self.in_flight);
        if in_flight.len() >= MAX_IN_FLIGHT {
            return Err(TrackError::TooMany);
        }
        if in_flight.iter().any(|call| call.id == id) {
            return Err(TrackError::DuplicateId);
        }
        let cancelled = Cancel::default();
        in_flight.push(InFlight {
            id: id.clone(),
            cancel: cancelled.clone(),
        });
        Ok(Tracked {
            session: Arc::clone(self),
            id,
            cancelled,
        })
    }

    /// The client cancels the call with this id. False: no such call.
    pub fn cancel(&self, id: &[u8]) -> bool {
        let in_flight = lock(&self.in_flight);
        let found = in_flight.iter().find(|call| call.id == id);
        if let Some(call) = found {
            call.cancel.cancel();
        }
        found.is_some()
    }

    /// The session is over, and its calls with it, also those that lost their client.
    pub fn cancel_all(&self) {
        for call in lock(&self.in_flight).iter() {
            call.cancel.cancel();
        }
    }

    /// Was ownership already settled for this set of replicas?
    pub fn owned_at(&self, epoch: u64) -> bool {
        self.owner_epoch.load(Ordering::Relaxed) == epoch
    }

    /// This replica owns it in this set.
    pub fn set_owned_at(&self, epoch: u64) {
        self.owner_epoch.store(epoch, Ordering::Relaxed);
    }

    fn busy(&self) -> bool {
        !lock(&self.in_flight).is_empty() || self.is_heard()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut in_flight = lock(&self.session.in_flight);
        if let Some(at) = in_flight.iter().position(|call| call.id == self.id) {
            in_flight.swap_remove(at);
        }
    }
}

/// Sessions by sealed id.
type Shard = Mutex<HashMap<Box<str>, Arc<Session>>>;

/// All sessions of this replica, by sealed id.
pub struct Registry {
    shards: Box<[Shard]>,
    count: AtomicUsize,
    ended: Mutex<Ended>,
    /// Held while a principal's sessions are counted and one is added: by the first byte of the principal.
    adding: Box<[Mutex<()>]>,
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

/// A principal's sessions.
struct Own {
    count: usize,
    /// The id of the longest unused one that is not busy.
    oldest: Option<Box<str>>,
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
        let own = self.own(principal);
        own.count < cap || own.oldest.is_some()
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
        let [first, ..] = token.principal;
        let one = self.adding.get(usize::from(first) % SHARDS);
        let _one = lock(one.expect("less than the number of shards"));
        if lock(&self.ended).nonces.contains(&token.nonce) {
            return Err(AddError::Ended);
        }
        if let Some(known) = lock(self.shard(id)).get(id) {
            return Ok(Arc::clone(known));
        }
        self.make_room(&token.principal, cap, now, mine)?;
        let session = Arc::new(make(token));
        self.count.fetch_add(1, Ordering::Relaxed);
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

    fn take(&self, id: &str) -> Option<Arc<Session>> {
        let gone = lock(self.shard(id)).remove(id);
        if gone.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        gone
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
                    gone.push(Arc::clone(session));
                }
                keep
            });
        }
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
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
            let own = self.own(principal);
            if own.count < cap {
                return Ok(());
            }
            let id = own.oldest.ok_or(AddError::TooMany)?;
            if let Some(session) = self.take(&id) {
                self.lay_off(&session, now, &mine);
            }
        }
    }

    /// A principal's own sessions are few, and new ones are rare: a walk over the table is cheaper than a second index
    /// that each request would have to keep right.
    fn own(&self, principal: &[u8; 16]) -> Own {
        let mut count = 0;
        let mut oldest: Option<(u64, Box<str>)> = None;
        for shard in &self.shards {
            for (id, session) in lock(shard)
                .iter()
                .filter(|(_, session)| session.token.principal == *principal)
            {
                count += 1;
                let used = session.last_used.load(Ordering::Relaxed);
                if !session.busy() && oldest.as_ref().is_none_or(|(best, _)| used < *best) {
                    oldest = Some((used, id.clone()));
                }
            }
        }
        Own {
            count,
            oldest: oldest.map(|(_, id)| id),
        }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
