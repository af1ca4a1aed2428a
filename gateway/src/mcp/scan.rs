//! One pass over a message's bytes: is it JSON (RFC 8259), how deep, are its keys unique, and where do the members
//! stand that the gateway reads. Nothing is copied, nothing is decoded that no rule reads.
//!
//! Why not a general parser: `serde_json::Value` lets the last duplicate win, rounds numbers and refuses halves of
//! surrogate pairs, so the gateway and the server behind it could see two different messages. Here what is passed on
//! is what was read, byte for byte.

mod keys;
mod members;
mod skip;
mod span;
mod text;
mod token;
mod walk;

pub use members::{Member, Members};
pub use span::Span;
pub use text::{LoneSurrogate, contents, unescape};
pub use walk::{Elements, Fields, elements, field, fields, repeats_a_key};

use members::Level;
use token::Cursor;

/// No text may nest deeper, whatever the configuration says: the scanner recurses on requests.
pub const MAX_DEPTH: u32 = 512;

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, first noticed at this offset.
    #[error("not JSON (at byte {0})")]
    Syntax(u32),
    /// A string that is not UTF-8.
    #[error("not UTF-8 (at byte {0})")]
    Utf8(u32),
    /// Nested deeper than allowed.
    #[error("nested deeper than allowed")]
    TooDeep,
    /// A key stands twice in one object.
    #[error("a key stands twice in one object (at byte {0})")]
    DuplicateKey(u32),
    /// A key that differs from one with a meaning in upper and lower case only.
    #[error("a key differs from a known one only in upper and lower case (at byte {0})")]
    AmbiguousKey(u32),
    /// 4 GiB or more.
    #[error("too long")]
    TooLong,
    /// Valid JSON that is no JSON-RPC message of MCP; the text says what is missing.
    #[error("{0}")]
    Shape(&'static str),
    /// A batch with more messages than allowed.
    #[error("more messages in one batch than allowed")]
    BatchTooLong,
}

impl Fault {
    /// Whether the text is no JSON at all (-32700), as against JSON that is refused (-32600).
    pub const fn is_parse_error(self) -> bool {
        matches!(self, Self::Syntax(_) | Self::Utf8(_) | Self::TooLong)
    }
}

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// What clients send: duplicate keys are refused in every object, imitated keys in those that are read.
    Request,
    /// What servers send: duplicate keys are refused only in objects that are read.
    Reply,
}

/// Whether the text begins as a batch. False for anything else, JSON or not.
pub fn is_batch(text: &[u8]) -> bool {
    text.iter().find(|byte| !token::is_space(**byte)) == Some(&b'[')
}

/// Scans one message into `members`, which hold what was found with a fault too: the `id` helps to answer.
pub fn scan_message(
    text: &[u8],
    strictness: Strictness,
    max_depth: u32,
    members: &mut Members,
) -> Result<(), Fault> {
    Scanner::new(text, strictness, max_depth, members).document()
}

/// Scans a batch: a top-level array of at most `max_items`. Each item is given with its place; members are counted
/// from its start. An item that is no object has no members.
pub fn scan_batch(
    text: &[u8],
    strictness: Strictness,
    max_depth: u32,
    max_items: usize,
) -> Result<Vec<(Span, Members)>, Fault> {
    let mut members = Members::none();
    Scanner::new(text, strictness, max_depth, &mut members).batch(max_items)
}

struct Scanner<'t, 'm> {
    at: Cursor<'t>,
    strict: bool,
    max_depth: u32,
    members: &'m mut Members,
}

impl<'t, 'm> Scanner<'t, 'm> {
    fn new(text: &'t [u8], strictness: Strictness, max_depth: u32, members: &'m mut Members) -> Self {
        Self {
            at: Cursor::new(text),
            strict: strictness == Strictness::Request,
            max_depth: max_depth.min(MAX_DEPTH),
            members,
        }
    }

    /// Exactly one object.
    fn document(&mut self) -> Result<(), Fault> {
        self.at.check_length()?;
        self.at.space();
        if self.at.peek() == Some(b'{') {
            self.object::<true>(Level::Message, 1)?;
        } else {
            // Still find out whether it is JSON at all: the answer's code depends on it.
            self.value(1)?;
            self.at.end()?;
            return Err(Fault::Shape("a message is a JSON object"));
        }
        self.at.end()
    }

    fn batch(&mut self, max_items: usize) -> Result<Vec<(Span, Members)>, Fault> {
        self.at.check_length()?;
        self.at.space();
        self.at.expect(b'[')?;
        let mut items = Vec::new();
        self.at.space();
        if self.at.eat(b']') {
            self.at.end()?;
            return Ok(items);
        }
        loop {
            self.at.space();
            if items.len() >= max_items {
                return Err(Fault::BatchTooLong);
            }
            let start = self.at.pos();
            *self.members = Members::none();
            if self.at.peek() == Some(b'{') {
                self.object::<true>(Level::Message, 2)?;
            } else {
                self.value(2)?;
            }
            self.members.rebase(start);
            let span = Span::new(start, self.at.pos()).ok_or(Fault::TooLong)?;
            items.push((span, self.members.clone()));
            self.at.space();
            if self.at.eat(b',') {
                continue;
            }
            self.at.expect(b']')?;
            break;
        }
        self.at.end()?;
        Ok(items)
    }

    /// Any value in which nothing is read. `depth` is that of the value, should it be a container.
    fn value(&mut self, depth: u32) -> Result<(), Fault> {
        if !self.strict {
            return self.at.skip_value(depth, self.max_depth);
        }
        match self.at.peek() {
            Some(b'{') => self.object::<false>(Level::Other, depth),
            Some(b'[') => self.array(depth),
            _ => self.at.scalar(),
        }
    }

    fn array(&mut self, depth: u32) -> Result<(), Fault> {
        if depth > self.max_depth {
            return Err(Fault::TooDeep);
        }
        self.at.expect(b'[')?;
        self.at.space();
        if self.at.eat(b']') {
            return Ok(());
        }
        loop {
            self.at.space();
            self.value(depth + 1)?;
            self.at.space();
            if !self.at.eat(b',') {
                return self.at.expect(b']');
            }
        }
    }

    /// An object, with its keys checked; `READ` says whether members are looked up in it.
    fn object<const READ: bool>(&mut self, level: Level, depth: u32) -> Result<(), Fault> {
        if depth > self.max_depth {
            return Err(Fault::TooDeep);
        }
        self.at.expect(b'{')?;
        self.at.space();
        if self.at.eat(b'}') {
            return Ok(());
        }
        let mut keys = keys::Keys::new();
        loop {
            self.at.space();
            let key_at = self.at.offset();
            let key = self.at.string()?;
            if !keys.add(key.raw, key.escaped) {
                return Err(Fault::DuplicateKey(key_at));
            }
            self.at.space();
            self.at.expect(b':')?;
            self.at.space();
            if READ {
                self.member(level, depth, key, key_at)?;
            } else {
                self.value(depth + 1)?;
            }
            self.at.space();
            if !self.at.eat(b',') {
                return self.at.expect(b'}');
            }
        }
    }

    /// The value of a key in an object in which members are read.
    fn member(&mut self, level: Level, depth: u32, key: token::Text<'t>, key_at: u32) -> Result<(), Fault> {
        let name = if key.escaped {
            text::unescape_raw(key.raw)
        } else {
            key.raw.into()
        };
        let member = Member::find(level, &name);
        if member.is_none() && self.strict && level.is_imitated_by(&name) {
            return Err(Fault::AmbiguousKey(key_at));
        }
        let start = self.at.pos();
        let inner = Level::of(member);
        if inner != Level::Other && self.at.peek() == Some(b'{') {
            self.object::<true>(inner, depth + 1)?;
        } else {
            self.value(depth + 1)?;
        }
        if let Some(member) = member {
            self.members.set(member, Span::new(start, self.at.pos()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
