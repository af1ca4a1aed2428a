//! Keeps one [`Cache`] true: list, then watch, again and again, with what is not needed stripped off.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::{DeserializeGuard, Resource};
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::cache::{Cache, Change, Listed, Unreadable};
use super::health::Health;
use crate::identity::Key;

/// Delay after a watch failed; doubled up to [`LONGEST_DELAY`] while it goes on failing.
const FIRST_DELAY: Duration = Duration::from_millis(800);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Delay while the API server does not know the kind.
const MISSING_KIND_DELAY: Duration = Duration::from_secs(10);

/// A kind that can be watched.
pub trait Watched:
    Resource<DynamicType = ()> + ResourceExt + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + ResourceExt + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// One kind to be watched.
pub struct Watch<K: Resource> {
    /// Where.
    pub api: Api<DeserializeGuard<K>>,
    /// Which of them, by label selector; none for all.
    pub labels: Option<String>,
    /// What is not needed of an object: dropped before it is kept.
    pub strip: fn(&mut K),
    /// Where they are kept.
    pub cache: Arc<Cache<K>>,
    /// Where the state of the watch is told.
    pub health: Health,
}

impl<K: Watched> Watch<K> {
    /// Tells that this watch is to be waited for.
    pub fn announce(&self) {
        self.health.starting(&kind::<K>());
    }

    /// Watches until `stop`. `on_change` is told of every object that came, changed or went.
    pub async fn run(self, stop: CancellationToken, on_change: impl Fn(&Change<K>) + Send + Sync) {
        let Self {
            api,
            labels,
            strip,
            cache,
            health,
        } = self;
        let config = watcher::Config {
            label_selector: labels,
            ..watcher::Config::default()
        };
        let kind = kind::<K>();
        let mut events = std::pin::pin!(watcher(api, config));
        let mut listing = Vec::new();
        let mut delay = FIRST_DELAY;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let pause = if is_missing_kind(&error) {
                        health.kind_missing(&kind);
                        warn!(
                            kind,
                            "the API server does not know this kind: install the CRDs; looking again"
                        );
                        MISSING_KIND_DELAY
                    } else {
                        health.watch_failed(&kind, &error, cache.is_ready());
                        delay = (delay * 2).min(LONGEST_DELAY);
                        delay / 2 + super::backoff::jitter(delay / 2)
                    };
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    continue;
                }
            };
            // Before each list comes an Init, also before one that then fails.
            if !matches!(event, Event::Init) {
                delay = FIRST_DELAY;
            }
            match event {
                Event::Init => listing.clear(),
                Event::InitApply(object) => listing.extend(listed(object, strip)),
                Event::InitDone => {
                    let first = !cache.is_ready();
                    let changes = cache.replace(std::mem::take(&mut listing));
                    health.watch_works(&kind);
                    if first {
                        info!(kind, objects = cache.len(), "watching");
                    }
                    changes.iter().for_each(&on_change);
                }
                Event::Apply(object) => {
                    health.watch_works(&kind);
                    let key = Key::of(&object);
                    let change = match listed(object, strip) {
                        Some(Listed::Read(object)) => cache.put(object),
                        Some(Listed::Unreadable(unreadable)) => cache.put_unreadable(unreadable),
                        None => cache.remove(&key),
                    };
                    on_change(&change);
                }
                Event::Delete(object) => {
                    let change = cache.remove(&Key::of(&object));
                    debug!(kind, object = %Key::of(&object), "deleted");
                    on_change(&change);
                }
            }
        }
    }
}

/// The object, or that it cannot be read: one bad object stops neither the watch nor the others, and is not taken for
/// one that is gone. None for what is on its way out and says no more.
fn listed<K: Watched>(object: DeserializeGuard<K>, strip: fn(&mut K)) -> Option<Listed<K>> {
    let key = Key::of(&object);
    match object.0 {
        Ok(mut object) => {
            object.managed_fields_mut().clear();
            strip(&mut object);
            Some(Listed::Read(object))
        }
        Err(invalid) => {
            warn!(
                kind = %K::kind(&()), object = %key, error = invalid.error,
                "an object does not match its schema: what hangs on it is left as it is"
            );
            invalid
                .metadata
                .deletion_timestamp
                .is_none()
                .then(|| Listed::Unreadable(Unreadable::new(key, invalid.metadata.uid, invalid.error)))
        }
    }
}

/// The kind as a CRD is called: `PLURAL.GROUP`.
fn kind<K: Watched>() -> String {
    let group = K::group(&());
    if group.is_empty() {
        K::plural(&()).into_owned()
    } else {
        format!("{}.{group}", K::plural(&()))
    }
}

fn is_missing_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code == 404,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}
