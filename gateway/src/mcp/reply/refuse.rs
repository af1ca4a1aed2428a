//! From a cause to an HTTP response.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::{error_head, write_number};
use super::cause::Cause;
use super::facts::Class;
use crate::mcp::revision::Era;

/// The answer to a refused request. `id` is the raw JSON id of the message, where there is one.
///
/// `era` is `None` while it is not known and for what carries no JSON-RPC message (GET and DELETE): those get plain
/// HTTP statuses. A refused notification of the session era is accepted and dropped, since it has no answer and any
/// other status ends the session in some clients.
pub fn refuse(cause: &Cause, era: Option<Era>, id: Option<&[u8]>) -> Response<Bytes> {
    let dropped = era == Some(Era::Session) && id.is_none() && cause.class() == Class::Refusal;
    let silent = matches!(cause, Cause::NotFound) && id.is_none();
    let mut response = Response::new(if dropped || silent {
        Bytes::new()
    } else {
        body(cause, id)
    });
    *response.status_mut() = if dropped {
        StatusCode::ACCEPTED
    } else {
        cause.http_status(era)
    };
    let headers = response.headers_mut();
    if !dropped && !silent {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Cause::MethodNotAllowed { allow } = cause {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if let Some(seconds) = retry_seconds(cause) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The JSON-RPC error for a cause, for streams and batches too.
pub(super) fn body(cause: &Cause, id: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(384);
    error_head(id, cause.code(), &cause.message(), &mut out);
    out.extend_from_slice(b",\"data\":{\"reason\":\"");
    out.extend_from_slice(cause.reason().as_bytes());
    out.push(b'"');
    if let Some(seconds) = retry_seconds(cause) {
        out.extend_from_slice(b",\"retryAfter\":");
        write_number(seconds, &mut out);
    }
    cause.write_data(&mut out);
    out.extend_from_slice(b"}}}");
    out.into()
}

/// Whole seconds, rounded up and never zero: zero would invite a retry that fails.
fn retry_seconds(cause: &Cause) -> Option<u64> {
    let wait = cause.retry_after()?;
    Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
}

#[cfg(test)]
mod tests;
