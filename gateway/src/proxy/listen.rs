//! `subscriptions/listen`: a stateless client's stream of what changes. What it is granted is said first; then come the
//! lists that changed, once the new ones are in force, and the resources that did.

pub mod filter;
pub mod hub;
pub mod mailbox;
pub mod places;
mod stream;
pub mod watch;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, Response, StatusCode};

use super::call::events;
use super::charge;
use super::link::Link;
use super::news::follow::{self, Place};
use super::news::{Heard, Lists};
use super::offered::View;
use super::primitive::Primitive;
use super::stream::Body;
use super::upstream::Upstream;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::refusal::Refusal;
use crate::app::state::App;
use crate::auth::authorize::{Decision, Thing};
use crate::auth::when::Asked;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use filter::Filter;
use mailbox::Mailbox;
use stream::{Listening, Server};
use watch::{Watch, Word};

/// A resource that a stream is about.
pub struct Wanted {
    /// As the client writes it.
    pub public: Box<str>,
    /// The server's own word for it.
    pub own: Box<str>,
    /// The server.
    pub upstream: Arc<Upstream>,
}

/// Answers `subscriptions/listen`.
pub async fn answer(mut ctx: Context, message: &Message, headers: &HeaderMap) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    match open(&mut ctx, message).await {
        Ok(opened) => {
            ctx.entry.allowed(StatusCode::OK);
            events(opened.begin(ctx, headers, id))
        }
        Err(refusal) => ctx.refuse(refusal, Some(Era::Stateless), Some(&id)),
    }
}

/// What a stream begins with.
struct Opened {
    place: places::Place,
    heard: Heard,
    lists: Lists,
    wanted: Vec<Wanted>,
}

async fn open(ctx: &mut Context, message: &Message) -> Result<Opened, Refusal> {
    let method = message.method().as_str();
    charge::client(ctx, method)?;
    let on = View::from(&*ctx).heard();
    if on.is_none() {
        return Err(Cause::MethodUnknown.into());
    }
    let Filter { lists, uris } = filter::read(message)?;
    charge::shared(ctx, method)?;
    let most = ctx.snapshot.config.limits.max_streams_per_client;
    let place = ctx.app.listening.take(&ctx.who.key, most);
    let place = place.ok_or(Cause::StreamLimit)?;
    if let OwnedEndpoint::Server(name) = &ctx.endpoint {
        let upstream = ctx.snapshot.upstream(name);
        ctx.entry.server = upstream.map(|upstream| Arc::clone(&upstream.full_name));
    }
    // From here on nothing is missed.
    let heard = Heard::new(&ctx.app, &ctx.endpoint, &ctx.who);
    let mut wanted = Vec::new();
    for public in uris {
        if let Some(one) = find(ctx, public).await {
            wanted.push(one);
        }
    }
    Ok(Opened {
        place,
        heard,
        lists: lists.only(on),
        wanted,
    })
}

/// The resource that a URI leads to, if this principal may have it and its server tells of it.
async fn find(ctx: &Context, public: Box<str>) -> Option<Wanted> {
    let (upstream, own) = match &ctx.endpoint {
        OwnedEndpoint::Server(name) => (ctx.snapshot.upstream(name)?, public.clone()),
        OwnedEndpoint::Federated => {
            let routes = ctx.app.routes(&ctx.snapshot);
            let (server, own) = routes.resource(&public)?;
            (ctx.snapshot.upstreams.get(server)?, own.into())
        }
        OwnedEndpoint::Set(_) => return None,
    };
    if !may_hear(&View::from(ctx), upstream, &own) {
        return None;
    }
    upstream.wait_first_contact().await;
    let subscribe = upstream
        .link
        .shape()
        .as_ref()
        .is_some_and(|shape| shape.subscribe);
    (subscribe && !upstream.credential.is_missing()).then(|| Wanted {
        own,
        public,
        upstream: Arc::clone(upstream),
    })
}

/// May this principal hear of that resource, by the server's own word for it?
pub fn may_hear(view: &View<'_>, upstream: &Arc<Upstream>, own: &str) -> bool {
    view.hears(upstream, Primitive::Resources)
        && matches!(
            view.snapshot.policy.decide(
                view.who,
                &upstream.full_name,
                Thing::Uri(own),
                Asked::request(Method::ResourcesSubscribe.as_str(), None),
                view.now
            ),
            Decision::Allow { .. }
        )
}

/// Asks each server for its resources.
fn servers(app: &Arc<App>, ctx: &Context, wanted: &[Wanted], mailbox: &Arc<Mailbox>) -> Vec<Server> {
    let mut by_server: Vec<(&Arc<Upstream>, Vec<Box<str>>)> = Vec::new();
    for one in wanted {
        match by_server
            .iter_mut()
            .find(|(upstream, _)| Arc::ptr_eq(upstream, &one.upstream))
        {
            Some((_, uris)) => uris.push(one.own.clone()),
            None => by_server.push((&one.upstream, vec![one.own.clone()])),
        }
    }
    let mut servers = Vec::new();
    for (upstream, uris) in by_server {
        let (sender, word) = tokio::sync::watch::channel(Word::Pending);
        let name = Arc::clone(&upstream.full_name);
        let link = &upstream.link;
        let era = link.shape().as_ref().map(|shape| shape.era());
        let (joined, following) = if era == Some(Era::Session) {
            let hub = &link.sessions.hub;
            let (joined, first) = hub.join(&ctx.who.key, uris, mailbox, sender);
            if let Some(subscriber) = first {
                let following = follow::follow(place(app, link), subscriber);
                app.spawner.spawn("subscriptions of a principal", following);
            }
            (Some(joined), None)
        } else {
            let watch = Watch {
                uris,
                mailbox: Arc::clone(mailbox),
                word: sender,
            };
            let following: stream::Following = Box::pin(follow::follow(place(app, link), watch));
            (None, Some(following))
        };
        servers.push(Server {
            name,
            word,
            following,
            _joined: joined,
        });
    }
    servers
}

/// Where a server stands in the configuration in force.
pub fn place(
    app: &Arc<App>,
    link: &Arc<Link>,
) -> Place<impl Fn(&Arc<Link>) -> Option<Arc<Upstream>> + Send + Sync + use<>> {
    let weak = Arc::downgrade(app);
    let current = move |link: &Arc<Link>| {
        let snapshot = weak.upgrade()?.snapshot()?;
        let mut upstreams = snapshot.upstreams.iter();
        upstreams
            .find(|upstream| Arc::ptr_eq(&upstream.link, link))
            .cloned()
    };
    Place {
        link: Arc::downgrade(link),
        current,
        changes: app.changes(),
        end: app.drain.end_streams().clone(),
    }
}

impl Opened {
    fn begin(self, ctx: Context, headers: &HeaderMap, id: Bytes) -> super::stream::Events {
        let mailbox = Arc::<Mailbox>::default();
        let mut servers = servers(&ctx.app, &ctx, &self.wanted, &mailbox);
        let following: FuturesUnordered<_> = servers
            .iter_mut()
            .filter_map(|server| server.following.take())
            .collect();
        Listening::new(ctx, headers, id, self, servers, following, mailbox).events()
    }
}
