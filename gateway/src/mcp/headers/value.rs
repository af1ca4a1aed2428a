//! How a text travels in `Mcp-Name` and `Mcp-Param-*`: as it is where it is plain ASCII, else as `=?base64?...?=`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// The value holds bytes that do not belong in a header, or its base64 is not that of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid header value")]
pub struct BadValue;

/// The text that a header's value stands for.
pub fn decode(value: &[u8]) -> Result<Cow<'_, str>, BadValue> {
    if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(BadValue);
    }
    let plain = std::str::from_utf8(value).map_err(|_| BadValue)?;
    let Some(encoded) = plain
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX))
    else {
        return Ok(Cow::Borrowed(plain));
    };
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| BadValue)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadValue)
}

/// The header value for a text.
pub fn encode(text: &str) -> HeaderValue {
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let marked = text.starts_with(PREFIX) && text.ends_with(SUFFIX);
    let plain = !padded && !marked && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if plain && let Ok(value) = HeaderValue::from_str(text) {
        return value;
    }
    let encoded = format!("{PREFIX}{}{SUFFIX}", BASE64_STANDARD.encode(text));
    HeaderValue::try_from(encoded).expect("base64 is ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    // The examples of the specification.
    #[rstest]
    #[case("us-west1", "us-west1")]
    #[case("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?=")]
    #[case(" padded ", "=?base64?IHBhZGRlZCA=?=")]
    #[case("line1\nline2", "=?base64?bGluZTEKbGluZTI=?=")]
    #[case("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=")]
    #[case("", "")]
    fn as_specified(#[case] text: &str, #[case] header: &str) {
        assert_eq!(encode(text), header);
        assert_eq!(decode(header.as_bytes()).unwrap(), text);
    }

    #[rstest]
    #[case(b"caf\xc3\xa9")]
    #[case(b"a\x00b")]
    #[case(b"a\x7f")]
    #[case(b"=?base64?***?=")]
    #[case(b"=?base64?YQ?=")]
    #[case(b"=?base64?/w==?=")]
    #[case(b"=?base64?YR==?=")]
    fn refused(#[case] header: &[u8]) {
        assert_eq!(decode(header), Err(BadValue));
    }

    #[rstest]
    #[case("=?BASE64?YQ==?=")]
    #[case("=?base64?YQ==")]
    #[case("x=?base64?YQ==?=")]
    #[case("=?base64?=")]
    fn only_the_exact_marks_count(#[case] header: &str) {
        assert_eq!(decode(header.as_bytes()).unwrap(), header);
    }

    proptest! {
        #[test]
        fn every_text_travels(text in any::<String>()) {
            let header = encode(&text);
            prop_assert_eq!(decode(header.as_bytes()).unwrap(), text);
        }

        #[test]
        fn any_bytes_do_no_harm(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let marked = [PREFIX.as_bytes(), &value, SUFFIX.as_bytes()].concat();
            prop_assert!(decode(&value).is_ok() || decode(&value) == Err(BadValue));
            prop_assert!(decode(&marked).is_ok() || decode(&marked) == Err(BadValue));
        }
    }
}
