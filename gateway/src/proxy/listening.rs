//! The stream that a session's client listens on (GET; specification, Listening for Messages from the Server): what
//! servers say and ask beside any call.
//!
//! It pulls. Each server's own stream is read as the client reads this one, so that a slow reader holds the servers back
//! and nothing piles up here. A client has one such stream in a session: a new one takes the place of the old, which may
//! well be dead without anybody having noticed.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::SelectAll;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::asks::{Ask, To};
use super::call;
use super::channel::Channel;
use super::charge;
use super::listen::places::Place;
use super::news::{Heard, Lists};
use super::offered::View;
use super::place::{self, Stream};
use super::pushed::{self, Pushed};
use super::registry::{Elsewhere, Session};
use super::replies;
use super::source::{self, Source, source};
use super::stream::{Body, Events, end_of_life};
use super::streamed::{KEEP_ALIVE, OpenStream};
use super::subscribed::{self, Watching};
use super::times::Times;
use super::upstream::Upstream;
use crate::app::asked::Asked;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::forward::is_elsewhere;
use crate::app::permit::Permit;
use crate::app::refusal::Refusal;
use crate::auth::authorize::{Decision, Thing};
use crate::auth::when;
use crate::clock;
use crate::config::snapshot::Snapshot;
use crate::mcp::edit::Patch;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::headers;
use crate::mcp::method::Method;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::mcp::sse;

/// Answers of the gateway itself to servers that wait to be sent on one stream.
const REPLIES: usize = 16;

/// Answers a GET: the client listens.
pub fn open(mut ctx: Context, headers: &HeaderMap, session: Arc<Session>) -> Response<Body> {
    let after = headers.get(&headers::LAST_EVENT_ID);
    let after = match admit(&ctx, headers).and_then(|()| match after {
        None => Ok(None),
        Some(id) => match place::open(&ctx, &session, id.as_bytes()) {
            Some(place) => Ok(Some(place)),
            None => {
                Err(Cause::Unexpected("Last-Event-ID is none that this endpoint gave in this session").into())
            }
        },
    }) {
        Ok(after) => after,
        Err(refusal) => return ctx.refuse(refusal, None, None),
    };
    if let Some((Stream::Call(kind, name), _)) = &after {
        ctx.entry.server = ctx.endpoint_server().map(Into::into);
        ctx.entry.thing = Some((*kind, name.clone()));
        ctx.entry.asked = Some(Asked::rest_of_an_answer(*kind));
    }
    let most = ctx.snapshot.config.limits.max_streams_per_client;
    let take = || ctx.app.listening.take(&ctx.who.key, most).map(Arc::new);
    let place = match &after {
        // A new stream takes the place of the old.
        None | Some((Stream::Own, _)) => session.place(take),
        Some((Stream::Call(..), _)) => take(),
    };
    let Some(place) = place else {
        return ctx.refuse(Cause::StreamLimit.into(), None, None);
    };
    let mut listening = Listening::new(ctx, headers, session, place);
    match after {
        None => listening.listen(None),
        Some((Stream::Own, id)) => listening.listen(Some(&id)),
        Some((call, id)) => listening.go_on(call, &id),
    }
    call::events(listening.events())
}

fn admit(ctx: &Context, headers: &HeaderMap) -> Result<(), Refusal> {
    charge::client(ctx, charge::GET)?;
    headers::check_accept_get(headers)?;
    if !here(ctx, &ctx.snapshot).any(|upstream| upstream.features.any_push()) {
        return Err(Cause::MethodNotAllowed {
            allow: "POST, DELETE",
        }
        .into());
    }
    charge::shared(ctx, charge::GET)
}

/// The servers of the endpoint, as that snapshot has them.
fn here<'s>(ctx: &Context, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Arc<Upstream>> + use<'s> {
    let one = match &ctx.endpoint {
        OwnedEndpoint::Server(name) => Some(snapshot.upstream(name)),
        OwnedEndpoint::Federated | OwnedEndpoint::Set(_) => None,
    };
    let all = one.is_none().then_some(&snapshot.upstreams);
    one.flatten().into_iter().chain(all.into_iter().flatten())
}

struct Listening {
    /// Recorded when the stream ends.
    ctx: Context,
    session: Arc<Session>,
    stream: Stream,
    /// When it ends in any case.
    until: Instant,
    /// Ends it.
    over: CancellationToken,
    /// On the rest of an answer: how long it may take.
    times: Option<Times>,
    /// None on the rest of an answer.
    outlet: Option<mpsc::Receiver<Elsewhere>>,
    sources: SelectAll<Source>,
    /// Sessions whose streams are among the sources.
    known: Vec<Arc<Channel>>,
    /// What changed in lists.
    heard: Heard,
    /// What the client subscribed to on servers without sessions.
    watching: Watching,
    replies: mpsc::Sender<(Arc<Upstream>, Arc<Channel>, Bytes)>,
    permit: Permit,
    _open: OpenStream,
    /// Among the principal's streams.
    _place: Arc<Place>,
}

impl Listening {
    fn new(mut ctx: Context, headers: &HeaderMap, session: Arc<Session>, place: Arc<Place>) -> Self {
        ctx.entry.allowed(StatusCode::OK);
        let permit = Permit::of_call(&ctx, headers, Era::Session);
        let (replies, queue) = mpsc::channel(REPLIES);
        tokio::spawn(send_replies(queue));
        Self {
            stream: Stream::Own,
            until: end_of_life(ctx.snapshot.config.limits.max_stream_age.get())
                .min(Instant::now() + session.token.left(ctx.now)),
            over: session.gone.clone(),
            times: None,
            outlet: None,
            sources: SelectAll::new(),
            known: Vec::new(),
            heard: Heard::new(&ctx.app, &ctx.endpoint, &ctx.who),
            watching: Watching::default(),
            replies,
            permit,
            _open: OpenStream::new(&ctx.app),
            _place: place,
            session,
            ctx,
        }
    }

    /// Reads what belongs to no request, after the event with the id `after`.
    fn listen(&mut self, after: Option<&HeaderValue>) {
        self.outlet = Some(self.session.listen());
        self.add_sources(after);
    }

    /// Reads the rest of an answer.
    fn go_on(&mut self, call: Stream, after: &HeaderValue) {
        self.stream = call;
        self.over = self.session.resume();
        let open = self.session.open_channels();
        let snapshot = &self.ctx.snapshot;
        let found = open.into_iter().find_map(|(server, channel)| {
            let upstream = here(&self.ctx, snapshot).find(|upstream| upstream.full_name == server)?;
            Some((upstream.timeout, source::rest(upstream, channel, after)))
        });
        if let Some((timeout, rest)) = found {
            let (now, limits) = (Instant::now(), &snapshot.config.limits);
            let mut times = Times::new(now, timeout, now + limits.max_call_duration.get());
            times.streams(limits.stream_idle_timeout.get(), now);
            self.times = Some(times);
            self.sources.push(rest);
        }
    }

    fn events(self) -> Events {
        Box::pin(futures::stream::unfold(Some(self), |state| async move {
            let mut listening = state?;
            let (bytes, last) = listening.next().await?;
            Some((bytes, (!last).then_some(listening)))
        }))
    }

    /// The next event, and whether it is the last; `None` at the end.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        let quiet = Instant::now() + KEEP_ALIVE;
        loop {
            let own = self.outlet.is_some();
            let told = async {
                match &mut self.outlet {
                    Some(outlet) => outlet.recv().await,
                    None => std::future::pending().await,
                }
            };
            let (data, place, last) = tokio::select! {
                biased;
                _ = self.permit.withdrawn() => return None,
                () = self.over.cancelled() => return None,
                () = self.ctx.app.drain.end_streams().cancelled() => return None,
                question = told => match self.asked(question?) {
                    Some(bytes) => (Some(bytes), None, false),
                    None => continue,
                },
                list = self.heard.next(), if own => {
                    let method = Lists::notification(list).as_str();
                    let told = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
                    (Some(told.into()), None, false)
                }
                () = self.session.one_more.notified(), if own => {
                    self.add_sources(None);
                    continue;
                }
                update = self.watching.next() => {
                    let snapshot = self.ctx.app.snapshot()?;
                    (subscribed::told(&self.ctx, &snapshot, &update?), None, false)
                }
                heard = self.sources.next(), if !own || !self.sources.is_empty() => {
                    let Some(heard) = heard else {
                        if own {
                            continue;
                        }
                        return None;
                    };
                    let answer = heard.message.as_ref().is_some_and(|message| {
                        matches!(message.kind(), Kind::Response | Kind::ErrorResponse)
                    });
                    let notified = heard.message.as_ref().is_some_and(|message| message.kind() == Kind::Notification);
                    if heard.lost && self.lost(&heard.channel) {
                        return None;
                    }
                    if answer && !own && let Some(id) = heard.message.as_ref().and_then(Message::id) {
                        self.session.answered_elsewhere(id);
                    }
                    let data = heard.message.and_then(|message| self.heard(&heard.channel, &message));
                    if let Some(times) = &mut self.times {
                        let now = Instant::now();
                        if notified {
                            times.heard(now);
                        }
                        if data.is_some() {
                            times.passed_on(now);
                        }
                    }
                    if data.is_none() && heard.place.is_none() {
                        continue;
                    }
                    (data, heard.place, answer && !own)
                }
                () = over(self.times.as_ref()) => return None,
                () = sleep_until(self.until) => return None,
                () = sleep_until(quiet) => {
                    let session = &self.session;
                    // What belongs to a call here comes here; everything else comes where the session is.
                    if !session.is_calling() && is_elsewhere(&self.ctx.app, &session.token.nonce).await {
                        return None;
                    }
                    return Some((Bytes::from_static(sse::KEEP_ALIVE), false));
                }
            };
            if self.permit.refusal().is_some() {
                return None;
            }
            let place = place.filter(|_| matches!(self.ctx.endpoint, OwnedEndpoint::Server(_)));
            if data.is_none() && place.is_none() {
                continue;
            }
            let event = place::event(
                &self.ctx,
                Some(&self.session),
                &self.stream,
                data,
                place.as_deref(),
            );
            return Some((sse::encode(&event), last));
        }
    }

    /// What a server asks in a call that the client has left: the client is asked here, if the server may still do so.
    fn asked(&mut self, question: Elsewhere) -> Option<Bytes> {
        let Elsewhere {
            key,
            server,
            method,
            bytes,
        } = question;
        let snapshot = self.ctx.app.snapshot()?;
        let may = here(&self.ctx, &snapshot)
            .find(|upstream| upstream.full_name == server)
            .is_some_and(|upstream| self.view(&snapshot).exists(upstream));
        if may {
            self.ctx.entry.asked(Some(&server), method.as_str());
            return Some(bytes);
        }
        if let Some(To::Server {
            upstream,
            channel,
            id,
            ..
        }) = self.session.asks.remove(key).map(Ask::into_to)
        {
            let reply = reply::error(&Cause::MethodUnknown, Some(&id));
            self.replies.try_send((upstream, channel, reply)).ok();
        }
        None
    }

    fn view<'v>(&'v self, snapshot: &'v Snapshot) -> View<'v> {
        View {
            snapshot,
            who: &self.ctx.who,
            endpoint: &self.ctx.endpoint,
            now: clock::now_unix(),
        }
    }

    /// A server forgot the session behind `channel`. True: the client's session is that one, and is over with it.
    fn lost(&mut self, channel: &Arc<Channel>) -> bool {
        if self.session.is_sealed() {
            self.ctx.app.registry.lose(&self.session, clock::now_unix());
            return true;
        }
        let of = self.session.open_channels();
        if let Some((server, _)) = of.iter().find(|(_, open)| Arc::ptr_eq(open, channel)) {
            self.session.forget(server, channel);
        }
        false
    }

    /// Reads the streams of sessions that were opened since.
    fn add_sources(&mut self, after: Option<&HeaderValue>) {
        let Some(snapshot) = self.ctx.app.snapshot() else {
            return;
        };
        let open = self.session.open_channels();
        self.known
            .retain(|known| open.iter().any(|(_, channel)| Arc::ptr_eq(channel, known)));
        for (server, channel) in open {
            let upstream = here(&self.ctx, &snapshot).find(|upstream| upstream.full_name == server);
            let Some(upstream) = upstream.filter(|upstream| upstream.features.any_push()) else {
                continue;
            };
            if channel.era() == Era::Session && !self.known.iter().any(|known| Arc::ptr_eq(known, &channel)) {
                self.known.push(Arc::clone(&channel));
                self.sources
                    .push(source(Arc::clone(&upstream.link), channel, after.cloned()));
            }
        }
        let here = here(&self.ctx, &snapshot);
        self.watching.settle(&self.ctx, here, &self.session.subscribed);
    }

    /// What of a server's message is for the client.
    fn heard(&mut self, channel: &Arc<Channel>, message: &Message) -> Option<Bytes> {
        let snapshot = self.ctx.app.snapshot()?;
        let of = self.session.open_channels();
        let (server, _) = of.iter().find(|(_, open)| Arc::ptr_eq(open, channel))?;
        let upstream = here(&self.ctx, &snapshot).find(|upstream| upstream.full_name == *server)?;
        let exists = self.view(&snapshot).exists(upstream);
        match message.kind() {
            Kind::Notification if exists => self.notified(&snapshot, upstream, channel, message),
            Kind::Request => {
                let patience = snapshot.config.limits.max_call_duration.get();
                let asks = exists.then_some(&*self.session);
                match pushed::request(asks, upstream, channel, message, patience) {
                    Pushed::Asked { method, bytes, .. } => {
                        self.ctx.entry.asked(Some(&upstream.full_name), method.as_str());
                        Some(bytes)
                    }
                    Pushed::Reply(reply) => {
                        // A server that asks faster than it takes answers gets none.
                        let reply = (Arc::clone(upstream), Arc::clone(channel), reply);
                        self.replies.try_send(reply).ok();
                        None
                    }
                    Pushed::Told(_) | Pushed::Nothing => None,
                }
            }
            // Answers belong on the streams of their requests. In a session that is the client's, ids are the client's.
            Kind::Response | Kind::ErrorResponse if exists && self.outlet.is_none() => {
                Some(message.bytes().clone())
            }
            Kind::Notification | Kind::Response | Kind::ErrorResponse => None,
        }
    }

    fn notified(
        &self,
        snapshot: &Arc<Snapshot>,
        upstream: &Arc<Upstream>,
        channel: &Arc<Channel>,
        message: &Message,
    ) -> Option<Bytes> {
        // The client hears of it when the new list is there.
        if let Some(lists) = Lists::changed_by(message.method()) {
            upstream.heard(lists);
            return None;
        }
        let features = upstream.features;
        match message.method() {
            Method::ResourcesUpdated if features.resources && features.subscriptions => {
                self.updated(snapshot, upstream, message)
            }
            // With one server, nobody else can have given the token.
            Method::Progress if matches!(self.ctx.endpoint, OwnedEndpoint::Server(_)) => {
                Some(message.bytes().clone())
            }
            _ => match pushed::notification(Some(&self.session), upstream, channel, message) {
                Pushed::Told(bytes) => Some(bytes),
                _ => None,
            },
        }
    }

    /// News of a resource that this principal may read, under the endpoint's name for it.
    fn updated(
        &self,
        snapshot: &Arc<Snapshot>,
        upstream: &Arc<Upstream>,
        message: &Message,
    ) -> Option<Bytes> {
        let own = message.str(Member::Uri)?;
        let policy = &snapshot.policy;
        let decision = policy.decide(
            &self.ctx.who,
            &upstream.full_name,
            Thing::Uri(&own),
            when::Asked::request(Method::ResourcesSubscribe.as_str(), None),
            clock::now_unix(),
        );
        if !matches!(decision, Decision::Allow { .. }) {
            return None;
        }
        match self.ctx.endpoint {
            OwnedEndpoint::Server(_) => Some(message.bytes().clone()),
            OwnedEndpoint::Set(_) => None,
            OwnedEndpoint::Federated => {
                let mut servers = snapshot.upstreams.iter();
                let server = servers.position(|other| Arc::ptr_eq(other, upstream))?;
                let public = self.ctx.app.routes(snapshot).public_uri(server, &own);
                let json = super::links::json(&public);
                let mut patch = Patch::new(message.bytes());
                patch.replace(message.span(Member::Uri)?, &json);
                patch.apply().ok()
            }
        }
    }
}

/// Waits until the rest of an answer has taken too long, as the call itself would have.
async fn over(times: Option<&Times>) {
    match times {
        Some(times) => sleep_until(times.until()).await,
        None => std::future::pending().await,
    }
}

/// Sends the gateway's own answers, one after the other.
async fn send_replies(mut queue: mpsc::Receiver<(Arc<Upstream>, Arc<Channel>, Bytes)>) {
    while let Some((upstream, channel, reply)) = queue.recv().await {
        replies::notify(&upstream, &channel, reply, "the answer to the server's request").await;
    }
}
