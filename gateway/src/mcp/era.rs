//! Which era a request belongs to, and whether it keeps that era's rules.

use http::Method as HttpMethod;

use super::envelope::{Kind, Message};
use super::headers::{self, McpHeaders};
use super::meta;
use super::reply::Cause;
use super::revision::{Era, Revision};
use super::scan::Member;

/// The era of a POST. A claim to be stateless is a stateless version in the header, or any version in `params._meta`,
/// malformed ones included: what claims the newer rules is judged by them and never falls back to the older.
pub fn era(headers: &McpHeaders<'_>, message: &Message) -> Result<Era, Cause> {
    let named = headers.version.map(Revision::parse);
    if message.span(Member::MetaProtocolVersion).is_some() {
        return Ok(Era::Stateless);
    }
    match named {
        None => Ok(Era::Session),
        Some(Some(revision)) if revision.era() == Era::Stateless => Ok(Era::Stateless),
        Some(Some(revision)) if revision.is_served() => Ok(Era::Session),
        Some(_) => Err(unsupported(headers.version.unwrap_or_default())),
    }
}

/// The era of a request without a body (GET, DELETE): only sessions have those.
pub fn era_without_body(headers: &McpHeaders<'_>) -> Result<Era, Cause> {
    match headers.version.map(Revision::parse) {
        None => Ok(Era::Session),
        Some(Some(revision)) if revision.era() == Era::Stateless => {
            Err(Cause::MethodNotAllowed { allow: "POST" })
        }
        Some(Some(revision)) if revision.is_served() => Ok(Era::Session),
        Some(_) => Err(unsupported(headers.version.unwrap_or_default())),
    }
}

/// The HTTP methods an MCP endpoint takes.
pub fn check_http_method(method: &HttpMethod) -> Result<(), Cause> {
    if [HttpMethod::POST, HttpMethod::GET, HttpMethod::DELETE].contains(method) {
        Ok(())
    } else {
        Err(Cause::MethodNotAllowed {
            allow: "GET, POST, DELETE",
        })
    }
}

/// Everything that a stateless message has to keep, in the order in which SDKs and the conformance suite expect the
/// failures: form, `_meta`, version, headers, method.
pub fn check_stateless(headers: &McpHeaders<'_>, message: &Message) -> Result<(), Cause> {
    if !matches!(message.kind(), Kind::Request | Kind::Notification) {
        return Err(Cause::Unexpected(
            "a client of this protocol version sends no responses; answers go in the retried request",
        ));
    }
    meta::check_stateless(message)?;
    headers::agree(headers, message)?;
    let claimed = message.str(Member::MetaProtocolVersion);
    let version = claimed
        .as_deref()
        .map(str::as_bytes)
        .or(headers.version)
        .unwrap_or_default();
    if Revision::parse(version) != Some(Revision::STATELESS) {
        return Err(unsupported(version));
    }
    check_method(message, Era::Stateless)
}

/// What a message of a session has to keep besides its session.
pub fn check_session(message: &Message) -> Result<(), Cause> {
    match message.kind() {
        Kind::Response | Kind::ErrorResponse => Ok(()),
        Kind::Request | Kind::Notification => check_method(message, Era::Session),
    }
}

/// A method that clients send, in this form and in this era. Unknown notifications pass: they are dropped later.
fn check_method(message: &Message, era: Era) -> Result<(), Cause> {
    let method = message.method();
    if message.kind() == Kind::Notification {
        return if method.is_client_request() {
            Err(Cause::Unexpected("this method is a request and needs an id"))
        } else {
            Ok(())
        };
    }
    if method.exists_in(era) && method.is_client_request() {
        Ok(())
    } else {
        Err(Cause::MethodUnknown)
    }
}

fn unsupported(version: &[u8]) -> Cause {
    Cause::UnsupportedVersion {
        requested: String::from_utf8_lossy(version).into(),
    }
}

#[cfg(test)]
mod tests;
