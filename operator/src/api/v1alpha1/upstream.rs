//! Servers that somebody else runs: outside the cluster, or behind a Service in it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel::{exactly_one, rule};
use super::network::LabelSelector;
use super::patterns;
use super::tls::{Plaintext, UpstreamTls};
use crate::api::names::DnsLabel;

/// A server outside the cluster, by https.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Remote {
    /// Its streamable HTTP endpoint. https only; no user, password, fragment or secret in it. Redirects are not followed.
    #[schemars(length(min = 9, max = 1024), regex(pattern = r"^https://[^\s#]+$"))]
    #[x_kube(validation = super::secret_look::no_userinfo("send a credential by credentials.header"))]
    #[x_kube(validation = super::secret_look::no_secret_in_query("send it by credentials.header instead"))]
    #[x_kube(validation = super::secret_look::no_credential_in_url("send it by credentials.header instead"))]
    pub url: String,
    /// How it proves who it is. Default: a certificate of a public authority.
    #[serde(default)]
    pub tls: UpstreamTls,
    /// Permits the host name to resolve to private addresses, those of the cluster's pods and Services included.
    /// Loopback, link-local and cloud metadata addresses stay refused.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

/// A server that already runs in the cluster, behind a Service of this object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one(&["tls", "plaintext"]))]
pub struct Service {
    /// Name of the Service. One of type ExternalName is refused: use remote.
    pub name: DnsLabel,
    /// Port of the Service. 1 to 65535.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Path of its streamable HTTP endpoint.
    #[serde(default = "mcp_path")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = patterns::PATH)
    )]
    pub path: String,
    /// The server speaks TLS; its certificate must cover NAME.NAMESPACE.svc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// The server speaks plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Plaintext>,
    /// Lets nobody but the gateways it is attached to connect to the server's pods, by NetworkPolicy. Without it,
    /// whoever reaches the Service calls the server past the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// A network policy around pods that Portcullis does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The server's pods, in this namespace. It must name labels, or it would fence the whole namespace.
    #[x_kube(validation = rule(
        "(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
        "podSelector is empty and would fence every pod of the namespace: name the labels of the server's pods",
    ))]
    pub pod_selector: LabelSelector,
}

/// The path that MCP servers commonly use.
pub(super) fn mcp_path() -> String {
    "/mcp".into()
}
