//! Everything the watches see, one cache per kind.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::apply::controller_uid;
use super::cache::{Cache, Unreadable};
use super::target::Target;
use crate::api::labels;
use crate::api::v1alpha1::{McpGateway, McpServer};
use crate::identity::Key;

/// One cache per watched kind.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// All gateways.
    pub gateways: Arc<Cache<McpGateway>>,
    /// All servers.
    pub servers: Arc<Cache<McpServer>>,
    /// All namespaces, for their labels.
    pub namespaces: Arc<Cache<Namespace>>,
    /// All Services: ours, and those that servers name.
    pub services: Arc<Cache<Service>>,
    /// EndpointSlices that no controller of Kubernetes made: those of Services without selector, the API servers' own
    /// among them.
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    /// Ours: configurations and session-key markers.
    pub config_maps: Arc<Cache<ConfigMap>>,
    /// Ours.
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    /// Ours.
    pub network_policies: Arc<Cache<NetworkPolicy>>,
    /// Ours.
    pub pod_disruption_budgets: Arc<Cache<PodDisruptionBudget>>,
    /// Ours.
    pub deployments: Arc<Cache<Deployment>>,
    /// Of our Deployments, for who owns what.
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    /// Of our Deployments.
    pub pods: Arc<Cache<Pod>>,
}

impl Stores {
    /// Waits until every cache holds a complete list.
    pub async fn ready(&self) {
        let Self {
            gateways,
            servers,
            namespaces,
            services,
            endpoint_slices,
            config_maps,
            service_accounts,
            network_policies,
            pod_disruption_budgets,
            deployments,
            replica_sets,
            pods,
        } = self;
        tokio::join!(
            gateways.ready(),
            servers.ready(),
            namespaces.ready(),
            services.ready(),
            endpoint_slices.ready(),
            config_maps.ready(),
            service_accounts.ready(),
            network_policies.ready(),
            pod_disruption_budgets.ready(),
            deployments.ready(),
            replica_sets.ready(),
            pods.ready(),
        );
    }

    /// Gateways and servers that cannot be read.
    pub fn unreadable(&self) -> Vec<(Target, Arc<Unreadable>)> {
        let gateways = self.gateways.all_unreadable().into_iter();
        let servers = self.servers.all_unreadable().into_iter();
        gateways
            .map(|one| (Target::Gateway(one.key.clone()), one))
            .chain(servers.map(|one| (Target::Server(one.key.clone()), one)))
            .collect()
    }

    /// The pods of a Deployment: those whose chain of owners ends at it by UID. Labels alone prove nothing, since anybody
    /// who may create pods can set them.
    pub fn pods_of(&self, deployment: &Deployment) -> Vec<Arc<Pod>> {
        let Some(uid) = deployment.metadata.uid.as_ref() else {
            return Vec::new();
        };
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let mut pods = self.pods.in_namespace(namespace);
        pods.retain(|pod| {
            let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
            owners
                .iter()
                .find(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet")
                .and_then(|owner| {
                    let set = self.replica_sets.get(&Key::new(namespace, owner.name.as_str()))?;
                    (set.metadata.uid.as_ref() == Some(&owner.uid)).then_some(set)
                })
                .is_some_and(|set| controller_uid(&*set) == Some(uid))
        });
        pods
    }
}

/// Selector of EndpointSlices that were not made by Kubernetes' own controller, which makes them for every Service with
/// a selector and would drown us in them.
pub const FOREIGN_SLICES: &str = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io";
/// Selector of everything we made.
pub const OURS: &str = labels::MANAGED_SELECTOR;

/// What is dropped of objects before they are kept.
pub mod strip {
    use super::{Namespace, Pod, ReplicaSet, Service};
    use k8s_openapi::api::core::v1::PodSpec;

    /// Nothing more than what is always dropped.
    pub fn nothing<K>(_: &mut K) {}

    /// Labels are all that counts.
    pub fn namespace(namespace: &mut Namespace) {
        namespace.spec = None;
        namespace.status = None;
        namespace.metadata.annotations = None;
    }

    /// Owners are all that counts.
    pub fn replica_set(set: &mut ReplicaSet) {
        set.spec = None;
        set.status = None;
        set.metadata.annotations = None;
    }

    /// What it is made from is in the Deployment.
    pub fn pod(pod: &mut Pod) {
        pod.spec = Some(PodSpec::default());
    }

    /// The state of a load balancer is not ours to know.
    pub fn service(service: &mut Service) {
        service.status = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::ResourceExt;
    use kube::api::ObjectMeta;

    fn meta(name: &str, uid: &str, owner: Option<(&str, &str, &str)>) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("ns".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            owner_references: owner.map(|(kind, name, uid)| {
                vec![OwnerReference {
                    api_version: "apps/v1".into(),
                    kind: kind.into(),
                    name: name.into(),
                    uid: uid.into(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]
            }),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn only_pods_whose_owners_lead_to_the_deployment_are_its_own() {
        let stores = Stores::default();
        let set = |name: &str, uid: &str, owner: &str| ReplicaSet {
            metadata: meta(name, uid, Some(("Deployment", "gw", owner))),
            ..ReplicaSet::default()
        };
        stores.replica_sets.put(set("ours", "rs-1", "dep-1"));
        stores.replica_sets.put(set("former", "rs-0", "dep-0"));
        let pod = |name: &str, owner: Option<(&str, &str, &str)>| Pod {
            metadata: meta(name, name, owner),
            ..Pod::default()
        };
        stores.pods.put(pod("good", Some(("ReplicaSet", "ours", "rs-1"))));
        stores
            .pods
            .put(pod("of-the-former", Some(("ReplicaSet", "former", "rs-0"))));
        stores
            .pods
            .put(pod("claims-a-name", Some(("ReplicaSet", "ours", "rs-9"))));
        stores
            .pods
            .put(pod("claims-a-kind", Some(("Job", "ours", "rs-1"))));
        stores.pods.put(pod("bare", None));
        let deployment = Deployment {
            metadata: meta("gw", "dep-1", None),
            ..Deployment::default()
        };
        let names: Vec<String> = stores
            .pods_of(&deployment)
            .iter()
            .map(|pod| pod.name_any())
            .collect();
        assert_eq!(names, ["good"]);
    }
}
