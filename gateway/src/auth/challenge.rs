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
            (Endpoint::Server(_) | Endpoint::Set(_), error) => {
                self.render(metadata, endpoint, error, self.scopes.as_deref())
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{config, jwt_config};
    use rstest::rstest;

    const INVALID: AuthFailure = AuthFailure::Invalid { reason: "x" };
    const BASE: &str =
        "Bearer resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource";

    fn challenge(config: &Config, failure: AuthFailure, endpoint: Endpoint<'_>) -> String {
        let metadata = Metadata::build(config);
        let challenges = Challenges::build(config, metadata.as_ref()).unwrap();
        let value = challenges.unauthenticated(metadata.as_ref(), &failure, endpoint);
        value.to_str().unwrap().to_owned()
    }

    #[rstest]
    #[case(AuthFailure::Missing, Endpoint::Federated, "/mcp\"")]
    #[case(INVALID, Endpoint::Federated, "/mcp\", error=\"invalid_token\"")]
    #[case(AuthFailure::Denied, Endpoint::Federated, "/mcp\", error=\"invalid_token\"")]
    #[case(AuthFailure::Missing, Endpoint::Server("files"), "/servers/files/mcp\"")]
    #[case(AuthFailure::Missing, Endpoint::Set("triage"), "/sets/triage/mcp\"")]
    #[case(
        INVALID,
        Endpoint::Server("ns.x"),
        "/servers/ns.x/mcp\", error=\"invalid_token\""
    )]
    #[case(AuthFailure::Missing, Endpoint::Server("a\"b"), "\"")]
    #[case(AuthFailure::Missing, Endpoint::Server("a\r\nb"), "\"")]
    fn a_challenge_points_to_the_metadata_of_its_endpoint(
        #[case] failure: AuthFailure,
        #[case] endpoint: Endpoint<'_>,
        #[case] rest: &str,
    ) {
        assert_eq!(
            challenge(&jwt_config(""), failure, endpoint),
            format!("{BASE}{rest}")
        );
    }

    #[test]
    fn configured_scopes_are_named() {
        let mut config = jwt_config("");
        config.auth.protected_resource.scopes = vec!["mcp:tools".into(), "b".into()];
        let told = challenge(&config, INVALID, Endpoint::Federated);
        assert_eq!(
            told,
            format!("{BASE}/mcp\", error=\"invalid_token\", scope=\"mcp:tools b\"")
        );
    }

    #[test]
    fn without_metadata_there_is_a_realm() {
        let config = config("{apiKeys: {dir: k}}", "");
        let told = challenge(&config, AuthFailure::Missing, Endpoint::Server("files"));
        assert_eq!(told, "Bearer realm=\"https://mcp.example.com\"");
    }

    #[test]
    fn step_up_names_every_scope_that_can_be_asked_for() {
        let config = jwt_config("");
        let metadata = Metadata::build(&config);
        let challenges = Challenges::build(&config, metadata.as_ref()).unwrap();
        let value =
            challenges.insufficient_scope(metadata.as_ref(), Endpoint::Federated, &["a", "b c", "d\"", "e"]);
        assert_eq!(
            value.to_str().unwrap(),
            format!("{BASE}/mcp\", error=\"insufficient_scope\", scope=\"a e\"")
        );
    }

    #[rstest]
    #[case("a b")]
    #[case("")]
    #[case("a\"")]
    #[case("\u{fc}")]
    fn a_scope_that_is_none_is_a_problem_of_the_configuration(#[case] scope: &str) {
        let mut config = jwt_config("");
        config.auth.protected_resource.scopes = vec![scope.into()];
        assert_eq!(
            Challenges::build(&config, None).unwrap_err().path,
            "auth.protectedResource.scopes"
        );
    }
}
