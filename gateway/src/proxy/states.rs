//! `requestState`: what a server gives a client to bring back with its answers. The server sees only the gateway, so
//! that its own binding to a user tells our clients not apart: the state is sealed for the principal, the server and the
//! request that it was given for, and restored byte for byte.

use super::origin::Fingerprint;
use crate::app::context::Context;
use crate::mcp::envelope::Message;
use crate::mcp::reply::Cause;
use crate::mcp::scan::Member;
use crate::mcp::seal::{SealError, TokenKind};

/// How long a client may think about what it was asked: people are asked, and asked again by their agents. What is
/// answered later begins anew.
const LIFE_SECONDS: u64 = 600;

const EXPIRY: usize = 8;
const PRINT: usize = 32;

const NOT_OURS: Cause = Cause::InvalidParams {
    problem: "params.requestState was not given out here for this request, or has expired: begin anew without it",
};

/// Seals a server's state (a JSON string, as it wrote it) for the answer to `request`.
pub fn seal(ctx: &Context, request: Fingerprint, state: &[u8]) -> Result<String, SealError> {
    let expires = ctx.now + LIFE_SECONDS;
    let plain = [&expires.to_le_bytes()[..], &request.0, state].concat();
    let sealer = &ctx.snapshot.sealer;
    sealer.seal(TokenKind::RequestState, ctx.endpoint.binding(), &plain)
}

/// The server's own state for a retry: none where the client brings none.
pub fn restore(
    ctx: &Context,
    message: &Message,
    request: impl FnOnce() -> Fingerprint,
) -> Result<Option<Vec<u8>>, Cause> {
    if message.span(Member::RequestState).is_none() {
        return Ok(None);
    }
    let token = message.str(Member::RequestState).ok_or(NOT_OURS)?;
    let mut plain = ctx
        .snapshot
        .sealer
        .open(TokenKind::RequestState, ctx.endpoint.binding(), token.as_bytes())
        .map_err(|_| NOT_OURS)?;
    let (expires, rest) = plain.split_first_chunk::<EXPIRY>().ok_or(NOT_OURS)?;
    let (print, _) = rest.split_first_chunk::<PRINT>().ok_or(NOT_OURS)?;
    if u64::from_le_bytes(*expires) < ctx.now || *print != request().0 {
        return Err(NOT_OURS);
    }
    Ok(Some(plain.split_off(EXPIRY + PRINT)))
}
