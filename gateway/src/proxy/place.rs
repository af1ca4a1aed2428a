//! Places in a server's streams as clients are given them, to go on from there (specification, Resumability and
//! Redelivery): on the endpoint of one server alone, whose event ids pass sealed.
//!
//! A sealed place says more than the server's id: in which session, on which stream, and for a call also what it was
//! about, since whoever goes on reading an answer must still be permitted to have it.

use bytes::Bytes;
use http::HeaderValue;

use super::exchange::Place;
use super::registry::Session;
use super::source;
use crate::app::context::{Context, OwnedEndpoint};
use crate::auth::authorize::Kind;
use crate::mcp::seal::TokenKind;
use crate::mcp::sse::Event;

/// Which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The client's own.
    Own,
    /// The answer to a request about this.
    Call(Kind, Box<str>),
}

const OWN: u8 = 0;
const TOOL: u8 = 1;
const PROMPT: u8 = 2;
const RESOURCE: u8 = 3;

/// An event for a client that may go on from `place`, if it is given one.
pub fn event(
    ctx: &Context,
    session: Option<&Session>,
    stream: &Stream,
    data: Option<Bytes>,
    place: Option<&Place>,
) -> Event {
    let mut event = Event {
        data,
        ..Event::default()
    };
    if let (Some(place), Some(session)) = (place, session) {
        event.id = place.id.as_ref().and_then(|id| seal(ctx, session, stream, id));
        event.retry = place
            .retry
            .map(|retry| retry.clamp(source::SHORTEST, source::LONGEST))
            .and_then(|retry| u64::try_from(retry.as_millis()).ok());
        if event.data.is_none() && event.id.is_some() {
            // Whose only purpose is its id: a field of data makes it an event.
            event.data = Some(Bytes::new());
        }
    }
    event
}

fn seal(ctx: &Context, session: &Session, stream: &Stream, id: &HeaderValue) -> Option<Bytes> {
    let (kind, name) = match stream {
        Stream::Own => (OWN, ""),
        Stream::Call(Kind::Tool, name) => (TOOL, &**name),
        Stream::Call(Kind::Prompt, name) => (PROMPT, &**name),
        Stream::Call(Kind::Resource, name) => (RESOURCE, &**name),
    };
    let mut plain = session.token.nonce.to_vec();
    plain.push(kind);
    plain.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
    plain.extend_from_slice(name.as_bytes());
    plain.extend_from_slice(id.as_bytes());
    let sealer = &ctx.snapshot.sealer;
    let sealed = sealer
        .seal(TokenKind::Event, ctx.endpoint.binding(), &plain)
        .ok()?;
    Some(sealed.into())
}

/// What a client's `Last-Event-ID` stands for: which stream, and the server's own id.
pub fn open(ctx: &Context, session: &Session, id: &[u8]) -> Option<(Stream, HeaderValue)> {
    if !matches!(ctx.endpoint, OwnedEndpoint::Server(_)) {
        return None;
    }
    let sealer = &ctx.snapshot.sealer;
    let plain = sealer.open(TokenKind::Event, ctx.endpoint.binding(), id).ok()?;
    let (nonce, rest) = plain.split_first_chunk::<16>()?;
    let (&[kind, low, high], rest) = rest.split_first_chunk::<3>()?;
    let (name, id) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
    let name = || std::str::from_utf8(name).ok().map(Into::into);
    let stream = match kind {
        OWN => Stream::Own,
        TOOL => Stream::Call(Kind::Tool, name()?),
        PROMPT => Stream::Call(Kind::Prompt, name()?),
        RESOURCE => Stream::Call(Kind::Resource, name()?),
        _ => return None,
    };
    let id = HeaderValue::from_bytes(id).ok()?;
    (*nonce == session.token.nonce).then_some((stream, id))
}
