//! JSON Web Tokens (RFC 7519, RFC 8725): signature, issuer, audience, time, and what they say about the principal.
//!
//! Nothing of a token is believed before its signature is verified, but which issuer's keys and which of them to try.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto;
use portcullis_config::auth::{Algorithm, Jwt};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::audience::{Audiences, Origins};
use super::claims::Claims;
use super::identity::{Identity, LEEWAY};
use super::jwks::store::Store;
use super::jwks::{self, Fingerprint, KeySet, NoKey};

/// One issuer whose tokens are accepted.
#[derive(Debug)]
pub struct Method {
    /// Its name in rules, limits and audit.
    pub name: Arc<str>,
    issuer: Box<str>,
    algorithms: Box<[Algorithm]>,
    /// Accepted audiences besides the gateway's own.
    audiences: Box<[String]>,
    claims: portcullis_config::auth::Claims,
    required: Box<[(String, String)]>,
    /// Where its keys come from.
    pub(super) keys: Keys,
    /// Names everything above but the keys.
    pub(super) epoch: Fingerprint,
}

/// Where keys come from.
#[derive(Debug)]
pub enum Keys {
    /// A URL, fetched in the background.
    Remote(Arc<Store>),
    /// A file or the configuration; none when the file is missing or unusable.
    Fixed(Option<Arc<KeySet>>),
}

impl Keys {
    /// The keys in force.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Remote(store) => store.keys(),
            Self::Fixed(keys) => keys.clone(),
        }
    }

    /// Are these the keys in force?
    pub fn are(&self, fingerprint: Fingerprint) -> bool {
        match self {
            Self::Remote(store) => store.has(fingerprint),
            Self::Fixed(keys) => keys
                .as_ref()
                .is_some_and(|keys| keys.fingerprint() == fingerprint),
        }
    }

    fn want_newer(&self) {
        if let Self::Remote(store) = self {
            store.want();
        }
    }
}

/// What a verified token says, as long as the method and its keys stay the same.
#[derive(Debug)]
pub struct Verified {
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// For whom it is meant.
    pub audiences: Audiences,
    /// The method that judged it.
    pub(super) method: Fingerprint,
    /// The keys it was judged with.
    pub(super) keys: Fingerprint,
    /// From when on it is no longer accepted, in seconds since 1970.
    pub(super) ends: u64,
    weight: usize,
}

impl Verified {
    #[cfg(test)]
    pub(super) fn for_tests(identity: Identity, audiences: Audiences, weight: usize) -> Self {
        let identity = Arc::new(identity);
        Self {
            identity,
            audiences,
            method: [0; 16],
            keys: [0; 16],
            ends: u64::MAX,
            weight,
        }
    }

    /// About how many bytes it takes to remember this.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// For what it says.
    Invalid(&'static str),
    /// The issuer's keys are not known yet.
    NotReady,
}

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self::Invalid(reason)
    }
}

/// The parts of a token. All of them untrusted.
pub struct Parts<'a> {
    signed: &'a str,
    signature: &'a str,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// What is read of a header.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    typ: Option<Cow<'a, str>>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11): we know none.
    #[serde(default)]
    crit: Given,
}

/// What is read of the claims before the signature is verified.
#[derive(Deserialize)]
struct Issuer<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
}

/// Was a member there, whatever its value?
#[derive(Default)]
struct Given(bool);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|IgnoredAny| Self(true))
    }
}

impl<'a> Parts<'a> {
    /// Takes a token apart: three parts of base64url, none of them empty (an empty signature is `alg: none`).
    pub fn split(token: &'a [u8]) -> Result<Self, &'static str> {
        const NOT_A_TOKEN: &str = "the token is malformed";
        let token = str::from_utf8(token).map_err(|_| NOT_A_TOKEN)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(NOT_A_TOKEN)?;
        let (header, payload) = signed.split_once('.').ok_or(NOT_A_TOKEN)?;
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(NOT_A_TOKEN);
        }
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| NOT_A_TOKEN);
        Ok(Self {
            signed,
            signature,
            header: decode(header)?,
            payload: decode(payload)?,
        })
    }

    /// Whom the token claims to be from.
    pub fn issuer(&self) -> Result<Cow<'_, str>, &'static str> {
        serde_json::from_slice::<Issuer<'_>>(&self.payload)
            .map(|claims| claims.iss)
            .map_err(|_| "the token names no issuer")
    }
}

impl Method {
    /// The method of a configuration entry.
    pub fn new(config: &Jwt, origins: &Origins, keys: Keys) -> Self {
        let text = serde_json::to_string(config).expect("configuration always serializes");
        let hash = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            [&text, "\0", &*origins.canonical].concat().as_bytes(),
        );
        Self {
            name: config.name.as_str().into(),
            issuer: config.issuer.as_str().into(),
            algorithms: config.algorithms.as_slice().into(),
            audiences: config.audiences.as_slice().into(),
            claims: config.claims.clone(),
            required: config
                .required_claims
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            keys,
            epoch: super::identity::first_half(&hash),
        }
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Judges a token of this issuer, all but whether it is meant for the endpoint that was asked for.
    pub fn verify(&self, parts: &Parts<'_>, origins: &Origins, now: u64) -> Result<Verified, Refusal> {
        let keys = self.keys.current().ok_or(Refusal::NotReady)?;
        self.verify_signature(parts, &keys)?;
        let claims = Claims::parse(&parts.payload)?;
        // The issuer was read leniently to find the method; now it counts.
        if claims.text("iss")? != &*self.issuer {
            return Err("the token's issuer is another".into());
        }
        let ends = times(&claims, now)?;
        let audiences = Audiences::read(&claims, origins, &self.audiences)?;
        for (name, value) in &self.required {
            if !claims.is_exactly(name, value) {
                return Err("the token lacks a required claim".into());
            }
        }
        let identity = Identity::new(
            self.name.clone(),
            claims.subject(&self.claims.subject)?.into(),
            claims.groups(&self.claims.groups)?,
            claims.scopes(&self.claims.scopes)?,
            Some(ends.saturating_sub(LEEWAY)),
        );
        Ok(Verified {
            identity: Arc::new(identity),
            audiences,
            method: self.epoch,
            keys: keys.fingerprint(),
            ends,
            // What is kept is a part of the payload, plus what each of its strings costs.
            weight: 512 + 2 * parts.payload.len(),
        })
    }

    fn verify_signature(&self, parts: &Parts<'_>, keys: &KeySet) -> Result<(), Refusal> {
        let header: Header<'_> =
            serde_json::from_slice(&parts.header).map_err(|_| "the token's header is malformed")?;
        if header.crit.0 {
            return Err("the token has critical extensions".into());
        }
        if !header.typ.as_deref().is_none_or(is_access_token) {
            return Err("the token is of another type".into());
        }
        // The token's word only picks among what the configuration and the key both allow.
        let algorithm = jwks::algorithm(&header.alg)
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or("the token's algorithm is not accepted")?;
        let key = keys
            .find(header.kid.as_deref(), algorithm)
            .map_err(|missing| match missing {
                NoKey::Unknown => {
                    self.keys.want_newer();
                    "the token's key is unknown"
                }
                NoKey::OtherAlgorithm => "the token's algorithm is not its key's",
                NoKey::Ambiguous => "the token names no key and several would fit",
            })?;
        let verified = crypto::verify(
            parts.signature,
            parts.signed.as_bytes(),
            &key.decoding,
            registered(algorithm),
        );
        match verified {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err("the token's signature is wrong".into()),
        }
    }
}

/// Explicit types (RFC 8725 section 3.11): a logout token or a proof of possession is no access token.
fn is_access_token(typ: &str) -> bool {
    const PREFIX: &str = "application/";
    let name = typ
        .split_at_checked(PREFIX.len())
        .filter(|(prefix, _)| prefix.eq_ignore_ascii_case(PREFIX))
        .map_or(typ, |(_, name)| name);
    name.eq_ignore_ascii_case("jwt") || name.eq_ignore_ascii_case("at+jwt")
}

fn registered(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// Checks `exp` and `nbf`, and gives the time from which on the token is no longer accepted.
fn times(claims: &Claims, now: u64) -> Result<u64, &'static str> {
    let ends = claims
        .date("exp")?
        .ok_or("the token never expires")?
        .saturating_add(LEEWAY);
    if now >= ends {
        return Err(EXPIRED);
    }
    if claims
        .date("nbf")?
        .is_some_and(|start| start > now.saturating_add(LEEWAY))
    {
        return Err("the token is not valid yet");
    }
    Ok(ends)
}

/// Reason of a token that was good once.
pub const EXPIRED: &str = "the token has expired";

/// Finds the method of a token's issuer.
pub fn method_of<'m>(methods: &'m [Method], issuer: &str) -> Option<&'m Method> {
    methods.iter().find(|method| *method.issuer == *issuer)
}
