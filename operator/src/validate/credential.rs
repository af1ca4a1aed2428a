//! What a gateway presents to a server, where it may: a pod mounts Secrets of its own namespace only.

use super::{Condition, Problem, reasons};
use crate::api::v1alpha1::{CaBundle, HeaderCredential, McpServer, OauthClientCredentials, SecretKeyRef};

/// What a gateway presents to one server.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// A secret in a header.
    Header(HeaderCredential),
    /// A token that it fetches.
    Oauth(Box<OauthClientCredentials>),
}

impl Credential {
    /// The server's, if it has one. `local`: the gateway is in the server's namespace.
    pub(super) fn of(server: &McpServer, local: bool) -> Result<Option<Self>, Problem> {
        let credentials = &server.spec.credentials;
        let credential = match (&credentials.header, &credentials.oauth_client_credentials) {
            (Some(header), _) => Self::Header(header.clone()),
            (None, Some(oauth)) => Self::Oauth(Box::new(oauth.clone())),
            (None, None) => return Ok(None),
        };
        if local {
            return Ok(Some(credential));
        }
        Err(Problem::new(
            Condition::Attached,
            reasons::CREDENTIALS_CROSS_NAMESPACE,
            format!(
                "the gateway is in another namespace, where Secret {} cannot be mounted: move the server into the \
                 gateway's namespace, or remove spec.credentials",
                credential.secret().secret_name
            ),
        ))
    }

    /// The token that it fetches.
    pub fn oauth(&self) -> Option<&OauthClientCredentials> {
        match self {
            Self::Header(_) => None,
            Self::Oauth(oauth) => Some(oauth),
        }
    }

    /// Its secret.
    pub fn secret(&self) -> &SecretKeyRef {
        match self {
            Self::Header(header) => &header.secret_ref,
            Self::Oauth(oauth) => &oauth.client_secret_ref,
        }
    }

    /// Whom it trusts besides.
    pub fn ca_bundle(&self) -> Option<&CaBundle> {
        self.oauth()?.ca_bundle.as_ref()
    }
}
