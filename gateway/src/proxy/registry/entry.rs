//! One session, and what it holds on this replica.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::mcp::meta::StatelessMeta;
use crate::mcp::method::Method;
use crate::mcp::revision::Era;
use crate::mcp::session::{self, Capabilities};
use crate::proxy::asks::{Asks, Key};
use crate::proxy::cancel::Cancel;
use crate::proxy::channel::Channel;
use crate::proxy::level::{self, Level};
use crate::proxy::link::Link;
use crate::proxy::listen::places::Place;
use crate::proxy::opened::Opened;
use crate::proxy::subscribed::Subscribed;
use crate::proxy::terms;

/// Calls in flight on one session.
const MAX_IN_FLIGHT: usize = 256;
/// Messages for a client's stream that wait to be read.
const OUTLET: usize = 16;
/// Answers that a client goes on reading on streams of their own, at the same time.
const MAX_RESUMED: usize = 8;

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
    outlet: Mutex<Option<mpsc::Sender<Elsewhere>>>,
    /// The place of the stream that its client listens on, while there is one.
    place: Mutex<Weak<Place>>,
    /// Tells the stream that a server's session was opened, or that there is something else to listen to.
    pub one_more: Notify,
    /// What it subscribed to on servers without sessions.
    pub subscribed: Subscribed,
    /// One per server it has used, by `namespace/name`.
    channels: Mutex<Vec<(Arc<str>, Arc<Slot>)>>,
    in_flight: Mutex<Vec<InFlight>>,
    /// It is over, or another replica's from now on: every stream of it ends.
    pub gone: CancellationToken,
    /// The streams on which its client goes on reading answers, the oldest first.
    resumed: Mutex<VecDeque<CancellationToken>>,
    /// Calls whose answers it goes on reading, or may.
    away: Mutex<Vec<Away>>,
    pub(super) last_used: AtomicU64,
    owner_epoch: AtomicU64,
    pub(super) lost: AtomicBool,
}

/// A question of a server in a call that its client has left.
pub struct Elsewhere {
    /// Under which key it waits.
    pub key: Key,
    /// Whose it is: `namespace/name`.
    pub server: Arc<str>,
    /// What is asked.
    pub method: Method,
    /// As the client sees it.
    pub bytes: Bytes,
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

/// A call that is answered on another stream than its own.
struct Away {
    id: Box<[u8]>,
    answered: Arc<Notify>,
}

/// A call's place among those; leaving it is the end of them.
pub struct Reading {
    session: Arc<Session>,
    answered: Arc<Notify>,
}

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
            place: Mutex::default(),
            one_more: Notify::new(),
            subscribed: Subscribed::default(),
            channels: Mutex::new(held.into_iter().collect()),
            in_flight: Mutex::default(),
            gone: CancellationToken::new(),
            resumed: Mutex::default(),
            away: Mutex::default(),
            last_used: AtomicU64::new(now),
            owner_epoch: AtomicU64::new(u64::MAX),
            lost: AtomicBool::new(false),
        }
    }

    /// What its calls carry to a stateless server that may ask for `capabilities`: what the client said at `initialize`, and
    /// the level of log messages it has set since.
    /// Its log level says nothing where `logs` is off.
    pub fn stateless_meta(&self, capabilities: Capabilities, logs: bool) -> Arc<StatelessMeta> {
        let level = self.level.get().filter(|_| logs);
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
    pub fn listen(&self) -> mpsc::Receiver<Elsewhere> {
        let (sender, receiver) = mpsc::channel(OUTLET);
        *lock(&self.outlet) = Some(sender);
        receiver
    }

    /// Asks the client, if it listens and keeps up.
    pub fn ask(&self, question: Elsewhere) -> bool {
        let outlet = lock(&self.outlet);
        outlet
            .as_ref()
            .is_some_and(|outlet| outlet.try_send(question).is_ok())
    }

    /// Ends the stream that the client listens on.
    pub fn hang_up(&self) {
        *lock(&self.outlet) = None;
        self.gone.cancel();
    }

    /// The place of the stream on which its client listens: that of the one before, or one that `take` gives.
    pub fn place(&self, take: impl FnOnce() -> Option<Arc<Place>>) -> Option<Arc<Place>> {
        let mut place = lock(&self.place);
        let own = place.upgrade().or_else(take)?;
        *place = Arc::downgrade(&own);
        Some(own)
    }

    /// The client goes on reading an answer, on a stream that ends with what is given. Of too many the oldest ends.
    pub fn resume(&self) -> CancellationToken {
        let stream = self.gone.child_token();
        let mut resumed = lock(&self.resumed);
        if resumed.len() >= MAX_RESUMED
            && let Some(oldest) = resumed.pop_front()
        {
            oldest.cancel();
        }
        resumed.push_back(stream.clone());
        stream
    }

    /// The call with this id (raw JSON) is answered on another stream than its own.
    pub fn goes_on_elsewhere(self: &Arc<Self>, id: &[u8]) -> Reading {
        let reading = Reading {
            session: Arc::clone(self),
            answered: Arc::default(),
        };
        lock(&self.away).push(Away {
            // Copied: an id is a part of the whole request.
            id: id.into(),
            answered: Arc::clone(&reading.answered),
        });
        reading
    }

    /// The call with this id was answered on another stream than its own.
    pub fn answered_elsewhere(&self, id: &[u8]) {
        let away = lock(&self.away);
        for call in away.iter().filter(|call| terms::same_id(&call.id, id)) {
            call.answered.notify_one();
        }
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

    /// The way to its session on that server, if it has one.
    pub fn opened(&self, server: &str) -> Option<Arc<Channel>> {
        let channels = lock(&self.channels);
        let (_, slot) = channels.iter().find(|(name, _)| **name == *server)?;
        Some(Arc::clone(slot.get()?.channel()))
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

    /// Ends its session on that server unless somebody uses it, or `also_used`.
    pub(super) fn leave(&self, link: &Arc<Link>, also_used: bool) -> Left {
        let mut left = Left::Nothing;
        lock(&self.channels).retain(|(_, slot)| {
            let Some(opened) = slot.get().filter(|opened| opened.is_on(link)) else {
                return true;
            };
            if opened.is_used() && !also_used {
                left = Left::Used;
                return true;
            }
            opened.end();
            left = Left::Ended;
            false
        });
        left
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
    pub(super) fn release(&self) {
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

    /// Are calls in flight?
    pub fn is_calling(&self) -> bool {
        !lock(&self.in_flight).is_empty()
    }

    pub(super) fn busy(&self) -> bool {
        self.is_calling() || self.is_heard()
    }
}

/// What became of a session on a server that is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// There was none.
    Nothing,
    /// It is used still.
    Used,
    /// It was ended.
    Ended,
}

impl Reading {
    /// Waits for the answer.
    pub async fn answered(&self) {
        self.answered.notified().await;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        lock(&self.session.away).retain(|call| !Arc::ptr_eq(&call.answered, &self.answered));
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
