//! A pod of ours. There is one way to make one, so that nothing can be forgotten in another.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, LocalObjectReference, PodAffinityTerm, PodAntiAffinity, PodDNSConfig, PodSpec,
    PodTemplateSpec, Toleration, TopologySpreadConstraint, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::Owner;
use super::security::{self, RunAs};
use super::volumes;
use crate::api::v1alpha1::ImagePullSecret;

/// What differs between pods.
pub struct Parts<'a> {
    /// For whom.
    pub owner: &'a Owner,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Who picks its user.
    pub run_as: RunAs,
    /// Whether it gets a user namespace of its own.
    pub user_namespace: bool,
    /// How names are resolved.
    pub dns: Dns,
    /// Containers that must succeed first.
    pub init: Vec<Container>,
    /// Its container.
    pub container: Container,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Secrets with which its images are pulled.
    pub pull_secrets: &'a [ImagePullSecret],
    /// How long it may take to end, in seconds.
    pub grace: i64,
    /// Where it may run, and how important it is.
    pub placement: Placement,
    /// Further annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How a pod resolves names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// By the cluster's DNS.
    Cluster,
    /// Not at all: a lookup fails at once instead of hanging in front of the fence.
    None,
}

/// Where a pod may run, and how important it is.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Labels of the node.
    pub node_selector: BTreeMap<String, String>,
    /// Taints it bears.
    pub tolerations: Vec<Toleration>,
    /// Its priority class.
    pub priority_class: Option<String>,
}

/// The template of a pod.
pub fn template(parts: Parts<'_>) -> PodTemplateSpec {
    let Parts {
        owner,
        service_account,
        run_as,
        user_namespace,
        dns,
        init,
        container,
        volumes,
        pull_secrets,
        grace,
        placement,
        mut annotations,
    } = parts;
    let (dns_policy, dns_config) = dns.settings();
    let Placement {
        node_selector,
        tolerations,
        priority_class,
    } = placement;
    annotations.insert(
        "kubectl.kubernetes.io/default-container".to_owned(),
        container.name.clone(),
    );
    // Nothing in it has to outlive the pod, so a node may be emptied.
    annotations.insert(
        "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes".to_owned(),
        volumes::TMP.to_owned(),
    );
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(owner.labels()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(service_account),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            host_users: user_namespace.then_some(false),
            security_context: Some(security::pod(run_as)),
            dns_policy: Some(dns_policy.to_owned()),
            dns_config,
            init_containers: (!init.is_empty()).then_some(init),
            containers: vec![container],
            volumes: Some(volumes),
            image_pull_secrets: (!pull_secrets.is_empty()).then(|| pull_secrets.iter().map(local).collect()),
            termination_grace_period_seconds: Some(grace),
            restart_policy: Some("Always".to_owned()),
            node_selector: (!node_selector.is_empty()).then_some(node_selector),
            tolerations: (!tolerations.is_empty()).then_some(tolerations),
            priority_class_name: priority_class,
            topology_spread_constraints: Some(vec![
                spread(owner, "kubernetes.io/hostname"),
                spread(owner, "topology.kubernetes.io/zone"),
            ]),
            affinity: Some(apart(owner)),
            ..PodSpec::default()
        }),
    }
}

impl Dns {
    fn settings(self) -> (&'static str, Option<PodDNSConfig>) {
        match self {
            Self::Cluster => ("ClusterFirst", None),
            Self::None => (
                "None",
                Some(PodDNSConfig {
                    // One is required. Nothing listens there.
                    nameservers: Some(vec!["127.0.0.1".to_owned()]),
                    ..PodDNSConfig::default()
                }),
            ),
        }
    }
}

fn local(secret: &ImagePullSecret) -> LocalObjectReference {
    LocalObjectReference {
        name: secret.name.to_string(),
    }
}

/// Evenly over `key`'s values where that is possible. Never a condition: a small cluster must not get stuck.
fn spread(owner: &Owner, key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(owner.selector()),
        // Each rollout for itself: the pods that are about to go do not count.
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}

/// Rather not two on one node.
fn apart(owner: &Owner) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(owner.selector()),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}
