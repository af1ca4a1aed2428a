//! A stateless server that needs more from a client which has a session (multi round-trip requests, SEP-2322): its
//! questions become requests of the session era on the stream of the call, and the answers go back in another try.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use http::HeaderMap;
use tokio::sync::oneshot;

use super::asks::Key;
use super::cancel::Cancel;
use super::channel::Channel;
use super::exchange::{Exchange, Failure, Outgoing};
use super::question::{self, Question};
use super::registry::Session;
use super::upstream::Upstream;
use crate::mcp::edit::Patch;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::json_string;
use crate::mcp::scan::{self, Member};

/// How often a server may come back with questions about one request.
const MOST: u8 = 16;
/// Questions at a time.
const MOST_QUESTIONS: usize = 16;
/// Nesting of our own message.
const DEPTH: u32 = 256;

/// A request that a stateless server may answer with questions.
pub struct Rounds {
    /// As it was sent.
    message: Bytes,
    extra: HeaderMap,
    left: u8,
}

/// A question for the client, which waits for the answer.
pub struct Asked {
    /// Under which key it waits.
    pub key: Key,
    /// What is asked.
    pub method: Method,
    /// As the client sees it.
    pub bytes: Bytes,
}

/// The other try: waits for the answers, then sends the request with them.
pub type Again = std::pin::Pin<Box<dyn Future<Output = Result<Exchange, Failure>> + Send>>;

/// The server's key for a question, what it asks, and where the answer comes.
type Waiting = (Box<[u8]>, Method, oneshot::Receiver<Option<Bytes>>);

impl Rounds {
    /// Of a request as it is sent.
    pub const fn new(message: Bytes, extra: HeaderMap) -> Self {
        Self {
            message,
            extra,
            left: MOST,
        }
    }

    /// Puts the questions in `answer` to the client. Gives them as it is to see them, and the other try, under the id
    /// `id`.
    pub fn next(
        &mut self,
        answer: &Message,
        session: &Session,
        upstream: &Arc<Upstream>,
        id: Bytes,
        patience: Duration,
        call: Cancel,
    ) -> Result<(Vec<Asked>, Again), Failure> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or(Failure::Invalid("it asks again and again"))?;
        let (questions, waiting) = questions(answer, session, upstream, patience)?;
        let state = answer.slice(Member::ResultRequestState);
        if waiting.is_empty() && state.is_none() {
            return Err(Failure::Invalid("it wants something, and does not say what"));
        }
        let (message, extra) = (self.message.clone(), self.extra.clone());
        let upstream = Arc::clone(upstream);
        let again = async move {
            let answers = try_join_all(waiting.into_iter().map(answered)).await?;
            let message = with(&message, &id, &answers, state.as_deref())?;
            let channel = Channel::STATELESS;
            let outgoing = Outgoing {
                message,
                channel: &channel,
                extra,
                credential: upstream.credential.shown(),
                bounds: upstream.bounds,
            };
            Exchange::start(&upstream.link, outgoing, Some(call)).await
        };
        Ok((questions, Box::pin(again)))
    }
}

/// Does the server need more before it can answer?
pub fn asks(answer: &Message) -> bool {
    answer.raw(Member::ResultType) == Some(b"\"input_required\"")
}

fn questions(
    answer: &Message,
    session: &Session,
    upstream: &Upstream,
    patience: Duration,
) -> Result<(Vec<Asked>, Vec<Waiting>), Failure> {
    const NOT_QUESTIONS: Failure = Failure::Invalid("what it asks for is not to be read");
    let text = answer.bytes();
    let (mut questions, mut waiting) = (Vec::new(), Vec::new());
    let Some(requests) = answer.span(Member::ResultInputRequests) else {
        return Ok((questions, waiting));
    };
    if requests.first(text) != b'{' || scan::repeats_a_key(text, requests) {
        return Err(NOT_QUESTIONS);
    }
    let can = upstream.may_ask(session.token.capabilities);
    let mut found = Vec::new();
    for item in scan::fields(text, requests) {
        let (key, at) = item.map_err(|_| NOT_QUESTIONS)?;
        if found.len() >= MOST_QUESTIONS {
            return Err(Failure::Invalid("it asks too much at once"));
        }
        found.push((key, question::read(text, at, can).map_err(Failure::Invalid)?));
    }
    // All or none: what is asked in vain would wait for as long as the call may last.
    for (key, Question { method, params }) in found {
        let params = params.map(|params| params.of(text));
        let Ok((asked, bytes, answer)) = session.asks.put_here(upstream, method, params, patience) else {
            for Asked { key, .. } in &questions {
                session.asks.remove(*key);
            }
            return Err(Failure::Invalid("too many questions wait for the client"));
        };
        questions.push(Asked {
            key: asked,
            method,
            bytes,
        });
        waiting.push((key.of(text).into(), method, answer));
    }
    Ok((questions, waiting))
}

/// The client's answer to one question. In the stateless era an answer is always a result.
async fn answered((key, method, answer): Waiting) -> Result<(Box<[u8]>, Bytes), Failure> {
    match (answer.await, method) {
        (Ok(Some(result)), _) => Ok((key, result)),
        (Ok(None), Method::ElicitationCreate) => Ok((key, Bytes::from_static(br#"{"action":"cancel"}"#))),
        _ => Err(Failure::Unanswered),
    }
}

/// The request with the answers, and with the server's own state.
fn with(
    message: &Bytes,
    id: &[u8],
    answers: &[(Box<[u8]>, Bytes)],
    state: Option<&[u8]>,
) -> Result<Bytes, Failure> {
    const OURS: Failure = Failure::Invalid("the request cannot be repeated with the answers");
    let message = Message::from_client(message.clone(), DEPTH).map_err(|_| OURS)?;
    let mut responses = b"{".to_vec();
    for (at, (key, result)) in answers.iter().enumerate() {
        if at > 0 {
            responses.push(b',');
        }
        responses.extend_from_slice(key);
        responses.push(b':');
        responses.extend_from_slice(result);
    }
    responses.push(b'}');
    let mut insert = Vec::with_capacity(2);
    if !answers.is_empty() {
        insert.push((Member::InputResponses.name(), &responses[..]));
    }
    insert.extend(state.map(|state| (Member::RequestState.name(), state)));
    let remove = [Member::InputResponses, Member::RequestState].map(|member| message.span(member));
    let mut patch = Patch::new(message.bytes());
    patch.replace(message.span(Member::Id).ok_or(OURS)?, id);
    patch.members(message.span(Member::Params).ok_or(OURS)?, &remove, &insert);
    patch.apply().map_err(|_| OURS)
}

/// A question as a request of the session era.
pub fn request(id: &str, method: Method, params: Option<&[u8]>) -> Bytes {
    let mut out = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":").into_bytes();
    json_string(method.as_str(), &mut out);
    if let Some(params) = params {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params);
    }
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_try_carries_the_answers_and_the_servers_state() {
        let sent = Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"x":1.0},"_meta":{}}}"#,
        );
        let answers = [
            (
                Box::from(*b"\"a\""),
                Bytes::from_static(b"{\"action\":\"accept\"}"),
            ),
            (Box::from(*b"\"b\""), Bytes::from_static(b"{\"roots\":[]}")),
        ];
        let first = with(&sent, b"7", &answers, Some(b"\"s1\"")).unwrap();
        let text = std::str::from_utf8(&first).unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(text.contains(r#""arguments":{"x":1.0}"#), "{text}");
        assert_eq!(value["id"], 7);
        let expected = serde_json::json!({"a":{"action":"accept"},"b":{"roots":[]}});
        assert_eq!(value["params"]["inputResponses"], expected);
        assert_eq!(value["params"]["requestState"], "s1");
        // Round by round they are those of the last one.
        let second = with(&first, b"8", &[], Some(b"\"s2\"")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&second).unwrap();
        assert!(value["params"]["inputResponses"].is_null());
        assert_eq!(value["params"]["requestState"], "s2");
    }
}
