//! Key sets behind URLs: fetched in the background, kept for the life of the process, shared by configurations.
//!
//! No request ever waits for a fetch. A request with an unknown key id asks for one, which happens at most once a
//! minute; while the issuer is down the keys it last gave stay in force, for a day at most.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use super::{KeySet, MAX_DOCUMENT_BYTES};

/// From one fetch to the next while all is well, give or take [`JITTER_PERCENT`].
const REFRESH: Duration = Duration::from_mins(5);
/// So that replicas do not come together.
const JITTER_PERCENT: u64 = 10;
/// The least time between fetches that unknown key ids ask for.
const ON_DEMAND: Duration = Duration::from_mins(1);
/// The first repetition after a failure; doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_mins(1);
/// How long keys stay in force without a successful fetch.
const MAX_AGE: Duration = Duration::from_hours(24);
/// A fetch takes no longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be fetched, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Where. https only.
    pub url: Url,
    /// Trust anchors (PEM) in place of the public ones.
    pub ca: Option<Bytes>,
    /// Also private addresses; never loopback, link-local or metadata ones.
    pub allow_private_addresses: bool,
    /// No more than this is read.
    pub max_bytes: usize,
    /// No longer than this is waited.
    pub timeout: Duration,
}

/// Why a fetch failed, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchFailed(pub String);

/// Fetches a document. Given by the caller, so that nothing here does I/O.
pub type Fetch = dyn Fn(Request) -> BoxFuture<'static, Result<Bytes, FetchFailed>> + Send + Sync + 'static;

/// Which store is meant: another trust anchor or address policy is another store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    issuer: Box<str>,
    request: Request,
}

/// The keys of one issuer.
pub struct Store {
    source: Source,
    keys: ArcSwapOption<Loaded>,
    failure: Mutex<Option<String>>,
    /// What the fetching side waits for while it holds no store.
    wanted: Arc<Notify>,
    /// Counts the changes of every store's keys.
    changes: watch::Sender<u64>,
}

/// Keys, and since when they are known to be the issuer's.
struct Loaded {
    keys: Arc<KeySet>,
    fetched: Instant,
}

impl Store {
    fn new(source: Source, seed: Option<Arc<Loaded>>, changes: watch::Sender<u64>) -> Self {
        Self {
            source,
            keys: ArcSwapOption::new(seed),
            failure: Mutex::default(),
            wanted: Arc::default(),
            changes,
        }
    }

    /// The keys in force, if any were ever had.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load().as_ref().map(|loaded| loaded.keys.clone())
    }

    /// Are these the keys in force?
    pub fn has(&self, fingerprint: super::Fingerprint) -> bool {
        self.keys
            .load()
            .as_ref()
            .is_some_and(|loaded| loaded.keys.fingerprint() == fingerprint)
    }

    /// Asks for a fetch, because a token names a key that is not among these. Cheap, and safe to call on each request.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Why the last fetch failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_of(&self, issuer: &str, url: &Url) -> bool {
        *self.source.issuer == *issuer && self.source.request.url == *url
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Fetches once. True when that gave keys.
    async fn fetch(&self, fetch: &Fetch) -> bool {
        let issuer = &*self.source.issuer;
        let answer = timeout(FETCH_TIMEOUT * 2, fetch(self.source.request.clone()))
            .await
            .unwrap_or_else(|_| Err(FetchFailed("no answer in time".into())));
        let parsed = answer
            .map_err(|err| err.to_string())
            .and_then(|document| KeySet::parse(&document).map_err(|err| err.to_string()));
        match parsed {
            Ok(keys) => {
                let changed = !self.has(keys.fingerprint());
                if changed {
                    let (count, skipped) = (keys.count(), keys.skipped());
                    tracing::info!(issuer, count, ?skipped, "the issuer's keys are loaded");
                }
                self.keys.store(Some(Arc::new(Loaded {
                    keys: Arc::new(keys),
                    fetched: Instant::now(),
                })));
                self.set_failure(None);
                if changed {
                    self.changes.send_modify(|count| *count += 1);
                }
                true
            }
            Err(reason) => {
                tracing::warn!(issuer, reason, "the issuer's keys could not be fetched");
                self.set_failure(Some(reason));
                false
            }
        }
    }

    /// Drops keys that nobody confirmed for too long.
    fn expire(&self) {
        let too_old = |loaded: &Arc<Loaded>| loaded.fetched.elapsed() >= MAX_AGE;
        if self.keys.load().as_ref().is_some_and(too_old) {
            let issuer = &*self.source.issuer;
            tracing::error!(issuer, "the issuer's keys are a day old and no longer used");
            self.keys.store(None);
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whoever waits finds the store gone and ends.
        self.wanted.notify_one();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The stores of the process.
#[derive(Default)]
pub struct Registry {
    stores: Mutex<HashMap<Source, Weak<Store>>>,
    /// Made, and not yet run.
    fresh: Mutex<Vec<Weak<Store>>>,
    added: Notify,
    changes: watch::Sender<u64>,
}

impl Registry {
    /// The store of this source, which is made where there is none yet. It lives as long as a configuration holds it.
    /// A new one begins with the keys that the same issuer's keys were last known to be: an exchanged trust anchor
    /// does not lock everybody out.
    pub fn store(
        &self,
        issuer: &str,
        url: Url,
        ca: Option<Bytes>,
        allow_private_addresses: bool,
    ) -> Arc<Store> {
        let source = Source {
            issuer: issuer.into(),
            request: Request {
                url,
                ca,
                allow_private_addresses,
                max_bytes: MAX_DOCUMENT_BYTES,
                timeout: FETCH_TIMEOUT,
            },
        };
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = stores.get(&source).and_then(Weak::upgrade) {
            return store;
        }
        let seed = stores
            .values()
            .filter_map(Weak::upgrade)
            .filter(|store| store.is_of(&source.issuer, &source.request.url))
            .filter_map(|store| store.keys.load_full())
            .max_by_key(|loaded| loaded.fetched);
        let store = Arc::new(Store::new(source.clone(), seed, self.changes.clone()));
        stores.insert(source, Arc::downgrade(&store));
        self.fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&store));
        self.added.notify_one();
        store
    }

    /// Moves whenever the keys of any store come, change or go.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Any store of this issuer and URL: the last good one while the trust anchor of a new one is missing.
    pub fn last(&self, issuer: &str, url: &Url) -> Option<Arc<Store>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores
            .values()
            .filter_map(Weak::upgrade)
            .find(|store| store.is_of(issuer, url))
    }

    /// Keeps every store fresh. Runs for the life of the process.
    pub async fn run(&self, fetch: Arc<Fetch>) {
        let mut stores = FuturesUnordered::new();
        loop {
            let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
            for store in fresh {
                stores.push(keep_fresh(store, fetch.clone()).boxed());
            }
            tokio::select! {
                () = self.added.notified() => {}
                Some(()) = stores.next(), if !stores.is_empty() => {}
            }
        }
    }
}

/// Fetches a store's keys again and again until nobody holds the store any more. One at a time by construction.
async fn keep_fresh(store: Weak<Store>, fetch: Arc<Fetch>) {
    let mut failures = 0;
    loop {
        let Some(alive) = store.upgrade() else {
            return;
        };
        let pause = if alive.fetch(&*fetch).await {
            failures = 0;
            jittered(REFRESH)
        } else {
            failures += 1;
            jittered(retry_after(failures))
        };
        alive.expire();
        let wanted = alive.wanted.clone();
        drop(alive);
        let now = Instant::now();
        let next = now + pause;
        let on_demand = async {
            // Who asks right after a fetch waits for the rest of the minute.
            wanted.notified().await;
            if store.strong_count() > 0 {
                sleep_until(now + ON_DEMAND).await;
            }
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = on_demand => {}
        }
    }
}

fn retry_after(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
    doubled
        .map_or(RETRY_MOST, |factor| RETRY_FIRST.saturating_mul(factor))
        .min(RETRY_MOST)
}

fn jittered(pause: Duration) -> Duration {
    let spread = rand::rng().random_range(100 - JITTER_PERCENT..=100 + JITTER_PERCENT);
    pause * u32::try_from(spread).expect("a percentage fits") / 100
}

#[cfg(test)]
mod tests;
