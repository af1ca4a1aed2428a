//! An issuer's keys (RFC 7517): what is usable of a key set, and which key a token means.
//!
//! A key says itself which algorithms it is for; the configuration says which of these count; a token only picks
//! among what is left. Symmetric keys are never usable, so a public key can never be taken for a shared secret.

pub mod store;

use std::collections::HashSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use portcullis_config::auth::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::identity::first_half;

/// The largest key set that is read.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;

/// The most keys a set may hold.
const MAX_KEYS: usize = 128;

/// The longest key id.
const MAX_KID_BYTES: usize = 256;

/// Moduli in bits: what aws-lc verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What an exponent may have in bytes; all in use have three.
const MAX_EXPONENT_BYTES: usize = 5;

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

/// The members of a key that are looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Any private part.
    d: Option<serde::de::IgnoredAny>,
}

/// What a key is made of, checked.
struct Material {
    algorithms: &'static [Algorithm],
    decoding: DecodingKey,
    /// Kind and public bytes, for the fingerprint.
    bytes: Vec<u8>,
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
            match read(raw) {
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

fn read(raw: &RawValue) -> Result<(Option<Box<str>>, Material), &'static str> {
    let jwk: Jwk = serde_json::from_str(raw.get()).map_err(|_| "is malformed")?;
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures");
    }
    if jwk
        .key_ops
        .as_ref()
        .is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
    {
        return Err("is not for verifying");
    }
    if jwk.d.is_some() {
        return Err("its private part is published with it");
    }
    if jwk.kid.as_ref().is_some_and(|id| id.len() > MAX_KID_BYTES) {
        return Err("its id is too long");
    }
    let mut material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(&jwk)?,
        ("EC", Some("P-256")) => ec(&jwk, 32, &[Algorithm::ES256])?,
        ("EC", Some("P-384")) => ec(&jwk, 48, &[Algorithm::ES384])?,
        ("OKP", Some("Ed25519")) => ed25519(&jwk)?,
        ("EC" | "OKP", _) => return Err("is on a curve that is not supported"),
        ("oct", _) => return Err("is a shared secret"),
        _ => return Err("is of a type that is not supported"),
    };
    if let Some(name) = &jwk.alg {
        let algorithm = algorithm(name).ok_or("is for an algorithm that is not supported")?;
        material.algorithms = material
            .algorithms
            .chunks(1)
            .find(|one| one.contains(&algorithm))
            .ok_or("is for an algorithm of another key type")?;
    }
    Ok((jwk.kid.map(Into::into), material))
}

/// The algorithm of a registered name.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "PS256" => Some(Algorithm::PS256),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        // RFC 9864 names the curve too.
        "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

fn decode(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("lacks a part")?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "has a part that is not base64url")
}

fn rsa(jwk: &Jwk) -> Result<Material, &'static str> {
    let mut modulus = decode(jwk.n.as_ref())?;
    let exponent = decode(jwk.e.as_ref())?;
    // Some issuers write a sign byte, which RFC 7518 forbids and which does no harm.
    while modulus.first() == Some(&0) {
        modulus.remove(0);
    }
    let bits = modulus
        .first()
        .map_or(0, |top| modulus.len() * 8 - top.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("is an RSA key of less than 2048 or more than 8192 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !odd(&modulus)
        || !odd(&exponent)
        || exponent == [1]
        || exponent.first() == Some(&0)
        || exponent.len() > MAX_EXPONENT_BYTES
    {
        return Err("is no RSA key");
    }
    Ok(Material {
        algorithms: &[Algorithm::RS256, Algorithm::PS256],
        decoding: DecodingKey::from_rsa_raw_components(&modulus, &exponent),
        bytes: [&modulus[..], &exponent].concat(),
    })
}

fn ec(jwk: &Jwk, bytes: usize, algorithms: &'static [Algorithm]) -> Result<Material, &'static str> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
    let (x, y) = (decode(jwk.x.as_ref())?, decode(jwk.y.as_ref())?);
    if x.len() != bytes || y.len() != bytes {
        return Err("has coordinates of another length than its curve");
    }
    let point = [&[4], &x[..], &y].concat();
    let verification = match bytes {
        32 => &ECDSA_P256_SHA256_FIXED,
        _ => &ECDSA_P384_SHA384_FIXED,
    };
    ParsedPublicKey::new(verification, &point).map_err(|_| "is not a point of its curve")?;
    Ok(Material {
        algorithms,
        decoding: DecodingKey::from_ec_der(&point),
        bytes: point,
    })
}

fn ed25519(jwk: &Jwk) -> Result<Material, &'static str> {
    let x = decode(jwk.x.as_ref())?;
    if x.len() != 32 {
        return Err("is no Ed25519 key");
    }
    Ok(Material {
        algorithms: &[Algorithm::EdDSA],
        decoding: DecodingKey::from_ed_der(&x),
        bytes: x,
    })
}
