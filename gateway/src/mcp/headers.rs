//! Request headers of MCP: reading them, and holding them against the body.
//!
//! Whoever routes by a header and whoever executes the body must see the same call, so in the stateless era each
//! routing header has to be there once and say what the body says.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

use super::envelope::{Kind, Message};
use super::reply::Cause;
use super::scan::{self, Member};

mod accept;
mod value;

pub use accept::{accepts_event_stream, accepts_json_and_event_stream, is_json};
pub use value::{BadValue, decode, encode};

/// `MCP-Protocol-Version`
pub static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Session-Id`
pub static SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `Mcp-Method`
pub static METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`
pub static NAME: HeaderName = HeaderName::from_static("mcp-name");
/// `Last-Event-ID`
pub static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What the names of headers begin with that repeat a tool's argument.
pub const PARAM_PREFIX: &str = "mcp-param-";

/// The MCP headers of one request, each present at most once.
#[derive(Clone, Copy, Debug, Default)]
pub struct McpHeaders<'h> {
    /// `MCP-Protocol-Version`
    pub version: Option<&'h [u8]>,
    /// `Mcp-Session-Id`
    pub session: Option<&'h [u8]>,
    /// `Mcp-Method`
    pub method: Option<&'h [u8]>,
    /// `Mcp-Name`, still encoded.
    pub name: Option<&'h [u8]>,
    /// `Last-Event-ID`
    pub last_event_id: Option<&'h [u8]>,
}

impl<'h> McpHeaders<'h> {
    /// Reads them; a header that stands twice is refused, for two readers could take one each.
    pub fn read(headers: &'h HeaderMap) -> Result<Self, Cause> {
        Ok(Self {
            version: single(headers, &PROTOCOL_VERSION, "MCP-Protocol-Version")?,
            session: single(headers, &SESSION_ID, "Mcp-Session-Id")?,
            method: single(headers, &METHOD, "Mcp-Method")?,
            name: single(headers, &NAME, "Mcp-Name")?,
            last_event_id: single(headers, &LAST_EVENT_ID, "Last-Event-ID")?,
        })
    }
}

/// The one value of a header; `None` when absent, an error when there are several.
pub fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'h [u8]>, Cause> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(mismatch(shown, "stands more than once"));
    }
    Ok(first.map(http::HeaderValue::as_bytes))
}

/// The `Mcp-Param-*` headers, name after the prefix and value still encoded. One that stands twice is refused.
pub fn params(headers: &HeaderMap) -> Result<Vec<(&str, &[u8])>, Cause> {
    let mut found = Vec::new();
    for name in headers.keys() {
        if let Some(param) = name.as_str().strip_prefix(PARAM_PREFIX)
            && let Some(value) = single(headers, name, "Mcp-Param-*")?
        {
            found.push((param, value));
        }
    }
    Ok(found)
}

/// Refuses a body that is not plain JSON: `Content-Type` other than `application/json`, or any `Content-Encoding`.
pub fn check_content(headers: &HeaderMap) -> Result<(), Cause> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let json = types.next().is_some_and(|value| is_json(value.as_bytes()));
    let encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if json && types.next().is_none() && !encoded {
        Ok(())
    } else {
        Err(Cause::UnsupportedMediaType)
    }
}

/// Refuses a POST whose client could not read every answer that a server may give.
pub fn check_accept_post(headers: &HeaderMap) -> Result<(), Cause> {
    if accepts_json_and_event_stream(headers) {
        Ok(())
    } else {
        Err(Cause::NotAcceptable)
    }
}

/// Refuses a GET that does not ask for a stream.
pub fn check_accept_get(headers: &HeaderMap) -> Result<(), Cause> {
    if accepts_event_stream(headers) {
        Ok(())
    } else {
        Err(Cause::NotAcceptable)
    }
}

/// Holds the routing headers of the stateless era against the body. Requests must have them; notifications, for
/// which the specification leaves them open, must not have wrong ones.
pub fn agree(headers: &McpHeaders<'_>, message: &Message) -> Result<(), Cause> {
    let required = message.kind() == Kind::Request;
    agree_version(headers, message, required)?;
    agree_method(headers, message, required)?;
    agree_name(headers, message, required)
}

fn agree_version(headers: &McpHeaders<'_>, message: &Message, required: bool) -> Result<(), Cause> {
    const HEADER: &str = "MCP-Protocol-Version";
    let claimed = message.str(Member::MetaProtocolVersion);
    match (headers.version, claimed) {
        (None, _) if required => Err(mismatch(HEADER, "is missing")),
        (Some(header), Some(body)) if header != body.as_bytes() => {
            Err(mismatch(HEADER, "differs from the version in params._meta"))
        }
        _ => Ok(()),
    }
}

fn agree_method(headers: &McpHeaders<'_>, message: &Message, required: bool) -> Result<(), Cause> {
    const HEADER: &str = "Mcp-Method";
    match headers.method {
        None if required => Err(mismatch(HEADER, "is missing")),
        None => Ok(()),
        Some(header) => {
            let body = message.method_raw().map(scan::unescape);
            if matches!(body, Some(Ok(text)) if text.as_bytes() == header) {
                Ok(())
            } else {
                Err(mismatch(HEADER, "differs from the method in the body"))
            }
        }
    }
}

fn agree_name(headers: &McpHeaders<'_>, message: &Message, required: bool) -> Result<(), Cause> {
    const HEADER: &str = "Mcp-Name";
    let Some(source) = message.method().name_source() else {
        return Ok(());
    };
    // A body without the name goes on, to be told what it lacks.
    let Some(body) = message.text(source) else {
        return Ok(());
    };
    let Some(header) = headers.name else {
        return if required {
            Err(mismatch(HEADER, "is missing"))
        } else {
            Ok(())
        };
    };
    let header = decode(header).map_err(|BadValue| mismatch(HEADER, "cannot be decoded"))?;
    if body.is_ok_and(|body| body == header) {
        Ok(())
    } else {
        Err(mismatch(HEADER, "differs from the name in the body"))
    }
}

const fn mismatch(header: &'static str, problem: &'static str) -> Cause {
    Cause::HeaderMismatch { header, problem }
}

#[cfg(test)]
mod tests;
