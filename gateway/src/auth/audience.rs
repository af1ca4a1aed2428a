//! For whom a token is meant (RFC 8707, RFC 7519 section 4.1.3): the whole gateway, or some of its endpoints.

use serde_json::Value;

use super::Endpoint;
use super::claims::{Claims, MAX_ENTRIES};
use super::metadata::is_path_of;

/// What the gateway is called in audiences.
#[derive(Debug)]
pub struct Origins {
    /// `https://host[:port]`, the scheme's own port left out.
    pub canonical: String,
}

impl Origins {
    /// Does an audience mean the whole gateway? With or without the slash of an empty path.
    fn is_gateway(&self, audience: &str) -> bool {
        audience
            .strip_prefix(&*self.canonical)
            .is_some_and(|rest| rest.is_empty() || rest == "/")
    }

    /// The path of an audience that means one endpoint.
    fn path<'a>(&self, audience: &'a str) -> Option<&'a str> {
        audience
            .strip_prefix(&*self.canonical)
            .filter(|path| path.starts_with('/'))
    }
}

/// For whom a token is meant, as far as this gateway goes.
#[derive(Debug)]
pub enum Audiences {
    /// Every endpoint.
    Gateway,
    /// The endpoints at these paths.
    Paths(Box<[Box<str>]>),
}

impl Audiences {
    /// Reads `aud`. Refuses a token that is for no endpoint of this gateway.
    pub fn read(claims: &Claims, origins: &Origins, configured: &[String]) -> Result<Self, &'static str> {
        const NOT_FOR_US: &str = "the token is meant for somebody else";
        let list: &[Value] = match claims.get("aud") {
            Some(Value::Array(list)) => list,
            Some(one @ Value::String(_)) => std::slice::from_ref(one),
            _ => return Err("the token names no audience"),
        };
        if list.len() > MAX_ENTRIES {
            return Err("the token has too many audiences");
        }
        let mut paths = Vec::new();
        for audience in list {
            let Value::String(audience) = audience else {
                return Err("the token's audience is malformed");
            };
            if origins.is_gateway(audience) || configured.contains(audience) {
                return Ok(Self::Gateway);
            }
            if let Some(path) = origins.path(audience) {
                paths.push(path.into());
            }
        }
        if paths.is_empty() {
            return Err(NOT_FOR_US);
        }
        Ok(Self::Paths(paths.into()))
    }

    /// Does the token open this endpoint?
    pub fn include(&self, endpoint: Endpoint<'_>) -> bool {
        match self {
            Self::Gateway => true,
            Self::Paths(paths) => paths.iter().any(|path| is_path_of(path, endpoint)),
        }
    }
}
