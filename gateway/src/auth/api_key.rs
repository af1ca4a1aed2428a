//! API keys by their digests, as mounted: one file per client, one line per key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use portcullis_config::api_key::{self, Digest};
use portcullis_config::auth::METHOD_API_KEYS;
use subtle::ConstantTimeEq as _;

use super::identity::Identity;

/// Longest list of complaints that is worth reporting.
const MAX_COMPLAINTS: usize = 8;

/// Every key that is in force.
#[derive(Debug, Default)]
pub struct ApiKeys {
    /// By the first bytes of the digest; the rest is compared in constant time.
    keys: HashMap<[u8; 8], Vec<(Digest, Arc<Identity>)>>,
    /// What is wrong with the files, one line each. Never quotes a file: somebody may have put a key there.
    complaints: Vec<String>,
}

impl ApiKeys {
    /// Reads a mounted Secret. A bad line costs that line only.
    pub fn load(files: &BTreeMap<String, Bytes>) -> Self {
        let mut owners: HashMap<Digest, Option<Arc<Identity>>> = HashMap::new();
        let mut complaints = Vec::new();
        let method: Arc<str> = METHOD_API_KEYS.into();
        for (client, content) in files {
            // The kubelet's own entries (`..data`) are not clients.
            if client.starts_with("..") {
                continue;
            }
            let Ok(text) = str::from_utf8(content) else {
                complaints.push(format!("{client}: is not text"));
                continue;
            };
            let who = Arc::new(Identity::new(
                method.clone(),
                client.as_str().into(),
                Box::default(),
                Box::default(),
                None,
            ));
            let mut lines = 0;
            for (number, line) in (1_usize..).zip(text.lines()) {
                match api_key::parse_line(line) {
                    Ok(None) => {}
                    Ok(Some(digest)) => {
                        lines += 1;
                        let owner = owners.entry(digest).or_insert_with(|| Some(who.clone()));
                        if owner.as_ref().is_some_and(|other| other.key != who.key) {
                            *owner = None;
                            complaints.push(format!(
                                "{client}, line {number}: another client has the same key, it is refused for both"
                            ));
                        }
                    }
                    Err(err) => complaints.push(format!("{client}, line {number}: {err}")),
                }
            }
            if lines == 0 {
                complaints.push(format!("{client}: holds no key"));
            }
        }
        let mut keys: HashMap<_, Vec<_>> = HashMap::new();
        for (digest, owner) in owners {
            if let Some(who) = owner {
                keys.entry(index(&digest)).or_default().push((digest, who));
            }
        }
        Self { keys, complaints }
    }

    /// Whose key this is.
    pub fn find(&self, key: &str) -> Result<&Arc<Identity>, &'static str> {
        // The checksum first: what a typing error or a guesser sends costs no hash.
        if !api_key::is_well_formed(key) {
            return Err("the API key's checksum is wrong");
        }
        let digest = api_key::digest(key);
        self.keys
            .get(&index(&digest))
            .into_iter()
            .flatten()
            .find(|(known, _)| bool::from(known.ct_eq(&digest)))
            .map(|(_, who)| who)
            .ok_or("the API key is unknown")
    }

    /// Is no key in force?
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a person should repair, if anything.
    pub fn complaint(&self) -> Option<String> {
        let first: Vec<&str> = self
            .complaints
            .iter()
            .take(MAX_COMPLAINTS)
            .map(String::as_str)
            .collect();
        let more = self.complaints.len() - first.len();
        match (first.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(first.join("; ")),
            (false, more) => Some(format!("{}; and {more} more", first.join("; "))),
        }
    }
}

fn index(digest: &Digest) -> [u8; 8] {
    *digest.first_chunk().expect("a digest has 32 bytes")
}
