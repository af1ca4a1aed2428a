//! Who may come in.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{exactly_one, rule};
use super::patterns;
use super::refs::{CaBundle, ConfigMapKeyRef};
use crate::api::names::{DnsSubdomain, MemberName};

/// How clients authenticate. At least one method is required. Several may stand side by side; the form of the presented
/// credential decides which one judges it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "(has(self.jwt) && self.jwt.size() > 0) || has(self.apiKeys) || has(self.anonymous)",
    "at least one of jwt, apiKeys and anonymous is required: a gateway without authentication does not exist",
))]
#[x_kube(validation = rule(
    "!has(self.jwt) || self.jwt.all(a, self.jwt.exists_one(b, b.issuer == a.issuer))",
    "each entry of jwt needs an issuer of its own: a token is judged by the entry of its issuer",
))]
pub struct Auth {
    /// JSON Web Tokens (RFC 7519), sent as Authorization: Bearer. One entry per issuer; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub jwt: Vec<Jwt>,
    /// Keys minted by portcullis credential api-key, sent as Authorization: Bearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeys>,
    /// Lets in whoever presents no credential, as method anonymous, subject anonymous. Development profile only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
}

/// Tokens of one issuer. A token is accepted when its signature, issuer, audience, expiry and not-before all hold
/// (60 s of leeway). Accepted audiences are the gateway's origin and the URL of the requested endpoint, both derived
/// from publicHost, and those listed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// Name of the method, as rules, denials, limits and audit records use it.
    #[x_kube(validation = rule(
        "!(self in ['basic', 'mtls', 'kubernetes', 'anonymous'])",
        "basic, mtls, kubernetes, apiKeys and anonymous name built-in methods: choose another name",
    ))]
    pub name: MemberName,
    /// The iss claim, compared byte by byte: an https URL without query or fragment (RFC 8414).
    #[schemars(length(min = 9, max = 512), regex(pattern = r"^https://[^\s?#@]+$"))]
    pub issuer: String,
    /// Further accepted aud claims. At most 16.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// The issuer's public keys.
    pub jwks: Jwks,
    /// Accepted signature algorithms; what the token itself says never widens them. Symmetric ones (HS256 and its kind)
    /// do not exist here: whoever can verify with them can also sign.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub algorithms: Vec<Algorithm>,
    /// Where a principal's attributes stand in the token.
    #[serde(default)]
    pub claims: Claims,
    /// Claims that must be present with exactly this text, such as a tenant. At most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "patterns::claims")]
    #[x_kube(validation = rule(
        "self.all(name, name.size() >= 1 && name.size() <= 128)",
        "the name of a required claim has 1 to 128 characters",
    ))]
    pub required_claims: BTreeMap<String, String>,
}

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the registered names say it")]
pub enum Algorithm {
    RS256,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

/// Where an issuer's key set (JWKS, RFC 7517) comes from: exactly one of uri, configMap and inline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one(&["uri", "configMap", "inline"]))]
#[x_kube(validation = rule(
    "has(self.uri) || !has(self.caBundle)",
    "caBundle verifies the server behind uri: remove it, or set uri",
))]
#[x_kube(validation = rule(
    "has(self.uri) || !has(self.allowPrivateAddresses) || !self.allowPrivateAddresses",
    "allowPrivateAddresses is about the server behind uri: remove it, or set uri",
))]
pub struct Jwks {
    /// https URL of the key set. It is fetched in the background, at most once a minute, and the last good set is kept
    /// while the issuer is down. Redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 1024), regex(pattern = r"^https://[^\s#]+$"))]
    #[x_kube(validation = super::secret_look::no_userinfo_in_jwks_uri())]
    #[x_kube(validation = super::secret_look::no_secret_in_query("a key set is public"))]
    #[x_kube(validation = super::secret_look::no_credential_in_url("a key set is public"))]
    pub uri: Option<String>,
    /// Authorities to trust for uri in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Permits uri to resolve to private addresses, those of the cluster's pods and Services included; for an issuer
    /// inside the cluster or the company's network. Loopback, link-local and cloud metadata addresses stay refused.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Key set in a ConfigMap of this namespace, followed when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKeyRef>,
    /// The key set itself, as JSON text. Public keys only. At most 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 11, max = 32768), regex(pattern = r"^\s*\{"))]
    #[x_kube(validation = rule(
        r#"!self.matches('"(d|p|q|dp|dq|qi|oth|k)"\\s*:')"#,
        "inline holds a private or symmetric key: publish the public key set only, and consider that key leaked",
    ))]
    pub inline: Option<String>,
}

/// Names of top-level claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The principal's subject. A token without it is refused.
    #[serde(default = "claim::subject")]
    #[schemars(length(min = 1, max = 128))]
    pub subject: String,
    /// Groups: a list of strings, or one string.
    #[serde(default = "claim::groups")]
    #[schemars(length(min = 1, max = 128))]
    pub groups: String,
    /// Scopes: one string with spaces between them (RFC 8693), or a list of strings.
    #[serde(default = "claim::scopes")]
    #[schemars(length(min = 1, max = 128))]
    pub scopes: String,
}

field_defaults!(claim for Claims {
    subject: String = "sub".into(),
    groups: String = "groups".into(),
    scopes: String = "scope".into(),
});

/// API keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeys {
    /// Secret in this namespace with one entry per client: the key of the entry is the client's name (and its subject),
    /// its value one or two lines sha256:HEX, as portcullis credential api-key prints them. Two lines let an old and a
    /// new key live side by side during a rotation. A removed entry is a revoked client.
    pub secret_name: DnsSubdomain,
}

/// Access without a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Anonymous {
    /// Why that is acceptable here, in words for whoever reviews it. At most 256 characters.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = rule("self.trim().size() > 0", "reason must not be blank: say why this is acceptable here"))]
    pub reason: String,
}
