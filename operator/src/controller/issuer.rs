//! How gateways verify the operator's token without asking anybody: the cluster's token issuer and its public keys, read
//! from the API server when the operator starts and every hour.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::client::Kube;
use super::error::ApiError;
use crate::validate::TokenIssuer;

/// Path of the discovery document (OpenID Connect Discovery).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Path of the key set. The discovery document may name another address for the world outside; this one is always there.
const JWKS: &str = "/openid/v1/jwks";
/// The longest document that is used.
const MAX_BYTES: usize = 64 << 10;
const REFRESH: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(10);

/// Why the issuer is not known.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The API server did not tell.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What it told is no such document.
    #[error("{0}: {1}")]
    Malformed(&'static str, String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// The public members of a key, and no others: what we write down is what we mean to.
#[derive(Deserialize, serde::Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Jwk {
    kid: Option<String>,
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// Keeps `current` true until `stop`.
pub async fn follow(kube: Kube, current: watch::Sender<Option<TokenIssuer>>, stop: CancellationToken) {
    loop {
        let pause = match read(&kube).await {
            Ok(issuer) => {
                let moved = current.send_if_modified(|known| {
                    let moved = known.as_ref() != Some(&issuer);
                    if moved {
                        *known = Some(issuer);
                    }
                    moved
                });
                if moved {
                    info!("the cluster's token issuer and keys are known");
                }
                REFRESH
            }
            Err(error) => {
                warn!(%error, "the cluster's token issuer or keys cannot be read; trying again");
                RETRY
            }
        };
        let pause = pause.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn read(kube: &Kube) -> Result<TokenIssuer, IssuerError> {
    parse(&kube.text(DISCOVERY).await?, &kube.text(JWKS).await?)
}

/// The issuer in a form that depends on nothing but its content, so that two API servers that list the same keys in
/// another order do not make two configurations.
fn parse(discovery: &str, jwks: &str) -> Result<TokenIssuer, IssuerError> {
    let bad = |what, why: &str| IssuerError::Malformed(what, why.to_owned());
    if discovery.len() > MAX_BYTES || jwks.len() > MAX_BYTES {
        return Err(bad(DISCOVERY, "too long"));
    }
    let Discovery { issuer } =
        serde_json::from_str(discovery).map_err(|error| bad(DISCOVERY, &error.to_string()))?;
    if issuer.is_empty() {
        return Err(bad(DISCOVERY, "names no issuer"));
    }
    let KeySet { mut keys } = serde_json::from_str(jwks).map_err(|error| bad(JWKS, &error.to_string()))?;
    if keys.is_empty() {
        return Err(bad(JWKS, "holds no key"));
    }
    keys.sort_unstable();
    let jwks = serde_json::json!({ "keys": keys }).to_string();
    Ok(TokenIssuer { issuer, jwks })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        r#"{"issuer":"https://kubernetes.default.svc","jwks_uri":"https://203.0.113.1/openid/v1/jwks"}"#;

    #[test]
    fn the_order_of_keys_does_not_matter_and_private_members_do_not_pass() {
        let a = r#"{"keys":[{"kid":"2","kty":"RSA","n":"x","e":"AQAB"},{"kid":"1","kty":"EC","crv":"P-256","x":"a","y":"b"}]}"#;
        let b = r#"{"keys":[{"y":"b","kid":"1","kty":"EC","crv":"P-256","x":"a"},{"kid":"2","kty":"RSA","n":"x","e":"AQAB","d":"secret"}]}"#;
        let (a, b) = (parse(DOCUMENT, a).unwrap(), parse(DOCUMENT, b).unwrap());
        assert_eq!(a, b);
        assert_eq!(a.issuer, "https://kubernetes.default.svc");
        assert!(!b.jwks.contains("secret"));
    }

    #[test]
    fn documents_without_issuer_or_keys_are_refused() {
        let keys = r#"{"keys":[{"kid":"1","kty":"RSA"}]}"#;
        assert!(parse("{}", keys).is_err());
        assert!(parse(r#"{"issuer":""}"#, keys).is_err());
        assert!(parse(DOCUMENT, r#"{"keys":[]}"#).is_err());
        assert!(parse(DOCUMENT, "nonsense").is_err());
        assert!(parse(DOCUMENT, &"x".repeat(MAX_BYTES + 1)).is_err());
    }
}
