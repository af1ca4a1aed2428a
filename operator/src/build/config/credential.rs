//! What the gateway presents to a server.

use portcullis_config::auth::CaBundle;
use portcullis_config::server;

use crate::api::v1alpha1 as api;
use crate::build::addresses::Breadth;
use crate::build::volumes;
use crate::validate::credential::Credential;
use crate::validate::refs;

/// A secret in a header.
pub(super) fn header(credential: &Credential) -> Option<server::HeaderCredential> {
    let Credential::Header(api::HeaderCredential {
        name,
        prefix,
        secret_ref: api::SecretKeyRef { secret_name, key },
    }) = credential
    else {
        return None;
    };
    Some(server::HeaderCredential {
        name: name.clone(),
        prefix: prefix.clone(),
        file: volumes::secret_path(secret_name, key),
    })
}

/// A token that it fetches.
pub(super) fn oauth(credential: &Credential) -> Option<server::OauthClientCredentials> {
    let api::OauthClientCredentials {
        token_url,
        ca_bundle,
        allow_private_addresses,
        client_id,
        client_secret_ref: api::SecretKeyRef { secret_name, key },
        client_authentication,
        scopes,
        audience,
        resource,
    } = credential.oauth()?;
    Some(server::OauthClientCredentials {
        token_url: token_url.clone(),
        address_policy: match refs::breadth(*allow_private_addresses) {
            Breadth::Public => server::AddressPolicy::Public,
            Breadth::Private => server::AddressPolicy::Private,
        },
        ca_bundle: ca_bundle
            .as_ref()
            .map(|bundle| CaBundle::File(volumes::trust_path(&bundle.config_map_name, &bundle.key))),
        client_id: client_id.clone(),
        client_secret: volumes::secret_path(secret_name, key),
        client_authentication: match client_authentication {
            api::ClientAuthentication::Basic => server::ClientAuthentication::Basic,
            api::ClientAuthentication::Post => server::ClientAuthentication::Post,
        },
        scopes: scopes.clone(),
        audience: audience.clone(),
        resource: resource.clone(),
    })
}
