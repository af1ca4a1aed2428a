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
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn insert(labels: &Labels, remaining: u64, reset: Duration, headers: &mut HeaderMap) {
    let mut value = String::with_capacity(labels.item.len() + 24);
    value.push_str(&labels.item);
    write!(value, ";r={remaining};t={}", whole_seconds(reset)).expect("writing to a String does not fail");
    let value = HeaderValue::try_from(value).expect("a structured-field string and numbers are ASCII");
    headers.insert(RATE_LIMIT, value);
    headers.insert(RATE_LIMIT_POLICY, labels.policy.clone());
}
