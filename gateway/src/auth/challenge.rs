//! `WWW-Authenticate` (RFC 6750 with the `resource_metadata` of RFC 9728): what a client that was refused may do.

use http::HeaderValue;
use portcullis_config::{Config, Problem};

use super::metadata::{self, Metadata};
use super::{AuthFailure, Endpoint};

/// Everything that challenges are made of.
#[derive(Debug)]
pub struct Challenges {
    /// ` scope="a b"`-style parameter, or nothing.
    scopes: Option<String>,
    /// Named where there is no metadata to point to.
    realm: String,
    /// The two that nearly every answer carries, rendered once.
    federated_missing: HeaderValue,
    federated_invalid: HeaderValue,
}

impl Challenges {
    /// The challenges of a configuration.
    pub fn build(config: &Config, metadata: Option<&Metadata>) -> Result<Self, Problem> {
        let scopes = &config.auth.protected_resource.scopes;
        if let Some(bad) = scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(Problem {
                path: "auth.protectedResource.scopes".into(),
                message: format!(
                    "{bad:?} is no OAuth scope: visible ASCII without quotes, backslashes and spaces"
                ),
            });
        }
        let mut challenges = Self {
            scopes: (!scopes.is_empty()).then(|| scopes.join(" ")),
            realm: metadata::origin(config),
            federated_missing: HeaderValue::from_static("Bearer"),
            federated_invalid: HeaderValue::from_static("Bearer"),
        };
        let render = |error| {
            let scopes = challenges.scopes.as_deref();
            challenges.render(metadata, Endpoint::Federated, error, scopes)
        };
        (challenges.federated_missing, challenges.federated_invalid) =
            (render(None), render(Some(INVALID_TOKEN)));
        Ok(challenges)
    }

    /// The challenge beside a 401. `error` stands there only when something was presented (RFC 6750 section 3.1).
    pub fn unauthenticated(
        &self,
        metadata: Option<&Metadata>,
        failure: &AuthFailure,
        endpoint: Endpoint<'_>,
    ) -> HeaderValue {
        let error = match failure {
            AuthFailure::Missing => None,
            AuthFailure::Invalid { .. }
            | AuthFailure::NotReady
            | AuthFailure::Denied
            | AuthFailure::AddressExhausted => Some(INVALID_TOKEN),
        };
        match (endpoint, error) {
            (Endpoint::Federated, None) => self.federated_missing.clone(),
            (Endpoint::Federated, Some(_)) => self.federated_invalid.clone(),
            (Endpoint::Server(_), error) => self.render(metadata, endpoint, error, self.scopes.as_deref()),
        }
    }

    /// The challenge beside a 403 for want of a scope, naming all that the rule knows.
    pub fn insufficient_scope<S: AsRef<str>>(
        &self,
        metadata: Option<&Metadata>,
        endpoint: Endpoint<'_>,
        scopes: &[S],
    ) -> HeaderValue {
        // A rule may hold texts that no authorization server gives out as a scope: those cannot be asked for.
        let scopes: Vec<&str> = scopes
            .iter()
            .map(AsRef::as_ref)
            .filter(|scope| is_scope(scope))
            .collect();
        let scopes = (!scopes.is_empty()).then(|| scopes.join(" "));
        self.render(metadata, endpoint, Some("insufficient_scope"), scopes.as_deref())
    }

    fn render(
        &self,
        metadata: Option<&Metadata>,
        endpoint: Endpoint<'_>,
        error: Option<&str>,
        scopes: Option<&str>,
    ) -> HeaderValue {
        let place = match metadata {
            Some(metadata) => ("resource_metadata", metadata.url(endpoint)),
            None => ("realm", self.realm.clone()),
        };
        let mut text = format!("Bearer {}=\"{}\"", place.0, place.1);
        for (name, value) in [("error", error), ("scope", scopes)] {
            if let Some(value) = value {
                text.extend([", ", name, "=\"", value, "\""]);
            }
        }
        // Origins are ASCII by way of the URL parser, names and scopes by their checks.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    }
}

const INVALID_TOKEN: &str = "invalid_token";

/// RFC 6749 section 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
