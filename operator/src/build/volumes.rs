//! What is mounted where. The configuration names the very paths that the pods mount, so both come from here.
//!
//! Every Secret and ConfigMap of a gateway is an optional source: one that is missing makes one server or one method
//! unresolved, which the gateway reports, and never keeps the gateway from starting.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource,
    SecretProjection, SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use portcullis_config::{CONFIG_PATH, MOUNT_ROOT};

use super::session_key;
use crate::api::names::gateway_child;
use crate::api::v1alpha1::{CaBundle, ConfigMapKeyRef, SecretKeyRef};
use crate::validate::credential::Credential;
use crate::validate::gateway::PublicTransport;
use crate::validate::{Ca, ValidatedGateway};

/// Volume with the configuration file.
pub const CONFIG: &str = "config";
/// Volume with single keys of Secrets.
pub const SECRETS: &str = "secrets";
/// Volume with the Secret of API keys.
pub const API_KEYS: &str = "api-keys";
/// Volume with the session keys.
pub const SESSION_KEYS: &str = "session-keys";
/// Volume with certificate authorities and key sets.
pub const TRUST: &str = "trust";
/// The one place that can be written to.
pub const TMP: &str = "tmp";

/// Read by the owner and the volume group, by nobody else, and written by nobody.
pub const MODE: i32 = 0o440;

/// Entries of a Secret of type kubernetes.io/tls.
const TLS_ENTRIES: [&str; 2] = ["tls.crt", "tls.key"];

/// Where the gateway finds one key of a Secret.
pub fn secret_path(secret: &str, key: &str) -> PathBuf {
    Path::new(MOUNT_ROOT).join(SECRETS).join(secret).join(key)
}

/// Where the gateway finds one key of a ConfigMap.
pub fn trust_path(config_map: &str, key: &str) -> PathBuf {
    Path::new(MOUNT_ROOT).join(TRUST).join(config_map).join(key)
}

/// Where the gateway finds the API keys.
pub fn api_keys_dir() -> PathBuf {
    Path::new(MOUNT_ROOT).join(API_KEYS)
}

/// Where the gateway finds a session key.
pub fn session_key_path(id: &session_key::KeyId) -> PathBuf {
    Path::new(MOUNT_ROOT).join(SESSION_KEYS).join(id.as_str())
}

/// Where the gateway finds the certificate and the key of its public port.
pub fn tls_paths(secret: &str) -> (PathBuf, PathBuf) {
    let [certificate, key] = TLS_ENTRIES;
    (secret_path(secret, certificate), secret_path(secret, key))
}

/// The volumes of a gateway's pods, and where its container has them.
pub fn gateway(validated: &ValidatedGateway) -> (Vec<Volume>, Vec<VolumeMount>) {
    let name = &validated.identity.key.name;
    let mut volumes = vec![config(&gateway_child(name))];
    let mut mounts = vec![read_only(CONFIG, &parent(CONFIG_PATH))];
    let mut add = |volume: Option<Volume>| {
        if let Some(volume) = volume {
            mounts.push(read_only(&volume.name, &format!("{MOUNT_ROOT}/{}", volume.name)));
            volumes.push(volume);
        }
    };
    add(projected(SECRETS, keyed_secrets(validated)));
    add(projected(TRUST, keyed_config_maps(validated)));
    add(validated
        .spec()
        .auth
        .api_keys
        .as_ref()
        .map(|keys| whole_secret(API_KEYS, &keys.secret_name, true)));
    add(projected(SESSION_KEYS, session_keys(validated)));
    let (volume, mount) = tmp("16Mi");
    volumes.push(volume);
    mounts.push(mount);
    (volumes, mounts)
}

/// A `/tmp` in memory, bounded.
pub fn tmp(size: &str) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: TMP.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(size.to_owned())),
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: TMP.to_owned(),
        mount_path: "/tmp".to_owned(),
        ..VolumeMount::default()
    };
    (volume, mount)
}

/// A mount that cannot be written to.
pub fn read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// All entries of a Secret.
pub fn whole_secret(volume: &str, secret: &str, optional: bool) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(MODE),
            optional: Some(optional),
            items: None,
        }),
        ..Volume::default()
    }
}

/// All entries of a ConfigMap.
pub fn whole_config_map(volume: &str, config_map: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            default_mode: Some(MODE),
            optional: Some(false),
            items: None,
        }),
        ..Volume::default()
    }
}

/// One key of a Secret as a file of a projected volume.
pub fn secret_source(secret: &str, key: &str, path: String, optional: bool) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(vec![item(key, path)]),
            optional: Some(optional),
        }),
        ..VolumeProjection::default()
    }
}

/// A volume of these sources; none if there are none.
pub fn projected(volume: &str, sources: Vec<VolumeProjection>) -> Option<Volume> {
    (!sources.is_empty()).then(|| Volume {
        name: volume.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some(sources),
        }),
        ..Volume::default()
    })
}

fn config(config_map: &str) -> Volume {
    whole_config_map(CONFIG, config_map)
}

fn keyed_secrets(validated: &ValidatedGateway) -> Vec<VolumeProjection> {
    let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
    if let PublicTransport::Tls { secret_name } = &validated.transport {
        wanted.extend(TLS_ENTRIES.map(|entry| (secret_name.as_str(), entry)));
    }
    for attached in validated.attached() {
        if let Some(credential) = &attached.upstream.credential {
            let SecretKeyRef { secret_name, key } = credential.secret();
            wanted.insert((secret_name, key));
        }
    }
    wanted
        .into_iter()
        .map(|(secret, key)| secret_source(secret, key, format!("{secret}/{key}"), true))
        .collect()
}

fn keyed_config_maps(validated: &ValidatedGateway) -> Vec<VolumeProjection> {
    let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
    for jwt in &validated.spec().auth.jwt {
        if let Some(CaBundle { config_map_name, key }) = &jwt.jwks.ca_bundle {
            wanted.insert((config_map_name, key));
        }
        if let Some(ConfigMapKeyRef { config_map_name, key }) = &jwt.jwks.config_map {
            wanted.insert((config_map_name, key));
        }
    }
    for attached in validated.attached() {
        let of_credential = attached.upstream.credential.as_ref();
        let bundles = of_credential.and_then(Credential::ca_bundle).into_iter();
        let own = match &attached.upstream.ca {
            Some(Ca::Mounted(bundle)) => Some(bundle),
            Some(Ca::Inline(_)) | None => None,
        };
        for CaBundle { config_map_name, key } in bundles.chain(own) {
            wanted.insert((config_map_name, key));
        }
    }
    wanted
        .into_iter()
        .map(|(config_map, key)| VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: config_map.to_owned(),
                items: Some(vec![item(key, format!("{config_map}/{key}"))]),
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        })
        .collect()
}

fn session_keys(validated: &ValidatedGateway) -> Vec<VolumeProjection> {
    let gateway = &validated.identity.key.name;
    validated
        .session_keys
        .mounted()
        .into_iter()
        .map(|id| {
            secret_source(
                &session_key::name(gateway, id),
                session_key::SECRET_ENTRY,
                id.to_string(),
                true,
            )
        })
        .collect()
}

fn item(key: &str, path: String) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path,
        mode: None,
    }
}

fn parent(file: &str) -> String {
    let folder = Path::new(file).parent().expect("the file is in a folder");
    folder.to_string_lossy().into_owned()
}
