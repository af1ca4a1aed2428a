//! Calls of clients without a session whose server, which has sessions, asked something: they wait here while their
//! client is asked in its own terms (`input_required`), and go on when it comes back with the answer.
//!
//! A call that waits belongs to this replica, which the client's `requestState` names; it occupies no place at its
//! server, only the session there that was opened for it alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::exchange::MAX_DEPTH;
use super::origin::Fingerprint;
use super::relay::Relay;
use crate::app::context::Context;
use crate::auth::identity::PrincipalKey;
use crate::mcp::edit::Patch;
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
    let nonce = rand::random();
    let sealer = &ctx.snapshot.sealer;
    let ticket = Ticket {
        nonce,
        at: ctx.app.discovery.me(),
    };
    let state = sealer
        .seal(TokenKind::Parked, ctx.endpoint.binding(), &ticket.encode())
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
        // Copied, as is what the relay keeps: a call that waits must not hold whole messages.
        question: Bytes::copy_from_slice(question.id().unwrap_or_default()),
        token: token.map(|token| Bytes::copy_from_slice(&token)),
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
    if let Some(params) = params(question) {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(&params);
    }
    out.extend_from_slice(b"}},\"requestState\":");
    json_string(state, &mut out);
    out.extend_from_slice(b"}}");
    out.into()
}

/// What the client is asked. Without a token for progress: a client that answers in another request has nowhere to tell of
/// any, and what a server calls its own requests is nobody else's.
fn params(question: &Message) -> Option<Bytes> {
    let Some(token) = question.span(Member::MetaProgressToken) else {
        return question.slice(Member::Params);
    };
    let mut patch = Patch::new(question.bytes());
    patch.members(question.span(Member::Meta)?, &[Some(token)], &[]);
    let without = Message::from_server(patch.apply().ok()?, MAX_DEPTH).ok()?;
    without.slice(Member::Params)
}

/// What a client brings back to go on with a call.
pub struct Ticket {
    /// Which call.
    pub nonce: [u8; 16],
    /// The replica where it waits. None: there is only one.
    pub at: Option<IpAddr>,
}

impl Ticket {
    fn encode(&self) -> Vec<u8> {
        let at = self.at.map(|at| match at {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        });
        [&self.nonce[..], at.as_ref().map_or(&[], |at| &at[..])].concat()
    }

    fn decode(plain: &[u8]) -> Option<Self> {
        let (nonce, at) = plain.split_first_chunk::<16>()?;
        let at = match at {
            [] => None,
            at => Some(IpAddr::from(<[u8; 16]>::try_from(at).ok()?).to_canonical()),
        };
        Some(Self { nonce: *nonce, at })
    }
}

/// Does this request go on with a call that waits?
pub fn ticket(ctx: &Context, message: &Message) -> Option<Ticket> {
    let state = message.str(Member::RequestState)?;
    let sealer = &ctx.snapshot.sealer;
    let plain = sealer.open(TokenKind::Parked, ctx.endpoint.binding(), state.as_bytes());
    Ticket::decode(&plain.ok()?)
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
    fn a_ticket_names_its_replica() {
        for at in [None, Some("10.0.0.1"), Some("fd00::1")] {
            let at: Option<IpAddr> = at.map(|at| at.parse().unwrap());
            let ticket = Ticket { nonce: [7; 16], at };
            let back = Ticket::decode(&ticket.encode()).unwrap();
            assert_eq!((back.nonce, back.at), ([7; 16], at));
        }
        assert!(Ticket::decode(&[0; 15]).is_none() && Ticket::decode(&[0; 17]).is_none());
    }

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

    #[test]
    fn a_server_s_token_for_progress_on_its_question_stays_with_it() {
        for (meta, left) in [
            (r#"{"progressToken":7}"#, "{}"),
            (r#"{"a":1, "progressToken":"x","b":2}"#, r#"{"a":1,"b":2}"#),
        ] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{{"_meta":{meta},"maxTokens":1.0}}}}"#
            );
            let question = Message::from_server(Bytes::from(text), 64).unwrap();
            let told = answer(b"1", &question, "sealed");
            let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
            let params = &told["result"]["inputRequests"]["1"]["params"];
            let left: serde_json::Value = serde_json::from_str(left).unwrap();
            assert_eq!(params, &serde_json::json!({"_meta":left,"maxTokens":1.0}));
        }
    }
}
