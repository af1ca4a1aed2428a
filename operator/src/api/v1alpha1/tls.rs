//! Who proves to be whom on a connection, and where that is left out.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel::{exactly_one, rule};
use super::refs::CaBundle;
use crate::api::names::DnsSubdomain;

/// TLS of the gateway's public port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one(&["secretName", "plaintext"]))]
pub struct Tls {
    /// Secret of type kubernetes.io/tls (keys tls.crt and tls.key) in this namespace. The certificate must cover
    /// publicHost. It is read again when it changes, without a restart; while it is missing the gateway is not ready
    /// and its public port stays closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<DnsSubdomain>,
    /// No TLS on the public port: only where something else, such as a service mesh, protects every hop to it. The
    /// gateway then listens on 8080, the Service on 80, and publicHost counts as http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Plaintext>,
}

/// A connection without TLS, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plaintext {
    /// Why that is acceptable here, in words for whoever reviews it. At most 256 characters.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = rule("self.trim().size() > 0", "reason must not be blank: say why this is acceptable here"))]
    pub reason: String,
}

/// How a server proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// Authorities to trust in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}
