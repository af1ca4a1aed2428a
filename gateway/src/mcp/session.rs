//! What a session id carries: everything that is settled at `initialize`, so that any replica can go on with it.

use std::time::Duration;

use super::revision::{Era, Revision};

mod capabilities;
mod owner;
mod wire;

pub use capabilities::Capabilities;
pub use owner::{is_heaviest, marked, owner};

/// The longest client name or version that is kept.
pub const MAX_INFO_BYTES: usize = 64;
/// The longest session id of an upstream that is kept.
pub const MAX_UPSTREAM_ID_BYTES: usize = 512;

/// The contents of a session id. Sealed before it is given out ([`super::seal`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Random; picks the owner replica and names the session in logs.
    pub nonce: [u8; 16],
    /// Key of the principal that opened it; nobody else may use it.
    pub principal: [u8; 16],
    /// The negotiated revision.
    pub revision: Revision,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// What the client calls itself.
    pub client: ClientInfo,
    /// When it ends whatever happens (Unix seconds).
    pub expires: u64,
    /// At an endpoint of one server: that server's session.
    pub upstream: Option<UpstreamSession>,
}

/// Name and version of a client, cut to what a session id holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// `clientInfo.name`
    pub name: Box<str>,
    /// `clientInfo.version`
    pub version: Box<str>,
}

/// A server's own session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSession {
    /// The revision settled with it.
    pub revision: Revision,
    /// Its id; empty when the server gave none.
    pub id: Box<[u8]>,
}

/// What of the session cannot be kept in an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's session id is longer than {MAX_UPSTREAM_ID_BYTES} bytes")]
pub struct TooLong;

/// The bytes are no session of a version this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session")]
pub struct NotASession;

impl ClientInfo {
    /// From the raw `clientInfo` of `initialize`. What is missing or no text stays empty.
    pub fn read(client_info: &[u8]) -> Self {
        use super::scan::{Span, field, unescape};
        let text = |name| {
            let whole = Span::new(0, client_info.len())?;
            let raw = field(client_info, whole, name)?.of(client_info);
            if raw.first() != Some(&b'"') {
                return None;
            }
            let text = unescape(raw).ok()?;
            Some(truncate(&text).into())
        };
        Self {
            name: text("name").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        use super::reply::json_string;
        let mut out = b"{\"name\":".to_vec();
        json_string(&self.name, &mut out);
        out.extend_from_slice(b",\"version\":");
        json_string(&self.version, &mut out);
        out.push(b'}');
        out
    }
}

/// At most [`MAX_INFO_BYTES`], cut between characters.
fn truncate(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_INFO_BYTES))
        .unwrap_or_default()
}

impl Session {
    /// Whether it has ended by `now` (Unix seconds).
    pub const fn is_expired(&self, now: u64) -> bool {
        self.expires <= now
    }

    /// How long it is still good at `now` (seconds since 1970).
    pub const fn left(&self, now: u64) -> Duration {
        Duration::from_secs(self.expires.saturating_sub(now))
    }

    /// The client's capabilities as JSON, as that era writes them.
    pub fn capabilities_json(&self, era: Era) -> Vec<u8> {
        self.capabilities.to_json(era)
    }
}

#[cfg(test)]
mod tests;
