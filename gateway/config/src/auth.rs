//! Who may come in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The ways in. At least one must be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// JSON Web Tokens (RFC 7519), one entry per issuer. Entry names are method names and unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<Jwt>,
    /// Keys minted by `portcullis credential api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeys>,
    /// Everybody, under the Development profile only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
    /// Protected-resource metadata (RFC 9728).
    #[serde(default)]
    pub protected_resource: ProtectedResource,
}

/// Method name of API keys in principals.
pub const METHOD_API_KEYS: &str = "apiKeys";
/// Method name of anonymous callers in principals.
pub const METHOD_ANONYMOUS: &str = "anonymous";
/// Method names that a JWT entry cannot take.
pub const RESERVED_METHODS: [&str; 5] = [METHOD_API_KEYS, "basic", "mtls", "kubernetes", METHOD_ANONYMOUS];

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// The method's name in rules, limits and audit.
    pub name: String,
    /// `iss`, compared byte by byte; unique among the entries.
    pub issuer: String,
    /// Accepted `aud` besides the gateway's origin and the requested endpoint's URL, which always count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The issuer's keys.
    pub jwks: Jwks,
    /// Accepted algorithms; the token's own word never counts.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Where the principal's attributes stand in the token.
    #[serde(default)]
    pub claims: Claims,
    /// Claims that must have exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<String, String>,
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

/// Where an issuer's keys (RFC 7517) come from: exactly one of `uri`, `file` and `inline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "JwksFields", into = "JwksFields")]
pub enum Jwks {
    /// Fetched in the background and on unknown key ids.
    Uri(JwksUri),
    /// A mounted file, re-read when it changes.
    File(PathBuf),
    /// The document itself.
    Inline(String),
}

/// [`Jwks`] as it stands in the file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JwksFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<JwksUri>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline: Option<String>,
}

impl TryFrom<JwksFields> for Jwks {
    type Error = &'static str;

    fn try_from(fields: JwksFields) -> Result<Self, Self::Error> {
        match fields {
            JwksFields {
                uri: Some(uri),
                file: None,
                inline: None,
            } => Ok(Self::Uri(uri)),
            JwksFields {
                uri: None,
                file: Some(file),
                inline: None,
            } => Ok(Self::File(file)),
            JwksFields {
                uri: None,
                file: None,
                inline: Some(text),
            } => Ok(Self::Inline(text)),
            _ => Err("jwks takes exactly one of uri, file and inline"),
        }
    }
}

impl From<Jwks> for JwksFields {
    fn from(jwks: Jwks) -> Self {
        match jwks {
            Jwks::Uri(uri) => Self {
                uri: Some(uri),
                ..Self::default()
            },
            Jwks::File(file) => Self {
                file: Some(file),
                ..Self::default()
            },
            Jwks::Inline(text) => Self {
                inline: Some(text),
                ..Self::default()
            },
        }
    }
}

/// A key set behind https.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwksUri {
    /// The URL. https only.
    pub url: String,
    /// Trust anchors in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Also private, benchmarking, pod and service ranges; never loopback, link-local or metadata addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private_addresses: bool,
}

/// PEM certificates: exactly one of `file` and `inline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CaFields", into = "CaFields")]
pub enum CaBundle {
    /// A mounted file, re-read when it changes.
    File(PathBuf),
    /// The PEM text itself.
    Inline(String),
}

/// [`CaBundle`] as it stands in the file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CaFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline: Option<String>,
}

impl TryFrom<CaFields> for CaBundle {
    type Error = &'static str;

    fn try_from(fields: CaFields) -> Result<Self, Self::Error> {
        match fields {
            CaFields {
                file: Some(file),
                inline: None,
            } => Ok(Self::File(file)),
            CaFields {
                file: None,
                inline: Some(text),
            } => Ok(Self::Inline(text)),
            _ => Err("caBundle takes exactly one of file and inline"),
        }
    }
}

impl From<CaBundle> for CaFields {
    fn from(bundle: CaBundle) -> Self {
        match bundle {
            CaBundle::File(file) => Self {
                file: Some(file),
                inline: None,
            },
            CaBundle::Inline(text) => Self {
                file: None,
                inline: Some(text),
            },
        }
    }
}

/// Signature algorithms (RFC 7518, RFC 8037). Asymmetric only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the registered names say it")]
pub enum Algorithm {
    RS256,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

/// Claim names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Claims {
    /// The principal's subject.
    pub subject: String,
    /// Groups: a list of strings, or one string.
    pub groups: String,
    /// Scopes: a space-separated string (RFC 8693) or a list of strings.
    pub scopes: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            subject: "sub".into(),
            groups: "groups".into(),
            scopes: "scope".into(),
        }
    }
}

/// API keys: a directory with one file per client, each with lines `sha256:HEX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeys {
    /// The mounted Secret.
    pub dir: PathBuf,
}

/// Everybody is let in as subject `anonymous`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Anonymous {
    /// Why that is acceptable here.
    pub reason: String,
}

/// What RFC 9728 metadata says besides the resource itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtectedResource {
    /// Authorization servers; empty: the issuers of `jwt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_servers: Vec<String>,
    /// Scopes a client should ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}
