//! Volumes of a server that Portcullis runs. Nothing of the node can be mounted.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel::{exactly_one, quantity_within, rule};
use super::units::ByteSize;
use crate::api::names::{DnsSubdomain, MemberName};

/// A volume: exactly one of emptyDir, configMap, secret and persistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one(&["emptyDir", "configMap", "secret", "persistentVolumeClaim"]))]
pub struct Volume {
    /// Name of the volume.
    pub name: MemberName,
    /// Where it is mounted: an absolute path without . and .. as parts, outside /dev, /proc, /sys, /tmp and the folders of secrets.
    #[schemars(
        length(min = 2, max = 256),
        regex(pattern = r"^(/[-A-Za-z0-9_.]*[-A-Za-z0-9_])+$")
    )]
    #[x_kube(validation = rule(
        "!self.matches('^/(dev|proc|sys|tmp|(var/)?run/secrets|(var/)?run/portcullis)(/|$)') && !(self in ['/var', '/var/run', '/run'])",
        "mountPath is one that the system or Portcullis uses (/dev, /proc, /sys, /tmp, /run/secrets, /run/portcullis, also under /var): choose another, such as /data; /tmp is writable already",
    ))]
    pub mount_path: String,
    /// An empty folder that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolume>,
    /// The entries of a ConfigMap as files, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// The entries of a Secret as files, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// A claim on storage that outlives the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
}

/// An empty folder that lives as long as the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirVolume {
    /// How much it may hold. 1Mi to 1Ti.
    #[serde(default = "empty_dir_size")]
    #[x_kube(validation = quantity_within("1Mi", "1Ti"))]
    pub size_limit: ByteSize,
}

fn empty_dir_size() -> ByteSize {
    ByteSize::mebibytes(64)
}

/// The entries of a ConfigMap as files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of a ConfigMap in this namespace.
    pub name: DnsSubdomain,
}

/// The entries of a Secret as files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Name of a Secret in this namespace.
    pub secret_name: DnsSubdomain,
}

/// A claim on storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    /// Name of a PersistentVolumeClaim in this namespace.
    pub claim_name: DnsSubdomain,
    /// true: the server cannot write to it.
    #[serde(default)]
    pub read_only: bool,
}
