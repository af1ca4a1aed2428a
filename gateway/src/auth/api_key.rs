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
    pub fn find(&self, key: &[u8]) -> Result<&Arc<Identity>, &'static str> {
        // The checksum first: what a typing error or a guesser sends costs no hash.
        let key = str::from_utf8(key)
            .ok()
            .filter(|key| api_key::is_well_formed(key))
            .ok_or("the API key's checksum is wrong")?;
        let digest = api_key::digest(key);
        self.keys
            .get(&index(&digest))
            .into_iter()
            .flatten()
            .find(|(known, _)| bool::from(known.ct_eq(&digest)))
            .map(|(_, who)| who)
            .ok_or("the API key is unknown")
    }

    /// Has this client any key?
    pub fn has_client(&self, client: &str) -> bool {
        let mut owners = self.keys.values().flatten();
        owners.any(|(_, who)| *who.subject == *client)
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

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_config::api_key::{digest_line, mint};

    fn load(files: &[(&str, &[u8])]) -> ApiKeys {
        let files = files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), Bytes::copy_from_slice(content)));
        ApiKeys::load(&files.collect())
    }

    #[test]
    fn a_bad_line_costs_that_line_only_and_is_not_quoted() {
        let (key, plaintext) = (mint(&[1; 32]), mint(&[2; 32]));
        let content = format!("{plaintext}\n{}\nsha256:xyz", digest_line(&key));
        let keys = load(&[("ci", content.as_bytes())]);
        assert!(keys.find(key.as_bytes()).is_ok());
        assert!(keys.find(plaintext.as_bytes()).is_err());
        let complaint = keys.complaint().unwrap();
        assert!(
            complaint.contains("ci, line 1") && complaint.contains("ci, line 3"),
            "{complaint}"
        );
        assert!(
            !complaint.contains(&plaintext) && !complaint.contains("xyz"),
            "{complaint}"
        );
    }

    #[test]
    fn a_key_of_two_clients_identifies_neither() {
        let key = mint(&[1; 32]);
        let line = digest_line(&key);
        let keys = load(&[
            ("a", line.as_bytes()),
            ("b", line.as_bytes()),
            ("c", line.as_bytes()),
        ]);
        assert!(keys.find(key.as_bytes()).is_err() && keys.is_empty());
        assert!(keys.complaint().unwrap().contains("b, line 1"));
        // Twice with the same client is only untidy.
        let keys = load(&[("a", format!("{line}\n{line}").as_bytes())]);
        assert!(keys.find(key.as_bytes()).is_ok() && keys.complaint().is_none());
    }

    #[test]
    fn what_is_no_client_is_named() {
        let keys = load(&[
            ("..data", b"x"),
            ("empty", b"# nothing\n"),
            ("binary", &[0xff, 0xfe]),
        ]);
        assert_eq!(
            keys.complaint().as_deref(),
            Some("binary: is not text; empty: holds no key")
        );
    }

    #[test]
    fn complaints_are_bounded() {
        let content = "x\n".repeat(1000);
        let complaint = load(&[("a", content.as_bytes())]).complaint().unwrap();
        assert!(
            complaint.len() < 1200 && complaint.ends_with("and 993 more"),
            "{complaint}"
        );
    }
}
