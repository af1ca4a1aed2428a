//! A JSON-RPC message with its type: its bytes, and where in them the members stand.

use std::borrow::Cow;

use bytes::Bytes;

use super::method::Method;
use super::scan::{self, Fault, LoneSurrogate, Member, Members, Span, Strictness};

/// The longest `id` or progress token: they are echoed, mapped and kept.
pub const MAX_ID_BYTES: usize = 1024;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has an id and a result.
    Response,
    /// Has an error.
    ErrorResponse,
}

/// A message that is refused, with its id where that was readable: the answer carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub fault: Fault,
    /// The raw id, unless the text is no JSON at all.
    pub id: Option<Bytes>,
}

/// One scanned message. Cheap to clone but for the places of its members; offsets count from its first byte.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    kind: Kind,
    method: Method,
    members: Members,
}

impl Message {
    /// A message from a client: every duplicate key is refused, and so is an id of null.
    pub fn from_client(bytes: Bytes, max_depth: u32) -> Result<Self, Refused> {
        let mut message = Self::unread(bytes);
        match message.read(Strictness::Request, max_depth) {
            Ok(()) => Ok(message),
            Err(fault) => Err(Refused {
                fault,
                id: if fault.is_parse_error() {
                    None
                } else {
                    usable_id(&message.bytes, &message.members)
                },
            }),
        }
    }

    /// A batch from a client (2025-03-26). The outer error is the whole text's; each message may have its own.
    pub fn batch_from_client(
        bytes: &Bytes,
        max_depth: u32,
        max_items: usize,
    ) -> Result<Vec<Result<Self, Refused>>, Fault> {
        let items = scan::scan_batch(bytes, Strictness::Request, max_depth, max_items)?;
        if items.is_empty() {
            return Err(Fault::Shape("an empty batch"));
        }
        let message = |(span, members): (Span, Members)| {
            let bytes = bytes.slice(span.start()..span.end());
            match classify(&bytes, &members, true) {
                Ok((kind, method)) => Ok(Self {
                    bytes,
                    kind,
                    method,
                    members,
                }),
                Err(fault) => Err(Refused {
                    fault,
                    id: usable_id(&bytes, &members),
                }),
            }
        };
        Ok(items.into_iter().map(message).collect())
    }

    /// A message from a server: the envelope is checked, what is in it only for being JSON of bounded depth.
    pub fn from_server(bytes: Bytes, max_depth: u32) -> Result<Self, Fault> {
        let mut message = Self::unread(bytes);
        message.read(Strictness::Reply, max_depth)?;
        Ok(message)
    }

    const fn unread(bytes: Bytes) -> Self {
        Self {
            bytes,
            kind: Kind::Notification,
            method: Method::Other,
            members: Members::none(),
        }
    }

    fn read(&mut self, strictness: Strictness, max_depth: u32) -> Result<(), Fault> {
        scan::scan_message(&self.bytes, strictness, max_depth, &mut self.members)?;
        let from_client = strictness == Strictness::Request;
        (self.kind, self.method) = classify(&self.bytes, &self.members, from_client)?;
        Ok(())
    }

    /// The whole message.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives the whole message back.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its method; [`Method::Other`] for a response.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Where the message's own object stands: all of it but whitespace.
    pub fn whole(&self) -> Option<Span> {
        let start = self.bytes.len() - self.bytes.trim_ascii_start().len();
        Span::new(start, self.bytes.trim_ascii_end().len())
    }

    /// Where a member's value stands.
    pub fn span(&self, member: Member) -> Option<Span> {
        self.members.get(member)
    }

    /// A member's value as it is written.
    pub fn raw(&self, member: Member) -> Option<&[u8]> {
        self.span(member).map(|span| span.of(&self.bytes))
    }

    /// A member's value as a slice of the message that shares its memory.
    pub fn slice(&self, member: Member) -> Option<Bytes> {
        self.span(member)
            .map(|span| self.bytes.slice(span.start()..span.end()))
    }

    /// The raw `id`, quotes and all. None in notifications, and where a server wrote null.
    pub fn id(&self) -> Option<&[u8]> {
        self.raw(Member::Id).filter(|id| *id != b"null")
    }

    /// The method as it is written, quotes and all.
    pub fn method_raw(&self) -> Option<&[u8]> {
        self.raw(Member::Method)
    }

    /// Whether the member is there and is an object.
    pub fn is_object(&self, member: Member) -> bool {
        self.first(member) == Some(b'{')
    }

    /// Whether the member is there and is a string.
    pub fn is_string(&self, member: Member) -> bool {
        self.first(member) == Some(b'"')
    }

    /// A string member's text. `None` when it is absent or no string.
    pub fn text(&self, member: Member) -> Option<Result<Cow<'_, str>, LoneSurrogate>> {
        self.raw(member)
            .filter(|raw| raw.first() == Some(&b'"'))
            .map(scan::unescape)
    }

    /// A string member's text, where it has one.
    pub fn str(&self, member: Member) -> Option<Cow<'_, str>> {
        self.text(member)?.ok()
    }

    /// The whole number at a member, if it is one that fits.
    pub fn integer(&self, member: Member) -> Option<i64> {
        std::str::from_utf8(self.raw(member)?).ok()?.parse().ok()
    }

    fn first(&self, member: Member) -> Option<u8> {
        self.span(member).map(|span| span.first(&self.bytes))
    }
}

/// The id, if it is one that an answer may carry.
fn usable_id(text: &Bytes, members: &Members) -> Option<Bytes> {
    let span = members.get(Member::Id)?;
    is_id(span.of(text)).then(|| text.slice(span.start()..span.end()))
}

/// A string or a number, not too long.
fn is_id(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'"' | b'-' | b'0'..=b'9')) && raw.len() <= MAX_ID_BYTES
}

fn classify(text: &[u8], members: &Members, from_client: bool) -> Result<(Kind, Method), Fault> {
    let raw = |member| members.get(member).map(|span: Span| span.of(text));
    if raw(Member::JsonRpc) != Some(b"\"2.0\"") {
        return Err(Fault::Shape("jsonrpc is \"2.0\""));
    }
    let id = raw(Member::Id);
    let null_id = id == Some(b"null");
    if id.is_some_and(|id| !is_id(id)) && (from_client || !null_id) {
        return Err(Fault::Shape("an id is a string or a number of ordinary length"));
    }
    let answers = members.get(Member::Result).is_some() || members.get(Member::Error).is_some();
    if let Some(name) = raw(Member::Method) {
        if answers {
            return Err(Fault::Shape(
                "a message has a method, a result or an error, not two of them",
            ));
        }
        if name.first() != Some(&b'"') {
            return Err(Fault::Shape("a method is a string"));
        }
        if raw(Member::Params).is_some_and(|params| params.first() != Some(&b'{')) {
            return Err(Fault::Shape("params is an object"));
        }
        if null_id {
            return Err(Fault::Shape("a request's id is not null"));
        }
        let kind = if id.is_some() {
            Kind::Request
        } else {
            Kind::Notification
        };
        return Ok((kind, method_of(name)));
    }
    let kind = match (raw(Member::Result), raw(Member::Error)) {
        (Some(result), None) if result.first() == Some(&b'{') => Kind::Response,
        (None, Some(error)) if error.first() == Some(&b'{') => Kind::ErrorResponse,
        (Some(_), Some(_)) => {
            return Err(Fault::Shape("a response has a result or an error, not both"));
        }
        (None, None) => return Err(Fault::Shape("a message has a method, a result or an error")),
        _ => return Err(Fault::Shape("a result or an error is an object")),
    };
    // Only an error may be about a request whose id was not readable.
    if (id.is_none() || null_id) && (from_client || kind == Kind::Response) {
        return Err(Fault::Shape("a response has the id of its request"));
    }
    Ok((kind, Method::Other))
}

fn method_of(quoted: &[u8]) -> Method {
    let name = scan::contents(quoted);
    if !name.contains(&b'\\') {
        return Method::from_name(name);
    }
    scan::unescape(quoted).map_or(Method::Other, |name| Method::from_name(name.as_bytes()))
}

#[cfg(test)]
mod tests;
