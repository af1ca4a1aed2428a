//! Which bucket a request counts in, and which limits count it.

use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};

use portcullis_config::limits::{LimitKey, LimitMatch};

use super::Subject;
use crate::auth::glob::Globs;
use crate::auth::identity::PrincipalKey;
use crate::auth::names::Names;

/// Names a bucket within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    client: PrincipalKey,
    tool: u64,
    /// Hash of the two, seeded at random: nobody can choose names that collide. Made once, used by shard and map.
    hash: u64,
}

impl Key {
    fn new(client: PrincipalKey, tool: u64, hasher: &RandomState) -> Self {
        let hash = hasher.hash_one((client, tool));
        Self { client, tool, hash }
    }

    /// The seeded hash.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Hands a key's own hash through.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnHash(u64);

impl Hasher for OwnHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys write one number; whatever else comes is mixed in so that it is not lost.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
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
    let client = match kind {
        LimitKey::Client | LimitKey::ClientTool => subject.who.key,
        LimitKey::Tool | LimitKey::Gateway => NOBODY,
    };
    let tool = match kind {
        LimitKey::ClientTool | LimitKey::Tool => tool(subject, hasher),
        LimitKey::Client | LimitKey::Gateway => NO_TOOL,
    };
    Key::new(client, tool, hasher)
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
    methods: Option<Names>,
    servers: Option<Names>,
    tools: Option<Globs>,
}

impl Matcher {
    /// Compiles `match`. Absent: every request.
    pub fn new(matches: Option<&LimitMatch>) -> Self {
        let Some(matches) = matches else {
            return Self::default();
        };
        let names = |list: &Option<Vec<String>>| list.as_deref().map(Names::new);
        Self {
            methods: names(&matches.methods),
            servers: names(&matches.servers),
            tools: matches.tools.as_deref().map(Globs::new),
        }
    }

    /// Does the limit count this request?
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let named = |list: &Option<Names>, name: Option<&str>| {
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
