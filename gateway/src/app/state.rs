//! The process: what lives as long as it does, and how a new configuration is put in force.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::auth::AuthShared;
use crate::budget::Budget;
use crate::config::snapshot::Snapshot;
use crate::net::{Resolver, trust};
use crate::peer::{Discovery, Hop};
use crate::proxy::link::Link;
use crate::proxy::listen::places::Places;
use crate::proxy::news::{self, News};
use crate::proxy::parked::Lot;
use crate::proxy::registry::Registry;
use crate::proxy::routes::Routes;
use crate::ratelimit::Buckets;
use crate::ratelimit::failures::Failures;
use crate::run::Services;
use crate::server::drain::Drain;
use crate::server::listener::Listener;
use crate::server::readiness::{Gate, Readiness};
use crate::server::tls::{Transport, swappable};
use crate::spawn::Spawner;
use crate::telemetry::audit::Audit;
use crate::telemetry::metrics::Metrics;

/// The process.
pub struct App {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Records.
    pub audit: Audit,
    /// The end of the process.
    pub drain: Drain,
    /// Itself, for what runs in the background.
    pub(super) me: Weak<Self>,
    /// Background work may run.
    pub(super) started: AtomicBool,
    /// What is missing before traffic may come.
    pub readiness: Readiness,
    /// Sessions this replica owns.
    pub registry: Registry,
    /// Calls that wait for an answer of their client.
    pub parked: Lot,
    /// Who the replicas are.
    pub discovery: Arc<Discovery>,
    /// The way to the other replicas; none before the session keys are there.
    pub hop: ArcSwapOption<Hop>,
    /// Failed authentications by address.
    pub failures: Failures,
    /// The memory that bodies and events may take.
    pub budget: Arc<Budget>,
    /// Requests in flight.
    pub in_flight: Arc<Semaphore>,
    /// Verified tokens and issuers' keys.
    pub auth_shared: Arc<AuthShared>,
    /// Random, one per process: the first part of request ids.
    pub process: u64,
    /// Answers the other replicas, once there are some.
    pub(super) peer_listener: OnceLock<Weak<Listener<super::Peer>>>,
    /// What the peer listener offers.
    pub peer_transport: Arc<ArcSwap<Transport>>,
    pub(super) snapshot: ArcSwapOption<Snapshot>,
    routes: ArcSwap<(u64, Arc<Routes>)>,
    pub(super) generation: Arc<AtomicU64>,
    /// Moves whenever what is permitted may have changed.
    pub(super) changes: watch::Sender<()>,
    /// Tells what changed at servers.
    pub(super) news: broadcast::Sender<News>,
    pub(super) links: Mutex<HashMap<LinkKey, (Arc<Link>, Slots)>>,
    pub(super) buckets: Arc<Buckets>,
    /// Ids of the session keys that are loaded, sorted.
    pub(super) session_keys: Mutex<Vec<String>>,
    /// The session keys that the identity towards other replicas was made of.
    pub(super) shown_keys: Mutex<Option<Vec<(String, Bytes)>>>,
    pub(super) gates: Gates,
    /// Starts background work.
    pub spawner: Spawner,
    /// Resolves names.
    pub resolver: Resolver,
    pub(super) public_tls: Arc<ClientConfig>,
    /// Streams of news that are open.
    pub listening: Places,
    /// Seals, and names the gateway, where the configuration does neither; for the life of the process.
    pub(super) ephemeral: ([u8; 32], u128),
    pub(super) in_flight_size: Mutex<usize>,
}

/// What must be there before traffic may come.
pub(super) struct Gates {
    pub(super) keys: Gate,
    pub(super) auth: Gate,
}

/// What makes two servers of two configurations the same: where they are, and what is spoken. How they are trusted
/// may change under way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct LinkKey {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) policy: u8,
    pub(super) revision: Option<portcullis_config::server::Revision>,
}

/// Calls in flight, for one size of the cap.
#[derive(Clone)]
pub(super) struct Slots {
    pub(super) size: u32,
    pub(super) semaphore: Arc<Semaphore>,
}

impl App {
    /// A process without a configuration: it serves nothing until `rebuild` succeeded once.
    pub fn new(services: Services, resolver: Resolver) -> Arc<Self> {
        let Services {
            metrics,
            audit,
            drain,
            readiness,
            spawner,
        } = services;
        let budget = Budget::new(0, metrics.budget_refused.clone());
        let app = Arc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            started: AtomicBool::new(false),
            metrics,
            audit,
            drain,
            registry: Registry::default(),
            parked: Lot::default(),
            discovery: Discovery::alone(),
            hop: ArcSwapOption::empty(),
            failures: Failures::new(),
            budget,
            in_flight: Arc::new(Semaphore::new(0)),
            auth_shared: AuthShared::new(),
            process: rand::random(),
            peer_listener: OnceLock::new(),
            peer_transport: swappable(Transport::Closed),
            snapshot: ArcSwapOption::empty(),
            routes: ArcSwap::from_pointee((0, Arc::default())),
            generation: Arc::new(AtomicU64::new(1)),
            changes: watch::Sender::new(()),
            news: broadcast::Sender::new(news::KEPT),
            links: Mutex::default(),
            buckets: Buckets::new(Instant::now()),
            session_keys: Mutex::default(),
            shown_keys: Mutex::default(),
            gates: Gates {
                keys: readiness.gate("session keys", "not loaded"),
                auth: readiness.gate("authentication", "not loaded"),
            },
            readiness,
            spawner,
            resolver,
            listening: Places::default(),
            public_tls: trust::client_config(trust::public_roots()),
            ephemeral: (rand::random(), rand::random()),
            in_flight_size: Mutex::new(0),
        });
        let me = app.me.clone();
        app.metrics.before_render(move || {
            if let Some(app) = me.upgrade() {
                app.set_gauges();
            }
        });
        app
    }

    /// What is only worth knowing when somebody looks.
    fn set_gauges(&self) {
        let taken = lock(&self.in_flight_size).saturating_sub(self.in_flight.available_permits());
        self.metrics
            .in_flight
            .set(i64::try_from(taken).unwrap_or(i64::MAX));
        self.metrics
            .sessions
            .set(i64::try_from(self.registry.len()).unwrap_or(i64::MAX));
        self.metrics
            .budget_used
            .set(i64::try_from(self.budget.used()).unwrap_or(i64::MAX));
        for upstream in self.snapshot().iter().flat_map(|snapshot| &snapshot.upstreams) {
            let verified = upstream.link.health().verified && !upstream.credential.is_missing();
            upstream.metrics.set_verified(verified);
        }
    }

    /// The configuration in force; none before the first.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Moves whenever what is permitted may have changed: with each configuration, and with issuers' keys.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// What changes at servers from now on, at all of them.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// The federated endpoints' tables for this snapshot, rebuilt if an inventory changed since.
    pub fn routes(&self, snapshot: &Arc<Snapshot>) -> Arc<Routes> {
        let cached = self.routes.load();
        let generation = self.generation.load(Ordering::Acquire);
        if cached.0 == snapshot.id && cached.1.generation == generation {
            return Arc::clone(&cached.1);
        }
        let built = Arc::new(Routes::build(
            &snapshot.upstreams,
            snapshot.config.tool_names.prefix,
            generation,
        ));
        self.routes.store(Arc::new((snapshot.id, Arc::clone(&built))));
        built
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
