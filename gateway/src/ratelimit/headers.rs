//! What a client is told of its limits: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers,
//! structured fields of items with parameters) and `Retry-After` (RFC 9110).

use std::fmt::Write as _;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_config::limits::RateLimit;

use super::{Limited, Quota};

/// `RateLimit`: what is left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// `RateLimit-Policy`: what the limit is.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The largest integer of a structured field.
const MOST: u64 = 999_999_999_999_999;

/// A limit's unchanging part of both headers.
#[derive(Debug)]
pub struct Labels {
    /// The name as a structured-field string, quotes included.
    item: Box<str>,
    policy: HeaderValue,
}

impl Labels {
    /// Renders a limit's name and policy once.
    pub fn new(limit: &RateLimit) -> Self {
        let item = sf_string(&limit.name);
        // `w` is in whole seconds: a shorter period is told as its flow per second.
        let millis = limit.per.get().as_millis().max(1);
        let (quota, window) = if millis >= 1000 {
            (u128::from(limit.requests), millis / 1000)
        } else {
            (u128::from(limit.requests) * 1000 / millis, 1)
        };
        let policy = HeaderValue::try_from(format!("{item};q={quota};w={window}"))
            .expect("a structured-field string and numbers are visible ASCII");
        Self {
            item: item.into(),
            policy,
        }
    }
}

/// A structured-field string (RFC 9651): visible ASCII and spaces; what is neither becomes `_`.
fn sf_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('_'),
        }
    }
    out.push('"');
    out
}

/// Tells the client what is left.
pub fn apply(quota: &Quota, headers: &mut HeaderMap) {
    insert(&quota.labels, quota.remaining, quota.reset, headers);
}

/// Tells the client that nothing is left, and when to come again. `Retry-After` is for answers with status 429.
pub fn apply_limited(limited: &Limited, headers: &mut HeaderMap) {
    insert(&limited.labels, 0, limited.retry_after, headers);
    headers.insert(RETRY_AFTER, retry_after(limited.retry_after));
}

/// Whole seconds, rounded up, at least one: a client that comes earlier is refused again.
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(whole_seconds(wait).max(1))
}

fn whole_seconds(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    seconds.min(MOST)
}

fn insert(labels: &Labels, remaining: u64, reset: Duration, headers: &mut HeaderMap) {
    let mut value = String::with_capacity(labels.item.len() + 24);
    value.push_str(&labels.item);
    write!(value, ";r={};t={}", remaining.min(MOST), whole_seconds(reset))
        .expect("writing to a String does not fail");
    let value = HeaderValue::try_from(value).expect("a structured-field string and numbers are ASCII");
    headers.insert(RATE_LIMIT, value);
    headers.insert(RATE_LIMIT_POLICY, labels.policy.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_config::limits::LimitKey;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::sync::Arc;

    fn labels(name: &str, requests: u32, per_millis: u64) -> Arc<Labels> {
        Arc::new(Labels::new(&RateLimit {
            name: name.into(),
            key: LimitKey::Client,
            matches: None,
            requests,
            per: portcullis_config::Duration::from_millis(per_millis),
            burst: 1,
        }))
    }

    fn told(headers: &HeaderMap) -> Vec<String> {
        let mut told: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        told.sort();
        told
    }

    #[rstest]
    #[case(100, 60_000, "\"l\";q=100;w=60")]
    #[case(5, 1_000, "\"l\";q=5;w=1")]
    #[case(5, 250, "\"l\";q=20;w=1")]
    #[case(5, 1_500, "\"l\";q=5;w=1")]
    #[case(1, 86_400_000, "\"l\";q=1;w=86400")]
    fn the_policy_is_in_whole_seconds(#[case] requests: u32, #[case] per: u64, #[case] expected: &str) {
        assert_eq!(labels("l", requests, per).policy, expected);
    }

    #[test]
    fn a_quota_is_told_in_both_headers() {
        let quota = Quota {
            rule: "per-client".into(),
            remaining: 17,
            reset: Duration::from_millis(1_001),
            labels: labels("per-client", 100, 60_000),
        };
        let mut headers = HeaderMap::new();
        apply(&quota, &mut headers);
        let expected = [
            "ratelimit-policy: \"per-client\";q=100;w=60",
            "ratelimit: \"per-client\";r=17;t=2",
        ];
        assert_eq!(told(&headers), expected);
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let limited = Limited {
            rule: "l".into(),
            retry_after: Duration::from_millis(20),
            labels: labels("l", 10, 60_000),
        };
        let mut headers = HeaderMap::new();
        apply_limited(&limited, &mut headers);
        let expected = [
            "ratelimit-policy: \"l\";q=10;w=60",
            "ratelimit: \"l\";r=0;t=1",
            "retry-after: 1",
        ];
        assert_eq!(told(&headers), expected);
        assert_eq!(retry_after(Duration::from_millis(59_001)), "60");
        assert_eq!(retry_after(Duration::ZERO), "1");
    }

    proptest! {
        #[test]
        fn every_name_makes_a_header(name in any::<String>()) {
            let labels = labels(&name, 1, 1);
            let mut headers = HeaderMap::new();
            insert(&labels, u64::MAX, Duration::MAX, &mut headers);
            let told = headers[RATE_LIMIT].to_str().unwrap();
            prop_assert!(told.ends_with(";r=999999999999999;t=999999999999999"));
        }
    }
}
