//! What a decision is about, and what it says.

use std::sync::Arc;

use crate::identity::Identity;
use crate::when::{Asked, Trial};

/// What rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tools, by name.
    Tool,
    /// Prompts, by name.
    Prompt,
    /// Resources and templates of them, by URI.
    Resource,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tool, Self::Prompt, Self::Resource];
}

/// What a decision is about, by the server's own name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing<'a> {
    /// A tool that the server has.
    Tool(&'a str),
    /// A prompt that the server has.
    Prompt(&'a str),
    /// The URI of a resource, or a URI template as it is written, that the server lists.
    Listed(&'a str),
    /// A URI that a client wrote.
    Uri(&'a str),
}

impl<'a> Thing<'a> {
    /// Of which kind it is.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Tool(_) => Kind::Tool,
            Self::Prompt(_) => Kind::Prompt,
            Self::Listed(_) | Self::Uri(_) => Kind::Resource,
        }
    }

    /// What conditions of rules about it are judged with.
    pub(super) fn trial<'t>(self, who: &'t Identity, server: &'t str, asked: Asked<'t>) -> Trial<'t>
    where
        'a: 't,
    {
        let tool = match self {
            Self::Tool(name) => Some(name),
            Self::Prompt(_) | Self::Listed(_) | Self::Uri(_) => None,
        };
        Trial::new(who, server, tool, asked)
    }

    /// Its name or URI.
    pub const fn name(self) -> &'a str {
        match self {
            Self::Tool(name) | Self::Prompt(name) | Self::Listed(name) | Self::Uri(name) => name,
        }
    }
}

/// What was decided, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'p> {
    /// Permitted.
    Allow {
        /// The rule that permits.
        rule: &'p Arc<str>,
    },
    /// Refused; to be answered as if the thing did not exist.
    Deny {
        /// The Deny rule; none: no rule permits.
        rule: Option<&'p Arc<str>>,
    },
    /// A rule would permit if the token carried one of its scopes: to be answered 403 `insufficient_scope`.
    InsufficientScope {
        /// That rule.
        rule: &'p Arc<str>,
        /// Its scopes.
        scopes: &'p [Arc<str>],
    },
}

impl Decision<'_> {
    /// May a list show the thing? One that only lacks a scope is listed, so that a client can ask for the scope.
    pub fn is_listed(&self) -> bool {
        !matches!(self, Self::Deny { .. })
    }

    /// The one of the two that permits less.
    pub(super) fn stricter(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Deny { rule: Some(_) }, _) | (_, Self::Allow { .. }) => self,
            (_, Self::Deny { .. }) | (Self::Allow { .. }, _) => other,
            _ => self,
        }
    }
}

/// Shadow rules that would do something, in the configuration's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadows {
    /// They match.
    pub matching: Vec<Arc<str>>,
    /// Their condition cannot be told: as Deny they would deny, as Allow they would not allow.
    pub unclear: Vec<Arc<str>>,
}
