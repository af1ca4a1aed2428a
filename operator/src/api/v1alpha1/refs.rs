//! References to other objects. A Secret or a ConfigMap is always one of the object's own namespace.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;
use crate::api::names::{DataKey, DnsSubdomain};

/// A choice without settings of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// One key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of a Secret in this object's namespace.
    pub secret_name: DnsSubdomain,
    /// Key in the Secret's data.
    pub key: DataKey,
}

/// One key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of a ConfigMap in this object's namespace.
    pub config_map_name: DnsSubdomain,
    /// Key in the ConfigMap's data.
    pub key: DataKey,
}

/// PEM certificates of the authorities to trust in place of the public ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// Name of a ConfigMap in this object's namespace.
    pub config_map_name: DnsSubdomain,
    /// Key in the ConfigMap's data. Default: ca.crt.
    #[serde(default = "ca_key")]
    pub key: DataKey,
}

fn ca_key() -> DataKey {
    "ca.crt".parse().expect("a legal key")
}

/// A Secret of type kubernetes.io/dockerconfigjson.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// Name of a Secret in this object's namespace.
    pub name: DnsSubdomain,
}

/// One principal: who it is, and by which method that was established.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectRef {
    /// Method that authenticates it: the name of an entry of auth.jwt, or apiKeys.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = patterns::METHOD)
    )]
    pub method: String,
    /// The subject, compared exactly: a token's subject claim, or the name of an API key's client.
    #[schemars(length(min = 1, max = 256))]
    pub subject: String,
}
