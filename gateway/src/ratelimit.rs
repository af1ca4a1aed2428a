//! How often a principal may ask, how often a tool may be asked.
//!
//! Two groups: limits per client, charged before authorisation, and shared ones, charged after it, so that a stranger
//! cannot drain them. Within a group all limits are checked before any is charged.

pub mod failures;
pub mod gcra;
pub mod headers;
pub mod key;
pub mod local;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use portcullis_config::Config;
use portcullis_config::limits::{LimitKey, RateLimit};

use crate::auth::identity::Identity;
use gcra::{Rate, Wait};
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
    /// Per client, charged before authorisation.
    client: Box<[Limit]>,
    /// Over all clients, charged after it.
    shared: Box<[Limit]>,
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
                LimitKey::Client | LimitKey::ClientTool => true,
                LimitKey::Tool | LimitKey::Gateway => false,
            });
        Self {
            client: client.into(),
            shared: shared.into(),
            buckets: buckets.clone(),
        }
    }

    /// Charges the limits per client: before authorisation.
    pub fn client(&self, subject: &Subject<'_>, now: Instant) -> Result<Option<Quota>, Limited> {
        charge(&self.client, subject, self.buckets.nanos(now))
    }

    /// Is there any limit over all clients?
    pub const fn has_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Charges the limits over all clients: after authorisation.
    pub fn shared(&self, subject: &Subject<'_>, now: Instant) -> Result<Option<Quota>, Limited> {
        charge(&self.shared, subject, self.buckets.nanos(now))
    }
}

impl Limit {
    fn new(limit: &RateLimit, buckets: &Buckets) -> Self {
        Self {
            name: limit.name.as_str().into(),
            kind: limit.key,
            rate: Rate::new(limit),
            matcher: Matcher::new(limit.matches.as_ref()),
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

/// Groups of up to this many limits are charged without allocation.
const INLINE: usize = 8;

/// A limit that counts the request, and the bucket it counts in.
type Counting<'g> = Option<(&'g Limit, Key)>;

fn charge(group: &[Limit], subject: &Subject<'_>, now: u64) -> Result<Option<Quota>, Limited> {
    let mut inline: [Counting<'_>; INLINE] = [None; INLINE];
    let mut heap;
    let counting = if let Some(inline) = inline.get_mut(..group.len()) {
        inline
    } else {
        heap = vec![None; group.len()];
        &mut *heap
    };
    for (slot, limit) in counting.iter_mut().zip(group) {
        if limit.matcher.matches(subject) {
            *slot = Some((limit, limit.key(subject)));
        }
    }
    charge_all(counting, now)
}

/// Checks the whole group, then charges it. A limit that another request exhausted in between refuses, and what was
/// charged by then is given back: a refused request costs nothing.
fn charge_all(counting: &[Counting<'_>], now: u64) -> Result<Option<Quota>, Limited> {
    // A single one is checked by charging it.
    if counting.iter().flatten().count() > 1 {
        let refusing = counting
            .iter()
            .flatten()
            .filter_map(|(limit, key)| Some((limit, limit.check(key, now).err()?)));
        if let Some((limit, wait)) = refusing.max_by_key(|(_, Wait(nanos))| *nanos) {
            return Err(limit.limited(wait));
        }
    }
    let mut tightest: Option<(&Limit, u64, u64)> = None;
    for (charged, (limit, key)) in counting.iter().flatten().enumerate() {
        match limit.charge(key, now) {
            Ok(tat) => {
                let remaining = limit.rate.remaining(tat, now);
                if tightest.is_none_or(|(_, _, least)| remaining < least) {
                    tightest = Some((limit, tat, remaining));
                }
            }
            Err(wait) => {
                for (earlier, key) in counting.iter().flatten().take(charged) {
                    earlier.refund(key, now);
                }
                return Err(limit.limited(wait));
            }
        }
    }
    Ok(tightest.map(|(limit, tat, _)| limit.quota(tat, now)))
}

#[cfg(test)]
mod tests;
