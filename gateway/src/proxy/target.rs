//! What a request is about: which thing of which server, and whether this principal may have it now.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use portcullis_config::Prefix;
use tokio::time::Instant;

use super::charge;
use super::inventory::Item;
use super::links::{self, Rewrite};
use super::primitive::Primitive;
use super::tasks::{self, Task};
use super::upstream::Upstream;
use crate::app::asked::Asked;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::refusal::Refusal;
use crate::auth::authorize::{Decision, Kind, Thing};
use crate::mcp::envelope::Message;
use crate::mcp::headers;
use crate::mcp::method::Method;
use crate::mcp::params::Annotation;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::mcp::scan::{self, Member, Span};
use crate::ratelimit::{Quota, Subject};

/// A thing of a server that a request is about, once it may go there.
pub struct Target {
    /// The server.
    pub upstream: Arc<Upstream>,
    what: What,
    member: Member,
    /// How the answer is put into the endpoint's words, where they differ from the server's.
    pub rewrite: Option<Rewrite>,
}

enum What {
    /// A tool, a prompt or a listed template.
    Item(Primitive, Arc<Item>),
    /// A URI: the server's own, and that as JSON.
    Uri(Box<str>, Box<[u8]>),
    /// A task, which is judged as the tool that it came of.
    Task(Task),
}

impl What {
    fn thing(&self) -> Thing<'_> {
        match self {
            Self::Item(primitive, item) => primitive.thing(&item.name),
            Self::Uri(uri, _) => Thing::Uri(uri),
            Self::Task(task) => Thing::Tool(&task.tool),
        }
    }
}

/// Where a request leads.
struct Found {
    upstream: Arc<Upstream>,
    what: What,
    rewrite: Option<Rewrite>,
}

/// What a request names, as the client wrote it.
struct Named<'m> {
    primitive: Primitive,
    member: Member,
    name: Cow<'m, str>,
}

impl Target {
    /// Where in the client's message its name stands.
    pub fn named_at(&self, message: &Message) -> Option<Span> {
        message.span(self.member)
    }

    /// The server's own name for it, as JSON.
    pub fn own_json(&self) -> &[u8] {
        match &self.what {
            What::Item(_, item) => item.name_json(),
            What::Uri(_, json) => json,
            What::Task(task) => &task.id,
        }
    }

    /// The server's own URI, where it is about one.
    pub fn uri(&self) -> Option<&str> {
        match &self.what {
            What::Uri(uri, _) => Some(uri),
            What::Item(..) | What::Task(_) => None,
        }
    }

    /// `Mcp-Name` for a stateless server, where the method has one.
    pub fn header(&self, method: Method) -> Option<HeaderValue> {
        method.name_source()?;
        Some(match &self.what {
            What::Task(task) => headers::encode(&scan::unescape(&task.id).ok()?),
            what => headers::encode(what.thing().name()),
        })
    }

    /// The arguments that a call repeats in headers.
    pub fn params(&self) -> &[Annotation] {
        match &self.what {
            What::Item(_, item) => &item.params,
            What::Uri(..) | What::Task(_) => &[],
        }
    }

    /// Asks the server for its lists anew, unless that was done after `since`. Are other arguments to be repeated now?
    pub async fn relist(&mut self, since: Instant) -> bool {
        let What::Item(primitive @ Primitive::Tools, item) = &mut self.what else {
            return false;
        };
        let listing = self.upstream.refresh(since.elapsed());
        if !matches!(
            tokio::time::timeout(self.upstream.timeout, listing).await,
            Ok(Ok(()))
        ) {
            return false;
        }
        let Some(new) = self.upstream.item(*primitive, &item.name) else {
            return false;
        };
        let changed = new.params != item.params;
        *item = new;
        changed
    }
}

/// Finds what a request is about and asks limits and rules, in the order that counts: per client, rules, shared.
pub async fn admit(
    ctx: &mut Context,
    message: &Message,
    era: Era,
) -> Result<(Target, Option<Quota>), Refusal> {
    let named = match named(message) {
        Ok(named) => named,
        Err(cause) => {
            charge::client(ctx, message.method().as_str())?;
            return Err(cause.into());
        }
    };
    // What is off for that server, whatever others have, is as if it were not there.
    let found = find(ctx, message.method(), &named).await;
    let found = found.filter(|found| found.upstream.serves(message.method()));
    if let Some(found) = &found {
        ctx.entry.server = Some(Arc::clone(&found.upstream.full_name));
        let thing = found.what.thing();
        ctx.entry.thing = Some((thing.kind(), thing.name().into()));
    }
    let snapshot = Arc::clone(&ctx.snapshot);
    let instant = ctx.entry.started;
    // Limits that tell tools apart must not tell what is forbidden from what there is not: they count it as that.
    let early = found.as_ref().filter(|_| snapshot.limits.sees_things());
    let early = early.map(|found| judge(ctx, message, found));
    let seen = found
        .as_ref()
        .filter(|_| !matches!(early, Some(Verdict::Forbidden(_))));
    let client = snapshot.limits.client(&subject(ctx, message, seen), instant)?;
    let Some(found) = found else {
        return Err(unknown(named, era).into());
    };
    match early.unwrap_or_else(|| judge(ctx, message, &found)) {
        Verdict::Allowed => {}
        Verdict::Forbidden(rule) => return Err(forbidden(named, era, rule).into()),
        Verdict::InsufficientScope(refusal) => return Err(*refusal),
    }
    let upstream = &found.upstream;
    let shared = snapshot
        .limits
        .shared(&subject(ctx, message, Some(&found)), instant)?;
    if let Some(why) = upstream.credential.missing() {
        tracing::debug!(server = %upstream.full_name, %why, "a call was refused for want of the server's credential");
        return Err(Cause::UpstreamUnavailable.into());
    }
    let target = Target {
        upstream: found.upstream,
        what: found.what,
        member: named.member,
        rewrite: found.rewrite,
    };
    Ok((target, Quota::tighter(client, shared)))
}

/// What the rules say.
enum Verdict {
    Allowed,
    /// By that rule, or for want of one.
    Forbidden(Option<Arc<str>>),
    /// It is listed, and the refusal says which scopes it takes.
    InsufficientScope(Box<Refusal>),
}

/// Asks the rules, and notes for the record what they say.
fn judge(ctx: &mut Context, message: &Message, found: &Found) -> Verdict {
    let upstream = &found.upstream;
    if !upstream.visible_to(&ctx.who) {
        return Verdict::Forbidden(None);
    }
    let snapshot = Arc::clone(&ctx.snapshot);
    let asked = asked(message, &found.what, snapshot.policy.reads_arguments());
    let (server, thing) = (&upstream.full_name, found.what.thing());
    if snapshot.policy.has_shadows() {
        ctx.entry.shadows = snapshot
            .policy
            .shadows(&ctx.who, server, thing, asked.get(), ctx.now);
    }
    let decision = snapshot
        .policy
        .decide(&ctx.who, server, thing, asked.get(), ctx.now);
    ctx.entry.asked = Some(asked);
    match decision {
        Decision::Allow { rule } => {
            ctx.entry.rule = Some(Arc::clone(rule));
            Verdict::Allowed
        }
        Decision::Deny { rule } => Verdict::Forbidden(rule.cloned()),
        Decision::InsufficientScope { rule, scopes } => {
            ctx.entry.rule = Some(Arc::clone(rule));
            let challenge = snapshot.auth.insufficient_scope(ctx.endpoint.get(), scopes);
            let mut headers = HeaderMap::new();
            headers.insert(http::header::WWW_AUTHENTICATE, challenge);
            Verdict::InsufficientScope(Box::new(Refusal {
                cause: Cause::InsufficientScope {
                    scopes: scopes.into(),
                },
                headers: Some(Box::new(headers)),
            }))
        }
    }
}

/// What rules may read of it.
fn asked(message: &Message, what: &What, reads_arguments: bool) -> Asked {
    let method = message.method();
    let name = method.as_str();
    match (what, method) {
        (What::Task(_), _) => Asked::about_a_call(name),
        (_, Method::ToolsCall | Method::PromptsGet) if reads_arguments => {
            Asked::with(name, message.slice(Member::Arguments))
        }
        (_, Method::ToolsCall | Method::PromptsGet) => Asked::without_arguments(name),
        _ => Asked::with(name, None),
    }
}

/// What limits count.
fn subject<'a>(ctx: &'a Context, message: &Message, found: Option<&'a Found>) -> Subject<'a> {
    Subject {
        who: &ctx.who,
        method: message.method().as_str(),
        server: match found {
            Some(found) => Some(&found.upstream.full_name),
            None => ctx.endpoint_server(),
        },
        tool: found.and_then(|found| match found.what.thing() {
            Thing::Tool(name) => Some(name),
            _ => None,
        }),
        client: ctx.entry.client,
    }
}

/// Reads what a request names.
fn named(message: &Message) -> Result<Named<'_>, Cause> {
    let text = |primitive, member, problem| {
        let name = message.str(member).ok_or(Cause::InvalidParams { problem })?;
        Ok(Named {
            primitive,
            member,
            name,
        })
    };
    match message.method() {
        Method::PromptsGet => text(Primitive::Prompts, Member::Name, "params.name is a string"),
        Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
            text(Primitive::Resources, Member::Uri, "params.uri is a string")
        }
        Method::CompletionComplete => match message.str(Member::RefType).as_deref() {
            Some("ref/prompt") => text(Primitive::Prompts, Member::RefName, "params.ref.name is a string"),
            Some("ref/resource") => text(Primitive::Templates, Member::RefUri, "params.ref.uri is a string"),
            _ => Err(Cause::InvalidParams {
                problem: "params.ref.type is ref/prompt or ref/resource",
            }),
        },
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => {
            text(Primitive::Tools, Member::TaskId, "params.taskId is a string")
        }
        _ => text(Primitive::Tools, Member::Name, "params.name is a string"),
    }
}

async fn find(ctx: &Context, method: Method, named: &Named<'_>) -> Option<Found> {
    if named.member == Member::TaskId {
        return of_task(ctx, method, &named.name);
    }
    match &ctx.endpoint {
        OwnedEndpoint::Server(path_name) => {
            let upstream = ctx.snapshot.upstream(path_name)?;
            upstream.wait_first_contact().await;
            Some(Found {
                what: of_server(upstream, named)?,
                upstream: Arc::clone(upstream),
                rewrite: None,
            })
        }
        OwnedEndpoint::Federated | OwnedEndpoint::Set(_) => {
            // Without prefixes, whose a name is depends on all of them.
            let plain = ctx.snapshot.config.tool_names.prefix != Prefix::Always;
            if !plain && let Some(found) = side_by_side(ctx, method, named) {
                return Some(found);
            }
            // Only a server that was never asked can still turn out to have it.
            Box::pin(futures::future::join_all(
                ctx.snapshot
                    .upstreams
                    .iter()
                    .map(|upstream| upstream.wait_first_contact()),
            ))
            .await;
            side_by_side(ctx, method, named)
        }
    }
}

/// A task's id says where it leads. It is sealed for the endpoint, which may have lost that server or tool since.
fn of_task(ctx: &Context, method: Method, id: &str) -> Option<Found> {
    let task = tasks::open(ctx, id)?;
    let snapshot = &ctx.snapshot;
    let here = |upstream: &Upstream| *upstream.full_name == *task.server && upstream.offers(&task.tool);
    let server = snapshot.upstreams.iter().position(|upstream| here(upstream))?;
    let upstream = Arc::clone(snapshot.upstreams.get(server)?);
    let federated = match &ctx.endpoint {
        OwnedEndpoint::Server(name) => {
            snapshot
                .upstream(name)
                .filter(|named| Arc::ptr_eq(named, &upstream))?;
            false
        }
        OwnedEndpoint::Set(_) => {
            ctx.set().filter(|set| set.has(&task.server, &task.tool))?;
            false
        }
        OwnedEndpoint::Federated => true,
    };
    let rewrite = (federated && upstream.features.resources).then(|| Rewrite {
        routes: ctx.app.routes(snapshot),
        server,
        method,
    });
    Some(Found {
        upstream,
        what: What::Task(task),
        rewrite,
    })
}

/// By the server's own names.
fn of_server(upstream: &Upstream, named: &Named<'_>) -> Option<What> {
    let item = upstream.item(named.primitive, &named.name);
    match (named.primitive, item) {
        // Servers have more resources than they list: what links and templates lead to.
        (Primitive::Resources, _) | (Primitive::Templates, None) => {
            upstream.features.resources.then(|| uri(&named.name))
        }
        (primitive, Some(item)) => Some(What::Item(primitive, item)),
        (_, None) => {
            upstream.link.mark_stale();
            None
        }
    }
}

/// By federated names.
fn side_by_side(ctx: &Context, method: Method, named: &Named<'_>) -> Option<Found> {
    let snapshot = &ctx.snapshot;
    let routes = ctx.app.routes(snapshot);
    let (server, what) = match (named.primitive, routes.of(named.primitive).get(&named.name)) {
        (Primitive::Resources, _) | (Primitive::Templates, None) => {
            let (server, own) = routes.resource(&named.name)?;
            (server, uri(&own))
        }
        (primitive, route) => {
            let route = route?;
            (route.server, What::Item(primitive, Arc::clone(&route.item)))
        }
    };
    let upstream = Arc::clone(snapshot.upstreams.get(server)?);
    if matches!(what, What::Uri(..)) && !upstream.features.resources {
        return None;
    }
    let of_set = matches!(ctx.endpoint, OwnedEndpoint::Set(_));
    if of_set
        && !ctx
            .set()
            .is_some_and(|set| set.has(&upstream.full_name, what.thing().name()))
    {
        return None;
    }
    // Links can be followed only where resources are on.
    let rewrite = (upstream.features.resources && !of_set).then_some(Rewrite {
        routes,
        server,
        method,
    });
    Some(Found {
        upstream,
        what,
        rewrite,
    })
}

fn uri(own: &str) -> What {
    What::Uri(own.into(), links::json(own))
}

/// No server has it.
fn unknown(named: Named<'_>, era: Era) -> Cause {
    if named.member == Member::TaskId {
        return Cause::InvalidParams {
            problem: "params.taskId names no task that there is for you here, or none any more",
        };
    }
    let name = named.name.into();
    match named.primitive.kind() {
        Kind::Tool => Cause::ToolUnknown { name },
        Kind::Prompt => Cause::PromptUnknown { name },
        Kind::Resource => Cause::ResourceUnknown { uri: name, era },
    }
}

/// This principal may not have it: looks like [`unknown`].
fn forbidden(named: Named<'_>, era: Era, rule: Option<Arc<str>>) -> Cause {
    let name = named.name.into();
    match named.primitive.kind() {
        Kind::Tool => Cause::ToolForbidden { name, rule },
        Kind::Prompt => Cause::PromptForbidden { name, rule },
        Kind::Resource => Cause::ResourceForbidden { uri: name, era, rule },
    }
}
