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
    #[error("the key set holds no RSA, P-256 or P-384 key")]
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
                use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
                let algorithm = match &jwk.algorithm {
                    AlgorithmParameters::RSA(_) => Algorithm::RS256,
                    AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                        Algorithm::ES256
                    }
                    AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                        Algorithm::ES384
                    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::Signer;
    use crate::clock::now_unix;
    use rstest::rstest;
    use serde_json::{Value, json};

    const OPERATOR: &str = "system:serviceaccount:portcullis-system:portcullis";

    fn verifier(keys: &[&Signer]) -> TokenVerifier {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        TokenVerifier::new(&StatusToken {
            issuer: "https://kubernetes.default.svc".into(),
            audience: portcullis_config::STATUS_AUDIENCE.into(),
            subject: OPERATOR.into(),
            jwks: json!({ "keys": keys }).to_string(),
        })
        .unwrap()
    }

    /// A projected token as the API server makes it.
    fn claims() -> Value {
        let now = now_unix();
        json!({
            "iss": "https://kubernetes.default.svc", "aud": [portcullis_config::STATUS_AUDIENCE], "sub": OPERATOR,
            "iat": now, "nbf": now, "exp": now + 3600,
        })
    }

    #[rstest]
    #[case(Signer::rsa("k"))]
    #[case(Signer::es256("k"))]
    #[case(Signer::es384("k"))]
    fn the_operators_token_is_accepted(#[case] signer: Signer) {
        let verifier = verifier(&[&signer]);
        assert!(verifier.accepts(&signer.token(&claims())));
    }

    #[rstest]
    #[case::another_account("sub", json!("system:serviceaccount:default:default"))]
    #[case::longer_subject("sub", json!(format!("{OPERATOR}x")))]
    #[case::another_audience("aud", json!(["https://kubernetes.default.svc"]))]
    #[case::another_issuer("iss", json!("https://elsewhere"))]
    #[case::expired("exp", json!(1_000_000))]
    #[case::not_yet("nbf", json!(99_999_999_999u64))]
    #[case::no_expiry("exp", Value::Null)]
    #[case::no_audience("aud", Value::Null)]
    #[case::no_issuer("iss", Value::Null)]
    #[case::no_subject("sub", Value::Null)]
    fn any_other_token_is_refused(#[case] claim: &str, #[case] value: Value) {
        let signer = Signer::es256("k");
        let verifier = verifier(&[&signer]);
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        assert!(!verifier.accepts(&signer.token(&claims)));
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let (ours, other) = (Signer::es256("k"), Signer::es256("k"));
        assert!(!verifier(&[&ours]).accepts(&other.token(&claims())));
        let renamed = Signer::es256("other");
        assert!(!verifier(&[&ours]).accepts(&renamed.token(&claims())));
    }

    #[test]
    fn after_a_rotation_both_keys_count() {
        let (old, new) = (Signer::rsa("old"), Signer::es256("new"));
        let verifier = verifier(&[&old, &new]);
        assert!(verifier.accepts(&old.token(&claims())));
        assert!(verifier.accepts(&new.token(&claims())));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let signer = Signer::es256("k");
        let verifier = verifier(&[&signer]);
        let token = signer.token(&claims());
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        for bad in [
            "",
            "a.b.c",
            &format!("{unsigned}."),
            unsigned,
            &"a".repeat(MAX_TOKEN + 1),
        ] {
            assert!(!verifier.accepts(bad));
        }
    }

    #[test]
    fn a_key_set_without_a_usable_key_is_refused() {
        let mut expected = StatusToken {
            issuer: String::new(),
            audience: String::new(),
            subject: String::new(),
            jwks: "{\"keys\": []}".into(),
        };
        assert!(matches!(TokenVerifier::new(&expected), Err(KeySetError::Empty)));
        expected.jwks = "no JSON".into();
        assert!(matches!(
            TokenVerifier::new(&expected),
            Err(KeySetError::Syntax(_))
        ));
    }

    #[rstest]
    #[case(&["Bearer abc"], Some("abc"))]
    #[case(&["bearer abc"], Some("abc"))]
    #[case(&["Basic abc"], None)]
    #[case(&["Bearer"], None)]
    #[case(&["Bearer abc", "Bearer def"], None)]
    #[case(&[], None)]
    fn one_bearer_token_is_looked_at(#[case] values: &[&'static str], #[case] token: Option<&str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        assert_eq!(bearer(&headers), token);
    }
}
