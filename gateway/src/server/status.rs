//! The port of the operator: one document, one reader, nothing to change and nothing secret.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use portcullis_config::listen::StatusToken;
use portcullis_config::status::Status;

use crate::server::admin::{is_read, not_allowed, plain};
use crate::server::connection::{ConnInfo, Handler};

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 << 10;

/// Where the document comes from.
pub trait StatusSource: Send + Sync + 'static {
    /// The state of things now.
    fn status(&self) -> Status;
}

/// Who may read it.
pub enum Access {
    /// Nobody: what is needed to tell is not there.
    Closed,
    /// Everybody who can reach the port, which is then a loopback address.
    Open,
    /// The bearer of one ServiceAccount's token.
    Token(Box<TokenVerifier>),
}

/// Verifies the operator's projected token without asking anybody.
pub struct TokenVerifier {
    keys: Vec<(Option<String>, Algorithm, DecodingKey)>,
    expected: StatusToken,
}

/// The key set is not usable.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not a key set.
    #[error("the key set is not JSON of RFC 7517: {0}")]
    Syntax(#[from] serde_json::Error),
    /// No key that can verify anything.
    #[error("the key set holds no RS256 or ES256 key")]
    Empty,
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

impl TokenVerifier {
    /// A verifier for exactly this caller.
    pub fn new(expected: &StatusToken) -> Result<Self, KeySetError> {
        let set: JwkSet = serde_json::from_str(&expected.jwks)?;
        let keys: Vec<_> = set
            .keys
            .iter()
            .filter_map(|jwk| {
                use jsonwebtoken::jwk::AlgorithmParameters;
                let algorithm = match &jwk.algorithm {
                    AlgorithmParameters::RSA(_) => Algorithm::RS256,
                    AlgorithmParameters::EllipticCurve(_) => Algorithm::ES256,
                    _ => return None,
                };
                let key = DecodingKey::from_jwk(jwk).ok()?;
                Some((jwk.common.key_id.clone(), algorithm, key))
            })
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self {
            keys,
            expected: expected.clone(),
        })
    }

    /// Is this the token we expect?
    pub fn accepts(&self, token: &str) -> bool {
        if token.len() > MAX_TOKEN {
            return false;
        }
        let Ok(header) = decode_header(token) else {
            return false;
        };
        // A token without a key id is tried against every key; there are a handful.
        self.keys
            .iter()
            .filter(|(id, _, _)| header.kid.is_none() || *id == header.kid)
            .any(|(_, algorithm, key)| {
                let mut validation = Validation::new(*algorithm);
                validation.set_issuer(&[&self.expected.issuer]);
                validation.set_audience(&[&self.expected.audience]);
                validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
                validation.validate_nbf = true;
                validation.leeway = 60;
                decode::<Claims>(token, key, &validation)
                    .is_ok_and(|verified| verified.claims.sub == self.expected.subject)
            })
    }
}

/// Answers the operator.
#[derive(Clone)]
pub struct StatusPort {
    source: Arc<dyn StatusSource>,
    access: Arc<ArcSwap<Access>>,
}

impl StatusPort {
    /// Shows `source` to those whom `access` lets in; it may be swapped.
    pub fn new(source: Arc<dyn StatusSource>, access: Arc<ArcSwap<Access>>) -> Self {
        Self { source, access }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        match &**self.access.load() {
            Access::Closed => false,
            Access::Open => true,
            Access::Token(verifier) => bearer(headers).is_some_and(|token| verifier.accepts(token)),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, more) = (values.next()?, values.next());
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (more.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token)
}

impl Handler for StatusPort {
    type Body = Full<Bytes>;

    async fn call(&self, _: &ConnInfo, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // First of all, so that a stranger does not even learn which paths there are.
        if !self.admits(request.headers()) {
            let mut response = plain(StatusCode::UNAUTHORIZED, "");
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        if request.uri().path() != "/status" {
            return plain(StatusCode::NOT_FOUND, "");
        }
        if !is_read(request.method()) {
            return not_allowed();
        }
        match serde_json::to_vec(&self.source.status()) {
            Ok(document) => {
                let mut response = plain(StatusCode::OK, document);
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(err) => {
                tracing::error!(error = %err, "the status document cannot be written");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        }
    }
}
