//! Puts a configuration in force: builds the new snapshot beside the old one, then swaps.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use portcullis_config::auth::CaBundle;
use portcullis_config::server::{AddressPolicy, Server};
use portcullis_config::{Config, Loaded, Problem};
use tokio::sync::Semaphore;

use super::retire::retire;
use super::state::{App, LinkKey, Slots, lock};
use crate::auth::Authenticator;
use crate::auth::authorize::Policy;
use crate::config::files::Files;
use crate::config::snapshot::Snapshot;
use crate::config::watch::Rebuild;
use crate::credential::{Credential, Grant, Secrets, Source};
use crate::mcp::seal::Sealer;
use crate::net::{Connector, Fetcher, Pool, Target, trust};
use crate::peer::{Hop, Identity};
use crate::proxy::keeper;
use crate::proxy::link::Link;
use crate::proxy::news::feed;
use crate::proxy::news::follow::{Place, follow};
use crate::proxy::upstream::Upstream;
use crate::ratelimit::RateLimits;
use crate::server::limits::ConnectionLimits;
use crate::server::tls::Transport;

/// A server, and what its certificate must be signed by: one of the public roots, or of these.
type Trust = (Arc<Link>, Option<bytes::Bytes>);

impl Rebuild for App {
    fn rebuild(&self, loaded: &Arc<Loaded>, files: &Arc<Files>) -> Result<(), Vec<Problem>> {
        let config = &loaded.config;
        let auth = Authenticator::build(config, &**files, &self.auth_shared)?;
        let policy = Policy::compile(config)?;
        let limits = RateLimits::build(config, &self.buckets);
        let keys = SessionKeys::load(config, files, &self.ephemeral.0);
        let id = match config.gateway.id.as_str() {
            "" => format!("{:032x}", self.ephemeral.1),
            id => id.to_owned(),
        };
        let sealer = keys.sealer(&id, &self.ephemeral.0)?;
        let mut links = HashMap::new();
        let mut upstreams = Vec::new();
        let mut trust = Vec::new();
        let mut problems = Vec::new();
        for server in &config.servers {
            match self.upstream(server, config, files, &mut links, &mut trust) {
                Ok(upstream) => upstreams.push(Arc::new(upstream)),
                Err(message) => problems.push(Problem {
                    path: format!("servers[{}]", server.full_name()),
                    message,
                }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Nothing below can fail.
        for (link, ca) in trust {
            self.trust(&link, ca);
        }
        let before = self.snapshot();
        let could_not_be_asked = |upstream: &Upstream| {
            let mut known = before.iter().flat_map(|before| &before.upstreams);
            known.any(|old| Arc::ptr_eq(&old.link, &upstream.link) && old.credential.is_missing())
        };
        self.show_identity(&keys);
        self.gates.keys.set_to(keys.missing());
        self.judge_readiness(&auth);
        *lock(&self.session_keys) = keys.ids();
        self.resize(config.limits.max_concurrent_requests);
        self.budget
            .set_limit(usize::try_from(config.limits.memory_budget).unwrap_or(usize::MAX));
        if let Some(listener) = self.peer_listener.get().and_then(Weak::upgrade) {
            listener.set_limits(ConnectionLimits::public(&config.limits));
        }
        self.metrics
            .upstreams
            .retain(|name| config.servers.iter().any(|server| server.full_name() == name));
        *lock(&self.links) = links;
        for upstream in &upstreams {
            upstream.link.sessions.belong_to(upstream);
        }
        self.snapshot.store(Some(Arc::new(Snapshot::new(
            loaded, auth, policy, limits, sealer, upstreams,
        ))));
        // Names may have come or gone with it.
        self.generation.fetch_add(1, Ordering::Release);
        // Open streams are judged by it from now on.
        self.changes.send_replace(());
        self.keep_links();
        self.retire(before.as_deref());
        // What was just switched on, or could not be asked for until now, is asked for at once.
        if let Some(snapshot) = self.snapshot() {
            let lacking = snapshot
                .upstreams
                .iter()
                .filter(|upstream| upstream.lacks_lists() || could_not_be_asked(upstream));
            lacking.for_each(|upstream| upstream.link.mark_stale());
        }
        Ok(())
    }
}

impl App {
    /// One server, on the link of the configuration before where nothing about it has changed.
    fn upstream(
        &self,
        server: &Server,
        config: &Config,
        files: &Files,
        links: &mut HashMap<LinkKey, (Arc<Link>, Slots)>,
        trust: &mut Vec<Trust>,
    ) -> Result<Upstream, String> {
        let ca = match &server.ca_bundle {
            None => None,
            Some(CaBundle::Inline(pem)) => Some(bytes::Bytes::copy_from_slice(pem.as_bytes())),
            // Not there (yet): no certificate can be verified, and the handshake will say so.
            Some(CaBundle::File(path)) => Some(files.bytes(path).cloned().unwrap_or_default()),
        };
        let policy = server.address_policy;
        let key = LinkKey {
            name: server.full_name(),
            url: server.url.clone(),
            policy: number(policy),
            // Held to another revision, it is to be met anew.
            revision: server.revision,
        };
        let old = lock(&self.links).get(&key).cloned();
        let (link, old_slots) = match old {
            Some((link, slots)) => (link, Some(slots)),
            None => (self.link(server)?, None),
        };
        trust.push((Arc::clone(&link), ca));
        let size = server.limits.max_concurrent;
        let slots = old_slots
            .filter(|slots| slots.size == size)
            .unwrap_or_else(|| Slots {
                size,
                semaphore: Arc::new(Semaphore::new(
                    usize::try_from(size)
                        .unwrap_or(usize::MAX)
                        .min(Semaphore::MAX_PERMITS),
                )),
            });
        links.insert(key, (Arc::clone(&link), slots.clone()));
        let credential = Credential::of(server, files, |grant, secrets| self.tokens(&link, grant, secrets))?;
        let metrics = self.metrics.upstreams.server(&server.full_name());
        Ok(Upstream::new(
            server,
            config,
            link,
            credential,
            slots.semaphore,
            Arc::clone(&self.in_flight),
            metrics,
        ))
    }

    /// Where the tokens for a server come from: the same as before where only a secret has changed.
    fn tokens(&self, link: &Arc<Link>, grant: Grant, secrets: Secrets) -> Arc<Source> {
        link.tokens(grant, secrets, |source| {
            let stale = Arc::downgrade(link);
            // What could not be asked for want of a token is asked now.
            let came = move || {
                if let Some(link) = stale.upgrade() {
                    link.mark_stale();
                }
            };
            let fetcher = Fetcher::new(self.resolver.clone());
            let keeping = Source::keep(source, Arc::clone(&link.name), fetcher, came);
            self.spawner.spawn("server token", keeping);
        })
    }

    /// Puts in force whom a server's certificate must be signed by.
    fn trust(&self, link: &Link, ca: Option<bytes::Bytes>) {
        link.set_trust(ca, |ca| match ca {
            None => Arc::clone(&self.public_tls),
            // A bundle that is missing or unusable trusts nobody, and status says so: it must not stop the others.
            Some(pem) => trust::client_config(trust::bundle_roots(pem).unwrap_or_else(|error| {
                tracing::warn!(server = %link.name, %error, "its CA bundle is not usable");
                rustls::RootCertStore::empty()
            })),
        });
    }

    fn link(&self, server: &Server) -> Result<Arc<Link>, String> {
        let url = server
            .url
            .parse()
            .map_err(|error| format!("its URL is not one: {error}"))?;
        let target = Target::new(&url, server.address_policy).map_err(|error| error.to_string())?;
        let connector = Connector::new(self.resolver.clone(), Arc::clone(&self.public_tls));
        let pool = Pool::new(connector, target);
        Ok(Arc::new(Link::new(
            server.full_name().into(),
            pool,
            Arc::clone(&self.budget),
            Arc::clone(&self.generation),
            self.news.clone(),
        )))
    }

    /// Takes leave of servers that were configured before, or elsewhere.
    fn retire(&self, before: Option<&Snapshot>) {
        let now = self.snapshot();
        let gone = |upstream: &&Arc<Upstream>| {
            let mut stay = now.iter().flat_map(|now| &now.upstreams);
            !stay.any(|other| Arc::ptr_eq(&other.link, &upstream.link))
        };
        for upstream in before.iter().flat_map(|before| &before.upstreams).filter(gone) {
            let farewell = retire(self.me.clone(), Arc::clone(upstream));
            self.spawner.spawn("farewell to a server", farewell);
        }
    }

    /// Bearer tokens cannot be judged before an issuer's keys are there; one method that can judge is enough.
    pub(super) fn judge_readiness(&self, auth: &Authenticator) {
        let missing = (!auth.can_judge()).then(|| match auth.waiting().as_slice() {
            [] => "no method of auth can judge a credential yet".to_owned(),
            waiting => waiting.join("; "),
        });
        self.gates.auth.set_to(missing);
    }

    /// Starts a keeper for every link that has none yet, once background work may run.
    pub fn keep_links(&self) {
        if !self.started.load(Ordering::Acquire) {
            return;
        }
        let links: Vec<Arc<Link>> = lock(&self.links)
            .values()
            .map(|(link, _)| Arc::clone(link))
            .collect();
        for link in links {
            if link.claim_keeper() {
                let app = self.me.clone();
                let current = move |link: &Arc<Link>| {
                    let snapshot = app.upgrade()?.snapshot()?;
                    snapshot
                        .upstreams
                        .iter()
                        .find(|upstream| Arc::ptr_eq(&upstream.link, link))
                        .cloned()
                };
                let weak = Arc::downgrade(&link);
                let place = Place {
                    link: Weak::clone(&weak),
                    current: current.clone(),
                    changes: self.changes(),
                    end: self.drain.end_streams().clone(),
                };
                self.spawner.spawn("server keeper", keeper::keep(weak, current));
                self.spawner.spawn("server news", follow(place, feed::Own));
            }
        }
    }

    fn show_identity(&self, keys: &SessionKeys) {
        // Connections between replicas stay open over a reload that is about something else.
        let mut shown = lock(&self.shown_keys);
        if shown.as_ref() == Some(&keys.present) {
            return;
        }
        *shown = Some(keys.present.clone());
        drop(shown);
        match keys.identity() {
            Some(Ok(identity)) => {
                self.peer_transport
                    .store(Arc::new(Transport::tls(Arc::clone(&identity.server))));
                match &*self.hop.load() {
                    Some(hop) => hop.set_identity(identity),
                    None => self
                        .hop
                        .store(Some(Arc::new(Hop::new(self.resolver.clone(), identity)))),
                }
            }
            Some(Err(error)) => {
                tracing::error!(%error, "no identity towards the other replicas");
                self.peer_transport.store(Arc::new(Transport::Closed));
            }
            None => self.peer_transport.store(Arc::new(Transport::Closed)),
        }
    }

    fn resize(&self, size: u32) {
        let size = usize::try_from(size)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        let mut now = lock(&self.in_flight_size);
        if size > *now {
            self.in_flight.add_permits(size - *now);
        } else {
            // What is taken now is given up as those requests end.
            let missing = *now - size;
            let gone = self.in_flight.forget_permits(missing);
            if let Ok(rest @ 1..) = u32::try_from(missing - gone) {
                let in_flight = Arc::clone(&self.in_flight);
                tokio::spawn(async move {
                    if let Ok(permits) = in_flight.acquire_many_owned(rest).await {
                        permits.forget();
                    }
                });
            }
        }
        *now = size;
    }
}

const fn number(policy: AddressPolicy) -> u8 {
    match policy {
        AddressPolicy::Public => 0,
        AddressPolicy::Private => 1,
        AddressPolicy::Cluster => 2,
        AddressPolicy::Loopback => 3,
    }
}

/// The session keys that are there.
struct SessionKeys {
    /// The one that seals first.
    present: Vec<(String, bytes::Bytes)>,
    seal_with: Option<String>,
    configured: bool,
}

impl SessionKeys {
    fn load(config: &Config, files: &Files, ephemeral: &[u8; 32]) -> Self {
        let Some(keys) = &config.session_keys else {
            let own = ("local".to_owned(), bytes::Bytes::copy_from_slice(ephemeral));
            return Self {
                present: vec![own],
                seal_with: Some("local".into()),
                configured: false,
            };
        };
        let mut present: Vec<_> = keys
            .keys
            .iter()
            .filter_map(|key| Some((key.id.clone(), files.bytes(&key.file).ok()?.clone())))
            .filter(|(_, key)| key.len() >= portcullis_config::keys::MIN_KEY_BYTES)
            .collect();
        present.sort_by_key(|(id, _)| *id != keys.seal_with);
        Self {
            present,
            seal_with: Some(keys.seal_with.clone()),
            configured: true,
        }
    }

    fn sealing(&self) -> Option<&(String, bytes::Bytes)> {
        self.present
            .first()
            .filter(|(id, _)| Some(id) == self.seal_with.as_ref())
    }

    /// While the key that seals is not there, one that opens seals (the gateway is not ready then); while none is
    /// there, a random one does, and nothing that it sealed is ever accepted elsewhere.
    fn sealer(&self, gateway_id: &str, ephemeral: &[u8; 32]) -> Result<Sealer, Vec<Problem>> {
        let sealer = match self.present.first() {
            Some((id, _)) => Sealer::new(
                gateway_id,
                id,
                self.present.iter().map(|(id, key)| (id.as_str(), &key[..])),
            ),
            None => Sealer::new(gateway_id, "none", [("none", &ephemeral[..])]),
        };
        sealer.map_err(|error| {
            vec![Problem {
                path: "sessionKeys".into(),
                message: error.to_string(),
            }]
        })
    }

    fn identity(&self) -> Option<Result<Identity, crate::peer::identity::IdentityError>> {
        if !self.configured {
            return None;
        }
        let (_, own) = self.present.first()?;
        Some(Identity::new(own, self.present.iter().map(|(_, key)| &key[..])))
    }

    fn missing(&self) -> Option<String> {
        match (&self.seal_with, self.sealing()) {
            (Some(id), None) => Some(format!("session key {id}, which seals, is not mounted yet")),
            _ => None,
        }
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = if self.configured {
            self.present.iter().map(|(id, _)| id.clone()).collect()
        } else {
            Vec::new()
        };
        ids.sort_unstable();
        ids
    }
}
