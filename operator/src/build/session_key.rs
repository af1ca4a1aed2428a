//! Session keys: what seals session ids, and what the identities of the status and peer ports derive from.
//!
//! The operator cannot read Secrets, so it makes each key exactly once, under a name nobody could have foreseen, and
//! keeps only what tells the key's owner: the fingerprint of the identity that the status port derives from it.
//!
//! Order, for whoever applies these: the marker (owned by the gateway), then the Secret (owned by the marker, `create`
//! only), then the marker's [`CREATED`] annotation. A marker without that annotation stands for a key whose bytes may be
//! lost, or which somebody else may have put there first: it is deleted, its name never used again, and garbage
//! collection removes a Secret it owned.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;
use portcullis_config::keys::{self, Purpose};

use super::meta::Owner;
use super::volumes;
use crate::api::labels;

/// Annotation on a marker once its Secret was created by us. Its value is always `true`.
pub const CREATED: &str = "portcullis.dev/key-created";
/// Label of markers and key Secrets; the value is the key's id.
pub const KEY_ID: &str = "portcullis.dev/session-key";
/// Type of the key Secrets.
pub const SECRET_TYPE: &str = "portcullis.dev/session-key";
/// The one entry of a key Secret.
pub const SECRET_ENTRY: &str = "key";
/// Entry of a marker: fingerprint of the status port's identity while this key seals.
pub const STATUS_FINGERPRINT: &str = "statusFingerprint";
/// How many names of future keys a gateway's pods mount, so that a rotation needs no new pods.
pub const AHEAD: usize = 3;

/// Bytes of randomness in an id.
pub const ID_BYTES: usize = 10;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A key's id: 16 characters of `a-z2-7`, 80 random bits. It stands in clear in what the key seals and in the name of its
/// Secret; that nobody can foresee it is what keeps others from putting a Secret there first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// An id from random bytes.
    pub fn from_random(random: [u8; ID_BYTES]) -> Self {
        let mut bits = random
            .iter()
            .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let mut text = Vec::with_capacity(16);
        for _ in 0..16 {
            let index = u8::try_from(bits & 31).expect("five bits fit into eight");
            text.push(ALPHABET[usize::from(index)]);
            bits >>= 5;
        }
        Self(String::from_utf8(text).expect("the alphabet is ASCII"))
    }

    /// The id as text, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16 && text.bytes().all(|b| ALPHABET.contains(&b))).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which keys a gateway uses and mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    /// The key that seals.
    pub seal_with: KeyId,
    /// Further keys that open: the next one, and former ones until all they sealed has expired.
    pub also_accepted: Vec<KeyId>,
    /// Keys that do not exist yet, whose Secrets the pods mount already.
    pub ahead: Vec<KeyId>,
}

impl SessionKeys {
    /// Every key that exists, the sealing one first, the others by id.
    pub fn existing(&self) -> Vec<&KeyId> {
        let mut others: Vec<&KeyId> = self
            .also_accepted
            .iter()
            .filter(|id| **id != self.seal_with)
            .collect();
        others.sort_unstable();
        others.dedup();
        std::iter::once(&self.seal_with).chain(others).collect()
    }

    /// Every key whose Secret the pods mount, by id: the order must not depend on which one seals, or a rotation would
    /// start new pods.
    pub fn mounted(&self) -> Vec<&KeyId> {
        let mut all: Vec<&KeyId> = self.existing();
        all.extend(&self.ahead);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Name of a key's Secret and of its marker.
pub fn name(gateway: &str, id: &KeyId) -> String {
    format!("{gateway}-session-{id}")
}

/// The marker of the key `id` with these bytes. It holds nothing secret, and its data never changes.
pub fn marker(owner: &Owner, id: &KeyId, key: &[u8; KEY_BYTES]) -> ConfigMap {
    ConfigMap {
        metadata: with_id(owner.meta(name(&owner.identity.key.name, id)), id),
        data: Some(BTreeMap::from([(
            STATUS_FINGERPRINT.to_owned(),
            status_fingerprint(key),
        )])),
        binary_data: None,
        immutable: Some(true),
    }
}

/// The fingerprint that the status port shows while `key` seals.
pub fn status_fingerprint(key: &[u8; KEY_BYTES]) -> String {
    let seed = keys::derive(key, Purpose::Status).expect("a session key is long enough by its type");
    keys::fingerprint(&keys::ed25519_spki(&seed))
}

/// The Secret of the key `id`, owned by its marker as the API server returned it. None if that has no UID.
pub fn secret(marker: &ConfigMap, id: &KeyId, key: &[u8; KEY_BYTES]) -> Option<Secret> {
    let metadata = ObjectMeta {
        name: marker.metadata.name.clone(),
        namespace: marker.metadata.namespace.clone(),
        labels: marker.metadata.labels.clone(),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: marker.metadata.name.clone()?,
            uid: marker.metadata.uid.clone()?,
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    };
    Some(Secret {
        metadata: with_id(metadata, id),
        data: Some(BTreeMap::from([(
            SECRET_ENTRY.to_owned(),
            ByteString(key.to_vec()),
        )])),
        immutable: Some(true),
        string_data: None,
        type_: Some(SECRET_TYPE.to_owned()),
    })
}

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Id of its key.
    pub id: KeyId,
    /// Fingerprint of the status port's identity while its key seals.
    pub status_fingerprint: String,
    /// Whether its Secret was surely created, by us.
    pub created: bool,
}

impl Marker {
    /// Reads a marker of `gateway`. None if it is not one: its name, label and data must agree.
    pub fn read(object: &ConfigMap, gateway: &str) -> Option<Self> {
        let id = object.labels().get(KEY_ID).and_then(|id| KeyId::parse(id))?;
        let fingerprint = object.data.as_ref()?.get(STATUS_FINGERPRINT)?;
        let well_formed = object.metadata.name.as_deref() == Some(name(gateway, &id).as_str())
            && fingerprint.len() == 64
            && fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed.then(|| Self {
            id,
            status_fingerprint: fingerprint.clone(),
            created: object
                .annotations()
                .get(CREATED)
                .is_some_and(|value| value == "true"),
        })
    }
}

/// The keys whose Secrets the pods of `deployment` mount: the template is the record of names chosen ahead.
pub fn mounted_by(deployment: &Deployment, gateway: &str) -> Vec<KeyId> {
    let pod = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let prefix = name(gateway, &KeyId(String::new()));
    let mut ids: Vec<KeyId> = pod
        .into_iter()
        .flat_map(|pod| pod.volumes.iter().flatten())
        .filter(|volume| volume.name == volumes::SESSION_KEYS)
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.secret.as_ref())
        .filter_map(|secret| KeyId::parse(secret.name.strip_prefix(&prefix)?))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn with_id(mut meta: ObjectMeta, id: &KeyId) -> ObjectMeta {
    let labels = meta.labels.get_or_insert_default();
    labels.insert(KEY_ID.to_owned(), id.to_string());
    // Not a pod's label set: nothing may select keys as if they were the gateway.
    labels.insert(labels::APP_COMPONENT.to_owned(), "session-key".to_owned());
    meta
}
