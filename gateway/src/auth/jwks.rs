//! An issuer's keys (RFC 7517): what is usable of a key set, and which key a token means.
//!
//! A key says itself which algorithms it is for; the configuration says which of these count; a token only picks
//! among what is left. Symmetric keys are never usable, so a public key can never be taken for a shared secret.

mod key;
pub mod store;

use std::collections::HashSet;

use aws_lc_rs::digest;
use jsonwebtoken::DecodingKey;
use portcullis_config::auth::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) use key::algorithm;

use super::identity::first_half;
use key::Material;

/// The largest key set that is read.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;

/// The most keys a set may hold.
const MAX_KEYS: usize = 128;

/// Names a key set by its content.
pub type Fingerprint = [u8; 16];

/// The usable keys of a set.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    fingerprint: Fingerprint,
    skipped: Vec<String>,
}

/// One usable key.
#[derive(Debug)]
pub struct Key {
    id: Option<Box<str>>,
    algorithms: &'static [Algorithm],
    /// The public key.
    pub(super) decoding: DecodingKey,
}

/// Why no key can be had for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// No key of this id; perhaps the issuer has newer ones.
    Unknown,
    /// There is one of this id, for other algorithms.
    OtherAlgorithm,
    /// The token names no key, and several would fit.
    Ambiguous,
}

/// Why a document is no key set.
#[derive(Debug, thiserror::Error)]
pub enum BadKeySet {
    /// Larger than [`MAX_DOCUMENT_BYTES`].
    #[error("has {0} bytes, more than the {MAX_DOCUMENT_BYTES} that are read")]
    TooLarge(usize),
    /// Not a JSON object with a list `keys`.
    #[error("is no JSON Web Key Set: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Too many keys.
    #[error("has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    /// Nothing to verify with.
    #[error("holds no usable key{}", listed(.0))]
    Empty(Vec<String>),
}

fn listed(skipped: &[String]) -> String {
    if skipped.is_empty() {
        String::new()
    } else {
        let first: Vec<&str> = skipped.iter().take(4).map(String::as_str).collect();
        format!(" ({})", first.join("; "))
    }
}

#[derive(Deserialize)]
struct Document<'a> {
    /// Each is read by itself: one odd key does not cost the others.
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Reads a key set.
    pub fn parse(document: &[u8]) -> Result<Self, BadKeySet> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(BadKeySet::TooLarge(document.len()));
        }
        let raw: Document<'_> = serde_json::from_slice(document)?;
        if raw.keys.len() > MAX_KEYS {
            return Err(BadKeySet::TooMany(raw.keys.len()));
        }
        let mut keys = Vec::new();
        let mut prints = Vec::new();
        let mut skipped = Vec::new();
        let mut seen = HashSet::new();
        for (at, raw) in raw.keys.into_iter().enumerate() {
            match key::read(raw) {
                Ok((id, material)) => {
                    let new = id.as_ref().is_none_or(|id| {
                        let mut algorithms = material.algorithms.iter();
                        algorithms.all(|algorithm| seen.insert((id.clone(), *algorithm)))
                    });
                    if !new {
                        skipped.push(format!("key {at}: another one has its id"));
                        continue;
                    }
                    prints.push(print(id.as_deref(), &material));
                    keys.push(Key {
                        id,
                        algorithms: material.algorithms,
                        decoding: material.decoding,
                    });
                }
                Err(reason) => skipped.push(format!("key {at}: {reason}")),
            }
        }
        if keys.is_empty() {
            return Err(BadKeySet::Empty(skipped));
        }
        // The order in a document means nothing.
        prints.sort_unstable();
        Ok(Self {
            keys,
            fingerprint: first_half(&digest::digest(&digest::SHA256, prints.as_flattened())),
            skipped,
        })
    }

    /// The key for a token that names `id` and `algorithm`.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        if let Some(id) = id {
            let mut named = self
                .keys
                .iter()
                .filter(|key| key.id.as_deref() == Some(id))
                .peekable();
            if named.peek().is_none() {
                return Err(NoKey::Unknown);
            }
            return named.find(fits).ok_or(NoKey::OtherAlgorithm);
        }
        let mut fitting = self.keys.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) => Err(NoKey::Unknown),
        }
    }

    /// Names the set by what is usable of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Which keys are not usable, and why; one line each.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// How many keys are usable; never none.
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}

fn print(id: Option<&str>, material: &Material) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    // Length first: id and key do not run into each other.
    let id = id.unwrap_or_default();
    hash.update(&id.len().to_be_bytes());
    hash.update(id.as_bytes());
    hash.update(format!("{:?}", material.algorithms).as_bytes());
    hash.update(&material.bytes);
    *hash
        .finish()
        .as_ref()
        .first_chunk()
        .expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Signer, jwks};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_odd_key_costs_only_itself() {
        let good = Signer::es256("good").jwk();
        let keys = [
            json!("x"),
            json!({"kty": "oct"}),
            good,
            json!({"kty": {}}),
            json!(null),
        ];
        let set = KeySet::parse(jwks(&keys).as_bytes()).unwrap();
        assert_eq!((set.count(), set.skipped().len()), (1, 4));
        assert!(set.find(Some("good"), Algorithm::ES256).is_ok());
    }

    #[test]
    fn a_set_without_a_usable_key_is_refused_with_the_reasons() {
        let text = jwks(&[json!({"kty": "oct", "k": "AA"})]);
        let refused = KeySet::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("shared secret"), "{refused}");
        assert!(matches!(
            KeySet::parse(b"{\"keys\":[]}"),
            Err(BadKeySet::Empty(_))
        ));
    }

    #[test]
    fn sizes_are_bounded() {
        let many = vec![json!({}); MAX_KEYS + 1];
        assert!(matches!(
            KeySet::parse(jwks(&many).as_bytes()),
            Err(BadKeySet::TooMany(129))
        ));
        let large = vec![b' '; MAX_DOCUMENT_BYTES + 1];
        assert!(matches!(KeySet::parse(&large), Err(BadKeySet::TooLarge(_))));
    }

    #[test]
    fn the_second_key_of_an_id_is_skipped_unless_it_is_for_other_algorithms() {
        let (a, b, c) = (Signer::es256("k"), Signer::es256("k"), Signer::rsa("k"));
        let set = KeySet::parse(jwks(&[a.jwk(), b.jwk(), c.jwk()]).as_bytes()).unwrap();
        assert_eq!(
            (set.count(), set.skipped()),
            (2, &["key 1: another one has its id".to_owned()][..])
        );
        assert!(set.find(Some("k"), Algorithm::RS256).is_ok());
    }

    #[test]
    fn the_fingerprint_is_of_the_keys_and_not_of_the_document() {
        let (a, b) = (Signer::es256("a").jwk(), Signer::es256("b").jwk());
        let print = |keys: &[_]| KeySet::parse(jwks(keys).as_bytes()).unwrap().fingerprint();
        assert_eq!(
            print(&[a.clone(), b.clone()]),
            print(&[b.clone(), json!({}), a.clone()])
        );
        assert_ne!(print(std::slice::from_ref(&a)), print(&[a.clone(), b]));
        let mut renamed = a.clone();
        renamed["kid"] = json!("c");
        assert_ne!(print(std::slice::from_ref(&a)), print(&[renamed]));
    }

    proptest! {
        #[test]
        fn hostile_documents_never_panic(text in r#"(\{"keys":\[(\{"kty":"(RSA|EC|OKP)","[ncrvxye]{1,3}":"[A-Za-z0-9_-]{0,9}"\},?)*\]\}|.{0,60})"#) {
            prop_assert!(KeySet::parse(text.as_bytes()).is_err());
        }
    }
}
