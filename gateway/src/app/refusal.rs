//! A refusal on its way to the client.

use http::{HeaderMap, Response, header};

use super::context::Context;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::proxy::stream::Body;
use crate::ratelimit::{Limited, headers as quota_headers};

/// Why not, with the headers that belong to it.
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// `RateLimit` and the like, or a challenge. In a box: most refusals have none, and every result carries the room.
    pub headers: Option<Box<HeaderMap>>,
}

impl From<Cause> for Refusal {
    fn from(cause: Cause) -> Self {
        Self { cause, headers: None }
    }
}

impl From<Limited> for Refusal {
    fn from(limited: Limited) -> Self {
        let mut headers = HeaderMap::new();
        quota_headers::apply_limited(&limited, &mut headers);
        // The answer itself says when to come again, rounded in one place.
        headers.remove(header::RETRY_AFTER);
        let cause = Cause::RateLimited {
            rule: limited.rule,
            retry_after: limited.retry_after,
        };
        Self {
            cause,
            headers: Some(Box::new(headers)),
        }
    }
}

impl Refusal {
    /// As a response.
    pub fn render(self, era: Option<Era>, id: Option<&[u8]>) -> Response<Body> {
        let mut response = reply::refuse(&self.cause, era, id).map(Body::from);
        if let Some(headers) = self.headers {
            response.headers_mut().extend(*headers);
        }
        response
    }
}

impl Context {
    /// Refuses, and records why.
    pub fn refuse(mut self, refusal: Refusal, era: Option<Era>, id: Option<&[u8]>) -> Response<Body> {
        let cause = refusal.cause.clone();
        let response = refusal.render(era, id);
        self.entry.refused(&cause, response.status());
        response
    }

    /// Answers, and records that.
    pub fn answer(mut self, response: Response<Body>) -> Response<Body> {
        self.entry.allowed(response.status());
        response
    }
}
