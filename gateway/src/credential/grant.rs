//! The client credentials grant (RFC 6749, section 4.4): what is asked, and what an answer says. No I/O.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use portcullis_config::server::{AddressPolicy, ClientAuthentication, OauthClientCredentials};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::net::fetch::Form;

/// The longest token that is taken.
const MAX_TOKEN: usize = 16 << 10;
/// How long a token is taken to hold whose answer does not say.
const UNSAID: Duration = Duration::from_mins(5);
/// No token is kept for longer, whatever its answer says.
const LONGEST: Duration = Duration::from_hours(24);

/// What is asked of a token endpoint, all but the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The token endpoint.
    pub url: Url,
    /// Which addresses its host may resolve to.
    pub policy: AddressPolicy,
    client_id: String,
    style: ClientAuthentication,
    scopes: Vec<String>,
    audience: Option<String>,
    resource: Option<String>,
}

/// A token and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// `Bearer …`
    pub value: HeaderValue,
    /// From its answer on.
    pub lifetime: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    /// A number; some servers write it as a string.
    expires_in: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Grant {
    /// By the configuration of a server.
    pub fn new(configured: &OauthClientCredentials) -> Result<Self, String> {
        let OauthClientCredentials {
            token_url,
            address_policy,
            ca_bundle: _,
            client_id,
            client_secret: _,
            client_authentication,
            scopes,
            audience,
            resource,
        } = configured;
        Ok(Self {
            url: token_url
                .parse()
                .map_err(|error| format!("oauthClientCredentials.tokenUrl is no URL: {error}"))?,
            policy: *address_policy,
            client_id: client_id.clone(),
            style: *client_authentication,
            scopes: scopes.clone(),
            audience: audience.clone(),
            resource: resource.clone(),
        })
    }

    /// The request for a token.
    pub fn ask(&self, secret: &str) -> Form {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes.join(" "));
        }
        for (name, value) in [("audience", &self.audience), ("resource", &self.resource)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let authorization = match self.style {
            ClientAuthentication::Basic => Some(basic(&self.client_id, secret)),
            ClientAuthentication::Post => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", secret);
                None
            }
        };
        Form {
            body: form.finish(),
            authorization,
        }
    }
}

/// Both parts are form-encoded first (RFC 6749, section 2.3.1).
fn basic(client_id: &str, secret: &str) -> HeaderValue {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
        .expect("base64 can stand in a header");
    value.set_sensitive(true);
    value
}

/// Reads a token endpoint's answer. What is wrong with it is said without a word of it that could be a secret.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<Token, String> {
    if status != StatusCode::OK {
        let code = serde_json::from_slice::<Refusal>(body)
            .ok()
            .map(|refusal| refusal.error)
            .filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        return Err(match code {
            Some(code) => format!("the token endpoint answered {} with {code}", status.as_u16()),
            None => format!("the token endpoint answered {}", status.as_u16()),
        });
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| "the token endpoint's answer is not what RFC 6749 has it say".to_owned())?;
    if !answer
        .token_type
        .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    {
        return Err("the token endpoint gave no bearer token".into());
    }
    let token = answer.access_token.unwrap_or_default();
    let is_token = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if !is_token {
        return Err("the token endpoint gave an empty token, or one that cannot stand in a header".into());
    }
    let lifetime = match answer.expires_in {
        None => UNSAID,
        Some(said) => {
            let seconds = match said {
                Seconds::Number(number) => Some(number),
                Seconds::Text(text) => text.trim().parse().ok(),
            };
            let seconds = seconds
                .filter(|seconds| *seconds >= 1.0)
                .ok_or("the token endpoint gave a token that has expired already")?;
            Duration::try_from_secs_f64(seconds)
                .unwrap_or(LONGEST)
                .min(LONGEST)
        }
    };
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token endpoint gave a token that cannot stand in a header")?;
    value.set_sensitive(true);
    Ok(Token { value, lifetime })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn grant(more: &str) -> Grant {
        let text = format!(
            "tokenUrl: https://idp.example/token\naddressPolicy: Public\nclientId: 'gate way'\nclientSecret: s\n{more}"
        );
        Grant::new(&serde_yaml::from_str(&text).unwrap()).unwrap()
    }

    #[test]
    fn the_secret_stands_in_the_header_or_in_the_form_and_never_in_both() {
        let asked = grant("scopes: [a, b]\naudience: https://x.example").ask("s:e&c");
        let expected = format!("Basic {}", STANDARD.encode("gate+way:s%3Ae%26c"));
        let header = asked.authorization.unwrap();
        assert!(header.is_sensitive());
        assert_eq!(header.to_str().unwrap(), expected);
        assert_eq!(
            asked.body,
            "grant_type=client_credentials&scope=a+b&audience=https%3A%2F%2Fx.example"
        );
        let asked = grant("clientAuthentication: Post\nresource: https://y.example/mcp").ask("s:e&c");
        assert!(asked.authorization.is_none());
        assert_eq!(
            asked.body,
            "grant_type=client_credentials&resource=https%3A%2F%2Fy.example%2Fmcp&client_id=gate+way&client_secret=s%3Ae%26c"
        );
    }

    #[rstest]
    #[case(r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#, 60)]
    #[case(
        r#"{"access_token":"t","token_type":"bearer","expires_in":"60","scope":"x"}"#,
        60
    )]
    #[case(r#"{"access_token":"t","token_type":"BEARER"}"#, 300)]
    #[case(r#"{"access_token":"t","token_type":"Bearer","expires_in":1e300}"#, 86400)]
    fn tokens_are_read(#[case] body: &str, #[case] seconds: u64) {
        let token = read(StatusCode::OK, body.as_bytes()).unwrap();
        assert_eq!(token.value, "Bearer t");
        assert!(token.value.is_sensitive());
        assert_eq!(token.lifetime, Duration::from_secs(seconds));
    }

    #[rstest]
    #[case(200, "", "not what RFC 6749")]
    #[case(200, r#"{"access_token":"t"}"#, "no bearer token")]
    #[case(200, r#"{"access_token":"t","token_type":"DPoP"}"#, "no bearer token")]
    #[case(200, r#"{"access_token":"","token_type":"Bearer"}"#, "empty token")]
    #[case(200, r#"{"access_token":"a b","token_type":"Bearer"}"#, "empty token")]
    #[case(
        200,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#,
        "expired already"
    )]
    #[case(
        200,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":-5}"#,
        "expired already"
    )]
    #[case(
        200,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":"soon"}"#,
        "expired already"
    )]
    #[case(
        401,
        r#"{"error":"invalid_client","error_description":"hunter2"}"#,
        "answered 401 with invalid_client"
    )]
    #[case(400, r#"{"error":"<script>"}"#, "answered 400")]
    #[case(302, "", "answered 302")]
    fn what_is_no_token_is_said_without_its_words(
        #[case] status: u16,
        #[case] body: &str,
        #[case] expected: &str,
    ) {
        let error = read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("script"), "{error}");
    }

    #[test]
    fn a_token_of_any_length_does_not_make_a_header() {
        let long = format!(
            r#"{{"access_token":"{}","token_type":"Bearer"}}"#,
            "x".repeat(MAX_TOKEN + 1)
        );
        assert!(read(StatusCode::OK, long.as_bytes()).is_err());
    }
}
