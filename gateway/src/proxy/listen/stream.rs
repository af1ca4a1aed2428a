//! One client's stream of news.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::hub::Joined;
use super::mailbox::Mailbox;
use super::watch::Word;
use super::{Opened, Wanted, may_hear, places};
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::permit::Permit;
use crate::clock;
use crate::mcp::meta::{SERVER_INFO, SUBSCRIPTION_ID};
use crate::mcp::method::Method;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::mcp::sse::{self, Event};
use crate::proxy::links;
use crate::proxy::news::source::write_filter;
use crate::proxy::news::{Heard, Lists};
use crate::proxy::offered::View;
use crate::proxy::stream::{Events, end_of_life};
use crate::proxy::streamed::{KEEP_ALIVE, OpenStream};

/// How long servers have to say what they grant.
const TO_GRANT: Duration = Duration::from_millis(500);

/// What listens to a stateless server.
pub(super) type Following = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that the stream is about.
pub(super) struct Server {
    /// `namespace/name`.
    pub(super) name: Arc<str>,
    /// What it grants.
    pub(super) word: watch::Receiver<Word>,
    /// What listens to it for this stream, before it does.
    pub(super) following: Option<Following>,
    /// The place among the principal's streams, where it has sessions.
    pub(super) _joined: Option<Joined>,
}

/// The stream.
pub(super) struct Listening {
    /// Recorded when the stream ends.
    ctx: Context,
    permit: Permit,
    /// The client's id, and so that of its subscription.
    id: Bytes,
    heard: Heard,
    lists: Lists,
    wanted: Vec<Wanted>,
    servers: Vec<Server>,
    following: FuturesUnordered<Following>,
    mailbox: Arc<Mailbox>,
    changes: watch::Receiver<()>,
    until: Instant,
    granted: bool,
    _place: places::Place,
    _open: OpenStream,
}

/// What goes out next.
enum Step {
    /// More follows.
    Event(Bytes),
    /// The last one.
    Last(Bytes),
}

impl Listening {
    pub(super) fn new(
        ctx: Context,
        headers: &HeaderMap,
        id: Bytes,
        opened: Opened,
        servers: Vec<Server>,
        following: FuturesUnordered<Following>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let mut changes = ctx.app.changes();
        // Something may have changed between the request's admission and now.
        changes.mark_changed();
        Self {
            permit: Permit::of_call(&ctx, headers, Era::Stateless),
            heard: opened.heard,
            lists: opened.lists,
            wanted: opened.wanted,
            _place: opened.place,
            _open: OpenStream::new(&ctx.app),
            until: end_of_life(ctx.snapshot.config.limits.max_stream_age.get()),
            granted: false,
            ctx,
            id,
            servers,
            following,
            mailbox,
            changes,
        }
    }

    pub(super) fn events(self) -> Events {
        Box::pin(futures::stream::unfold(Some(self), |state| async move {
            let mut listening = state?;
            match listening.step().await {
                Step::Event(bytes) => Some((bytes, Some(listening))),
                Step::Last(bytes) => Some((bytes, None)),
            }
        }))
    }

    async fn step(&mut self) -> Step {
        if !self.granted {
            self.granted = true;
            return Step::Event(self.grant().await);
        }
        // Nothing to tell of: the client need not wait for it.
        if self.lists.is_none() && self.wanted.is_empty() {
            return Step::Last(self.last());
        }
        let keep_alive = Instant::now() + KEEP_ALIVE;
        loop {
            let event = tokio::select! {
                biased;
                cause = self.permit.withdrawn() => return self.refused(&cause),
                () = self.ctx.app.drain.end_streams().cancelled() => return Step::Last(self.last()),
                () = sleep_until(self.until) => return Step::Last(self.last()),
                changed = self.changes.changed() => {
                    if changed.is_err() || self.is_unheard() {
                        return self.refused(&Cause::MethodUnknown);
                    }
                    None
                }
                // A server is gone, or another one has its name: the client has to ask anew.
                Some(()) = self.following.next() => return Step::Last(self.last()),
                list = self.heard.next() => {
                    let method = Lists::notification(list);
                    self.lists.has(list).then(|| self.notification(method, b""))
                }
                update = self.mailbox.next() => match update {
                    Some((server, own)) => self.update(&server, &own),
                    None => return Step::Last(self.last()),
                },
                () = sleep_until(keep_alive) => Some(Bytes::from_static(sse::KEEP_ALIVE)),
            };
            if let Some(cause) = self.permit.refusal() {
                return self.refused(&cause);
            }
            if let Some(event) = event {
                return Step::Event(event);
            }
        }
    }

    /// The first event: what the client will hear of.
    async fn grant(&mut self) -> Bytes {
        let until = Instant::now() + TO_GRANT;
        let words = async {
            for server in &mut self.servers {
                server.word.wait_for(|word| *word != Word::Pending).await.ok();
            }
        };
        let following = async {
            while self.following.next().await.is_some() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = timeout_at(until, words) => {}
            () = following => {}
        }
        // What a server has not decided yet, it is asked for until it does.
        let servers = &self.servers;
        self.wanted.retain(|one| {
            let server = servers
                .iter()
                .find(|server| server.name == one.upstream.full_name);
            server.is_some_and(|server| match &*server.word.borrow() {
                Word::Pending => true,
                Word::Granted(uris) => uris.contains(&one.own),
            })
        });
        let mut members = b",\"notifications\":".to_vec();
        let uris = self.wanted.iter().map(|one| &*one.public);
        write_filter(self.lists, uris, &mut members);
        self.notification(Method::SubscriptionsAcknowledged, &members)
    }

    /// An update for the client, if it may still hear of that.
    fn update(&self, server: &str, own: &str) -> Option<Bytes> {
        let snapshot = self.ctx.app.snapshot()?;
        let mut upstreams = snapshot.upstreams.iter();
        let at = upstreams.position(|upstream| *upstream.full_name == *server)?;
        let upstream = snapshot.upstreams.get(at)?;
        let view = View {
            snapshot: &snapshot,
            who: &self.ctx.who,
            endpoint: &self.ctx.endpoint,
            now: clock::now_unix(),
        };
        // What was not granted is not told either; a part of it is.
        let mut granted = self
            .wanted
            .iter()
            .filter(|one| *one.upstream.full_name == *server);
        let whole = super::mailbox::about(granted.clone().map(|one| &*one.own), own)?;
        if !may_hear(&view, upstream, own) {
            return None;
        }
        let uri = if whole == own {
            links::json(&granted.find(|one| *one.own == *own)?.public)
        } else if self.ctx.endpoint == OwnedEndpoint::Federated {
            links::json(&self.ctx.app.routes(&snapshot).public_uri(at, own))
        } else {
            links::json(own)
        };
        let member = [b",\"uri\":", &*uri].concat();
        Some(self.notification(Method::ResourcesUpdated, &member))
    }

    /// Would the request be refused now?
    fn is_unheard(&self) -> bool {
        self.ctx.app.snapshot().is_none_or(|snapshot| {
            let view = View {
                snapshot: &snapshot,
                who: &self.ctx.who,
                endpoint: &self.ctx.endpoint,
                now: clock::now_unix(),
            };
            view.heard().is_none()
        })
    }

    /// `members` are further ones of `params`, each after a comma.
    fn notification(&self, method: Method, members: &[u8]) -> Bytes {
        let text = [
            br#"{"jsonrpc":"2.0","method":""#,
            method.as_str().as_bytes(),
            br#"","params":{"_meta":{"#,
            &links::json(SUBSCRIPTION_ID),
            b":",
            &self.id,
            b"}",
            members,
            b"}}",
        ]
        .concat();
        event(text.into())
    }

    /// The answer to the request, which ends the stream in good order.
    fn last(&self) -> Bytes {
        let result = [
            br#"{"resultType":"complete","_meta":{"#,
            &*links::json(SUBSCRIPTION_ID),
            b":",
            &self.id,
            b",",
            &links::json(SERVER_INFO),
            b":",
            &self.ctx.snapshot.server_info,
            b"}}",
        ]
        .concat();
        event(reply::result(&self.id, &result))
    }

    fn refused(&mut self, cause: &Cause) -> Step {
        self.ctx.entry.refused(cause, StatusCode::OK);
        Step::Last(event(reply::error(cause, Some(&self.id))))
    }
}

fn event(message: Bytes) -> Bytes {
    sse::encode(&Event::message(message))
}
