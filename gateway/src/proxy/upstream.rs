//! One server as the configuration in force describes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_config::server::{CircuitBreaker, Server};
use portcullis_config::{Config, Features};
use portcullis_policy::offer::Offer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::{Caller, Pass};
use super::exchange::{Bounds, Failure};
use super::inventory::Item;
use super::link::{Link, NOT_YET_TRIED};
use super::news::Lists;
use super::primitive::Primitive;
use crate::auth::identity::Identity;
use crate::credential::Credential;
use crate::mcp::method::Method;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Revision;
use crate::mcp::session::Capabilities;
use crate::telemetry::metrics;

/// How long a call waits for a place when the server is busy.
const QUEUE: Duration = Duration::from_millis(250);

/// How long a request waits for the first contact.
const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// One server of a snapshot.
pub struct Upstream {
    /// `namespace/name`.
    pub full_name: Arc<str>,
    /// As the path names it: `NAME`, or `NAMESPACE.NAME` for another namespace than the gateway's.
    pub path_name: Box<str>,
    /// First part of its federated names.
    pub prefix: Box<str>,
    /// What outlives the snapshot.
    pub link: Arc<Link>,
    /// What it is shown.
    pub credential: Credential,
    /// How much it may send.
    pub bounds: Bounds,
    /// A call without progress.
    pub timeout: Duration,
    /// When calls are no longer sent to it for a while.
    pub breaker: CircuitBreaker,
    /// The one revision that is spoken with it, where there is a choice.
    pub revision: Option<Revision>,
    /// What is on for it beside tools.
    pub features: Features,
    offer: Offer,
    slots: Arc<Semaphore>,
    /// The gateway's places for requests in flight: calls go on that lost their client.
    pub places: Arc<Semaphore>,
    /// Its counters.
    pub metrics: Arc<metrics::Upstream>,
}

impl Upstream {
    /// From its configuration. `slots` are its calls in flight, `places` those of the gateway, both kept over a reload.
    pub fn new(
        server: &Server,
        config: &Config,
        link: Arc<Link>,
        credential: Credential,
        slots: Arc<Semaphore>,
        places: Arc<Semaphore>,
        metrics: Arc<metrics::Upstream>,
    ) -> Self {
        let limits = &config.limits;
        let path_name = if server.namespace == config.gateway.namespace {
            server.name.clone()
        } else {
            format!("{}.{}", server.namespace, server.name)
        };
        let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            full_name: Arc::clone(&link.name),
            path_name: path_name.into(),
            prefix: server.prefix.clone().into(),
            link,
            credential,
            bounds: Bounds {
                response: bytes(
                    server
                        .limits
                        .max_response_bytes
                        .map_or(limits.max_response_bytes, |own| {
                            own.min(limits.max_response_bytes)
                        }),
                ),
                event: bytes(limits.max_event_bytes),
            },
            timeout: server.limits.timeout.get().min(limits.request_timeout.get()),
            breaker: server.limits.circuit_breaker,
            revision: server.revision.map(Revision::pinned),
            features: config.features.with(server.features),
            offer: Offer::new(server),
            slots,
            places,
            metrics,
        }
    }

    /// Waits for the first contact to succeed or fail: a moment after the start, and never again.
    pub async fn wait_first_contact(&self) {
        if self.link.inventory().is_none() && self.link.health().reason == NOT_YET_TRIED {
            // Boxed: large and rare, and every call would carry the room.
            Box::pin(tokio::time::timeout(FIRST_CONTACT, self.refresh(FIRST_CONTACT)))
                .await
                .ok();
        }
    }

    /// Does this tool exist for anybody?
    pub fn offers(&self, tool: &str) -> bool {
        self.offer.has_tool(tool)
    }

    /// Does this item exist for anybody?
    pub fn offers_item(&self, primitive: Primitive, name: &str) -> bool {
        match primitive {
            Primitive::Tools => self.offers(name),
            other => other.is_in(self.features),
        }
    }

    /// The tool, prompt, resource or template with this name, if the server has it and it is offered.
    pub fn item(&self, primitive: Primitive, name: &str) -> Option<Arc<Item>> {
        let inventory = self.link.inventory();
        let item = inventory.as_ref()?.of(primitive).get(name)?;
        self.offers_item(primitive, &item.name).then(|| Arc::clone(item))
    }

    /// What is on, and what the server has as far as that is known: one that was never reached may have it all.
    pub fn routable(&self) -> Features {
        let offers = match (&*self.link.shape(), &*self.link.inventory()) {
            (Some(shape), _) => shape.offers,
            (None, Some(inventory)) => inventory.offers,
            (None, None) => return self.features,
        };
        Features {
            prompts: self.features.prompts && offers.prompts,
            resources: self.features.resources && offers.resources,
            completions: self.features.completions && offers.completions,
            logging: self.features.logging && offers.logging,
            ..self.features
        }
    }

    /// Is what that method is about on, for this server?
    pub const fn serves(&self, method: Method) -> bool {
        let on = self.features;
        match method {
            Method::PromptsGet => on.prompts,
            Method::ResourcesRead => on.resources,
            Method::CompletionComplete => on.completions,
            Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => on.resources && on.subscriptions,
            _ => true,
        }
    }

    /// What of a caller's capabilities the server is told of: the rest is off, and it may not ask for it.
    pub const fn may_ask(&self, caller: Capabilities) -> Capabilities {
        let features = self.features;
        let mut off = Capabilities::NONE;
        if !features.elicitation {
            off = off.with(Capabilities::OF_ELICITATION);
        }
        if !features.sampling {
            off = off.with(Capabilities::OF_SAMPLING);
        }
        if !features.roots {
            off = off.with(Capabilities::OF_ROOTS);
        }
        caller.without(off)
    }

    /// What the gateway's own session declares: a server that shows some of its tools only to those whom it can ask shows all
    /// of them then.
    pub const fn own_capabilities(&self) -> Capabilities {
        self.may_ask(Capabilities::EVERY)
    }

    /// Is something on that the server was not asked for yet?
    pub fn lacks_lists(&self) -> bool {
        self.link
            .inventory()
            .as_ref()
            .is_some_and(|inventory| inventory.asked != self.features)
    }

    /// It said that these lists changed. Of what is off, nobody wants to know.
    pub fn heard(&self, lists: Lists) {
        let lists = lists.only(Lists::on(self.features));
        if !lists.is_none() {
            self.link.told(lists);
        }
    }

    /// Is it there for its testers only?
    pub const fn is_quarantined(&self) -> bool {
        self.offer.is_quarantined()
    }

    /// Is it there for this principal? A quarantined server is there for its testers only.
    pub fn visible_to(&self, who: &Identity) -> bool {
        self.offer.is_visible_to(who)
    }

    /// Leave to send a call, unless those before it failed one after the other.
    pub fn pass(&self, who: &Identity) -> Result<Pass, Cause> {
        let caller = Caller::new(&who.key);
        let passed = self.link.breaker.pass(caller, &self.breaker, Instant::now());
        passed.map_err(|retry_after| {
            self.metrics.refused();
            Cause::UpstreamFailing { retry_after }
        })
    }

    /// A call failed.
    pub fn failed(&self, pass: Pass, failure: &Failure) {
        if failure.is_unauthorized() {
            self.credential.was_refused();
        }
        let breaker = &self.link.breaker;
        if breaker.failed(pass, failure.blame(), &self.breaker, Instant::now()) {
            tracing::warn!(
                server = %self.full_name,
                failures = self.breaker.failures,
                open_for = ?self.breaker.open_for.get(),
                "calls to a server fail one after the other: those that follow are refused at once for a while"
            );
        }
    }

    /// A place among the calls in flight.
    pub async fn slot(&self) -> Result<OwnedSemaphorePermit, Cause> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        if let Ok(Ok(permit)) = tokio::time::timeout(QUEUE, Arc::clone(&self.slots).acquire_owned()).await {
            return Ok(permit);
        }
        self.metrics.turned_away();
        Err(Cause::UpstreamBusy)
    }
}
