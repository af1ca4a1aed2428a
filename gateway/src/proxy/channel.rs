//! How calls reach one server: in which revision, in which of its sessions, at which of its addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::legacy::Legacy;
use crate::mcp::revision::{Era, Revision};
use crate::mcp::session::UpstreamSession;

/// `Mcp-Session-Id`, as HTTP/2 and the `http` crate write it.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `MCP-Protocol-Version`.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The longest session id of a server that is kept.
pub const MAX_SESSION_ID: usize = 440;

/// A server's session, or its absence.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What is spoken on it.
    pub revision: Revision,
    /// The server's own session id, where it gave one.
    pub session_id: Option<HeaderValue>,
    /// The replica of the server that holds the session.
    pub pinned: Option<SocketAddr>,
    /// Whether calls of several clients use it, so that their ids must be made unique.
    pub shared: bool,
    /// The stream that is the session, in the first revision.
    pub legacy: Option<Arc<Legacy>>,
}

impl Channel {
    /// The way to a stateless server: nothing to keep.
    pub const STATELESS: Self = Self {
        revision: Revision::STATELESS,
        session_id: None,
        pinned: None,
        shared: false,
        legacy: None,
    };

    /// The era of its revision.
    pub const fn era(&self) -> Era {
        self.revision.era()
    }

    /// Sets what every message on it carries.
    pub fn set_headers(&self, headers: &mut HeaderMap) {
        if let Some(id) = &self.session_id {
            headers.insert(SESSION_ID, id.clone());
        }
        // Revisions before 2025-06-18 know no such header, and a strict server might refuse it.
        if !matches!(self.revision, Revision::V20241105 | Revision::V20250326) {
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(self.revision.as_str()));
        }
    }

    /// As a session id seals it: the address and the server's id, so that the next owner finds the same session.
    pub fn to_seal(&self) -> Option<UpstreamSession> {
        let id = self.session_id.as_ref()?.to_str().ok()?;
        let pinned = self.pinned.map(|address| address.to_string()).unwrap_or_default();
        Some(UpstreamSession {
            revision: self.revision,
            id: format!("{pinned} {id}").into_bytes().into(),
        })
    }

    /// The reverse of [`Channel::to_seal`].
    pub fn from_seal(sealed: &UpstreamSession) -> Option<Self> {
        let (pinned, id) = std::str::from_utf8(&sealed.id).ok()?.split_once(' ')?;
        let pinned = match pinned {
            "" => None,
            address => Some(address.parse().ok()?),
        };
        let session_id = HeaderValue::from_str(id).ok()?;
        Some(Self {
            revision: sealed.revision,
            session_id: Some(session_id),
            pinned,
            shared: false,
            legacy: None,
        })
    }
}

/// Is this a session id a server may give? Visible ASCII (specification, Session Management), bounded.
pub fn is_session_id(value: &HeaderValue) -> bool {
    (1..=MAX_SESSION_ID).contains(&value.len())
        && value.as_bytes().iter().all(|byte| (0x21..=0x7e).contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_channel_comes_back() {
        let channel = Channel {
            revision: Revision::V20251125,
            session_id: Some(HeaderValue::from_static("a-b_c")),
            pinned: Some("10.0.0.1:8080".parse().unwrap()),
            shared: false,
            legacy: None,
        };
        let back = Channel::from_seal(&channel.to_seal().unwrap()).unwrap();
        assert_eq!(back.session_id, channel.session_id);
        assert_eq!((back.pinned, back.revision), (channel.pinned, channel.revision));
        assert!(Channel::STATELESS.to_seal().is_none());
        let nonsense = UpstreamSession {
            revision: Revision::V20251125,
            id: Box::from(*b"x"),
        };
        assert!(Channel::from_seal(&nonsense).is_none());
    }

    #[test]
    fn session_ids_are_visible_ascii() {
        assert!(is_session_id(&HeaderValue::from_static("abc-123")));
        assert!(!is_session_id(&HeaderValue::from_static("a b")));
        assert!(!is_session_id(&HeaderValue::from_static("")));
    }
}
