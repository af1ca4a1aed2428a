//! The credential in a request, by its form. The form decides who judges it, and nobody else gets a second look.
//! A token in a query string is never looked at (RFC 6750 section 2.3 was a mistake).

use http::HeaderMap;
use http::header::AUTHORIZATION;
use portcullis_config::api_key;

/// The longest credential that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What a request presents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No `Authorization` at all.
    Nothing,
    /// Looks like an API key of ours.
    ApiKey(&'a str),
    /// Looks like a JSON Web Token.
    Jwt(&'a str),
}

/// Debug output goes to logs and test output: the form, never the credential.
impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::ApiKey(_) => "ApiKey(..)",
            Self::Jwt(_) => "Jwt(..)",
        })
    }
}

/// Finds the credential, or says why what is there is none.
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(Presented::Nothing);
    };
    // Two of them are a quarrel about who is calling: neither is believed.
    if values.next().is_some() {
        return Err("more than one Authorization header");
    }
    if value.len() > MAX_TOKEN_BYTES + "Bearer ".len() {
        return Err("the credential is too long");
    }
    let text = value
        .to_str()
        .map_err(|_| "the Authorization header is not ASCII")?;
    let (scheme, token) = text
        .split_once(' ')
        .ok_or("the Authorization header has no credential")?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("the authentication scheme is not Bearer");
    }
    // RFC 9110 allows several spaces between scheme and credential.
    let token = token.trim_start_matches(' ');
    if token.starts_with(api_key::PREFIX) {
        return Ok(Presented::ApiKey(token));
    }
    if is_jwt(token) {
        return Ok(Presented::Jwt(token));
    }
    Err("the credential has no known form")
}

/// Three parts of base64url, none of them empty (an empty signature is `alg: none`).
fn is_jwt(token: &str) -> bool {
    let mut parts = 0;
    token.split('.').all(|part| {
        parts += 1;
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }) && parts == 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_sent_is_one_form_or_refused(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut headers = HeaderMap::new();
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            headers.insert(AUTHORIZATION, value);
            prop_assert!(presented(&headers) != Ok(Presented::Nothing));
        }

        #[test]
        fn a_token_is_handed_on_as_it_came(token in "[A-Za-z0-9_-]{1,9}\\.[A-Za-z0-9_-]{1,9}\\.[A-Za-z0-9_-]{1,9}") {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
            let expected = if token.starts_with("pcl_") { Presented::ApiKey(&token) } else { Presented::Jwt(&token) };
            prop_assert!(presented(&headers) == Ok(expected));
        }
    }
}
