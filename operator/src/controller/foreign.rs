//! ConfigMaps that we did not make and that have to be read, because a pod of another namespace cannot mount them: the
//! certificate authorities of a server behind a gateway elsewhere.
//!
//! Each is watched by name, so that nothing else of the namespace is seen, and only while somebody needs it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::backoff::jitter;
use super::dereference::ForeignConfigMaps;
use super::target::Target;
use crate::identity::Key;

/// Most ConfigMaps that are watched by name; a server beyond that stays unresolved, and says so.
const MOST: usize = 512;
/// Delay after a watch failed.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Asks for a pass over objects.
pub type Enqueue = Arc<dyn Fn(&BTreeSet<Target>) + Send + Sync>;

/// The ConfigMaps that are followed.
#[derive(Clone)]
pub struct Foreign {
    inner: Arc<Mutex<HashMap<Key, Followed>>>,
    client: Client,
    enqueue: Enqueue,
    stop: CancellationToken,
}

struct Followed {
    object: Option<Arc<ConfigMap>>,
    needed_by: BTreeSet<Target>,
    end: CancellationToken,
}

impl Foreign {
    /// Follows nothing yet.
    pub fn new(client: Client, enqueue: Enqueue, stop: CancellationToken) -> Self {
        Self {
            inner: Arc::default(),
            client,
            enqueue,
            stop,
        }
    }

    /// Sets which ConfigMaps the passes over `target` need. What nobody needs any more is not watched any more.
    pub fn need(&self, target: &Target, keys: &BTreeSet<Key>) {
        let mut fresh = Vec::new();
        {
            let mut all = self.lock();
            all.retain(|key, followed| {
                if !keys.contains(key) {
                    followed.needed_by.remove(target);
                }
                let needed = !followed.needed_by.is_empty() || keys.contains(key);
                if !needed {
                    followed.end.cancel();
                }
                needed
            });
            for key in keys {
                if let Some(followed) = all.get_mut(key) {
                    followed.needed_by.insert(target.clone());
                } else if all.len() < MOST {
                    let end = self.stop.child_token();
                    fresh.push((key.clone(), end.clone()));
                    all.insert(
                        key.clone(),
                        Followed {
                            object: None,
                            needed_by: BTreeSet::from([target.clone()]),
                            end,
                        },
                    );
                } else {
                    warn!(config_map = %key, "too many ConfigMaps of other namespaces are needed; this one is not read");
                }
            }
        }
        for (key, end) in fresh {
            let this = self.clone();
            tokio::spawn(async move { this.follow(key, end).await });
        }
    }

    async fn follow(self, key: Key, end: CancellationToken) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut changes = std::pin::pin!(watch_object(api, &key.name));
        loop {
            let change = tokio::select! {
                () = end.cancelled() => return,
                change = changes.next() => change,
            };
            match change {
                Some(Ok(object)) => self.take_in(&key, object),
                Some(Err(error)) => {
                    debug!(config_map = %key, %error, "the watch of a single ConfigMap failed; it is started again");
                    tokio::select! {
                        () = end.cancelled() => return,
                        () = tokio::time::sleep(RETRY + jitter(RETRY)) => {}
                    }
                }
                None => return,
            }
        }
    }

    fn take_in(&self, key: &Key, object: Option<ConfigMap>) {
        let targets = {
            let mut all = self.lock();
            let Some(followed) = all.get_mut(key) else { return };
            let version = |object: Option<&ConfigMap>| object.and_then(ResourceExt::resource_version);
            if version(followed.object.as_deref()) == version(object.as_ref()) {
                return;
            }
            followed.object = object.map(Arc::new);
            followed.needed_by.clone()
        };
        debug!(config_map = %key, "a ConfigMap of another namespace changed");
        (self.enqueue)(&targets);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Followed>> {
        self.inner.lock().expect("no code that holds this lock can panic")
    }
}

impl ForeignConfigMaps for Foreign {
    fn get(&self, key: &Key) -> Option<Arc<ConfigMap>> {
        self.lock().get(key).and_then(|followed| followed.object.clone())
    }
}
