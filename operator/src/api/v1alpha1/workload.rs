//! The gateway's pods: the few settings of a pod that do not touch its hardening.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as corev1;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::rule;
use super::patterns;
use super::refs::ImagePullSecret;
use super::resources::GatewayResources;
use crate::api::names::DnsSubdomain;

/// The gateway's pods. What is not here (users, capabilities, file systems, tokens, probes) is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// How many pods. Any of them takes any request. 1 to 100.
    #[serde(default = "workload::replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// Processors, memory and local disk of each pod.
    #[serde(default = "workload::resources")]
    pub resources: GatewayResources,
    /// Image of the gateway. Default: the one that belongs to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = patterns::IMAGE)
    )]
    pub image: Option<String>,
    /// Secrets with which the image is pulled. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// Labels a node must have. At most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "patterns::labels")]
    #[x_kube(validation = patterns::label_keys("nodeSelector"))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods bear. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<DnsSubdomain>,
    /// Fixed: user, group and volume group 65532. FromPlatform: none is written, for platforms that assign them from a
    /// range of the namespace (OpenShift). The pods never run as root either way.
    #[serde(default = "workload::user")]
    pub user: GatewayUser,
}

field_defaults!(workload for Workload {
    replicas: i32 = 2,
    resources: GatewayResources = GatewayResources::default(),
    image: Option<String> = None,
    image_pull_secrets: Vec<ImagePullSecret> = Vec::new(),
    node_selector: BTreeMap<String, String> = BTreeMap::new(),
    tolerations: Vec<Toleration> = Vec::new(),
    priority_class_name: Option<DnsSubdomain> = None,
    user: GatewayUser = GatewayUser::Fixed,
});

/// Who chooses the user of the gateway's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GatewayUser {
    /// Portcullis: 65532.
    Fixed,
    /// The platform.
    FromPlatform,
}

/// A taint the pods bear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.key) || self.operator == 'Exists'",
    "a toleration without key bears every taint: say so with operator: Exists, or set key",
))]
#[x_kube(validation = rule(
    "!has(self.value) || self.operator == 'Equal'",
    "operator Exists takes no value",
))]
#[x_kube(validation = rule(
    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
    "tolerationSeconds needs effect: NoExecute",
))]
pub struct Toleration {
    /// The taint's key. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 317),
        regex(
            pattern = patterns::LABEL_KEY
        )
    )]
    pub key: Option<String>,
    /// Equal: the taint has this value. Exists: it may have any.
    #[serde(default = "equal")]
    pub operator: TolerationOperator,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 63),
        regex(pattern = patterns::LABEL_VALUE)
    )]
    pub value: Option<String>,
    /// The taint's effect. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For how many seconds a NoExecute taint is borne. 0 to 86400. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration's value relates to the taint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words of Kubernetes")]
pub enum TolerationOperator {
    Equal,
    Exists,
}

fn equal() -> TolerationOperator {
    TolerationOperator::Equal
}

/// What a taint does to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words of Kubernetes")]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl TaintEffect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl From<&Toleration> for corev1::Toleration {
    fn from(toleration: &Toleration) -> Self {
        let Toleration {
            key,
            operator,
            value,
            effect,
            toleration_seconds,
        } = toleration;
        let operator = match operator {
            TolerationOperator::Equal => "Equal",
            TolerationOperator::Exists => "Exists",
        };
        Self {
            key: key.clone(),
            operator: Some(operator.to_owned()),
            value: value.clone(),
            effect: effect.map(|effect| effect.as_str().to_owned()),
            toleration_seconds: *toleration_seconds,
        }
    }
}
