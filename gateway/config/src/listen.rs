//! Listeners and the keys that replicas share.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the gateway listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// Clients.
    pub public: Public,
    /// `/livez`, `/readyz`, `/metrics`. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// `/status`. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusListener>,
    /// The hop between replicas. Absent: this is the only replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

/// The public listener: exactly one of `tls` and `plaintext`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Public {
    /// Address and port.
    pub address: SocketAddr,
    /// Certificate and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// No TLS, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Plaintext>,
}

/// PEM files, re-read when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}

/// A listener or an upstream without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plaintext {
    /// Why that is acceptable here.
    pub reason: String,
}

/// The status port. In a cluster it speaks TLS with a key derived from the session key ([`crate::keys`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusListener {
    /// Address and port. Without `token` it must be a loopback address, and it is plaintext.
    pub address: SocketAddr,
    /// The one caller that is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<StatusToken>,
}

/// How the operator's projected ServiceAccount token is verified, offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusToken {
    /// `iss` of the cluster's tokens.
    pub issuer: String,
    /// `aud` it must carry, see [`crate::STATUS_AUDIENCE`].
    pub audience: String,
    /// `sub` it must carry: `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// The cluster's key set (RFC 7517), as text.
    pub jwks: String,
}

/// The hop between replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Address and port of the peer listener.
    pub address: SocketAddr,
    /// DNS name that resolves to every ready replica (the headless Service). The port is that of `address`.
    pub service: String,
}

/// The keys that seal what the gateway hands to clients, and from which status and peer identities derive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionKeys {
    /// Id of the key that seals; all of them open.
    pub seal_with: String,
    /// The keys, by id.
    pub keys: Vec<SessionKey>,
}

/// One session key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionKey {
    /// 1 to 16 characters of `[a-z0-9]`; stands in clear in what it seals.
    pub id: String,
    /// File with at least 32 random bytes.
    pub file: PathBuf,
}
