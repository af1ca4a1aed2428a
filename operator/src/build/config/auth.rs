//! How clients authenticate.

use portcullis_config::auth;

use super::{mounted, volumes};
use crate::api::v1alpha1 as api;

/// The methods of a gateway.
pub(super) fn methods(methods: &api::Auth) -> auth::Auth {
    let api::Auth {
        jwt,
        api_keys,
        anonymous,
    } = methods;
    auth::Auth {
        jwt: jwt.iter().map(issuer).collect(),
        api_keys: api_keys
            .as_ref()
            .map(|api::ApiKeys { secret_name: _ }| auth::ApiKeys {
                dir: volumes::api_keys_dir(),
            }),
        anonymous: anonymous
            .as_ref()
            .map(|api::Anonymous { reason }| auth::Anonymous {
                reason: reason.clone(),
            }),
        protected_resource: auth::ProtectedResource::default(),
    }
}

fn issuer(jwt: &api::Jwt) -> auth::Jwt {
    let api::Jwt {
        name,
        issuer,
        audiences,
        jwks,
        algorithms,
        claims: api::Claims {
            subject,
            groups,
            scopes,
        },
        required_claims,
    } = jwt;
    auth::Jwt {
        name: name.to_string(),
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        jwks: key_set(jwks),
        algorithms: algorithms.iter().map(|one| algorithm(*one)).collect(),
        claims: auth::Claims {
            subject: subject.clone(),
            groups: groups.clone(),
            scopes: scopes.clone(),
        },
        required_claims: required_claims.clone(),
    }
}

fn key_set(jwks: &api::Jwks) -> auth::Jwks {
    let api::Jwks {
        uri,
        ca_bundle,
        allow_private_addresses,
        config_map,
        inline,
    } = jwks;
    match (uri, config_map) {
        (Some(url), _) => auth::Jwks::Uri(auth::JwksUri {
            url: url.clone(),
            ca_bundle: ca_bundle.as_ref().map(mounted),
            allow_private_addresses: *allow_private_addresses,
        }),
        (None, Some(api::ConfigMapKeyRef { config_map_name, key })) => {
            auth::Jwks::File(volumes::trust_path(config_map_name, key))
        }
        // Exactly one is set; were it none, the empty text is no key set and admits nobody.
        (None, None) => auth::Jwks::Inline(inline.clone().unwrap_or_default()),
    }
}

fn algorithm(algorithm: api::Algorithm) -> auth::Algorithm {
    match algorithm {
        api::Algorithm::RS256 => auth::Algorithm::RS256,
        api::Algorithm::PS256 => auth::Algorithm::PS256,
        api::Algorithm::ES256 => auth::Algorithm::ES256,
        api::Algorithm::ES384 => auth::Algorithm::ES384,
        api::Algorithm::EdDSA => auth::Algorithm::EdDSA,
    }
}
