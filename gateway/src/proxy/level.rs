//! The least level of log messages that a client wants: in a session by `logging/setLevel`, otherwise by each request.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::mcp::envelope::Message;
use crate::mcp::scan::Member;

/// RFC 5424's severities as MCP names them, from the least severe.
const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        let at = LEVELS.iter().position(|level| *level == name)?;
        u8::try_from(at).ok().map(Self)
    }

    /// What a stateless request asks for. Without it, it wants no messages.
    pub fn asked(request: &Message) -> Option<Self> {
        request
            .str(Member::MetaLogLevel)
            .and_then(|name| Self::parse(&name))
    }

    /// Does a server's `notifications/message` reach this level?
    pub fn lets_pass(self, message: &Message) -> bool {
        message
            .str(Member::LogLevel)
            .and_then(|name| Self::parse(&name))
            .is_some_and(|level| level >= self)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        LEVELS.get(usize::from(self.0)).copied().unwrap_or("debug")
    }
}

/// The level of a session; none before the client sets one.
#[derive(Debug, Default)]
pub struct Current(AtomicU8);

impl Current {
    /// What the client has set.
    pub fn get(&self) -> Option<Level> {
        self.0.load(Ordering::Relaxed).checked_sub(1).map(Level)
    }

    /// The client sets another.
    pub fn set(&self, level: Level) {
        self.0.store(level.0 + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_level_comes_back_and_no_other_is_one() {
        let current = Current::default();
        assert_eq!(current.get(), None);
        for name in LEVELS {
            let level = Level::parse(name).unwrap();
            current.set(level);
            assert_eq!(current.get().unwrap().as_str(), name);
        }
        for other in ["", "Debug", "trace", "fatal"] {
            assert_eq!(Level::parse(other), None);
        }
    }

    fn message(level: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":{level},"data":1}}}}"#
        );
        Message::from_server(Bytes::from(text), 64).unwrap()
    }

    #[rstest]
    #[case("info", r#""debug""#, false)]
    #[case("info", r#""info""#, true)]
    #[case("info", r#""emergency""#, true)]
    #[case("alert", r#""critical""#, false)]
    #[case("debug", r#""loud""#, false)]
    #[case("debug", "1", false)]
    fn what_is_less_grave_than_asked_for_is_not_passed_on(
        #[case] least: &str,
        #[case] level: &str,
        #[case] passes: bool,
    ) {
        assert_eq!(Level::parse(least).unwrap().lets_pass(&message(level)), passes);
    }
}
