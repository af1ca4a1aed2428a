//! What of a server outlives a reload of the configuration: connections, handshake, inventory, health.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use portcullis_config::Features;
use rustls::ClientConfig;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::channel::Channel;
use super::exchange::Failure;
use super::inventory::Inventory;
use super::news::{Lists, News, Told};
use super::opened::Sessions;
use super::primitive::Primitive;
use crate::budget::Budget;
use crate::credential::{Grant, Secrets, Source};
use crate::mcp::revision::{Era, Revision};
use crate::net::Pool;

/// What the handshake told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What is spoken with it.
    pub revision: Revision,
    /// Its `serverInfo`, word for word.
    pub server_info: Bytes,
    /// The name in it.
    pub name: String,
    /// The version in it.
    pub version: String,
    /// Its `instructions`.
    pub instructions: Option<String>,
    /// Does it offer tools?
    pub has_tools: bool,
    /// What it offers beside them.
    pub offers: Features,
    /// Can its resources be subscribed to?
    pub subscribe: bool,
    /// A stateless server that has sessions as well: clients with a session speak with it in theirs.
    pub sessions_too: SessionsToo,
    /// Does it give tasks (stateless era)?
    pub tasks: bool,
}

impl Shape {
    /// Which era it speaks with us.
    pub const fn era(&self) -> Era {
        self.revision.era()
    }

    /// Does a client with a session speak with it in a session of the server's?
    pub const fn has_sessions(&self) -> bool {
        matches!(self.sessions_too, SessionsToo::Yes) || matches!(self.era(), Era::Session)
    }
}

/// Has a stateless server sessions as well?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionsToo {
    /// It says so, or showed it.
    Yes,
    /// It has none, or is not to be asked for any.
    No,
    /// It does not say: `server/discover` need not name the revisions that have no such question.
    Unsaid,
}

/// [`Health::reason`] before the first contact.
pub const NOT_YET_TRIED: &str = "NotYetTried";

/// How the last contact went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Handshake and tool list came through the last time they were tried.
    pub verified: bool,
    /// One word when not.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
}

/// A failed handshake. Everybody who waited for it shares it, and who comes within a moment.
struct Failed {
    at: Instant,
    why: Arc<Failure>,
}

/// How long a failed handshake speaks for the next one: a server that hangs must not be asked again by each call in turn.
const FAILURE_HOLDS: Duration = Duration::from_secs(2);

/// What a server's certificate must be signed by.
#[derive(Default, PartialEq, Eq)]
enum Trust {
    /// That was not said yet.
    #[default]
    Unsaid,
    /// One of these; of the public roots where there are none.
    By(Option<Bytes>),
}

/// Connections to one server, and what is known about it.
pub struct Link {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// Its connections.
    pub pool: Pool,
    /// The memory that its answers may take, with everybody's.
    pub budget: Arc<Budget>,
    /// The sessions on it.
    pub sessions: Sessions,
    /// Whether calls are sent to it at all.
    pub breaker: Breaker,
    /// Where tokens for it come from, if it is shown any.
    tokens: Mutex<Weak<Source>>,
    /// What the server's certificate must be signed by.
    trust: Mutex<Trust>,
    shape: ArcSwapOption<Shape>,
    inventory: ArcSwapOption<Inventory>,
    shared: ArcSwapOption<Channel>,
    /// Held while a shared session is opened, so that only one is.
    pub(super) opening: tokio::sync::Mutex<()>,
    /// How getting to know the server failed the last time, and when.
    failed: ArcSwapOption<Failed>,
    /// Held while the server is greeted, so that it is greeted once.
    pub(super) greeting: tokio::sync::Mutex<()>,
    /// Held while the server is asked what it offers, so that it is asked once.
    pub(super) refreshing: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
    next_id: AtomicU64,
    generation: Arc<AtomicU64>,
    stale: Notify,
    /// What the server said that changed, and was not asked for since.
    told: Told,
    news: broadcast::Sender<News>,
    stateless: Arc<Channel>,
    kept: AtomicBool,
    /// When it last had no time to say whether it has sessions, in seconds since 1970.
    busy: AtomicU64,
    /// Does it give tasks, by the last handshake? Kept while the server is down, as its lists are.
    tasks: AtomicBool,
}

impl Link {
    /// Nothing is known yet. `generation` moves whenever an inventory changes, and `news` is where that is told.
    pub fn new(
        name: Arc<str>,
        pool: Pool,
        budget: Arc<Budget>,
        generation: Arc<AtomicU64>,
        news: broadcast::Sender<News>,
    ) -> Self {
        let health = Health {
            verified: false,
            reason: NOT_YET_TRIED,
            message: "the server has not been asked yet".into(),
        };
        Self {
            name,
            pool,
            budget,
            sessions: Sessions::default(),
            breaker: Breaker::default(),
            tokens: Mutex::default(),
            trust: Mutex::default(),
            shape: ArcSwapOption::empty(),
            inventory: ArcSwapOption::empty(),
            shared: ArcSwapOption::empty(),
            opening: tokio::sync::Mutex::default(),
            failed: ArcSwapOption::empty(),
            greeting: tokio::sync::Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            health: Mutex::new(health),
            next_id: AtomicU64::new(1),
            generation,
            stale: Notify::new(),
            told: Told::default(),
            news,
            stateless: Arc::new(Channel::STATELESS),
            kept: AtomicBool::new(false),
            busy: AtomicU64::new(0),
            tasks: AtomicBool::new(false),
        }
    }

    /// Puts in force what the server's certificate must be signed by: `config` makes it of these.
    pub fn set_trust(&self, ca: Option<Bytes>, config: impl FnOnce(Option<&[u8]>) -> Arc<ClientConfig>) {
        let mut now = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        let trust = Trust::By(ca);
        if *now == trust {
            return;
        }
        if let Trust::By(ca) = &trust {
            self.pool.trust(config(ca.as_deref()));
        }
        let before = std::mem::replace(&mut *now, trust);
        if before != Trust::Unsaid {
            self.mark_stale();
        }
    }

    /// Where tokens for it come from. One that asks the same is kept, with these secrets; a new one is given to `keep`.
    pub fn tokens(&self, grant: Grant, secrets: Secrets, keep: impl FnOnce(Weak<Source>)) -> Arc<Source> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = tokens.upgrade().filter(|source| source.asks(&grant)) {
            same.set_secrets(secrets);
            return same;
        }
        let source = Arc::new(Source::new(grant, secrets));
        *tokens = Arc::downgrade(&source);
        keep(Arc::downgrade(&source));
        source
    }

    /// What the handshake told, if there was one.
    pub fn shape(&self) -> Guard<Option<Arc<Shape>>> {
        self.shape.load()
    }

    /// Does it give tasks, as far as that is known?
    pub fn has_tasks(&self) -> bool {
        self.tasks.load(Ordering::Relaxed)
    }

    /// What it offers, if it was ever listed. Kept while the server is down, so that names neither flip nor move.
    pub fn inventory(&self) -> Guard<Option<Arc<Inventory>>> {
        self.inventory.load()
    }

    /// The way to it where it is stateless.
    pub fn stateless(&self) -> Arc<Channel> {
        Arc::clone(&self.stateless)
    }

    /// The session in which the gateway itself asks.
    pub fn shared(&self) -> Option<Arc<Channel>> {
        self.shared.load_full()
    }

    /// Another session of the gateway's own, or none.
    pub fn set_shared(&self, channel: Option<Arc<Channel>>) {
        self.shared.store(channel);
    }

    /// How the handshake failed that somebody who came at `came` has waited for, or that failed a moment ago.
    pub(super) fn failed_since(&self, came: Instant) -> Option<Failure> {
        let failed = self.failed.load();
        let failed = failed.as_ref()?;
        let counts = failed.at >= came || failed.at.elapsed() < FAILURE_HOLDS;
        counts.then(|| Failure::Shared(Arc::clone(&failed.why)))
    }

    /// Notes how a handshake failed.
    pub(super) fn set_failed(&self, why: Failure) -> Failure {
        let why = match why {
            Failure::Shared(why) => why,
            why => Arc::new(why),
        };
        self.failed.store(Some(Arc::new(Failed {
            at: Instant::now(),
            why: Arc::clone(&why),
        })));
        Failure::Shared(why)
    }

    /// A new handshake's word.
    pub fn set_shape(&self, shape: Shape) {
        self.failed.store(None);
        self.tasks.store(shape.tasks, Ordering::Relaxed);
        if self.shape.load().as_deref() != Some(&shape) {
            tracing::info!(server = %self.name, revision = shape.revision.as_str(), name = %shape.name, version = %shape.version, "handshake done");
            self.shape.store(Some(Arc::new(shape)));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// It had no time to say whether it has sessions.
    pub(super) fn set_busy(&self, now: u64) {
        self.busy.store(now, Ordering::Relaxed);
    }

    /// Was that less than so many seconds ago?
    pub(super) fn was_busy(&self, seconds: u64, now: u64) -> bool {
        now < self.busy.load(Ordering::Relaxed).saturating_add(seconds)
    }

    /// More is known than `old` tells, if that still holds.
    pub(super) fn amend_shape(&self, old: &Arc<Shape>, amended: Arc<Shape>) {
        let before = self.shape.compare_and_swap(old, Some(amended));
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, old)) {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// The handshake no longer holds: the next contact begins anew. Gives the shared session, which is to be ended.
    pub fn forget_shape(&self) -> Option<Arc<Channel>> {
        self.shape.store(None);
        self.shared.swap(None)
    }

    /// A new list. Gives what is not as it was.
    pub fn set_inventory(&self, inventory: Inventory) -> Lists {
        let old = self.inventory.load();
        let same = old.as_ref().is_some_and(|old| old.same_as(&inventory));
        let changed = inventory.differs_from(old.as_deref());
        drop(old);
        if !same {
            let count = |primitive| inventory.of(primitive).items.len();
            tracing::info!(
                server = %self.name,
                tools = count(Primitive::Tools),
                prompts = count(Primitive::Prompts),
                resources = count(Primitive::Resources),
                templates = count(Primitive::Templates),
                "listed"
            );
            for primitive in Primitive::ALL {
                let left_out = inventory.of(primitive).left_out;
                if left_out > 0 {
                    tracing::warn!(
                        server = %self.name,
                        method = primitive.method().as_str(),
                        left_out,
                        "items of the server's list have no usable name, repeat a member or ask for headers that cannot be, and are not served"
                    );
                }
            }
        }
        self.inventory.store(Some(Arc::new(inventory)));
        if !same {
            self.generation.fetch_add(1, Ordering::Release);
        }
        changed
    }

    /// How the last contact went.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how a contact went; logs only what changes.
    pub fn set_health(&self, health: Health) {
        let mut now = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if now.verified != health.verified || now.reason != health.reason {
            if health.verified {
                tracing::info!(server = %self.name, "server verified");
            } else {
                tracing::warn!(server = %self.name, reason = health.reason, error = %health.message, "server not usable");
            }
        }
        *now = health;
    }

    /// A request id that is unique on this server's shared session.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The server said, or a call showed, that its list is no longer true.
    pub fn mark_stale(&self) {
        self.stale.notify_one();
    }

    /// The server said that these lists changed: it is asked at once, and then everybody is told.
    pub fn told(&self, lists: Lists) {
        self.told.add(lists);
        self.stale.notify_one();
    }

    /// The server may have said something that nobody heard: it is asked, and what changed is told.
    pub(super) fn ask_again(&self) {
        self.told.ask();
        self.stale.notify_one();
    }

    /// The gateway's own session is not this one any more.
    pub(super) fn forget_shared(&self, lost: &Arc<Channel>) {
        let shared = self.shared.load();
        if shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, lost)) {
            self.shared.compare_and_swap(&shared, None);
        }
    }

    /// What the server said that changed.
    pub(super) const fn what_was_told(&self) -> &Told {
        &self.told
    }

    /// Tells whoever wants to know that these lists changed. They have been asked for.
    pub(super) fn tell(&self, lists: Lists) {
        for list in lists.each() {
            // Nobody may be there to hear it.
            self.news
                .send(News {
                    server: Arc::clone(&self.name),
                    list,
                })
                .ok();
        }
    }

    /// Is the caller the one to keep this link up to date? True once.
    pub fn claim_keeper(&self) -> bool {
        !self.kept.swap(true, Ordering::AcqRel)
    }

    /// Waits until the list may be stale, `at_most` so long.
    pub async fn wait_stale(&self, at_most: Duration) {
        tokio::time::timeout(at_most, self.stale.notified()).await.ok();
    }
}
