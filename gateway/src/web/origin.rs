//! Which web pages may call, and what their browsers are told (CORS, as the Fetch standard has it).
//!
//! Refusing foreign origins is what keeps them out; the headers only let browsers hand answers to the pages that may call.
//! No page may reach the gateway from a public network into a private one (Private Network Access): a browser that asks
//! for that is not told yes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use bytes::{BufMut as _, BytesMut};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_config::web::Cors;

use crate::mcp::headers::PARAM_PREFIX;

/// The longest origin that is looked at.
const MAX_ORIGIN: usize = 300;
/// What a page may read of an answer besides what every page may.
const EXPOSED: &str =
    "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy";
/// What a page may send besides what every page may.
const ALLOWED: &str = "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name";
/// For how many seconds a browser need not ask again.
const MAX_AGE: &str = "600";
/// So many parameters that are sent as headers (`Mcp-Param-*`) are named to a browser that asks for them.
const MAX_PARAMS: usize = 32;
/// The longest of them.
const MAX_PARAM: usize = 128;

/// Whose pages may call.
#[derive(Clone, Debug)]
pub struct Origins {
    /// Lower case, with scheme, the scheme's own port left out.
    known: HashSet<Box<str>>,
    /// Every page on the web.
    any: bool,
    /// Pages of this machine.
    loopback: bool,
    credentials: bool,
}

/// What a request's `Origin` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nothing: no browser, or a page of this very origin that only reads.
    NoPage,
    /// A page that may call, in its browser's words.
    Ours(HeaderValue),
    /// A page that may not; or nonsense.
    Foreign,
}

impl Origins {
    /// `own` is the gateway's own origin; `development` lets in pages of this machine.
    pub fn new(cors: &Cors, own: &str, development: bool) -> Self {
        let listed = cors.allowed_origins.iter().map(String::as_str);
        Self {
            known: listed.chain([own]).map(normal).collect(),
            any: cors.allowed_origins.iter().any(|origin| origin == "*"),
            loopback: development,
            credentials: cors.allow_credentials,
        }
    }

    /// Judges a request by its `Origin`.
    pub fn judge(&self, headers: &HeaderMap) -> Caller {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Caller::NoPage,
            (Some(origin), None) if origin.to_str().is_ok_and(|text| self.knows(text)) => {
                Caller::Ours(origin.clone())
            }
            _ => Caller::Foreign,
        }
    }

    fn knows(&self, origin: &str) -> bool {
        if origin.len() > MAX_ORIGIN {
            return false;
        }
        // Browsers nearly always write the origin as it is configured: no copy then.
        self.known.contains(origin)
            || self.known.contains(&*normal(origin))
            || host(origin).is_some_and(|host| self.any || (self.loopback && is_loopback(host)))
    }

    /// Lets the page's browser hand it the answer.
    pub fn apply(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// Does a browser ask what a page may do, before the page does it? (Only with `OPTIONS`.)
pub fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that, besides what [`Origins::apply`] adds. `methods` are those of the path.
pub fn preflight(request: &HeaderMap, methods: &'static str, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(request));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
}

/// The headers that pages may send: a list, and those of the parameters that a browser asks for, whose names servers choose.
fn allowed_headers(request: &HeaderMap) -> HeaderValue {
    let asked = request
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|name| name.len() <= MAX_PARAM)
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(|name| name.as_str().starts_with(PARAM_PREFIX))
        .take(MAX_PARAMS);
    let mut list = BytesMut::from(ALLOWED);
    for name in asked {
        list.put_slice(b", ");
        list.put_slice(name.as_str().as_bytes());
    }
    HeaderValue::from_maybe_shared(list.freeze()).unwrap_or(HeaderValue::from_static(ALLOWED))
}

/// An origin as it is compared: lower case, without the scheme's own port.
fn normal(origin: &str) -> Box<str> {
    let lower = origin.to_ascii_lowercase();
    let shorter = match lower.split_once("://") {
        Some(("https", host)) => without_port(host, ":443").map(|host| format!("https://{host}")),
        Some(("http", host)) => without_port(host, ":80").map(|host| format!("http://{host}")),
        _ => None,
    };
    shorter.unwrap_or(lower).into_boxed_str()
}

/// The host before `port`, if it has that port and no other.
pub(crate) fn without_port<'a>(host: &'a str, port: &str) -> Option<&'a str> {
    let rest = host.strip_suffix(port)?;
    (rest.ends_with(']') || !rest.contains(':')).then_some(rest)
}

/// The host of a well-formed web origin: `http` or `https`, a host and perhaps a port, and nothing else.
fn host(origin: &str) -> Option<&str> {
    let rest = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"))?;
    let (host, port) = if let Some(literal) = rest.strip_prefix('[') {
        let (inner, after) = literal.split_once(']')?;
        inner.parse::<Ipv6Addr>().ok()?;
        (inner, after)
    } else {
        let end = rest.find(':').unwrap_or(rest.len());
        let (host, port) = rest.split_at_checked(end)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!host.is_empty() && host.bytes().all(plain)).then_some((host, port))?
    };
    let well_formed = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    well_formed.then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
