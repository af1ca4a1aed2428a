//! Batches: several messages of a session in one array (revision 2025-03-26, and no other).
//!
//! Each message is handled as if it had come alone: judged, charged and recorded by itself, by the configuration that is
//! in force when its turn comes. What the client gets is one array when every answer is there in one piece, and
//! otherwise a stream of them, in which an answer stands as soon as it is there.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use futures::{FutureExt as _, Stream};
use http::{HeaderMap, Response, StatusCode, Uri};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::context::{Context, Entry};
use super::earlier;
use super::forward::{self, Asked, Located, Reached};
use super::permit::Permit;
use super::serve;
use super::state::App;
use super::waits::{Waits, array};
use crate::clock;
use crate::mcp::envelope::{Kind, Message, Refused};
use crate::mcp::era;
use crate::mcp::headers::McpHeaders;
use crate::mcp::method::Method;
use crate::mcp::reply::Cause;
use crate::mcp::revision::{Era, Revision};
use crate::mcp::scan::Member;
use crate::mcp::sse::{self, Event};
use crate::proxy::call;
use crate::proxy::registry::Session;
use crate::proxy::stream::{Body, FIRST_WAIT};
use crate::proxy::streamed::KEEP_ALIVE;
use crate::proxy::terms;
use crate::telemetry::metrics::Method as MethodLabel;

/// Messages in one batch.
const MAX_ITEMS: usize = 50;
/// Messages of one batch that are worked on at the same time.
const AT_ONCE: usize = 8;
/// How long a message waits for a place when the gateway is full, as any other does.
const QUEUE: Duration = Duration::from_millis(100);

type Item = Result<Message, Refused>;

/// Answers a POST whose body is an array.
pub(super) async fn post(
    mut ctx: Context,
    mcp: &McpHeaders<'_>,
    headers: &HeaderMap,
    body: Bytes,
    uri: Uri,
    forwarded: bool,
) -> Response<Body> {
    ctx.entry.method = MethodLabel::Batch;
    let named = mcp.version.map(Revision::parse);
    let may_be = named.is_none_or(|revision| revision.is_some_and(Revision::has_batches));
    if mcp.session.is_none() || !may_be {
        return serve::refuse(ctx, Cause::BatchNotAllowed, None, None, serve::NOTHING);
    }
    let depth = ctx.snapshot.config.limits.max_json_depth;
    if !forwarded && ctx.app.discovery.has_changed() {
        Box::pin(tell_earlier(&ctx, mcp, headers, &uri, &body)).await;
    }
    match forward::locate(&ctx, mcp.session, forwarded) {
        Ok(Located::Here(session)) => here(ctx, session, mcp, headers, &body).await,
        Ok(Located::At(to)) => {
            let caller = serve::Caller::of(&ctx);
            let asked = Asked {
                id: mcp.session,
                method: http::Method::POST,
                uri,
                headers,
                body: body.clone(),
                waits: Waits::Batch(requests(&body, depth)),
            };
            match Box::pin(forward::reach(ctx, to, asked)).await {
                Reached::Answered(response) => response.map(|body| caller.guard(body, headers, None)),
                Reached::Here(ctx, session) => here(*ctx, session, mcp, headers, &body).await,
                Reached::Refused(ctx, Cause::OwnerLost) => {
                    Waits::Batch(requests(&body, depth)).refuse(*ctx, Cause::OwnerLost)
                }
                Reached::Refused(ctx, cause) => ctx.refuse(cause.into(), None, None),
            }
        }
        Err(cause) => serve::refuse(ctx, cause, None, None, serve::NOTHING),
    }
}

/// What is no request in it is said to earlier owners of the session, too.
async fn tell_earlier(ctx: &Context, mcp: &McpHeaders<'_>, headers: &HeaderMap, uri: &Uri, body: &Bytes) {
    let depth = ctx.snapshot.config.limits.max_json_depth;
    let items = Message::batch_from_client(body, depth, MAX_ITEMS).unwrap_or_default();
    let passed = earlier::Passed {
        id: mcp.session,
        uri,
        headers,
    };
    for message in items.iter().flatten() {
        if message.kind() != Kind::Request {
            earlier::tell(ctx, &passed, earlier::Said::Message(message)).await;
        }
    }
}

/// The ids of the requests in it.
fn requests(body: &Bytes, depth: u32) -> Vec<Bytes> {
    let items = Message::batch_from_client(body, depth, MAX_ITEMS).unwrap_or_default();
    items.iter().filter_map(answered_as).collect()
}

/// The id that the answer to it will have, if there is one.
fn answered_as(item: &Item) -> Option<Bytes> {
    match item {
        Ok(message) if message.kind() == Kind::Request => message.slice(Member::Id),
        Ok(_) => None,
        Err(refused) => refused.id.clone(),
    }
}

async fn here(
    mut ctx: Context,
    session: Arc<Session>,
    mcp: &McpHeaders<'_>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    if !session.token.revision.has_batches() {
        return serve::refuse(ctx, Cause::BatchNotAllowed, None, None, serve::NOTHING);
    }
    let limits = &ctx.snapshot.config.limits;
    let most = usize::try_from(limits.max_response_bytes).unwrap_or(usize::MAX);
    let items = match Message::batch_from_client(body, limits.max_json_depth, MAX_ITEMS) {
        Ok(items) => items,
        Err(fault) => return serve::refuse(ctx, Cause::Malformed(fault), None, None, serve::NOTHING),
    };
    let common = Arc::new(Common {
        headers: headers.clone(),
        session: mcp.session.unwrap_or_default().to_vec(),
        own: Semaphore::new(1),
        app: Arc::clone(&ctx.app),
    });
    let ids: Vec<Option<Bytes>> = items.iter().map(answered_as).collect();
    let mut works = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let doubled = is_doubled(&ids, at);
        let ctx = part(&ctx, at);
        works.push(Work {
            ctx,
            item,
            doubled,
            session: Arc::clone(&session),
            common: Arc::clone(&common),
        });
    }
    // Each message makes a record of its own.
    ctx.entry.recorded = false;
    let answers = stream::iter(works).map(Work::said).flatten_unordered(AT_ONCE);
    gather(ctx, common, Box::pin(answers), most).await
}

/// Could its answer be told from that of another message?
fn is_doubled(ids: &[Option<Bytes>], at: usize) -> bool {
    let Some(Some(id)) = ids.get(at) else {
        return false;
    };
    let others = ids.iter().enumerate().filter(|(other, _)| *other != at);
    let mut others = others.filter_map(|(_, other)| other.as_deref());
    others.any(|other| terms::same_id(id, other))
}

/// What one message is worked on with.
fn part(ctx: &Context, at: usize) -> Context {
    let whole = &ctx.entry;
    let mut entry = Entry::new(
        &ctx.app,
        &ctx.snapshot,
        whole.request_id.part(at),
        whole.client,
        whole.kind,
    );
    entry.path.clone_from(&whole.path);
    entry.who.clone_from(&whole.who);
    entry.part = true;
    // A message whose turn never comes was not decided.
    entry.recorded = false;
    Context {
        app: Arc::clone(&ctx.app),
        snapshot: Arc::clone(&ctx.snapshot),
        who: Arc::clone(&ctx.who),
        endpoint: ctx.endpoint.clone(),
        now: ctx.now,
        entry,
    }
}

/// What the messages of a batch share.
struct Common {
    headers: HeaderMap,
    /// The id of the client's session.
    session: Vec<u8>,
    app: Arc<App>,
    /// The place that the batch itself has, for one of its messages at a time.
    own: Semaphore,
}

impl Common {
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        let all = &self.app.in_flight;
        if let Ok(place) = self.own.try_acquire().or_else(|_| all.try_acquire()) {
            return Some(place);
        }
        let waiting = async {
            tokio::select! {
                Ok(place) = self.own.acquire() => Some(place),
                Ok(place) = all.acquire() => Some(place),
                else => None,
            }
        };
        tokio::time::timeout(QUEUE, waiting).await.ok()?
    }
}

/// One message that waits for its turn.
struct Work {
    ctx: Context,
    item: Item,
    doubled: bool,
    session: Arc<Session>,
    common: Arc<Common>,
}

/// What comes of a message.
enum Said {
    /// Its answer, whole.
    Answer(Bytes, HeaderMap),
    /// An event of its stream.
    Event(Bytes),
}

type Saying = Pin<Box<dyn Stream<Item = Said> + Send>>;

impl Work {
    fn said(self) -> Saying {
        // What is no request is not answered, whatever becomes of it.
        let silent = self
            .item
            .as_ref()
            .is_ok_and(|message| message.kind() != Kind::Request);
        let response = self.answer().map(move |response| {
            let (head, body) = response.into_parts();
            let said: Saying = match body {
                _ if silent => Box::pin(stream::empty()),
                Body::Empty => Box::pin(stream::empty()),
                Body::Full(bytes) => {
                    let answer = Said::Answer(bytes, quota(&head.headers));
                    Box::pin(stream::once(std::future::ready(answer)))
                }
                // The batch's stream has signs of life of its own.
                Body::Stream(events) => {
                    let events = events.filter(|event| std::future::ready(**event != *sse::KEEP_ALIVE));
                    Box::pin(events.map(Said::Event))
                }
            };
            said
        });
        Box::pin(response.flatten_stream())
    }

    async fn answer(mut self) -> Response<Body> {
        self.ctx.entry.recorded = true;
        self.ctx.entry.method = match &self.item {
            Ok(message) => serve::label(message),
            Err(_) => MethodLabel::None,
        };
        let id = answered_as(&self.item);
        if let Err(cause) = self.turn() {
            return self.ctx.refuse(cause.into(), Some(Era::Session), id.as_deref());
        }
        let common = Arc::clone(&self.common);
        let Some(_place) = common.place().await else {
            return self
                .ctx
                .refuse(Cause::Overloaded.into(), Some(Era::Session), id.as_deref());
        };
        let method = self
            .item
            .as_ref()
            .map_or(serve::NOTHING, |message| message.method().as_str());
        match checked(&self.item, self.doubled) {
            Ok(message) => {
                let answered = serve::in_session(self.ctx, message, &common.headers, self.session);
                Box::pin(answered).await
            }
            Err(cause) => serve::refuse(self.ctx, cause, Some(Era::Session), id.as_deref(), method),
        }
    }

    /// Its turn may come long after the batch came: it is judged by what is in force now.
    fn turn(&mut self) -> Result<(), Cause> {
        let ctx = &mut self.ctx;
        if ctx.app.drain.end_streams().is_cancelled() {
            return Err(Cause::Draining);
        }
        if let Some(cause) = Permit::of_call(ctx, &self.common.headers, Era::Session).refusal() {
            return Err(cause);
        }
        ctx.snapshot = ctx.app.snapshot().ok_or(Cause::Internal)?;
        ctx.now = clock::now_unix();
        // Limits count from its turn on.
        ctx.entry.started = std::time::Instant::now();
        self.session = match forward::locate(ctx, Some(&self.common.session), true)? {
            Located::Here(session) => session,
            Located::At(_) => return Err(Cause::OwnerLost),
        };
        Ok(())
    }
}

/// The message, if it may stand in a batch.
fn checked(item: &Item, doubled: bool) -> Result<&Message, Cause> {
    let message = item.as_ref().map_err(|refused| Cause::Malformed(refused.fault))?;
    if doubled {
        return Err(Cause::Unexpected(
            "another request of the batch has the same id, and their answers could not be told apart",
        ));
    }
    if message.span(Member::MetaProtocolVersion).is_some() {
        return Err(Cause::BatchNotAllowed);
    }
    if message.method() == Method::Initialize {
        return Err(Cause::Unexpected("initialize is sent alone, not in a batch"));
    }
    era::check_session(message)?;
    Ok(message)
}

/// What an answer says of limits.
fn quota(headers: &HeaderMap) -> HeaderMap {
    let mut quota = HeaderMap::new();
    for (name, value) in headers {
        if name.as_str().starts_with("ratelimit") {
            quota.append(name.clone(), value.clone());
        }
    }
    quota
}

/// The answer to all: in one piece if it is there soon and not longer than any other, as a stream otherwise.
async fn gather(mut ctx: Context, common: Arc<Common>, mut answers: Saying, most: usize) -> Response<Body> {
    let until = Instant::now() + FIRST_WAIT;
    let (mut whole, mut length, mut last) = (Vec::new(), 0, HeaderMap::new());
    let begun = loop {
        match timeout_at(until, answers.next()).await {
            Ok(Some(Said::Answer(bytes, quota))) => {
                length += bytes.len();
                whole.push(bytes);
                last = quota;
                if length > most {
                    break None;
                }
            }
            Ok(Some(Said::Event(event))) => break Some(event),
            Err(_) => break None,
            Ok(None) => {
                ctx.entry.allowed(StatusCode::OK);
                if whole.is_empty() {
                    return serve::taken(ctx);
                }
                let mut response = call::json(StatusCode::OK, array(&whole));
                response.headers_mut().extend(last);
                return ctx.answer(response);
            }
        }
    };
    // A stream has no place among the requests in flight: from now on every message needs one of its own.
    common.own.close();
    let first = whole.into_iter().map(event).chain(begun);
    let rest = Rest { ctx, answers };
    let rest = stream::unfold(rest, |mut rest| async move {
        let event = rest.next().await?;
        Some((event, rest))
    });
    let mut response = call::events(Box::pin(stream::iter(first).chain(rest)));
    response.headers_mut().extend(last);
    response
}

struct Rest {
    /// Counted when the stream ends.
    ctx: Context,
    answers: Saying,
}

impl Rest {
    async fn next(&mut self) -> Option<Bytes> {
        match timeout_at(Instant::now() + KEEP_ALIVE, self.answers.next()).await {
            Ok(Some(Said::Answer(bytes, _))) => Some(event(bytes)),
            Ok(Some(Said::Event(event))) => Some(event),
            Ok(None) => {
                self.ctx.entry.allowed(StatusCode::OK);
                None
            }
            Err(_) => Some(Bytes::from_static(sse::KEEP_ALIVE)),
        }
    }
}

fn event(message: Bytes) -> Bytes {
    sse::encode(&Event::message(message))
}
