//! The application as the process runs it: handlers, background work, its part of the status document.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use portcullis_config::limits::Limits;
use portcullis_config::server::AddressPolicy;
use portcullis_config::status::{ServerStatus, Status, ToolStatus};

use super::state::{App, lock};
use super::{Peer, Public};
use crate::auth::jwks::store::{Fetch, FetchFailed};
use crate::clock;
use crate::net::{Fetcher, Resolver};
use crate::peer::Owner;
use crate::proxy::primitive::Primitive;
use crate::run::Application;
use crate::server::limits::ConnectionLimits;
use crate::server::listener::{Listener, bind};
use crate::server::registry::Registry;
use crate::telemetry::metrics::Port;

/// Names this replica's address among its peers; the operator sets it from the pod's status.
pub const POD_IP: &str = "POD_IP";

/// Between two looks for idle and expired sessions.
const SWEEP: Duration = Duration::from_secs(30);
/// Peers' answers may be this old.
const PEER_TTL: Duration = Duration::from_secs(1);

impl Application for App {
    type Handler = Public;

    fn handler(self: &Arc<Self>) -> Public {
        Public(Arc::clone(self))
    }

    fn start(self: &Arc<Self>) -> anyhow::Result<Option<Arc<Registry>>> {
        self.started.store(true, std::sync::atomic::Ordering::Release);
        self.keep_links();
        let fetch = fetch(Fetcher::new(self.resolver.clone()));
        self.spawner
            .spawn("issuers' keys", Arc::clone(&self.auth_shared).run(fetch));
        self.spawner.spawn("readiness", follow_keys(Arc::clone(self)));
        self.spawner.spawn("session sweep", sweep(Arc::clone(self)));
        let snapshot = self.snapshot().context("no configuration is in force")?;
        let Some(peer) = &snapshot.config.listen.peer else {
            return Ok(None);
        };
        let me: IpAddr = std::env::var(POD_IP)
            .with_context(|| {
                format!("listen.peer is set, and {POD_IP} does not tell this replica's address")
            })?
            .parse()
            .with_context(|| format!("{POD_IP} is no address"))?;
        let stop = self.spawner.stop_token().clone();
        let discovery = Arc::clone(&self.discovery);
        let asking = discovery.run(peer.service.clone(), Resolver::system(PEER_TTL), stop);
        self.spawner.spawn("replicas", asking);
        self.join(me, peer.address, &snapshot.config.limits).map(Some)
    }

    fn fill_status(&self, status: &mut Status) {
        status.session_keys.clone_from(&lock(&self.session_keys));
        let Some(snapshot) = self.snapshot() else { return };
        for reference in snapshot.auth.references() {
            match status
                .references
                .iter_mut()
                .find(|known| known.path == reference.path)
            {
                // What is wrong with a content is worth more than that it is there.
                Some(known) if known.message.is_empty() => *known = reference,
                Some(_) => {}
                None => status.references.push(reference),
            }
        }
        status.servers = snapshot
            .upstreams
            .iter()
            .map(|upstream| {
                let link = &upstream.link;
                let health = link.health();
                let shape = link.shape().clone();
                let inventory = link.inventory().clone();
                let (namespace, name) = upstream.full_name.split_once('/').unwrap_or_default();
                let missing = upstream.credential.missing();
                ServerStatus {
                    namespace: namespace.into(),
                    name: name.into(),
                    verified: health.verified && missing.is_none(),
                    reason: missing
                        .as_ref()
                        .map_or(health.reason, |_| "CredentialMissing")
                        .into(),
                    message: missing.map_or(health.message, |why| {
                        format!("the credential for it is not there: {why}")
                    }),
                    protocol_version: shape
                        .as_ref()
                        .map(|shape| shape.revision.as_str().into())
                        .unwrap_or_default(),
                    server_name: shape.as_ref().map(|shape| shape.name.clone()).unwrap_or_default(),
                    server_version: shape
                        .as_ref()
                        .map(|shape| shape.version.clone())
                        .unwrap_or_default(),
                    tools: inventory
                        .iter()
                        .flat_map(|inventory| &inventory.of(Primitive::Tools).items)
                        .map(|tool| ToolStatus {
                            name: tool.name.to_string(),
                            served: upstream.offers(&tool.name),
                        })
                        .collect(),
                }
            })
            .collect();
    }
}

/// An issuer's first keys may be what readiness waits for; tokens of a key that is gone end their streams.
async fn follow_keys(app: Arc<App>) {
    let mut changes = app.auth_shared.key_changes();
    while changes.changed().await.is_ok() {
        if let Some(snapshot) = app.snapshot() {
            app.judge_readiness(&snapshot.auth);
            app.changes.send_replace(());
        }
    }
}

impl App {
    /// Becomes one of several replicas: `me` is this one's address, and peers are answered at `address`.
    pub fn join(
        self: &Arc<Self>,
        me: IpAddr,
        address: SocketAddr,
        limits: &Limits,
    ) -> anyhow::Result<Arc<Registry>> {
        let socket = bind(address).with_context(|| format!("the peer port {address} cannot be bound"))?;
        self.discovery.join(me, address.port());
        let listener = Listener::new(
            ConnectionLimits::public(limits),
            Arc::clone(&self.peer_transport),
            Peer(Arc::clone(self)),
            self.metrics.connections(Port::Peer),
        );
        // Weak: the listener holds the application.
        self.peer_listener.set(Arc::downgrade(&listener)).ok();
        let registry = Arc::clone(listener.registry());
        self.spawner.spawn(
            "peer port",
            listener.run(socket, self.spawner.stop_token().clone()),
        );
        Ok(registry)
    }
}

async fn sweep(app: Arc<App>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = clock::now_unix();
        app.registry
            .sweep(now, |nonce| app.discovery.owner(nonce) == Owner::Me);
        app.parked.sweep();
        if let Some(snapshot) = app.snapshot() {
            for upstream in &snapshot.upstreams {
                upstream.link.sessions.shared.sweep(now);
            }
        }
    }
}

fn fetch(fetcher: Fetcher) -> Arc<Fetch> {
    Arc::new(move |request| {
        let fetcher = fetcher.clone();
        Box::pin(async move {
            let policy = if request.allow_private_addresses {
                AddressPolicy::Private
            } else {
                AddressPolicy::Public
            };
            fetcher
                .get(
                    &request.url,
                    policy,
                    request.ca.as_deref(),
                    request.max_bytes,
                    request.timeout,
                )
                .await
                .map_err(|error| FetchFailed(error.to_string()))
        })
    })
}
