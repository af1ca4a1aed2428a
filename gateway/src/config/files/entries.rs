//! Every path of a configuration, with what stands there.

use std::path::PathBuf;

use portcullis_config::Config;
use portcullis_config::auth::{CaBundle, Jwks};

/// What stands at a path, and with it what its absence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Certificate chain of the public listener.
    TlsCertificate,
    /// Its key.
    TlsKey,
    /// Trust anchors for a server or an identity provider.
    CaBundle,
    /// Key that seals what clients carry.
    SessionKey,
    /// Keys of a token issuer.
    Jwks,
    /// Digests of API keys, one file each.
    ApiKeys,
    /// What we present to a server.
    Credential,
}

impl Kind {
    /// A whole Secret rather than one of its keys?
    pub fn is_directory(self) -> bool {
        match self {
            Self::ApiKeys => true,
            Self::TlsCertificate
            | Self::TlsKey
            | Self::CaBundle
            | Self::SessionKey
            | Self::Jwks
            | Self::Credential => false,
        }
    }

    /// Absence takes a right away (and must act at once), rather than being an accident to survive.
    pub fn absent_means_revoked(self) -> bool {
        match self {
            Self::ApiKeys | Self::Credential | Self::Jwks => true,
            Self::TlsCertificate | Self::TlsKey | Self::CaBundle | Self::SessionKey => false,
        }
    }
}

/// One place of the configuration that names a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place, which stays the same when the path changes.
    pub place: String,
    /// What stands there.
    pub kind: Kind,
    /// Where.
    pub path: PathBuf,
}

/// All of them.
pub fn entries(config: &Config) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut add = |place: String, kind: Kind, path: &PathBuf| {
        found.push(Entry {
            place,
            kind,
            path: path.clone(),
        });
    };
    if let Some(tls) = &config.listen.public.tls {
        add(
            "listen.public.tls.certFile".into(),
            Kind::TlsCertificate,
            &tls.cert_file,
        );
        add("listen.public.tls.keyFile".into(), Kind::TlsKey, &tls.key_file);
    }
    for key in config.session_keys.iter().flat_map(|keys| &keys.keys) {
        add(format!("sessionKeys[{}]", key.id), Kind::SessionKey, &key.file);
    }
    for jwt in &config.auth.jwt {
        match &jwt.jwks {
            Jwks::Uri(uri) => {
                if let Some(CaBundle::File(path)) = &uri.ca_bundle {
                    add(
                        format!("auth.jwt[{}].jwks.uri.caBundle", jwt.name),
                        Kind::CaBundle,
                        path,
                    );
                }
            }
            Jwks::File(path) => add(format!("auth.jwt[{}].jwks.file", jwt.name), Kind::Jwks, path),
            Jwks::Inline(_) => {}
        }
    }
    if let Some(keys) = &config.auth.api_keys {
        add("auth.apiKeys.dir".into(), Kind::ApiKeys, &keys.dir);
    }
    for server in &config.servers {
        let name = server.full_name();
        if let Some(CaBundle::File(path)) = &server.ca_bundle {
            add(format!("servers[{name}].caBundle"), Kind::CaBundle, path);
        }
        if let Some(credential) = &server.credential {
            add(
                format!("servers[{name}].credential"),
                Kind::Credential,
                &credential.file,
            );
        }
        if let Some(oauth) = &server.oauth_client_credentials {
            let at = |field| format!("servers[{name}].oauthClientCredentials.{field}");
            add(at("clientSecret"), Kind::Credential, &oauth.client_secret);
            if let Some(CaBundle::File(path)) = &oauth.ca_bundle {
                add(at("caBundle"), Kind::CaBundle, path);
            }
        }
    }
    found
}
