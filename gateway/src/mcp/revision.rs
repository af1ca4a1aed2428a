//! Protocol revisions and the two eras they fall into.

/// A revision of the protocol. The order is that of publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05: HTTP with SSE. Spoken to servers only.
    V20241105,
    /// 2025-03-26: streamable HTTP, batches.
    V20250326,
    /// 2025-06-18: the version header, elicitation.
    V20250618,
    /// 2025-11-25: the last one with sessions.
    V20251125,
    /// 2026-07-28: stateless.
    V20260728,
}

/// How requests belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize` opens a session (up to 2025-11-25).
    Session,
    /// Every request says everything itself (from 2026-07-28 on).
    Stateless,
}

impl Revision {
    /// Every revision, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V20241105,
        Self::V20250326,
        Self::V20250618,
        Self::V20251125,
        Self::V20260728,
    ];

    /// The revisions served to clients, newest first, as errors and `server/discover` list them.
    pub const SERVED: [Self; 4] = [Self::V20260728, Self::V20251125, Self::V20250618, Self::V20250326];

    /// The newest one with sessions: what an `initialize` for an unknown version is answered with.
    pub const NEWEST_SESSION: Self = Self::V20251125;

    /// The stateless one.
    pub const STATELESS: Self = Self::V20260728;

    /// What a session-era request without the version header counts as, where no session says otherwise.
    pub const UNNAMED: Self = Self::V20250326;

    /// As it stands in headers and bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V20241105 => "2024-11-05",
            Self::V20250326 => "2025-03-26",
            Self::V20250618 => "2025-06-18",
            Self::V20251125 => "2025-11-25",
            Self::V20260728 => "2026-07-28",
        }
    }

    /// The one that a server is held to by configuration.
    pub const fn pinned(revision: portcullis_config::server::Revision) -> Self {
        use portcullis_config::server::Revision as Pinned;
        match revision {
            Pinned::V20241105 => Self::V20241105,
            Pinned::V20250326 => Self::V20250326,
            Pinned::V20250618 => Self::V20250618,
            Pinned::V20251125 => Self::V20251125,
            Pinned::V20260728 => Self::V20260728,
        }
    }

    /// The revision with exactly that name.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|revision| revision.as_str().as_bytes() == name)
    }

    /// Its era.
    pub const fn era(self) -> Era {
        match self {
            Self::V20260728 => Era::Stateless,
            Self::V20241105 | Self::V20250326 | Self::V20250618 | Self::V20251125 => Era::Session,
        }
    }

    /// Whether clients may speak it to us.
    pub fn is_served(self) -> bool {
        Self::SERVED.contains(&self)
    }

    /// Whether a session of this revision may send several messages in one array.
    pub const fn has_batches(self) -> bool {
        matches!(self, Self::V20250326)
    }

    /// What to answer an `initialize` that asks for `requested`: the same if it is served and has sessions, else the
    /// newest that has.
    pub fn negotiate(requested: Option<Self>) -> Self {
        requested
            .filter(|revision| revision.is_served() && revision.era() == Era::Session)
            .unwrap_or(Self::NEWEST_SESSION)
    }

    /// One byte for compact encodings; see [`Self::from_code`].
    pub const fn code(self) -> u8 {
        match self {
            Self::V20241105 => 1,
            Self::V20250326 => 2,
            Self::V20250618 => 3,
            Self::V20251125 => 4,
            Self::V20260728 => 5,
        }
    }

    /// The revision with that code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.code() == code)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_unique_and_come_back() {
        for revision in Revision::ALL {
            assert_eq!(Revision::parse(revision.as_str().as_bytes()), Some(revision));
            assert_eq!(Revision::from_code(revision.code()), Some(revision));
        }
        assert_eq!(Revision::parse(b"2025-11-26"), None);
        assert_eq!(Revision::parse(b" 2025-11-25"), None);
        assert_eq!(Revision::from_code(0), None);
        assert!(Revision::ALL.is_sorted_by(|a, b| a < b && a.as_str() < b.as_str()));
    }

    #[test]
    fn initialize_never_settles_on_what_has_no_sessions() {
        for requested in Revision::ALL.into_iter().map(Some).chain([None]) {
            let answer = Revision::negotiate(requested);
            assert!(answer.era() == Era::Session && answer.is_served());
        }
        assert_eq!(
            Revision::negotiate(Some(Revision::V20250618)),
            Revision::V20250618
        );
        assert_eq!(
            Revision::negotiate(Some(Revision::V20241105)),
            Revision::V20251125
        );
        assert_eq!(
            Revision::negotiate(Some(Revision::V20260728)),
            Revision::V20251125
        );
    }
}
