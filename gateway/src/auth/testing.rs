//! What tests of authentication are made of: issuers that sign anything, mounts in memory, and a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use portcullis_config::Config;
use portcullis_config::status::ReferenceState;
use serde_json::{Value, json};

use super::{Mounts, Unreadable};

/// The time in all tests.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Origin of the gateway in tests.
pub(crate) const ORIGIN: &str = "https://mcp.example.com";

/// Issuer in tests.
pub(crate) const ISSUER: &str = "https://idp.example.com";

/// Base64url without padding.
pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair of an issuer.
pub(crate) struct Signer {
    pub(crate) kid: &'static str,
    pub(crate) alg: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// Making an RSA key takes a while: tests share one.
fn rsa_pair() -> &'static RsaKeyPair {
    static PAIR: OnceLock<RsaKeyPair> = OnceLock::new();
    PAIR.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

impl Signer {
    pub(crate) fn rsa(kid: &'static str) -> Self {
        Self {
            kid,
            alg: "RS256",
            pair: Pair::Rsa(rsa_pair()),
        }
    }

    pub(crate) fn pss(kid: &'static str) -> Self {
        Self {
            kid,
            alg: "PS256",
            pair: Pair::Rsa(rsa_pair()),
        }
    }

    pub(crate) fn es256(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            kid,
            alg: "ES256",
            pair: Pair::Ec(pair),
        }
    }

    pub(crate) fn es384(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self {
            kid,
            alg: "ES384",
            pair: Pair::Ec(pair),
        }
    }

    pub(crate) fn ed25519(kid: &'static str) -> Self {
        Self {
            kid,
            alg: "EdDSA",
            pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()),
        }
    }

    /// The public key as a JWK, without `alg`.
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let n = b64(key.modulus().big_endian_without_leading_zero());
                let e = b64(key.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": self.kid, "use": "sig", "n": n, "e": e})
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": crv, "kid": self.kid, "x": b64(x), "y": b64(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": b64(pair.public_key())})
            }
        }
    }

    /// The signature of `message` by this key's own algorithm.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding = if self.alg == "PS256" {
                    &RSA_PSS_SHA256
                } else {
                    &RSA_PKCS1_SHA256
                };
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this very header and payload.
    pub(crate) fn token_of(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        format!("{signed}.{}", b64(self.sign(signed.as_bytes())))
    }

    /// A token with an ordinary header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": self.alg, "kid": self.kid});
        self.token_of(&header.to_string(), &claims.to_string())
    }
}

/// A key set.
pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Claims of a good token.
pub(crate) fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": ORIGIN, "exp": NOW + 600, "nbf": NOW - 10,
        "groups": ["analysts", "staff"], "scope": "mcp:tools mcp:admin",
    })
}

/// [`good_claims`] with some changed; null takes one away.
pub(crate) fn claims_with(changes: &Value) -> Value {
    let mut claims = good_claims();
    let map = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            map.remove(&name);
        } else {
            map.insert(name, value);
        }
    }
    claims
}

/// Mounts in memory.
#[derive(Default)]
pub(crate) struct Fake {
    files: BTreeMap<PathBuf, Bytes>,
    dirs: BTreeMap<PathBuf, BTreeMap<String, Bytes>>,
}

impl Fake {
    pub(crate) fn file(mut self, path: &str, content: impl Into<Bytes>) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }

    pub(crate) fn dir(mut self, path: &str, files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Bytes::copy_from_slice(text.as_bytes())));
        self.dirs.insert(path.into(), files.collect());
        self
    }
}

fn missing() -> Unreadable {
    Unreadable {
        state: ReferenceState::Missing,
        message: "is missing".into(),
    }
}

impl Mounts for Fake {
    fn file(&self, path: &Path) -> Result<Bytes, Unreadable> {
        self.files.get(path).cloned().ok_or_else(missing)
    }

    fn dir(&self, path: &Path) -> Result<&BTreeMap<String, Bytes>, Unreadable> {
        self.dirs.get(path).ok_or_else(missing)
    }
}

/// A configuration with this `auth`, and more top-level lines.
pub(crate) fn config(auth: &str, more: &str) -> Config {
    let text = format!(
        "
formatVersion: 1
gateway:
  {{id: u, name: tools, namespace: agents, profile: Development, publicHost: 'MCP.example.com:443',
   deniedSubjects: [{{method: corp, subject: mallory}}, {{method: apiKeys, subject: leaked}}]}}
listen:
  public: {{address: '0.0.0.0:8443', tls: {{certFile: tls.crt, keyFile: tls.key}}}}
auth: {auth}
{more}
"
    );
    portcullis_config::parse(text.as_bytes(), Path::new("/m"))
        .unwrap()
        .config
}

/// A configuration with the method `corp`, whose keys are in the file `/m/jwks`, and more fields of it.
pub(crate) fn jwt_config(fields: &str) -> Config {
    config(
        &format!("{{jwt: [{{name: corp, issuer: '{ISSUER}', jwks: {{file: jwks}}, {fields}}}]}}"),
        "",
    )
}

/// Headers with this bearer token.
pub(crate) fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
    );
    headers
}
