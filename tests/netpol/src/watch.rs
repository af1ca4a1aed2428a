//! Following the API server: three stores that stay current, and a signal when one changes.

use std::fmt::Debug;
use std::path::Path;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{hash::Hash, sync::Arc};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::store::{Store, Writer, store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::world::World;

/// A client for the file's current context.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let file =
        Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    // The watchers retry by themselves; the client's own retries would wait for minutes.
    config.default_retry = false;
    // The test cluster is on this machine, whatever the environment says about proxies.
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

/// The cluster as last heard of.
pub struct Cluster {
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
    changes: Arc<Changes>,
    // Dropping it ends the watchers.
    _watchers: JoinSet<()>,
}

impl Cluster {
    /// Starts to follow.
    pub fn follow(client: &Client) -> Self {
        let changes = Arc::new(Changes::default());
        let mut watchers = JoinSet::new();
        let pods = start(&mut watchers, Api::all(client.clone()), &changes);
        let namespaces = start(&mut watchers, Api::all(client.clone()), &changes);
        let policies = start(&mut watchers, Api::all(client.clone()), &changes);
        Self {
            pods,
            namespaces,
            policies,
            changes,
            _watchers: watchers,
        }
    }

    /// Waits until each kind has been listed once.
    pub async fn listed(&self) -> Result<()> {
        self.namespaces.wait_until_ready().await?;
        self.policies.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        Ok(())
    }

    /// Waits for a change; tells when the first one that nobody has taken yet was heard of.
    pub async fn changed(&self) -> Instant {
        self.changes.wait().await
    }

    /// Makes it count as changed, to try again what failed.
    pub fn touch(&self) {
        self.changes.mark();
    }

    /// Everything known now. Changes heard of so far are in it and count as taken.
    pub fn world(&self) -> World {
        self.changes.take();
        World::read(
            &self.pods.state(),
            &self.namespaces.state(),
            &self.policies.state(),
        )
    }
}

fn start<K>(watchers: &mut JoinSet<()>, api: Api<K>, changes: &Arc<Changes>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let (reader, writer) = store();
    watchers.spawn(follow(api, writer, Arc::clone(changes)));
    reader
}

async fn follow<K>(api: Api<K>, writer: Writer<K>, changes: Arc<Changes>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let kind = K::kind(&());
    let events = watcher(api, watcher::Config::default())
        .backoff(Patience::default())
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            // A list in progress is not in the store before its end.
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Ok(watcher::Event::InitDone) => {
                info!(%kind, "listed");
                changes.mark();
            }
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => changes.mark(),
            Err(error) => warn!(%kind, %error, "watch failed, trying again"),
        }
    }
}

/// When the first change came that nobody has looked at.
#[derive(Default)]
struct Changes {
    since: Mutex<Option<Instant>>,
    notify: Notify,
}

impl Changes {
    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        self.since().get_or_insert_with(Instant::now);
        self.notify.notify_one();
    }

    fn take(&self) {
        *self.since() = None;
    }

    async fn wait(&self) -> Instant {
        loop {
            let since = *self.since();
            if let Some(since) = since {
                return since;
            }
            self.notify.notified().await;
        }
    }
}

/// Pauses between tries. The API server is next door: it answers soon or is being restarted.
struct Patience(Duration);

impl Patience {
    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(2);
}

impl Default for Patience {
    fn default() -> Self {
        Self(Self::LEAST)
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::MOST);
        Some(pause)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_over() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = patience.by_ref().take(7).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Patience::LEAST));
    }

    #[tokio::test]
    async fn a_change_is_kept_until_taken_and_keeps_its_first_instant() {
        let changes = Changes::default();
        changes.mark();
        let first = changes.wait().await;
        changes.mark();
        assert_eq!(changes.wait().await, first);
        changes.take();
        let none = tokio::time::timeout(Duration::from_millis(20), changes.wait()).await;
        assert!(none.is_err());
        changes.mark();
        assert!(changes.wait().await >= first);
    }
}
