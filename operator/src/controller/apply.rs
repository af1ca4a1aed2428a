//! The only writer of children: applies what was built, in a fixed order, and removes what nothing asks for any more.
//!
//! - Server-side apply, one field manager per controller. `force` only on objects we own: an object of that name that
//!   somebody else made is left alone and reported, never adopted.
//! - Nothing is sent while a child is wanted as it was when we last applied it and nobody touched it since.
//! - The network policy comes before the pods it fences; removal goes the other way round.
//! - Secrets are neither read nor removed here; they go with their owner.

pub mod fence;
pub mod memo;

use std::future::Future;
use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, info};

use self::memo::{Known, Memo};
use super::cache::Cache;
use super::client::{At, Kube, Object};
use super::error::Error;
use super::stores::Stores;
use crate::api::labels::{self, Labels};
use crate::build::session_key::KEY_ID;
use crate::build::{Applied, Prepared, Replicas, Resources};
use crate::identity::{Identity, Key};
use crate::metrics::Metrics;

/// One pass's hand on the children of one object.
pub struct Applier<'a> {
    /// The API server.
    pub kube: &'a Kube,
    /// What the watches saw.
    pub stores: &'a Stores,
    /// What we applied last.
    pub memo: &'a Memo,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// Field manager.
    pub manager: &'static str,
    /// Whose children they are.
    pub owner: &'a Identity,
    /// What selects their pods.
    pub pods: Labels,
    /// Leave the pods' template as it is for now, if it is there.
    pub hold: bool,
}

impl Applier<'_> {
    /// Applies everything that was built and removes what was not. `after_config` runs when the configuration is in
    /// place, before the pods' template is touched.
    pub async fn all(
        &self,
        prepared: Resources<Prepared>,
        after_config: impl Future<Output = ()>,
    ) -> Result<Resources<Applied>, Error> {
        // Without `..`: a kind that is built and not applied does not compile.
        let Resources {
            service_accounts,
            network_policies,
            config_maps,
            services,
            pod_disruption_budgets,
            deployments,
            replicas,
            state: _,
        } = prepared;
        let stores = self.stores;
        let pods = stores.pods.in_namespace(&self.owner.key.namespace);
        let mut network_policies = network_policies;
        for policy in &mut network_policies {
            fence::outlive(policy, &self.pods, &pods);
        }
        let service_accounts = self.each(&stores.service_accounts, &service_accounts).await?;
        let network_policies = self.each(&stores.network_policies, &network_policies).await?;
        let config_maps = self.each(&stores.config_maps, &config_maps).await?;
        after_config.await;
        let services = self.each(&stores.services, &services).await?;
        let pod_disruption_budgets = self
            .each(&stores.pod_disruption_budgets, &pod_disruption_budgets)
            .await?;
        let mut deployments = match self.held(&deployments) {
            Some(held) => held,
            None => self.each(&stores.deployments, &deployments).await?,
        };
        for wanted in &replicas {
            for deployment in &mut deployments {
                if deployment.name_any() == wanted.deployment {
                    *deployment = self.replicas(deployment, wanted).await?;
                }
            }
        }

        self.prune(&stores.deployments, &deployments).await?;
        self.prune(&stores.pod_disruption_budgets, &pod_disruption_budgets)
            .await?;
        self.prune(&stores.services, &services).await?;
        self.prune(&stores.config_maps, &config_maps).await?;
        // A pod that is still on its way out keeps its fence; its end brings another pass.
        if !pods.iter().any(|pod| fence::selects(&self.pods, pod)) {
            self.prune(&stores.network_policies, &network_policies).await?;
        }
        self.prune(&stores.service_accounts, &service_accounts).await?;
        Ok(Resources {
            service_accounts,
            network_policies,
            config_maps,
            services,
            pod_disruption_budgets,
            deployments,
            replicas,
            state: PhantomData,
        })
    }

    /// The Deployments as they are, if they are to be left so and all of them exist.
    fn held(&self, wanted: &[Deployment]) -> Option<Vec<Deployment>> {
        if !self.hold {
            return None;
        }
        let existing = wanted.iter().map(|one| {
            let seen = self.stores.deployments.get(&Key::of(one))?;
            self.may_touch(&*seen).ok()?;
            Some((*seen).clone())
        });
        existing.collect()
    }

    async fn each<K: Object>(&self, cache: &Cache<K>, wanted: &[K]) -> Result<Vec<K>, Error> {
        let mut applied = Vec::with_capacity(wanted.len());
        for one in wanted {
            applied.push(self.one(cache, one).await?);
        }
        Ok(applied)
    }

    /// Applies one object, unless it is as wanted already. Returns it as the API server has it.
    pub async fn one<K: Object>(&self, cache: &Cache<K>, wanted: &K) -> Result<K, Error> {
        let key = Key::of(wanted);
        let mut body = serde_json::to_value(wanted).map_err(|error| Error::Invariant(error.to_string()))?;
        let wanted_hash = memo::hash(&body);
        let cached = cache.get(&key);
        if let Some(seen) = &cached {
            self.may_touch(&**seen)?;
            match self.memo.compare(&**seen, &wanted_hash) {
                Known::Unchanged => return Ok((**seen).clone()),
                Known::Touched => {
                    debug!(kind = %K::kind(&()), %key, "somebody else changed this object; reverting");
                    self.metrics.reverted(&K::kind(&()));
                    if self.memo.is_contested::<K>(&key, Instant::now()) {
                        return Err(self.contested::<K>(&key).await);
                    }
                }
                Known::Unknown => {}
            }
        }
        // The watch shows only what carries our labels, and shows it late: before the first write, look.
        let found = match &cached {
            Some(seen) => Some((**seen).clone()),
            None => self.kube.get::<K>(&key.namespace, &key.name).await?,
        };
        if let Some(found) = &found {
            self.may_touch(found)?;
            // With its UID the write cannot land on a namesake that took its place meanwhile.
            if let (Some(uid), Some(metadata)) = (found.uid(), body.get_mut("metadata")) {
                metadata["uid"] = Value::String(uid);
            }
        }
        let at = At {
            namespace: &key.namespace,
            name: &key.name,
        };
        let applied: K = self.kube.apply(self.manager, &body, &at).await?;
        self.metrics.applied(&K::kind(&()));
        if found.is_none() {
            info!(kind = %K::kind(&()), %key, "created");
        }
        let before = found.and_then(|found| found.resource_version());
        self.memo.remember(&applied, wanted_hash, before);
        Ok(applied)
    }

    /// Holds a Deployment's replicas under a field manager of its own, so that an autoscaler can take the field over
    /// and so that our other fields never carry it.
    async fn replicas(&self, deployment: &Deployment, wanted: &Replicas) -> Result<Deployment, Error> {
        let current = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        if current == Some(wanted.count) {
            return Ok(deployment.clone());
        }
        let mut body = wanted.patch();
        if let (Some(uid), Some(metadata)) = (deployment.uid(), body.get_mut("metadata")) {
            metadata["uid"] = Value::String(uid);
        }
        let at = At {
            namespace: &wanted.namespace,
            name: &wanted.deployment,
        };
        let scaled: Deployment = self
            .kube
            .apply(labels::FIELD_MANAGER_REPLICAS, &body, &at)
            .await?;
        self.metrics.applied("Deployment");
        self.memo.follow(&scaled);
        Ok(scaled)
    }

    /// Somebody changes an object of ours as often as we change it back: names who, as far as the API server knows.
    async fn contested<K: Object>(&self, key: &Key) -> Error {
        let found = self.kube.get::<K>(&key.namespace, &key.name).await.ok().flatten();
        let mut rivals: Vec<String> = found
            .iter()
            .flat_map(ResourceExt::managed_fields)
            .filter(|entry| entry.subresource.is_none())
            .filter_map(|entry| entry.manager.clone())
            .filter(|manager| *manager != self.manager && *manager != labels::FIELD_MANAGER_REPLICAS)
            .collect();
        rivals.sort();
        rivals.dedup();
        Error::Contested {
            kind: K::kind(&()).into_owned(),
            name: key.name.to_string(),
            rivals: if rivals.is_empty() {
                "an unknown manager".to_owned()
            } else {
                rivals.join(", ")
            },
        }
    }

    /// Removes what is ours and was not `kept`.
    async fn prune<K: Object>(&self, cache: &Cache<K>, kept: &[K]) -> Result<(), Error> {
        for child in cache.in_namespace(&self.owner.key.namespace) {
            let ours = controller_uid(&*child) == Some(&self.owner.uid);
            let wanted = kept.iter().any(|kept| kept.name_any() == child.name_any());
            let dying = child.meta().deletion_timestamp.is_some();
            // Session keys have a life of their own: their markers are kept and dropped by `session_keys`.
            let marker = child.labels().contains_key(KEY_ID);
            if !ours || wanted || dying || marker {
                continue;
            }
            self.kube.delete(&*child).await?;
            self.memo.forget::<K>(&Key::of(&*child));
            self.metrics.pruned(&K::kind(&()));
            info!(kind = %K::kind(&()), key = %Key::of(&*child), "removed, nothing asks for it any more");
        }
        Ok(())
    }

    /// Whether the object is ours to write.
    fn may_touch<K: Object>(&self, found: &K) -> Result<(), Error> {
        let kind = || K::kind(&()).into_owned();
        if controller_uid(found) != Some(&self.owner.uid) {
            let former = controller(found).is_some_and(|owner| {
                owner.api_version.starts_with(crate::api::GROUP) && owner.name == *self.owner.key.name
            });
            if former {
                return Err(Error::Leftover {
                    kind: kind(),
                    name: found.name_any(),
                });
            }
            let owner = controller(found).map_or_else(
                || "not controlled by anything of Portcullis".to_owned(),
                |owner| format!("controlled by {} {}", owner.kind, owner.name),
            );
            return Err(Error::NameConflict {
                kind: kind(),
                name: found.name_any(),
                owner,
            });
        }
        if found.meta().deletion_timestamp.is_some() {
            return Err(Error::Leftover {
                kind: kind(),
                name: found.name_any(),
            });
        }
        Ok(())
    }
}

fn controller<K: Object>(object: &K) -> Option<&OwnerReference> {
    object
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// UID of the object that controls this one.
pub fn controller_uid<K: Object>(object: &K) -> Option<&String> {
    controller(object).map(|owner| &owner.uid)
}
