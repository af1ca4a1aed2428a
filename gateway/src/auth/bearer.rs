//! The credential in a request, by its form. The form decides who judges it, and nobody else gets a second look.
//! A token in a query string is never looked at (RFC 6750 section 2.3 was a mistake).

use http::HeaderMap;
use http::header::AUTHORIZATION;
use portcullis_config::api_key;

/// The longest credential that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What a request presents. Untrusted bytes: that they are what they look like is for those to find out who judge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No `Authorization` at all.
    Nothing,
    /// Looks like an API key of ours.
    ApiKey(&'a [u8]),
    /// Looks like a JSON Web Token.
    Jwt(&'a [u8]),
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

/// Finds the credential, or says why what is there is none. Looks at as little of it as will do: a token that was
/// verified before is found by its digest, and whatever is odd about one that was not comes out then.
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, &'static str> {
    const SCHEME: &[u8] = b"bearer";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(Presented::Nothing);
    };
    // Two of them are a quarrel about who is calling: neither is believed.
    if values.next().is_some() {
        return Err("more than one Authorization header");
    }
    let bytes = value.as_bytes();
    let (scheme, rest) = bytes
        .split_at_checked(SCHEME.len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
        .ok_or("the authentication scheme is not Bearer")?;
    // RFC 9110 allows several spaces between scheme and credential.
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    let (_, token) = rest
        .split_at_checked(spaces)
        .filter(|_| spaces > 0)
        .ok_or("the authentication scheme is not Bearer")?;
    if bytes.len() - scheme.len() > MAX_TOKEN_BYTES {
        return Err("the credential is too long");
    }
    if token.starts_with(api_key::PREFIX.as_bytes()) {
        return Ok(Presented::ApiKey(token));
    }
    if token.contains(&b'.') {
        return Ok(Presented::Jwt(token));
    }
    Err("the credential has no known form")
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
            let bytes = token.as_bytes();
            let expected = if token.starts_with("pcl_") { Presented::ApiKey(bytes) } else { Presented::Jwt(bytes) };
            prop_assert!(presented(&headers) == Ok(expected));
        }
    }
}
