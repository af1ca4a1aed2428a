//! Calls of clients without a session whose server, which has sessions, asked something: they wait here while their
//! client is asked in its own terms (`input_required`), and go on when it comes back with the answer.
//!
//! A call that waits belongs to this replica, which the client's `requestState` names; it occupies no place at its
//! server, only the session there that was opened for it alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::origin::Fingerprint;
use super::relay::Relay;
use crate::app::context::Context;
use crate::auth::identity::PrincipalKey;
use crate::mcp::envelope::Message;
use crate::mcp::reply::{Cause, json_string};
use crate::mcp::scan::{self, Member};
use crate::mcp::seal::TokenKind;

/// Calls that wait on this replica.
const MOST: usize = 1024;
/// ... of one principal.
const MOST_OF_ONE: usize = 32;
/// How long one waits, if its own time does not end before.
const LIFE: Duration = Duration::from_secs(300);
/// The key of the one question.
const KEY: &str = "1";

/// A call that waits for its client.
pub struct Parked {
    /// The call.
    pub relay: Relay,
    who: PrincipalKey,
    request: Fingerprint,
    /// The server's id for what it asks.
    question: Bytes,
    /// The progress token that the server was given.
    pub token: Option<Bytes>,
    expires: Instant,
}

/// All of them, by the nonce that their clients bring back.
#[derive(Default)]
pub struct Lot(Mutex<HashMap<[u8; 16], Parked>>);

impl Lot {
    fn put(&self, nonce: [u8; 16], call: Parked) -> Result<(), Box<Parked>> {
        let mut all = self.lock();
        let own = all.values().filter(|other| other.who == call.who).count();
        if all.len() >= MOST || own >= MOST_OF_ONE {
            return Err(Box::new(call));
        }
        all.insert(nonce, call);
        Ok(())
    }

    /// The call with this nonce, if it waits for this principal to repeat this request.
    fn take(&self, nonce: &[u8; 16], who: &PrincipalKey, request: Fingerprint) -> Option<Parked> {
        let mut all = self.lock();
        let is_its =
            |call: &&Parked| call.who == *who && call.request == request && call.expires > Instant::now();
        all.get(nonce).filter(is_its)?;
        all.remove(nonce)
    }

    /// Gives up those that waited too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        let over: Vec<Parked> = self
            .lock()
            .extract_if(|_, call| call.expires <= now)
            .map(|(_, call)| call)
            .collect();
        // Their servers are told, for which no lock of ours is needed.
        drop(over);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Parked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a call wait for the answer to `question`. Gives what the client is told: the answer for now.
pub fn park(
    ctx: &Context,
    mut relay: Relay,
    question: &Message,
    request: Fingerprint,
    token: Option<Bytes>,
) -> Result<Bytes, Cause> {
    let nonce = super::lifecycle::own_nonce(&ctx.app);
    let sealer = &ctx.snapshot.sealer;
    let state = sealer
        .seal(TokenKind::Parked, ctx.endpoint.binding(), &nonce)
        .map_err(|_| Cause::Internal)?;
    let answer = answer(&relay.mapping().client_id, question, &state);
    relay.pause();
    // One that has waited before has the token of the first request.
    let token = relay
        .mapping()
        .token
        .as_ref()
        .map(|(_, first)| first.clone())
        .or(token);
    let expires = Instant::now() + LIFE.min(relay.left());
    let call = Parked {
        relay,
        who: ctx.who.key,
        request,
        question: question.slice(Member::Id).unwrap_or_default(),
        token,
        expires,
    };
    ctx.app.parked.put(nonce, call).map_err(|_| Cause::Overloaded)?;
    Ok(answer)
}

/// `input_required`, with what the server asks.
fn answer(id: &[u8], question: &Message, state: &str) -> Bytes {
    let mut out = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":{\"resultType\":\"input_required\",\"inputRequests\":{\"");
    out.extend_from_slice(KEY.as_bytes());
    out.extend_from_slice(b"\":{\"method\":");
    json_string(question.method().as_str(), &mut out);
    if let Some(params) = question.raw(Member::Params) {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params);
    }
    out.extend_from_slice(b"}},\"requestState\":");
    json_string(state, &mut out);
    out.extend_from_slice(b"}}");
    out.into()
}

/// Does this request go on with a call that waits? Its nonce, which names the replica where it does.
pub fn nonce(ctx: &Context, message: &Message) -> Option<[u8; 16]> {
    let state = message.str(Member::RequestState)?;
    let sealer = &ctx.snapshot.sealer;
    let plain = sealer.open(TokenKind::Parked, ctx.endpoint.binding(), state.as_bytes());
    plain.ok()?.try_into().ok()
}

/// The call that goes on with this request, and what its server is to be answered.
pub fn take(
    ctx: &Context,
    message: &Message,
    nonce: &[u8; 16],
    request: Fingerprint,
) -> Result<(Parked, Bytes), Cause> {
    let responses = message.span(Member::InputResponses);
    let response = responses.and_then(|at| scan::field(message.bytes(), at, KEY));
    let response = response.filter(|at| at.first(message.bytes()) == b'{');
    let response = response.ok_or(Cause::InvalidParams {
        problem: "params.inputResponses has an answer, which is an object, to each of inputRequests",
    })?;
    let call = ctx.app.parked.take(nonce, &ctx.who.key, request);
    let call = call.ok_or(Cause::InvalidParams {
        problem: "params.requestState was not given out here for this request, or has expired: begin anew without it",
    })?;
    let mut out = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
    out.extend_from_slice(&call.question);
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(response.of(message.bytes()));
    out.push(b'}');
    Ok((call, out.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_the_era_before_is_one_of_this_era() {
        let text =
            r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"x","n":1.0}}"#;
        let question = Message::from_server(Bytes::from_static(text.as_bytes()), 64).unwrap();
        assert_eq!(
            answer(b"\"a\"", &question, "sealed"),
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","inputRequests":{"1":{"method":"elicitation/create","params":{"message":"x","n":1.0}}},"requestState":"sealed"}}"#
        );
    }
}
