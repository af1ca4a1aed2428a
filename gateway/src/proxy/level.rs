//! The least level of log messages that a session's client wants (`logging/setLevel`).

use std::sync::atomic::{AtomicU8, Ordering};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        let at = LEVELS.iter().position(|level| *level == name)?;
        u8::try_from(at).ok().map(Self)
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
}
