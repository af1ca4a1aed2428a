//! What a pass is about.

use std::fmt;

use crate::identity::Key;

/// An object that is reconciled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// An McpGateway.
    Gateway(Key),
    /// An McpServer.
    Server(Key),
}

impl Target {
    /// The kind, as metrics label it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "McpGateway",
            Self::Server(_) => "McpServer",
        }
    }

    /// The object's name.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Gateway(key) | Self::Server(key) => key,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}
