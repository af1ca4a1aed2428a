//! Makes a gateway's session keys, knowing that they can never be looked at again.
//!
//! The right to Secrets is `create` and nothing else. So a key counts as made only once its marker says so: marker, then
//! Secret, then the note on the marker. Wherever that breaks off, the key's bytes are lost or somebody else's; the marker
//! is deleted, garbage collection takes a Secret that it owned, and the name is never used again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde_json::json;
use tracing::{info, warn};

use super::apply::controller_uid;
use super::client::{At, Kube};
use super::error::Error;
use super::stores::Stores;
use crate::api::labels;
use crate::api::names::gateway_child;
use crate::build::meta::Owner;
use crate::build::session_key::{
    self, AHEAD, CREATED, ID_BYTES, KEY_BYTES, KEY_ID, KeyId, Marker, SessionKeys,
};
use crate::identity::{Identity, Key};

/// How many names are tried in one pass.
const ATTEMPTS: usize = 3;

/// A gateway's keys, and by what its pods prove on the status port that they hold one.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Which keys are used and mounted.
    pub session: SessionKeys,
    /// Fingerprints of the status port's identity, of each key that exists.
    pub fingerprints: Vec<String>,
}

/// Names chosen ahead for gateways whose Deployment, the lasting record of them, is not there yet.
#[derive(Debug, Default)]
pub struct Chosen(Mutex<HashMap<Key, (String, Vec<KeyId>)>>);

impl Chosen {
    /// Forgets a gateway.
    pub fn forget(&self, gateway: &Key) {
        self.lock().remove(gateway);
    }

    fn of(&self, gateway: &Identity) -> Option<Vec<KeyId>> {
        let chosen = self.lock();
        let (uid, ids) = chosen.get(&gateway.key)?;
        (*uid == gateway.uid).then(|| ids.clone())
    }

    fn set(&self, gateway: &Identity, ids: Vec<KeyId>) {
        self.lock()
            .insert(gateway.key.clone(), (gateway.uid.clone(), ids));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (String, Vec<KeyId>)>> {
        self.0.lock().expect("no code that holds this lock can panic")
    }
}

/// A pass's view of one gateway's keys.
pub struct Keyring<'a> {
    /// The API server.
    pub kube: &'a Kube,
    /// What the watches saw.
    pub stores: &'a Stores,
    /// Names chosen ahead.
    pub chosen: &'a Chosen,
    /// Field manager.
    pub manager: &'static str,
    /// The gateway.
    pub gateway: &'a Identity,
}

impl Keyring<'_> {
    /// The gateway's keys. Makes the first one if there is none; at rest it asks nobody.
    pub async fn ensure(&self) -> Result<Keys, Error> {
        let key = &self.gateway.key;
        let mut made = self.made(self.stores.config_maps.in_namespace(&key.namespace));
        let mut ahead = self.ahead()?;
        if made.is_empty() {
            // A name that was in use is not used again: the kubelet never looks again at a Secret that cannot change.
            let used = self.in_use();
            ahead.retain(|id| !used.contains(id));
            // The watch may lag behind what this very process did a moment ago. A second first key would be no disaster,
            // but a key thrown away while another pass still works on it would: so look at what is there now.
            let selector = format!("{}={},{KEY_ID}", labels::GATEWAY, key.name);
            let listed: Vec<Arc<ConfigMap>> = self
                .kube
                .list::<ConfigMap>(&key.namespace, &selector)
                .await?
                .into_iter()
                .map(Arc::new)
                .collect();
            made = self.made(listed.clone());
            if made.is_empty() {
                for leftover in listed.iter().filter(|one| self.is_ours(one)) {
                    warn!(marker = %Key::of(&**leftover), "a session key was not finished; its name is given up");
                    self.kube.delete(&**leftover).await?;
                }
                let marker = self.make(&mut ahead).await?;
                made = vec![marker];
            }
        }
        let [first, others @ ..] = &made[..] else {
            return Err(Error::Invariant("no session key, and none was made".to_owned()));
        };
        let exist: BTreeSet<&KeyId> = made.iter().map(|marker| &marker.id).collect();
        ahead.retain(|id| !exist.contains(id));
        self.chosen.set(self.gateway, ahead.clone());
        Ok(Keys {
            session: SessionKeys {
                seal_with: first.id.clone(),
                also_accepted: others.iter().map(|marker| marker.id.clone()).collect(),
                ahead,
            },
            fingerprints: made
                .iter()
                .map(|marker| marker.status_fingerprint.clone())
                .collect(),
        })
    }

    /// The keys that surely exist, the oldest first: it seals until a rotation says otherwise.
    fn made(&self, markers: Vec<Arc<ConfigMap>>) -> Vec<Marker> {
        let mut made: Vec<_> = markers
            .into_iter()
            .filter(|object| self.is_ours(object) && object.metadata.deletion_timestamp.is_none())
            .filter_map(|object| {
                let marker = Marker::read(&object, &self.gateway.key.name)?;
                let age = object.creation_timestamp().map(|time| time.0);
                marker.created.then_some((age, marker))
            })
            .collect();
        made.sort_by(|(a_age, a), (b_age, b)| (a_age, &a.id).cmp(&(b_age, &b.id)));
        made.into_iter().map(|(_, marker)| marker).collect()
    }

    fn is_ours(&self, object: &ConfigMap) -> bool {
        controller_uid(object) == Some(&self.gateway.uid) && object.labels().contains_key(KEY_ID)
    }

    /// Names whose Secrets the pods mount, or will. The Deployment's template is the record; until there is one, this
    /// process remembers, so that two passes do not choose twice and start new pods for it.
    fn ahead(&self) -> Result<Vec<KeyId>, Error> {
        let Identity { key, uid } = self.gateway;
        let deployment = self
            .stores
            .deployments
            .get(&Key::new(key.namespace.clone(), gateway_child(&key.name)))
            .filter(|deployment| controller_uid(&**deployment) == Some(uid));
        let mounted = deployment.map(|deployment| session_key::mounted_by(&deployment, &key.name));
        match mounted.filter(|mounted| !mounted.is_empty()) {
            Some(mounted) => Ok(mounted),
            None => match self.chosen.of(self.gateway) {
                Some(chosen) => Ok(chosen),
                None => (0..AHEAD).map(|_| random_id()).collect(),
            },
        }
    }

    /// Keys that the configuration in force names, whether they still exist or not.
    fn in_use(&self) -> BTreeSet<KeyId> {
        let Identity { key, uid } = self.gateway;
        let name = Key::new(key.namespace.clone(), gateway_child(&key.name));
        let config = self
            .stores
            .config_maps
            .get(&name)
            .filter(|config| controller_uid(&**config) == Some(uid));
        let texts = config
            .iter()
            .flat_map(|config| config.data.iter().flat_map(|data| data.values()));
        texts
            .filter_map(|text| serde_yaml::from_str::<Named>(text).ok())
            .flat_map(|named| named.session_keys.keys)
            .filter_map(|key| KeyId::parse(&key.id))
            .collect()
    }

    /// Makes one key under a name that was never used, preferably one that the pods mount already.
    async fn make(&self, ahead: &mut Vec<KeyId>) -> Result<Marker, Error> {
        let owner = Owner::gateway(self.gateway.clone());
        for _ in 0..ATTEMPTS {
            let id = match ahead.pop() {
                Some(id) => id,
                None => random_id()?,
            };
            let key: [u8; KEY_BYTES] = random()?;
            let marker = match self
                .kube
                .create(self.manager, &session_key::marker(&owner, &id, &key))
                .await
            {
                Ok(marker) => marker,
                Err(error) if error.is_already_exists() => continue,
                Err(error) => return Err(error.into()),
            };
            let secret = session_key::secret(&marker, &id, &key)
                .ok_or_else(|| Error::Invariant("a created marker has no UID".to_owned()))?;
            match self.kube.create::<Secret>(self.manager, &secret).await {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {
                    warn!(secret = %Key::of(&secret), "a Secret of this name exists; the name is given up");
                    self.kube.delete(&marker).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let at = At {
                namespace: &self.gateway.key.namespace,
                name: &marker.name_any(),
            };
            let note = json!({"metadata": {"uid": marker.uid(), "annotations": {CREATED: "true"}}});
            let marker: ConfigMap = self.kube.merge(self.manager, &at, &note).await?;
            info!(gateway = %self.gateway.key, key = %id, "made a session key");
            return Marker::read(&marker, &self.gateway.key.name)
                .ok_or_else(|| Error::Invariant("a marker of ours cannot be read back".to_owned()));
        }
        Err(Error::Invariant(format!(
            "{ATTEMPTS} random names in a row were taken"
        )))
    }
}

/// The part of a configuration that names keys.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    session_keys: NamedKeys,
}

#[derive(serde::Deserialize)]
struct NamedKeys {
    keys: Vec<NamedKey>,
}

#[derive(serde::Deserialize)]
struct NamedKey {
    id: String,
}

fn random_id() -> Result<KeyId, Error> {
    Ok(KeyId::from_random(random::<ID_BYTES>()?))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Invariant("the system gives no randomness".to_owned()))?;
    Ok(bytes)
}
