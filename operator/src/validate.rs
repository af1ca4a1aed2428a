//! From what was read to what may be built, or to what is wrong with it. Pure: the same inputs give the same outcome,
//! whoever asks, so that the gateway's and the server's controller never disagree about an attachment.
//!
//! The schema and its rules were checked by the API server. Here stands what takes more than one object to see, and, once
//! more, whatever a builder relies on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::api::labels::Labels;
use crate::api::v1alpha1::{McpGateway, McpServer};
use crate::build::session_key::SessionKeys;
use crate::identity::Key;

pub mod attachment;
pub mod credential;
pub mod gateway;
pub mod refs;
pub mod security_txt;
pub mod server;
pub mod service;

pub use attachment::Attached;
pub use gateway::{ValidatedGateway, gateway};
pub use refs::{Ca, Port, Reach, Upstream};
pub use server::{ServerForm, ValidatedContainer, ValidatedFence, ValidatedServer, server};
pub use service::Backend;

/// A condition that a problem turns false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The spec is valid and conflicts with nothing.
    Accepted,
    /// Everything it names exists and may be used.
    ResolvedRefs,
    /// A gateway takes the server.
    Attached,
}

impl Condition {
    /// The condition's type in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Attached => "Attached",
        }
    }
}

/// One thing that is wrong, for a person to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which condition it turns false.
    pub condition: Condition,
    /// One word for machines, of [`reasons`].
    pub reason: &'static str,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(condition: Condition, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            condition,
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}=False/{}: {}",
            self.condition.as_str(),
            self.reason,
            self.message
        )
    }
}

/// The reasons of problems, once each.
pub mod reasons {
    /// The spec says what the schema's rules refuse; seen only where no API server checked it.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The configuration would not fit into a ConfigMap, or has no room for one more server.
    pub const CONFIG_TOO_LARGE: &str = "ConfigTooLarge";
    /// `servers.namespaces.from: Selector`, where the operator may not read namespaces.
    pub const SELECTOR_NEEDS_CLUSTER_SCOPE: &str = "SelectorNeedsClusterScope";
    /// A network policy cannot hold this peer.
    pub const INVALID_PEER: &str = "InvalidPeer";
    /// A URL leads to an address that nothing may lead to.
    pub const ADDRESS_REFUSED: &str = "AddressRefused";

    /// The gateway does not exist, or not where the operator looks.
    pub const GATEWAY_NOT_FOUND: &str = "GatewayNotFound";
    /// The server does not name the gateway.
    pub const NOT_REFERENCED: &str = "NotReferenced";
    /// The gateway does not admit the server's namespace.
    pub const NAMESPACE_NOT_ADMITTED: &str = "NamespaceNotAdmitted";
    /// An older server has the same tool prefix.
    pub const PREFIX_CONFLICT: &str = "PrefixConflict";
    /// A Secret of one namespace cannot be mounted in another.
    pub const CREDENTIALS_CROSS_NAMESPACE: &str = "CredentialsCrossNamespace";
    /// An image without digest under a Production gateway.
    pub const IMAGE_DIGEST_REQUIRED: &str = "ImageDigestRequired";
    /// The Service does not exist.
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    /// The Service has no such port.
    pub const SERVICE_PORT_NOT_FOUND: &str = "ServicePortNotFound";
    /// The Service is an alias for a name outside the cluster.
    pub const EXTERNAL_NAME_REFUSED: &str = "ExternalNameRefused";
    /// The certificates of a server in another namespace cannot be read.
    pub const CA_BUNDLE_NOT_FOUND: &str = "CaBundleNotFound";
    /// They would take too much of the gateway's configuration.
    pub const CA_BUNDLE_TOO_LARGE: &str = "CaBundleTooLarge";
}

/// Everything about one McpServer that a decision may need.
#[derive(Clone, Debug)]
pub struct ServerInputs {
    /// The server.
    pub server: Arc<McpServer>,
    /// Labels of its namespace. None where the operator may not read them.
    pub namespace_labels: Option<Labels>,
    /// The Service it names, if it names one and that exists.
    pub service: Option<Arc<Service>>,
    /// EndpointSlices of that Service. Needed only where the Service selects no pods.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// The ConfigMap with its certificate authorities. Needed only for gateways of other namespaces.
    pub ca_bundle: Option<Arc<ConfigMap>>,
}

/// All objects that bear on each other: for a gateway, the servers that name it and the gateways which those name; for a
/// server, the gateways it names and the servers which name those. More does no harm.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Gateways.
    pub gateways: BTreeMap<Key, Arc<McpGateway>>,
    /// Servers.
    pub servers: BTreeMap<Key, ServerInputs>,
}

/// How the tokens of this cluster's ServiceAccounts are verified, for the status port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIssuer {
    /// `iss` of the tokens.
    pub issuer: String,
    /// The cluster's public keys (RFC 7517), as text. The same keys must always be the same text, or the configuration
    /// moves by itself.
    pub jwks: String,
}

/// What an McpGateway's reconciliation read.
#[derive(Clone, Debug)]
pub struct DereferencedGateway {
    /// Which gateway of `world` it is about.
    pub key: Key,
    /// The objects.
    pub world: World,
    /// Its session keys. At least the sealing one exists by now.
    pub session_keys: SessionKeys,
    /// For the status port.
    pub token_issuer: TokenIssuer,
}

/// What an McpServer's reconciliation read.
#[derive(Clone, Debug)]
pub struct DereferencedServer {
    /// Which server of `world` it is about.
    pub key: Key,
    /// The objects.
    pub world: World,
}
