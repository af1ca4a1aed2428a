//! What stands in front of the gateway.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Most ranges of proxies.
pub const MAX_PROXIES: usize = 64;

/// The gateway's place in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Who is believed about where a client calls from. The most specific range counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Connections of anybody else are closed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_from_proxies: bool,
    /// Path that answers 204 or 503 to load balancers. Empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub public_health: String,
}

/// Proxies of a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedProxy {
    /// Their addresses, as the gateway sees them.
    pub cidr: IpNet,
    /// How they say for whom they connect.
    pub mode: ProxyMode,
}

/// How a proxy says for whom it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyMode {
    /// By the header of that name, on each request.
    XForwardedFor,
    /// By PROXY protocol version 2, before anything else on each connection. It is mandatory then.
    ProxyProtocol,
}
