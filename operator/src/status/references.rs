//! Secrets and ConfigMaps as the gateway's pods find them in their mounts: the operator cannot look itself, and nobody
//! tells it when one is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;

use portcullis_config::MOUNT_ROOT;
use portcullis_config::status::{ReferenceState, Status};

use crate::api::v1alpha1::{CaBundle, SecretKeyRef};
use crate::build::volumes;

/// What a mounted path belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mounted {
    /// One key of a Secret.
    SecretKey {
        /// Name of the Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// One key of a ConfigMap.
    ConfigMapKey {
        /// Name of the ConfigMap.
        config_map: String,
        /// The key.
        key: String,
    },
    /// The Secret of API keys, or an entry of it.
    ApiKeys,
    /// A session key, by its id.
    SessionKey(String),
    /// Nothing that is known here.
    Other(String),
}

impl Mounted {
    /// Takes a path as the configuration and `/status` name it.
    pub fn of(path: &str) -> Self {
        let other = || Self::Other(path.to_owned());
        let Ok(inside) = Path::new(path).strip_prefix(MOUNT_ROOT) else {
            return other();
        };
        let mut parts = inside.components().filter_map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        });
        match (parts.next(), parts.next(), parts.next()) {
            (Some(volumes::SECRETS), Some(secret), Some(key)) => Self::SecretKey {
                secret: secret.to_owned(),
                key: key.to_owned(),
            },
            (Some(volumes::TRUST), Some(config_map), Some(key)) => Self::ConfigMapKey {
                config_map: config_map.to_owned(),
                key: key.to_owned(),
            },
            (Some(volumes::API_KEYS), _, _) => Self::ApiKeys,
            (Some(volumes::SESSION_KEYS), Some(id), _) => Self::SessionKey(id.to_owned()),
            _ => other(),
        }
    }
}

/// A reference that is not as it should be, on at least one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What it is.
    pub mounted: Mounted,
    /// Whether it is missing, as opposed to unusable.
    pub missing: bool,
    /// What the pod says about it.
    pub message: String,
}

/// Everything that pods report as missing or unusable, each once.
pub fn broken<'a>(statuses: impl IntoIterator<Item = &'a Arc<Status>>) -> Vec<Broken> {
    let mut found: BTreeMap<(Mounted, bool), String> = BTreeMap::new();
    for status in statuses {
        for reference in &status.references {
            let missing = match reference.state {
                ReferenceState::Present => continue,
                ReferenceState::Missing => true,
                ReferenceState::Invalid => false,
            };
            found
                .entry((Mounted::of(&reference.path), missing))
                .or_insert_with(|| reference.message.clone());
        }
    }
    found
        .into_iter()
        .map(|((mounted, missing), message)| Broken {
            mounted,
            missing,
            message,
        })
        .collect()
}

/// What is wrong, and what to do about it, for a person who knows the object but not the mounts. `gateway` is the one
/// whose pods miss it, where it is the gateway's matter.
pub fn sentence(
    broken: &Broken,
    namespace: &str,
    gateway: Option<&str>,
    api_keys_secret: Option<&str>,
) -> String {
    let Broken {
        mounted,
        missing,
        message,
    } = broken;
    let what = match mounted {
        Mounted::SecretKey { secret, key } => format!("key {key} of Secret {namespace}/{secret}"),
        Mounted::ConfigMapKey { config_map, key } => {
            format!("key {key} of ConfigMap {namespace}/{config_map}")
        }
        Mounted::ApiKeys => format!(
            "Secret {namespace}/{} of auth.apiKeys",
            api_keys_secret.unwrap_or("(unknown)")
        ),
        Mounted::SessionKey(id) => format!("Secret {namespace}/{}, a session key,", key_name(gateway, id)),
        Mounted::Other(path) => path.clone(),
    };
    // The operator cannot look at Secrets: the ConfigMap beside it is what tells it that the key exists.
    let new_key = if let Mounted::SessionKey(id) = mounted {
        format!(
            ": if it stays so, delete ConfigMap {namespace}/{}, and the operator makes a new key; sessions start anew",
            key_name(gateway, id)
        )
    } else {
        String::new()
    };
    if *missing {
        let remedy = match mounted {
            Mounted::ApiKeys => ": create it with the lines that portcullis credential api-key prints",
            Mounted::SecretKey { .. } | Mounted::ConfigMapKey { .. } => ": create it, or add the key",
            Mounted::SessionKey(_) => &new_key,
            Mounted::Other(_) => "",
        };
        format!("{what} is missing{remedy}")
    } else {
        format!("{what} is unusable: {message}{new_key}")
    }
}

/// Name of a session key's Secret, and of its ConfigMap.
fn key_name(gateway: Option<&str>, id: &str) -> String {
    format!("{}-session-{id}", gateway.unwrap_or("(gateway)"))
}

/// The Secret keys and ConfigMap keys that only one server needs, so that their absence is that server's matter.
pub fn of_server<'a>(
    secret: Option<&SecretKeyRef>,
    bundles: impl Iterator<Item = &'a CaBundle>,
) -> BTreeSet<Mounted> {
    let secret = secret.map(|SecretKeyRef { secret_name, key }| Mounted::SecretKey {
        secret: secret_name.to_string(),
        key: key.to_string(),
    });
    let bundles = bundles.map(|CaBundle { config_map_name, key }| Mounted::ConfigMapKey {
        config_map: config_map_name.to_string(),
        key: key.to_string(),
    });
    secret.into_iter().chain(bundles).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::session_key::{self, KeyId};
    use crate::build::volumes::{api_keys_dir, secret_path, session_key_path, tls_paths, trust_path};
    use portcullis_config::status::Reference;

    fn of(path: &Path) -> Mounted {
        Mounted::of(path.to_str().unwrap())
    }

    #[test]
    fn every_path_the_builder_mounts_is_understood() {
        let (certificate, _) = tls_paths("tools-tls");
        assert_eq!(
            of(&certificate),
            Mounted::SecretKey {
                secret: "tools-tls".into(),
                key: "tls.crt".into()
            }
        );
        assert_eq!(
            of(&secret_path("s", "k")),
            Mounted::SecretKey {
                secret: "s".into(),
                key: "k".into()
            }
        );
        assert_eq!(
            of(&trust_path("c", "k")),
            Mounted::ConfigMapKey {
                config_map: "c".into(),
                key: "k".into()
            }
        );
        assert_eq!(of(&api_keys_dir()), Mounted::ApiKeys);
        assert_eq!(of(&api_keys_dir().join("client")), Mounted::ApiKeys);
        let id = KeyId::parse("abcdefghijklmnop").unwrap();
        assert_eq!(of(&session_key_path(&id)), Mounted::SessionKey(id.to_string()));
        assert_eq!(Mounted::of("/etc/passwd"), Mounted::Other("/etc/passwd".into()));
    }

    #[test]
    fn what_several_pods_miss_is_told_once() {
        let status = |state| {
            Arc::new(Status {
                references: vec![Reference {
                    path: api_keys_dir().to_string_lossy().into_owned(),
                    state,
                    ..Reference::default()
                }],
                ..Status::default()
            })
        };
        let missing = status(ReferenceState::Missing);
        let found = broken([&missing, &missing, &status(ReferenceState::Present)]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            sentence(&found[0], "agents", Some("tools"), Some("agent-keys")),
            "Secret agents/agent-keys of auth.apiKeys is missing: create it with the lines that portcullis credential api-key prints"
        );
    }

    #[test]
    fn a_lost_session_key_says_how_to_get_another() {
        let id = KeyId::parse("abcdefghijklmnop").unwrap();
        let name = format!("agents/{}", session_key::name("tools", &id));
        for (missing, what) in [(true, "is missing"), (false, "is unusable: too short")] {
            let broken = Broken {
                mounted: of(&session_key_path(&id)),
                missing,
                message: "too short".into(),
            };
            assert_eq!(
                sentence(&broken, "agents", Some("tools"), None),
                format!(
                    "Secret {name}, a session key, {what}: if it stays so, delete ConfigMap {name}, and the operator makes a \
                     new key; sessions start anew"
                )
            );
        }
    }
}
