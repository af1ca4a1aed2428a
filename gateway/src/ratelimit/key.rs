//! Which bucket a request counts in, and which limits count it.

use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::net::IpAddr;

use portcullis_config::limits::{LimitKey, LimitMatch};

use super::Subject;
use crate::auth::glob::Globs;
use crate::auth::identity::PrincipalKey;
use crate::auth::names::Names;

/// Names a bucket within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    client: PrincipalKey,
    thing: u64,
    /// Hash of the two, seeded at random: nobody can choose names that collide. Made once, used by the map.
    hash: u64,
    /// Hash of whoever could make many such keys, seeded as well: all of these find room in one place only.
    owner: u64,
}

impl Key {
    /// The seeded hash of whoever could make many such keys: a principal for its tools, a wide range for addresses.
    pub fn owner(&self) -> u64 {
        self.owner
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

/// Requests that are about no tool, or no server.
const NOTHING: u64 = 0;
/// Calls of tools that do not exist: they share one bucket, or a stranger could fill the store with made-up names.
const UNKNOWN_TOOL: u64 = 1;

/// The one method that is about a tool.
const TOOLS_CALL: &str = "tools/call";

/// The key of `subject` in a limit of this kind. `hasher` is the same for the limit's whole life.
pub fn derive(kind: LimitKey, subject: &Subject<'_>, hasher: &RandomState) -> Key {
    const NOBODY: PrincipalKey = [0; 16];
    let client = match kind {
        LimitKey::Client | LimitKey::ClientTool => subject.who.key,
        LimitKey::Ip => Network::of(subject.client).bytes(),
        LimitKey::Server | LimitKey::Tool | LimitKey::Gateway => NOBODY,
    };
    let thing = match kind {
        LimitKey::ClientTool | LimitKey::Tool => tool(subject, hasher),
        LimitKey::Server => server(subject, hasher),
        LimitKey::Client | LimitKey::Ip | LimitKey::Gateway => NOTHING,
    };
    let hash = hasher.hash_one((client, thing));
    let owner = match kind {
        LimitKey::ClientTool => hasher.hash_one(client),
        LimitKey::Ip => hasher.hash_one(Network::of(subject.client).range()),
        LimitKey::Client | LimitKey::Server | LimitKey::Tool | LimitKey::Gateway => hash,
    };
    Key {
        client,
        thing,
        hash,
        owner,
    }
}

/// A tool as a number. Seeded at random, so that nobody can make two tools share a bucket on purpose; should two do so
/// by chance (one in 2^64), they are limited together.
fn tool(subject: &Subject<'_>, hasher: &RandomState) -> u64 {
    match (subject.server, subject.tool) {
        (Some(server), Some(name)) => hasher.hash_one((server, name)).max(UNKNOWN_TOOL + 1),
        _ => UNKNOWN_TOOL,
    }
}

/// A server as a number, likewise.
fn server(subject: &Subject<'_>, hasher: &RandomState) -> u64 {
    subject
        .server
        .map_or(NOTHING, |name| hasher.hash_one(name).max(NOTHING + 1))
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 host usually has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// An address.
    V4(u32),
    /// The upper half of one.
    V6(u64),
}

impl Network {
    /// That of an address. An IPv4 address is the same in either notation.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }

    /// The range that one attacker may have to itself: a /16, or a /32 of IPv6.
    fn range(self) -> Self {
        match self {
            Self::V4(bits) => Self::V4(bits >> 16),
            Self::V6(bits) => Self::V6(bits >> 32),
        }
    }

    /// As many bytes as a principal's key has.
    pub fn bytes(self) -> [u8; 16] {
        let (family, bits) = match self {
            Self::V4(bits) => (4_u64, u64::from(bits)),
            Self::V6(bits) => (6, bits),
        };
        (u128::from(family) << 64 | u128::from(bits)).to_be_bytes()
    }
}

/// Which requests a limit counts.
#[derive(Debug)]
pub struct Matcher {
    about: About,
    methods: Option<Names>,
    servers: Option<Names>,
    tools: Option<Globs>,
}

/// What a request must be about so that a limit's key has a meaning for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Anything,
    Server,
    Tool,
}

impl Matcher {
    /// Compiles `match`. Absent: every request that the key has a meaning for.
    pub fn new(kind: LimitKey, matches: Option<&LimitMatch>) -> Self {
        let names = |list: &Option<Vec<String>>| list.as_deref().map(Names::new);
        let tools = matches.and_then(|matches| matches.tools.as_deref());
        Self {
            about: match kind {
                LimitKey::Client | LimitKey::Ip | LimitKey::Gateway => About::Anything,
                LimitKey::Server => About::Server,
                LimitKey::Tool | LimitKey::ClientTool => About::Tool,
            },
            methods: matches.and_then(|matches| names(&matches.methods)),
            servers: matches.and_then(|matches| names(&matches.servers)),
            tools: tools.map(Globs::new),
        }
    }

    /// Does it tell servers or tools apart?
    pub fn sees_things(&self) -> bool {
        self.servers.is_some() || self.tools.is_some()
    }

    /// Does the limit count this request?
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let called = || subject.method == TOOLS_CALL;
        let named = |list: &Option<Names>, name: Option<&str>| {
            list.as_ref()
                .is_none_or(|list| name.is_some_and(|name| list.contains(name)))
        };
        let about = match self.about {
            About::Anything => true,
            About::Server => subject.server.is_some(),
            About::Tool => called(),
        };
        about
            && named(&self.methods, Some(subject.method))
            && named(&self.servers, subject.server)
            && self.tools.as_ref().is_none_or(|globs| {
                // The name of an unknown tool was not kept; `*` means it too.
                called()
                    && subject
                        .tool
                        .map_or_else(|| globs.matches_everything(), |tool| globs.matches(tool))
            })
    }
}
