//! The controllers of both kinds, and what they share.
//!
//! One watch per kind feeds one cache and one queue; a pass over an object reads the caches, and goes
//! dereference → validate → build → apply → observe → write status. Every replica watches, so that a new leader starts
//! warm; only the leader makes passes, reads pods and writes.
//!
//! At rest nothing is sent to the API server but watches and the lease: children are applied only when they are wanted
//! otherwise or somebody touched them, a status is written only when it differs, and the gateways' pods are asked
//! directly.
//!
//! # Rights
//!
//! Exactly these, and why. The lease needs a Role in the operator's own namespace, the rest a ClusterRole.
//!
//! | group | resource | verbs | why |
//! |---|---|---|---|
//! | portcullis.dev | mcpgateways, mcpservers | list, watch | what is reconciled |
//! | portcullis.dev | mcpgateways/status, mcpservers/status | patch | status, by server-side apply |
//! | "" | namespaces | list, watch | their labels, for `servers.namespaces.selector` |
//! | "" | services | get, list, watch, create, patch, delete | of gateways and servers; those that servers name |
//! | discovery.k8s.io | endpointslices | list, watch | addresses behind Services without selector, and those of the API server itself |
//! | "" | configmaps | get, list, watch, create, patch, delete | configurations, session-key markers, certificate authorities of other namespaces |
//! | "" | secrets | create | session keys; nothing can be read, changed or removed |
//! | "" | serviceaccounts | get, list, watch, create, patch, delete | of gateways and servers, without tokens |
//! | networking.k8s.io | networkpolicies | get, list, watch, create, patch, delete | fences |
//! | policy | poddisruptionbudgets | get, list, watch, create, patch, delete | of gateways and servers |
//! | apps | deployments | get, list, watch, create, patch, delete | of gateways and servers |
//! | apps | replicasets | list, watch | which pods are whose |
//! | "" | pods | list, watch | addresses and readiness of gateways' and servers' pods |
//! | "" | pods/status | patch | the nudge: one annotation that makes the kubelet refresh a pod's volumes |
//! | events.k8s.io | events | create, patch | transitions, for `kubectl describe` |
//! | coordination.k8s.io | leases (own namespace) | get, create, update | leader election |
//! | (URLs) | /.well-known/openid-configuration, /openid/v1/jwks | get | verifying the operator's token offline; bound to all ServiceAccounts by default |
//!
//! `get` goes with a child's first apply, to see whether somebody else has taken its name; `create` and `patch` are what
//! the API server asks for a server-side apply.

pub mod affected;
pub mod api_server;
pub mod apply;
pub mod backoff;
pub mod cache;
pub mod client;
pub mod dereference;
pub mod error;
pub mod events;
pub mod foreign;
pub mod gateway;
pub mod health;
pub mod holds;
pub mod issuer;
pub mod nudge;
pub mod poll;
pub mod queue;
pub mod rollouts;
pub mod server;
pub mod session_keys;
pub mod status_writer;
pub mod stores;
pub mod target;
pub mod unreadable;
pub mod watch;
pub mod watches;
pub mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use serde::Serialize;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use self::apply::memo::Memo;
use self::backoff::Backoff;
use self::client::{Kube, Object};
use self::error::Error;
use self::events::Events;
use self::foreign::Foreign;
use self::health::Health;
use self::holds::Holds;
use self::nudge::Nudges;
use self::poll::Poller;
use self::poll::fetch::Fetch;
use self::queue::Queue;
use self::rollouts::Rollouts;
use self::session_keys::Chosen;
use self::status_writer::StatusWriter;
use self::stores::Stores;
use self::target::Target;
use crate::admin::Vitals;
use crate::identity::Key;
use crate::lease::Leadership;
use crate::metrics::{Gauges, Metrics};
use crate::settings::Settings;
use crate::status::conditions::flips;
use crate::validate::TokenIssuer;

/// How long changes are gathered before a pass.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// What the controllers are made of.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// Whether this process acts.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Metrics,
    /// What is the same for all objects.
    pub settings: Settings,
    /// Reads the gateways' pods.
    pub fetch: Arc<dyn Fetch>,
    /// Name under which events are told: the pod's.
    pub instance: String,
    /// Ends everything.
    pub stop: CancellationToken,
}

/// Everything a pass works with.
pub struct Ctx {
    /// The API server.
    pub kube: Kube,
    /// What the watches saw.
    pub stores: Stores,
    /// What is to be done.
    pub queue: Queue,
    /// What was applied.
    pub memo: Memo,
    /// Statuses.
    pub status: StatusWriter,
    /// Delays after failures.
    pub backoff: Backoff,
    /// The gateways' pods.
    pub poller: Arc<Poller>,
    /// What was nudged.
    pub nudges: Nudges,
    /// What each gateway should run.
    pub rollouts: Rollouts,
    /// Names of session keys chosen ahead.
    pub chosen: Chosen,
    /// Templates that wait.
    pub holds: Holds,
    /// ConfigMaps of others.
    pub foreign: Foreign,
    /// Events.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// How the watches fare.
    pub health: Health,
    /// Whether this process acts.
    pub leadership: Leadership,
    settings: Arc<Settings>,
    issuer: channel::Sender<Option<TokenIssuer>>,
    stop: CancellationToken,
}

impl Ctx {
    /// Puts the parts together. Nothing runs yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            client,
            leadership,
            metrics,
            settings,
            fetch,
            instance,
            stop,
        } = parts;
        let kube = Kube::new(client.clone(), leadership.clone(), metrics.clone());
        let queue = Queue::new(DEBOUNCE);
        let enqueue = {
            let queue = queue.clone();
            Arc::new(move |targets: &BTreeSet<Target>| {
                for target in targets {
                    queue.soon(target.clone());
                }
            })
        };
        Arc::new(Self {
            stores: Stores::default(),
            memo: Memo::default(),
            status: StatusWriter::new(kube.clone(), metrics.clone()),
            backoff: Backoff::default(),
            poller: Arc::new(Poller::new(fetch, metrics.clone())),
            nudges: Nudges::default(),
            rollouts: Rollouts::default(),
            chosen: Chosen::default(),
            holds: Holds::default(),
            foreign: Foreign::new(client.clone(), enqueue, stop.clone()),
            events: Events::new(client, kube.clone(), &instance),
            health: Health::default(),
            settings: Arc::new(settings),
            issuer: channel::Sender::new(None),
            kube,
            queue,
            metrics,
            leadership,
            stop,
        })
    }

    /// What is the same for all objects.
    pub fn settings(&self) -> Arc<Settings> {
        api_server::kept_out(&self.settings, &self.stores.endpoint_slices)
    }

    /// How the operator's token is verified.
    pub fn token_issuer(&self) -> Result<TokenIssuer, Error> {
        self.issuer
            .borrow()
            .clone()
            .ok_or_else(|| Error::Invariant("a pass began before the token issuer was known".to_owned()))
    }

    /// The time as statuses carry it: whole seconds, as Kubernetes writes them.
    #[allow(
        clippy::unused_self,
        reason = "passes take their time from here and nowhere else"
    )]
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Drops what is kept in memory about an object that is gone.
    pub fn forget(&self, target: &Target) {
        self.backoff.reset(target);
        self.status.forget(target);
        self.foreign.need(target, &BTreeSet::new());
    }

    /// Writes a status if it differs, and tells what flipped.
    pub async fn tell_status<K: Object, S: Serialize>(
        &self,
        manager: &str,
        target: &Target,
        object: &K,
        previous: (&S, &[Condition]),
        wanted: (&S, &[Condition]),
    ) -> Result<(), Error> {
        let written = self
            .status
            .write(manager, target, object, previous.0, wanted.0)
            .await?;
        if written {
            self.events.tell(object, &flips(previous.1, wanted.1)).await;
        }
        Ok(())
    }

    /// Asks for a pass over a gateway and the servers behind it, since its pods say something new.
    pub fn pods_said_something(&self, gateway: &Key) {
        self.queue.soon(Target::Gateway(gateway.clone()));
        for server in self.stores.servers.all() {
            if crate::validate::attachment::names(&server, gateway) {
                self.queue.soon(Target::Server(Key::of(&*server)));
            }
        }
    }
}

/// What readiness and metrics look at.
#[derive(Clone)]
pub struct OperatorVitals(pub Arc<Ctx>);

impl Vitals for OperatorVitals {
    fn not_ready(&self) -> Vec<String> {
        let ctx = &self.0;
        let mut problems = ctx.health.not_ready();
        if ctx.issuer.borrow().is_none() {
            problems.push(
                "the cluster's token issuer and keys are not known yet (/.well-known/openid-configuration, /openid/v1/jwks)"
                    .to_owned(),
            );
        }
        problems
    }

    fn gauges(&self) -> Gauges {
        let ctx = &self.0;
        Gauges {
            queue: ctx.queue.len(),
            backoff: ctx.backoff.len(),
            polled: ctx.poller.len(),
            leading: ctx.leadership.is_leading(),
            unreadable: ctx.stores.unreadable().len(),
        }
    }
}

/// Runs the controllers until the parts' token stops them: watches at once, passes once everything is known and this
/// process leads.
pub async fn run(ctx: Arc<Ctx>) {
    let mut tasks = watches::start(&ctx);
    tasks.spawn(issuer::follow(
        ctx.kube.clone(),
        ctx.issuer.clone(),
        ctx.stop.clone(),
    ));
    // What runs when the process is told to stop comes to its end by itself; only waiting is cut short.
    let may_lead = tokio::select! {
        () = ctx.stop.cancelled() => None,
        issuer = turn(&ctx) => Some(issuer),
    };
    if let Some(issuer) = may_lead {
        lead(&ctx, issuer).await;
    }
    tasks.shutdown().await;
}

/// Waits until everything is read and this process leads.
async fn turn(ctx: &Arc<Ctx>) -> channel::Receiver<Option<TokenIssuer>> {
    ctx.stores.ready().await;
    let mut issuer = ctx.issuer.subscribe();
    // The sender lives in `ctx`, so waiting cannot fail.
    drop(issuer.wait_for(Option::is_some).await);
    ctx.leadership.acquired().await;
    issuer
}

async fn lead(ctx: &Arc<Ctx>, issuer: channel::Receiver<Option<TokenIssuer>>) {
    tracing::info!(
        gateways = ctx.stores.gateways.len(),
        servers = ctx.stores.servers.len(),
        "reconciling"
    );
    for gateway in ctx.stores.gateways.all() {
        ctx.queue.soon(Target::Gateway(Key::of(&*gateway)));
    }
    for server in ctx.stores.servers.all() {
        ctx.queue.soon(Target::Server(Key::of(&*server)));
    }
    for (target, _) in ctx.stores.unreadable() {
        ctx.queue.soon(target);
    }
    let on_change = {
        let ctx = Arc::clone(ctx);
        Arc::new(move |gateway: &Key| ctx.pods_said_something(gateway))
    };
    let polling = Arc::clone(&ctx.poller).run(ctx.stop.clone(), on_change);
    tokio::join!(polling, worker::run(Arc::clone(ctx)), renew_on(ctx, issuer));
}

/// New keys of the cluster stand in every gateway's configuration.
async fn renew_on(ctx: &Arc<Ctx>, mut issuer: channel::Receiver<Option<TokenIssuer>>) {
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            changed = issuer.changed() => if changed.is_err() { return },
        }
        for gateway in ctx.stores.gateways.all() {
            ctx.queue.soon(Target::Gateway(Key::of(&*gateway)));
        }
    }
}
