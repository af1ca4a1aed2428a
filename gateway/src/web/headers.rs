//! Headers of every answer on the public port, errors included. The gateway serves no pages: all of them say so.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use portcullis_config::web::{FrameOptions, Headers};

/// The headers, their values made once for each configuration.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    policy: HeaderValue,
    frames: HeaderValue,
    /// Only where TLS ends here: on plaintext a browser must ignore it (RFC 6797, section 8.1).
    transport: Option<HeaderValue>,
}

/// How many are added at most.
const COUNT: usize = 6;

impl SecurityHeaders {
    /// As they are configured. `tls`: the gateway itself speaks TLS.
    pub fn new(headers: Headers, tls: bool) -> Self {
        let (policy, frames) = match headers.frame_options {
            FrameOptions::Deny => ("default-src 'none'; frame-ancestors 'none'", "DENY"),
            FrameOptions::SameOrigin => ("default-src 'none'; frame-ancestors 'self'", "SAMEORIGIN"),
        };
        let transport = (tls && headers.hsts > 0).then(|| {
            HeaderValue::try_from(format!("max-age={}", headers.hsts)).expect("digits are visible ASCII")
        });
        Self {
            policy: HeaderValue::from_static(policy),
            frames: HeaderValue::from_static(frames),
            transport,
        }
    }

    /// Puts them on an answer. What may be stored says so itself; nothing else may be.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.reserve(COUNT);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(X_FRAME_OPTIONS, self.frames.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        if let Some(transport) = &self.transport {
            headers.insert(STRICT_TRANSPORT_SECURITY, transport.clone());
        }
    }
}

impl Default for SecurityHeaders {
    /// Those of an answer that no configuration speaks of.
    fn default() -> Self {
        Self::new(Headers::default(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn applied(frame_options: FrameOptions, hsts: u32, tls: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        SecurityHeaders::new(Headers { frame_options, hsts }, tls).apply(&mut headers);
        headers
    }

    #[rstest]
    #[case(FrameOptions::Deny, "DENY", "default-src 'none'; frame-ancestors 'none'")]
    #[case(
        FrameOptions::SameOrigin,
        "SAMEORIGIN",
        "default-src 'none'; frame-ancestors 'self'"
    )]
    fn both_headers_say_the_same_of_frames(
        #[case] option: FrameOptions,
        #[case] frames: &str,
        #[case] policy: &str,
    ) {
        let headers = applied(option, 1, false);
        assert_eq!(headers[X_FRAME_OPTIONS], frames);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], policy);
    }

    #[rstest]
    #[case(31_536_000, true, Some("max-age=31536000"))]
    #[case(0, true, None)]
    #[case(31_536_000, false, None)]
    fn hsts_is_told_on_tls_only(#[case] hsts: u32, #[case] tls: bool, #[case] told: Option<&str>) {
        let headers = applied(FrameOptions::Deny, hsts, tls);
        let value = headers
            .get(STRICT_TRANSPORT_SECURITY)
            .map(|value| value.to_str().unwrap());
        assert_eq!(value, told);
        assert!(headers.len() <= COUNT);
    }

    #[test]
    fn what_may_be_stored_says_so() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        SecurityHeaders::default().apply(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "public, max-age=300");
        assert_eq!(applied(FrameOptions::Deny, 0, true)[CACHE_CONTROL], "no-store");
    }
}
