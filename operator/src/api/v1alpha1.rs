//! Version `v1alpha1` of both kinds.
//!
//! A field stands here once it acts. The doc comment of each type and field is what users read in the CRD
//! (`kubectl explain`) and in `docs/api.md`, so it says what the field does, its unit, its bounds and its default.
//! Bounds and patterns are schema, rules over several fields are CEL on the struct that owns them.

// The derive repeats each `pub` type inside a function to make its schema.
#![allow(unreachable_pub)]

#[macro_use]
mod defaults;

pub mod auth;
pub mod authorization;
mod cel;
pub mod container;
mod credentials;
pub mod features;
pub mod gateway;
pub mod limits;
pub mod network;
mod patterns;
pub mod rate_limit;
pub mod refs;
pub mod resources;
mod secret_look;
pub mod server;
pub mod status;
pub mod tls;
pub mod units;
pub mod upstream;
pub mod volumes;
pub mod web;
pub mod workload;

pub use auth::{Algorithm, Anonymous, ApiKeys, Auth, Claims, Jwks, Jwt};
pub use authorization::{AccessRule, Action, Authorization, Principals};
pub use container::{Container, ContainerUser, EnvVar, HttpEndpoint, SecretFile, SseEndpoint, Transport};
pub use credentials::{ClientAuthentication, Credentials, HeaderCredential, OauthClientCredentials};
pub use features::{Features, Prefix, ServerFeatures, ToolNames, ToolSet};
pub use gateway::{
    Audit, LogLevel, McpGateway, McpGatewaySpec, NamespacesFrom, Profile, ServerNamespaces, Servers,
    Telemetry,
};
pub use limits::{GatewayLimits, ServerLimits};
pub use network::{
    IpBlock, LabelSelector, Network, Peer, ProxyMode, SelectorOperator, SelectorRequirement, TrustedProxy,
};
pub use rate_limit::{
    LimitKey, LimitMatch, McpMethod, RateLimit, ServerLimitKey, ServerLimitMatch, ServerRateLimit,
};
pub use refs::{CaBundle, ConfigMapKeyRef, Empty, ImagePullSecret, SecretKeyRef, SubjectRef};
pub use resources::{GatewayResources, ServerResources};
pub use server::{GatewayRef, McpServer, McpServerSpec, Protocol, Quarantine, Revision, Tools, Trust};
pub use status::{
    Attachment, AttachmentState, GatewayStatus, ServerCounts, ServerInfo, ServerStatus, ToolCounts,
    ToolState, ToolStatus, TransportKind,
};
pub use tls::{Plaintext, Tls, UpstreamTls};
pub use units::{ByteSize, Cpu, Duration};
pub use upstream::{Fence, Remote, Service};
pub use volumes::{ClaimVolume, ConfigMapVolume, EmptyDirVolume, SecretVolume, Volume};
pub use web::{Cors, FrameOptions, SecurityTxt, Web, WebHeaders, WellKnown};
pub use workload::{GatewayUser, TaintEffect, Toleration, TolerationOperator, Workload};
