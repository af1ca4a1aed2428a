//! Which bucket a request counts in, and which limits count it.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use portcullis_config::limits::{LimitKey, LimitMatch};

use super::Subject;
use crate::auth::glob::Globs;
use crate::auth::identity::PrincipalKey;

/// Names a bucket within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    client: PrincipalKey,
    tool: u64,
}

/// Requests that are about no tool.
const NO_TOOL: u64 = 0;
/// Calls of tools that do not exist: they share one bucket, or a stranger could fill the store with made-up names.
const UNKNOWN_TOOL: u64 = 1;

/// The one method that is about a tool.
const TOOLS_CALL: &str = "tools/call";

/// The key of `subject` in a limit of this kind. `hasher` is the same for the limit's whole life.
pub fn derive(kind: LimitKey, subject: &Subject<'_>, hasher: &RandomState) -> Key {
    const NOBODY: PrincipalKey = [0; 16];
    match kind {
        LimitKey::Client => Key {
            client: subject.who.key,
            tool: NO_TOOL,
        },
        LimitKey::ClientTool => Key {
            client: subject.who.key,
            tool: tool(subject, hasher),
        },
        LimitKey::Tool => Key {
            client: NOBODY,
            tool: tool(subject, hasher),
        },
        LimitKey::Gateway => Key {
            client: NOBODY,
            tool: NO_TOOL,
        },
    }
}

/// A tool as a number. Seeded at random, so that nobody can make two tools share a bucket on purpose; should two do so
/// by chance (one in 2^64), they are limited together.
fn tool(subject: &Subject<'_>, hasher: &RandomState) -> u64 {
    match (subject.server, subject.tool) {
        (Some(server), Some(name)) => hasher.hash_one((server, name)).max(UNKNOWN_TOOL + 1),
        _ if subject.method == TOOLS_CALL => UNKNOWN_TOOL,
        _ => NO_TOOL,
    }
}

/// Which requests a limit counts.
#[derive(Debug, Default)]
pub struct Matcher {
    methods: Option<HashSet<Box<str>>>,
    servers: Option<HashSet<Box<str>>>,
    tools: Option<Globs>,
}

impl Matcher {
    /// Compiles `match`. Absent: every request.
    pub fn new(matches: Option<&LimitMatch>) -> Self {
        let Some(matches) = matches else {
            return Self::default();
        };
        let names = |list: &Option<Vec<String>>| {
            list.as_ref()
                .map(|list| list.iter().map(|name| name.as_str().into()).collect())
        };
        Self {
            methods: names(&matches.methods),
            servers: names(&matches.servers),
            tools: matches.tools.as_deref().map(Globs::new),
        }
    }

    /// Does the limit count this request?
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let named = |list: &Option<HashSet<Box<str>>>, name: Option<&str>| {
            list.as_ref()
                .is_none_or(|list| name.is_some_and(|name| list.contains(name)))
        };
        named(&self.methods, Some(subject.method))
            && named(&self.servers, subject.server)
            && self.tools.as_ref().is_none_or(|globs| match subject.tool {
                Some(tool) => globs.matches(tool),
                // The name of an unknown tool was not kept; `*` means it too.
                None => subject.method == TOOLS_CALL && globs.matches_everything(),
            })
    }
}
