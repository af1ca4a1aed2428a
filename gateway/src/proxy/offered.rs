//! Which primitives an endpoint offers to a principal: what is on, what a server has, and what a rule permits. The rest
//! is absent from capabilities, and its methods are unknown.

use std::sync::Arc;

use http::{HeaderMap, Response};

use super::news::Lists;
use super::primitive::Primitive;
use super::registry::Session;
use super::stream::Body;
use super::upstream::Upstream;
use super::{call, charge, declared, list, tasks};
use crate::app::context::{Context, OwnedEndpoint};
use crate::auth::Endpoint;
use crate::auth::authorize::Kind;
use crate::auth::identity::Identity;
use crate::config::snapshot::Snapshot;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use portcullis_config::Features;

/// Answers a request about prompts, resources or completions.
pub async fn answer(
    ctx: Context,
    message: &Message,
    era: Era,
    headers: &HeaderMap,
    session: Option<Arc<Session>>,
) -> Response<Body> {
    let about_task = tasks::is_about(message.method()) && era == Era::Stateless;
    if about_task && tasks::declares(message) && (tasks::are_offered(&ctx) || tasks::is_ours(&ctx, message)) {
        return call::call(ctx, message, era, headers, session).await;
    }
    if about_task && tasks::are_offered(&ctx) {
        let refusal = match charge::client(&ctx, message.method().as_str()) {
            Ok(()) => Cause::MissingExtension {
                name: declared::TASKS,
            }
            .into(),
            Err(limited) => limited,
        };
        return ctx.refuse(refusal, Some(era), message.id());
    }
    if !serves(offers(&ctx), message.method()) {
        let refusal = match charge::client(&ctx, message.method().as_str()) {
            Ok(()) => Cause::MethodUnknown.into(),
            Err(limited) => limited,
        };
        return ctx.refuse(refusal, Some(era), message.id());
    }
    match Primitive::listed_by(message.method()) {
        Some(primitive) => list::answer(ctx, message, session.as_deref(), primitive).await,
        None => call::call(ctx, message, era, headers, session).await,
    }
}

/// What is judged: a principal at an endpoint, by one configuration.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The principal.
    pub who: &'a Identity,
    /// The endpoint.
    pub endpoint: &'a OwnedEndpoint,
    /// Seconds since 1970.
    pub now: u64,
}

impl<'a> From<&'a Context> for View<'a> {
    fn from(ctx: &'a Context) -> Self {
        Self {
            snapshot: &ctx.snapshot,
            who: &ctx.who,
            endpoint: &ctx.endpoint,
            now: ctx.now,
        }
    }
}

impl View<'_> {
    /// Is this server behind the endpoint?
    pub fn reaches(&self, upstream: &Arc<Upstream>) -> bool {
        match self.endpoint {
            OwnedEndpoint::Federated | OwnedEndpoint::Set(_) => true,
            OwnedEndpoint::Server(name) => self
                .snapshot
                .upstream(name)
                .is_some_and(|there| Arc::ptr_eq(there, upstream)),
        }
    }

    /// May the principal use anything of that kind on this server, which is behind the endpoint?
    pub fn has(&self, upstream: &Upstream, primitive: Primitive) -> bool {
        let here = match self.endpoint.get() {
            // Sets are of tools.
            Endpoint::Set(name) => {
                let set = self.snapshot.sets.get(name);
                primitive == Primitive::Tools && set.is_some_and(|set| set.has_server(&upstream.full_name))
            }
            Endpoint::Federated | Endpoint::Server(_) => true,
        };
        here && upstream.visible_to(self.who)
            && primitive.is_in(upstream.features)
            && self
                .snapshot
                .policy
                .any(self.who, &upstream.full_name, primitive.kind(), self.now)
    }

    /// May the principal use anything at all on this server? Where not, it does not exist.
    pub fn exists(&self, upstream: &Upstream) -> bool {
        let mut primitives = Primitive::ALL.into_iter();
        primitives.any(|primitive| self.has(upstream, primitive))
    }

    /// Whose news does the principal hear of that list?
    pub fn hears(&self, upstream: &Arc<Upstream>, primitive: Primitive) -> bool {
        upstream.features.subscriptions && self.reaches(upstream) && self.has(upstream, primitive)
    }

    /// Of which lists does the principal hear at all?
    pub fn heard(&self) -> Lists {
        let heard = |primitive: &Primitive| {
            let mut upstreams = self.snapshot.upstreams.iter();
            upstreams.any(|upstream| self.hears(upstream, *primitive))
        };
        let lists = Primitive::ALL.into_iter().filter(heard);
        lists.fold(Lists::NONE, |all, primitive| all.and(Lists::of(primitive)))
    }
}

/// May this principal use anything of that kind on this server, at this endpoint?
pub fn has(ctx: &Context, upstream: &Upstream, primitive: Primitive) -> bool {
    View::from(ctx).has(upstream, primitive)
}

/// May this principal use anything at all on this server? Where not, it does not exist.
pub fn exists(ctx: &Context, upstream: &Upstream) -> bool {
    View::from(ctx).exists(upstream)
}

/// May this principal use anything at all at this endpoint?
pub fn anything(ctx: &Context) -> bool {
    match &ctx.endpoint {
        OwnedEndpoint::Server(name) => ctx
            .snapshot
            .upstream(name)
            .is_some_and(|upstream| exists(ctx, upstream)),
        OwnedEndpoint::Federated | OwnedEndpoint::Set(_) => {
            let mut upstreams = ctx.snapshot.upstreams.iter();
            upstreams.any(|upstream| exists(ctx, upstream))
        }
    }
}

/// `capabilities` of the endpoint, for this principal, as that era has them. Tools are what a gateway is for: they are
/// always among them.
pub fn capabilities(ctx: &Context, era: Era) -> Vec<u8> {
    let offers = offers(ctx);
    let view = View::from(ctx);
    let heard = view.heard();
    let mut out = Vec::with_capacity(192);
    for (on, list, name) in [
        (true, Some(Primitive::Tools), "tools"),
        (offers.prompts, Some(Primitive::Prompts), "prompts"),
        (offers.resources, Some(Primitive::Resources), "resources"),
        (offers.completions, None, "completions"),
        (offers.logging, None, "logging"),
    ] {
        if !on {
            continue;
        }
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(format!("\"{name}\":{{").as_bytes());
        if list.is_some_and(|list| heard.has(list)) {
            out.extend_from_slice(b"\"listChanged\":true");
            if list == Some(Primitive::Resources) && subscribes(&view) {
                out.extend_from_slice(b",\"subscribe\":true");
            }
        }
        out.push(b'}');
    }
    if era == Era::Stateless && tasks::are_offered(ctx) {
        out.extend_from_slice(format!(",\"extensions\":{{\"{}\":{{}}}}", declared::TASKS).as_bytes());
    }
    out.push(b'}');
    out
}

/// Can a resource of any of the servers be subscribed to?
fn subscribes(view: &View<'_>) -> bool {
    let mut upstreams = view.snapshot.upstreams.iter();
    upstreams.any(|upstream| {
        let shape = upstream.link.shape();
        shape.as_ref().is_some_and(|shape| shape.subscribe) && view.hears(upstream, Primitive::Resources)
    })
}

/// What the endpoint offers beside tools: all that one of its servers does.
fn offers(ctx: &Context) -> Features {
    let snapshot = &ctx.snapshot;
    let mut all = Features::default();
    if snapshot.config.features == all {
        return all;
    }
    let mut add = |upstream: &Upstream| {
        if !upstream.visible_to(&ctx.who) {
            return;
        }
        let any = |kind| snapshot.policy.any(&ctx.who, &upstream.full_name, kind, ctx.now);
        let has = upstream.routable();
        let prompts = has.prompts && any(Kind::Prompt);
        let resources = has.resources && any(Kind::Resource);
        all.prompts |= prompts;
        all.resources |= resources;
        all.completions |= has.completions && (prompts || resources);
        all.logging |= has.logging && (prompts || resources || any(Kind::Tool));
        all.subscriptions |= has.subscriptions;
    };
    match &ctx.endpoint {
        OwnedEndpoint::Server(path_name) => {
            if let Some(upstream) = snapshot.upstream(path_name) {
                add(upstream);
            }
        }
        OwnedEndpoint::Federated => snapshot.upstreams.iter().for_each(|upstream| add(upstream)),
        OwnedEndpoint::Set(_) => {}
    }
    all
}

/// Is there a server here that logs?
pub fn logs(ctx: &Context) -> bool {
    offers(ctx).logging
}

const fn serves(offers: Features, method: Method) -> bool {
    match method {
        Method::PromptsList | Method::PromptsGet => offers.prompts,
        Method::ResourcesList | Method::ResourcesTemplatesList | Method::ResourcesRead => offers.resources,
        Method::CompletionComplete => offers.completions,
        Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => offers.resources && offers.subscriptions,
        _ => false,
    }
}
