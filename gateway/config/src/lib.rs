//! The contract between the two binaries of Portcullis.
//!
//! The operator renders a [`Config`] into a ConfigMap; the gateway loads it, reports a [`status::Status`] on its
//! status port, and the operator reads that. Both also derive keys from the same session key ([`keys`]).
//! Types, validation and derivation only: no runtime, no Kubernetes, no I/O but [`load`]'s file reads.

pub mod api_key;
pub mod auth;
pub mod duration;
pub mod features;
pub mod file;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod load;
pub mod network;
pub mod policy;
pub mod server;
pub mod status;
mod validate;
pub mod web;

pub use duration::Duration;
pub use features::{Features, Prefix, ServerFeatures, ToolNames, ToolSet};
pub use file::{Audit, Config, FORMAT_VERSION, Gateway, Profile, Shutdown, Telemetry};
pub use load::{LoadError, Loaded, parse};
pub use network::Network;
pub use validate::Problem;
pub use web::Web;

/// Directory under which the operator mounts what the gateway reads.
pub const MOUNT_ROOT: &str = "/etc/portcullis";

/// Where the operator mounts the configuration file in the gateway's pod.
pub const CONFIG_PATH: &str = "/etc/portcullis/config/gateway.yaml";

/// Container port of the public listener with TLS.
pub const PORT_TLS: u16 = 8443;
/// Container port of the public listener without TLS.
pub const PORT_PLAINTEXT: u16 = 8080;
/// Container port of liveness, readiness and metrics.
pub const PORT_METRICS: u16 = 9090;
/// Container port of the status document.
pub const PORT_STATUS: u16 = 9091;
/// Container port of the hop between replicas.
pub const PORT_PEER: u16 = 9443;

/// Audience of the token the operator presents on the status port.
pub const STATUS_AUDIENCE: &str = "portcullis-status";
