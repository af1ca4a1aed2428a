//! What a gateway presents to a server.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{exactly_one, rule};
use super::refs::{CaBundle, Empty, SecretKeyRef};

/// What the gateway presents to the server: exactly one of none, header and oauthClientCredentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one(&["none", "header", "oauthClientCredentials"]))]
pub struct Credentials {
    /// Nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<Empty>,
    /// A fixed secret in a request header, the same for all clients. Only a server in its gateway's own namespace can
    /// have one, because a pod mounts the Secrets of its own namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderCredential>,
    /// A bearer token that the gateway fetches with a client of its own (OAuth 2.0 client credentials grant, RFC 6749,
    /// section 4.4), the same for all clients. It is fetched in the background and renewed before it ends; while there is
    /// none, calls to this server are refused. For a server in its gateway's own namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_client_credentials: Option<OauthClientCredentials>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            none: Some(Empty {}),
            header: None,
            oauth_client_credentials: None,
        }
    }
}

/// A fixed secret in a request header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderCredential {
    /// Name of the header, such as Authorization or X-Api-Key.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    #[x_kube(validation = rule(
        "!(self.lowerAscii() in ['host', 'cookie', 'set-cookie', 'connection', 'content-length', 'content-type', 'content-encoding', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'accept', 'origin', 'expect', 'forwarded', 'proxy-authorization', 'proxy-connection', 'keep-alive', 'last-event-id']) \
         && !self.lowerAscii().startsWith('mcp-') && !self.lowerAscii().startsWith('x-forwarded-')",
        "this header belongs to HTTP or to MCP: use Authorization or a header of the server's own, such as X-Api-Key",
    ))]
    pub name: String,
    /// Text before the secret, such as \"Bearer \" with its space. Default: none.
    #[serde(default)]
    #[schemars(length(max = 32), regex(pattern = r"^([!-~][ -~]*)?$"))]
    pub prefix: String,
    /// The secret. It is read again when it changes; while it is missing, calls to this server are refused.
    pub secret_ref: SecretKeyRef,
}

/// A bearer token by the client credentials grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthClientCredentials {
    /// https URL of the authorization server's token endpoint. Redirects are not followed.
    #[schemars(length(min = 9, max = 1024), regex(pattern = r"^https://[^\s#]+$"))]
    #[x_kube(validation = super::secret_look::no_userinfo("name the client by clientId and its secret by clientSecretRef"))]
    #[x_kube(validation = super::secret_look::no_secret_in_query("put it into the Secret of clientSecretRef"))]
    #[x_kube(validation = super::secret_look::no_credential_in_url("put it into the Secret of clientSecretRef"))]
    pub token_url: String,
    /// Authorities to trust for tokenUrl in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Permits tokenUrl to resolve to private addresses, those of the cluster's pods and Services included; for an
    /// authorization server inside the cluster or the company's network. Loopback, link-local and cloud metadata
    /// addresses stay refused.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// The gateway's client at the authorization server.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[ -~]+$"))]
    pub client_id: String,
    /// That client's secret. It is read again when it changes; the last token serves until there is one by the new secret.
    pub client_secret_ref: SecretKeyRef,
    /// Where client and secret stand in the request: Basic (in the Authorization header) or Post (in the form).
    #[serde(default)]
    pub client_authentication: ClientAuthentication,
    /// What the token should permit. At most 32.
    #[serde(default)]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!#-\[\]-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,
    /// Whom the token is for, by the parameter audience that some authorization servers want. Default: not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[!-~]+$"))]
    pub audience: Option<String>,
    /// Whom the token is for, by the parameter resource (RFC 8707): usually the server's own URL. Default: not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[a-z][-+.a-z0-9]*:[!-~]+$"))]
    pub resource: Option<String>,
}

/// How the gateway shows its secret to a token endpoint (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuthentication {
    /// In the Authorization header.
    #[default]
    Basic,
    /// In the form.
    Post,
}
