//! A call's arguments, taken apart once: what a condition reads must be exactly what every server reads.
//!
//! What JSON's readers disagree on is not guessed: duplicate keys and keys with half a surrogate pair fail the whole,
//! strings and numbers that have no exact value fail where they are read. The text stays where it is; a string without
//! escapes is borrowed.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Failure;

/// The most that is taken apart.
pub(super) const MAX_BYTES: usize = 128 << 10;
/// Values and keys in it.
pub(super) const MAX_NODES: usize = 4096;
/// Values in one list or object.
pub(super) const MAX_ITEMS: usize = 1024;
/// Lists and objects in one another.
const MAX_DEPTH: usize = 64;
/// Up to so many keys are compared with each other, more are hashed.
const FEW_KEYS: usize = 8;

/// A value, or a key of the object before it.
#[derive(Debug)]
enum Node<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    /// What stands between the quotes.
    Text(&'a str),
    /// Number of items, and the place after the last of them.
    List(usize, usize),
    /// Likewise; each item is a key and its value.
    Object(usize, usize),
    Key(Cow<'a, str>),
}

/// JSON as a list of its values in their order; each list and object is followed by what is in it.
#[derive(Debug)]
pub(super) struct Tree<'a>(Vec<Node<'a>>);

/// A value of a [`Tree`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<'v> {
    nodes: &'v [Node<'v>],
    at: usize,
}

/// What a value is.
pub(super) enum Shape<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// The text, and how many bytes it takes as it is written.
    Text(Cow<'v, str>, usize),
    List(usize),
    Object(usize),
}

impl<'a> Tree<'a> {
    /// Takes JSON apart.
    pub(super) fn read(json: &'a [u8]) -> Result<Self, Failure> {
        if json.len() > MAX_BYTES {
            return Err(Failure::TooLarge);
        }
        let text = std::str::from_utf8(json).map_err(|_| Failure::NotExact)?;
        let mut reader = Reader {
            rest: text,
            nodes: Vec::new(),
        };
        reader.value(0)?;
        reader.skip_space();
        if !reader.rest.is_empty() {
            return Err(Failure::NotExact);
        }
        Ok(Self(reader.nodes))
    }

    /// Number of values and keys.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    /// The whole.
    pub(super) fn root(&self) -> Json<'_> {
        Json {
            nodes: &self.0,
            at: 0,
        }
    }
}

impl<'v> Json<'v> {
    /// What it is; fails where it has no exact value.
    pub(super) fn shape(self) -> Result<Shape<'v>, Failure> {
        Ok(match self.nodes.get(self.at) {
            Some(Node::Null) => Shape::Null,
            Some(Node::Bool(value)) => Shape::Bool(*value),
            Some(Node::Number(text)) => number(text)?,
            Some(Node::Text(raw)) => Shape::Text(unescape(raw)?, raw.len()),
            Some(Node::Key(key)) => Shape::Text(Cow::Borrowed(key), key.len()),
            Some(Node::List(count, _)) => Shape::List(*count),
            Some(Node::Object(count, _)) => Shape::Object(*count),
            None => return Err(Failure::NotExact),
        })
    }

    /// The value of a key, where it is an object that has it, and how many keys were looked at.
    pub(super) fn member(self, wanted: &str) -> (Option<Self>, usize) {
        let mut looked = 0;
        for key in self.items() {
            looked += 1;
            if matches!(self.nodes.get(key.at), Some(Node::Key(name)) if **name == *wanted) {
                let value = Self {
                    at: key.at + 1,
                    ..key
                };
                return (Some(value), looked);
            }
        }
        (None, looked)
    }

    /// The values of a list, the keys of an object; nothing of anything else.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let (end, keys) = match self.nodes.get(self.at) {
            Some(Node::List(_, end)) => (*end, false),
            Some(Node::Object(_, end)) => (*end, true),
            _ => (0, false),
        };
        let mut next = self.at + 1;
        std::iter::from_fn(move || {
            let at = next;
            (at < end).then(|| {
                next = self.after(if keys { at + 1 } else { at });
                Self { at, ..self }
            })
        })
    }

    /// The place after the value at `at`.
    fn after(self, at: usize) -> usize {
        match self.nodes.get(at) {
            Some(Node::List(_, end) | Node::Object(_, end)) => *end,
            _ => at + 1,
        }
    }
}

/// A whole number that fits into 64 bits, or a floating one that is finite.
fn number(text: &str) -> Result<Shape<'static>, Failure> {
    if text.contains(['.', 'e', 'E']) {
        let value: f64 = text.parse().map_err(|_| Failure::NotExact)?;
        if value.is_finite() {
            return Ok(Shape::Double(value));
        }
    } else if let Ok(value) = text.parse() {
        return Ok(Shape::Int(value));
    }
    Err(Failure::NotExact)
}

struct Reader<'a> {
    rest: &'a str,
    nodes: Vec<Node<'a>>,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<usize, Failure> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Failure::TooLarge);
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn value(&mut self, depth: usize) -> Result<(), Failure> {
        self.skip_space();
        for (word, node) in [
            ("null", Node::Null),
            ("true", Node::Bool(true)),
            ("false", Node::Bool(false)),
        ] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                self.push(node)?;
                return Ok(());
            }
        }
        match self.rest.bytes().next() {
            Some(b'"') => {
                let raw = self.quoted()?;
                self.push(Node::Text(raw))?;
            }
            Some(b'-' | b'0'..=b'9') => {
                let text = self.number()?;
                self.push(Node::Number(text))?;
            }
            Some(b'[' | b'{') if depth >= MAX_DEPTH => return Err(Failure::TooLarge),
            Some(b'[') => self.list(depth + 1)?,
            Some(b'{') => self.object(depth + 1)?,
            _ => return Err(Failure::NotExact),
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), Failure> {
        let at = self.push(Node::List(0, 0))?;
        self.eat('[');
        let mut count = 0;
        if !self.eat(']') {
            loop {
                count += 1;
                if count > MAX_ITEMS {
                    return Err(Failure::TooLarge);
                }
                self.value(depth)?;
                if self.eat(']') {
                    break;
                }
                if !self.eat(',') {
                    return Err(Failure::NotExact);
                }
            }
        }
        self.close(at, Node::List(count, self.nodes.len()));
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Failure> {
        let at = self.push(Node::Object(0, 0))?;
        self.eat('{');
        let mut count = 0;
        if !self.eat('}') {
            loop {
                count += 1;
                if count > MAX_ITEMS {
                    return Err(Failure::TooLarge);
                }
                self.skip_space();
                let key = unescape(self.quoted()?)?;
                self.push(Node::Key(key))?;
                if !self.eat(':') {
                    return Err(Failure::NotExact);
                }
                self.value(depth)?;
                if self.eat('}') {
                    break;
                }
                if !self.eat(',') {
                    return Err(Failure::NotExact);
                }
            }
        }
        self.close(at, Node::Object(count, self.nodes.len()));
        self.no_key_twice(at, count)
    }

    fn close(&mut self, at: usize, node: Node<'a>) {
        if let Some(open) = self.nodes.get_mut(at) {
            *open = node;
        }
    }

    fn no_key_twice(&self, at: usize, count: usize) -> Result<(), Failure> {
        let object = Json {
            nodes: &self.nodes,
            at,
        };
        let keys = object.items().filter_map(|item| match self.nodes.get(item.at) {
            Some(Node::Key(key)) => Some(&**key),
            _ => None,
        });
        let unique = if count <= FEW_KEYS {
            let mut seen: [&str; FEW_KEYS] = [""; FEW_KEYS];
            keys.enumerate().all(|(at, key)| {
                let (before, after) = seen.split_at_mut_checked(at).unwrap_or_default();
                let new = !before.contains(&key);
                if let Some(place) = after.first_mut() {
                    *place = key;
                }
                new
            })
        } else {
            let mut seen = HashSet::with_capacity(count);
            keys.into_iter().all(|key| seen.insert(key))
        };
        if unique { Ok(()) } else { Err(Failure::NotExact) }
    }

    /// A string, to what stands between its quotes.
    fn quoted(&mut self) -> Result<&'a str, Failure> {
        let Some(text) = self.rest.strip_prefix('"') else {
            return Err(Failure::NotExact);
        };
        let mut escaped = false;
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let (raw, rest) = text.split_at_checked(at).ok_or(Failure::NotExact)?;
                    self.rest = rest.strip_prefix('"').unwrap_or_default();
                    return Ok(raw);
                }
                0..0x20 => return Err(Failure::NotExact),
                _ => {}
            }
        }
        Err(Failure::NotExact)
    }

    /// A number by RFC 8259, section 6.
    fn number(&mut self) -> Result<&'a str, Failure> {
        let start = self.rest;
        self.rest = self.rest.strip_prefix('-').unwrap_or(self.rest);
        if let Some(rest) = self.rest.strip_prefix('0') {
            self.rest = rest;
        } else {
            self.digits()?;
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.digits()?;
        }
        if let Some(rest) = self.rest.strip_prefix(['e', 'E']) {
            self.rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            self.digits()?;
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Failure::NotExact);
        }
        start
            .get(..start.len() - self.rest.len())
            .ok_or(Failure::NotExact)
    }

    fn digits(&mut self) -> Result<(), Failure> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == self.rest.len() {
            return Err(Failure::NotExact);
        }
        self.rest = rest;
        Ok(())
    }
}

/// The text of a string without its quotes. Half a surrogate pair is no text.
fn unescape(raw: &str) -> Result<Cow<'_, str>, Failure> {
    if !raw.contains('\\') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first().ok_or(Failure::NotExact)?;
        rest = after;
        match escape {
            b'"' | b'\\' | b'/' => text.push(escape),
            b'b' => text.push(0x08),
            b'f' => text.push(0x0c),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let (c, after) = unicode(rest).ok_or(Failure::NotExact)?;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => return Err(Failure::NotExact),
        }
    }
    String::from_utf8(text)
        .map(Cow::Owned)
        .map_err(|_| Failure::NotExact)
}

/// The character of `XXXX`, or of `XXXX\uXXXX`, and what follows it.
fn unicode(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = unit(text)?;
    if let Some(c) = char::from_u32(first) {
        return Some((c, rest));
    }
    let (second, rest) = unit(rest.strip_prefix(b"\\u")?)?;
    if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(code)?, rest))
}

/// Four hexadecimal digits.
fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests;
