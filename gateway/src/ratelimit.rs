//! How often a principal may ask, how often a tool may be asked.
//!
//! Two groups: limits per client and address, charged before authorisation, and limits of servers, tools and the whole
//! gateway, charged after it, so that a stranger cannot drain them. Within a group all limits are checked before any is
//! charged.

pub mod failures;
pub mod gcra;
mod group;
pub mod headers;
pub mod key;
pub mod local;

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use portcullis_config::Config;
use portcullis_config::limits::{LimitKey, RateLimit};
use portcullis_config::server::Server;

use crate::auth::identity::Identity;
use gcra::{Rate, Wait};
use group::Counting;
use headers::Labels;
use key::{Key, Matcher};
use local::Store;

/// Keys that one limit holds. Beyond, new ones share a bucket.
const MAX_KEYS: usize = 1 << 16;

/// A request as limits see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Who asks.
    pub who: &'a Identity,
    /// The MCP method.
    pub method: &'a str,
    /// `namespace/name` of the server, where it is known.
    pub server: Option<&'a str>,
    /// The server's own name of the tool; none when the request is about no tool, or about an unknown one.
    pub tool: Option<&'a str>,
    /// Where the client calls from.
    pub client: IpAddr,
}

/// What a limit has left after a request.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Name of the limit.
    pub rule: Arc<str>,
    /// Requests that would pass at once.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
    labels: Arc<Labels>,
}

impl Quota {
    /// The one with less left.
    pub fn tighter(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A limit is reached.
#[derive(Clone, Debug)]
pub struct Limited {
    /// Name of the limit.
    pub rule: Arc<str>,
    /// When the same request would pass if nothing else came.
    pub retry_after: Duration,
    labels: Arc<Labels>,
}

/// Every bucket of the process. Limits of the same name and parameters find theirs again after a reload.
#[derive(Debug)]
pub struct Buckets {
    epoch: Instant,
    limits: Mutex<HashMap<LimitId, Weak<LimitBuckets>>>,
}

/// What makes two limits of two configurations the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LimitId {
    name: String,
    key: LimitKey,
    requests: u32,
    per: Duration,
    burst: u32,
}

/// The buckets of one limit.
#[derive(Debug)]
struct LimitBuckets {
    store: Store,
    /// Seeds the numbers of tools, which have to stay the same as long as the buckets.
    hasher: RandomState,
}

impl Buckets {
    /// No bucket yet. `now` starts the clock.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch: now,
            limits: Mutex::default(),
        })
    }

    fn of(&self, limit: &RateLimit) -> Arc<LimitBuckets> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|_, buckets| buckets.strong_count() > 0);
        let id = LimitId {
            name: limit.name.clone(),
            key: limit.key,
            requests: limit.requests,
            per: limit.per.get(),
            burst: limit.burst,
        };
        if let Some(buckets) = limits.get(&id).and_then(Weak::upgrade) {
            return buckets;
        }
        let buckets = Arc::new(LimitBuckets {
            store: Store::new(MAX_KEYS),
            hasher: RandomState::new(),
        });
        limits.insert(id, Arc::downgrade(&buckets));
        buckets
    }

    /// Nanoseconds since the epoch.
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The limits of one configuration.
#[derive(Debug)]
pub struct RateLimits {
    /// Per client and address, charged before authorisation.
    client: Box<[Limit]>,
    /// Over all clients, and of their tools: charged after it.
    shared: Box<[Limit]>,
    /// Those of single servers, by `namespace/name`: charged with the shared ones.
    servers: HashMap<Box<str>, Box<[Limit]>>,
    /// Do limits that are charged before authorisation tell servers or tools apart?
    sees_things: bool,
    buckets: Arc<Buckets>,
}

#[derive(Debug)]
struct Limit {
    name: Arc<str>,
    kind: LimitKey,
    rate: Rate,
    matcher: Matcher,
    labels: Arc<Labels>,
    buckets: Arc<LimitBuckets>,
}

impl RateLimits {
    /// The limits of a configuration that passed validation.
    pub fn build(config: &Config, buckets: &Arc<Buckets>) -> Self {
        let (client, shared) = config
            .rate_limits
            .iter()
            .map(|limit| Limit::new(limit, buckets))
            .partition::<Vec<_>, _>(|limit| match limit.kind {
                LimitKey::Client | LimitKey::Ip => true,
                LimitKey::Server | LimitKey::Tool | LimitKey::ClientTool | LimitKey::Gateway => false,
            });
        let of_server = |server: &Server| {
            let name = server.full_name();
            let limits = server.rate_limits.iter().map(|limit| {
                let limit = limit.of_server(&name);
                Limit::new(&limit, buckets)
            });
            (name.as_str().into(), limits.collect())
        };
        let limited = config
            .servers
            .iter()
            .filter(|server| !server.rate_limits.is_empty());
        Self {
            sees_things: client.iter().any(|limit: &Limit| limit.matcher.sees_things()),
            client: client.into(),
            shared: shared.into(),
            servers: limited.map(of_server).collect(),
            buckets: buckets.clone(),
        }
    }

    /// Charges the limits per client and address: before authorisation.
    pub fn client(&self, subject: &Subject<'_>, now: Instant) -> Result<Option<Quota>, Limited> {
        self.charge(self.client.iter(), subject, now)
    }

    /// Is what a client may not have to be found out before the limits per client are charged? Some of these tell
    /// servers or tools apart, and would tell what is forbidden from what there is not.
    pub const fn sees_things(&self) -> bool {
        self.sees_things
    }

    /// Is there any limit over all clients?
    pub fn has_shared(&self) -> bool {
        !self.shared.is_empty() || !self.servers.is_empty()
    }

    /// Charges the other limits: after authorisation.
    pub fn shared(&self, subject: &Subject<'_>, now: Instant) -> Result<Option<Quota>, Limited> {
        let own = subject.server.filter(|_| !self.servers.is_empty());
        let own = own.and_then(|server| self.servers.get(server));
        let own = own.map(|limits| &**limits).unwrap_or_default();
        self.charge(self.shared.iter().chain(own), subject, now)
    }

    fn charge<'g>(
        &'g self,
        group: impl Iterator<Item = &'g Limit>,
        subject: &Subject<'_>,
        now: Instant,
    ) -> Result<Option<Quota>, Limited> {
        let mut counting = Counting::default();
        for limit in group.filter(|limit| limit.matcher.matches(subject)) {
            counting.push(limit, limit.key(subject));
        }
        counting.charge(self.buckets.nanos(now))
    }
}

impl Limit {
    fn new(limit: &RateLimit, buckets: &Buckets) -> Self {
        Self {
            name: limit.name.as_str().into(),
            kind: limit.key,
            rate: Rate::new(limit),
            matcher: Matcher::new(limit.key, limit.matches.as_ref()),
            labels: Arc::new(Labels::new(limit)),
            buckets: buckets.of(limit),
        }
    }

    fn key(&self, subject: &Subject<'_>) -> Key {
        key::derive(self.kind, subject, &self.buckets.hasher)
    }

    fn check(&self, key: &Key, now: u64) -> Result<(), Wait> {
        self.rate.check(self.buckets.store.peek(key), now)
    }

    fn charge(&self, key: &Key, now: u64) -> Result<u64, Wait> {
        let charge = |bucket: &_| self.rate.charge(bucket, now);
        self.buckets.store.with(key, now, charge)
    }

    fn refund(&self, key: &Key, now: u64) {
        let refund = |bucket: &_| self.rate.refund(bucket);
        self.buckets.store.with(key, now, refund);
    }

    fn limited(&self, Wait(nanos): Wait) -> Limited {
        Limited {
            rule: self.name.clone(),
            retry_after: Duration::from_nanos(nanos),
            labels: self.labels.clone(),
        }
    }

    fn quota(&self, tat: u64, now: u64) -> Quota {
        Quota {
            rule: self.name.clone(),
            remaining: self.rate.remaining(tat, now),
            reset: Duration::from_nanos(Rate::until_full(tat, now)),
            labels: self.labels.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
