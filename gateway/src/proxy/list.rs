//! Lists of tools, prompts, resources and templates: what this principal may use, page by page, in the order of names.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};

use super::call::json;
use super::charge;
use super::inventory::Item;
use super::offered;
use super::primitive::Primitive;
use super::registry::Session;
use super::stream::Body;
use super::upstream::Upstream;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::refusal::Refusal;
use crate::auth::when::Asked;
use crate::mcp::envelope::Message;
use crate::mcp::reply::{Cause, Page};
use crate::mcp::revision::Era;
use crate::mcp::scan::{Member, Span};
use crate::mcp::seal::TokenKind;
use crate::mcp::session::Capabilities;

/// Items on one page.
const PAGE_ITEMS: usize = 250;
/// A page is closed once it is this long.
const PAGE_BYTES: usize = 512 << 10;
/// A list older than this is asked for again, in the background.
const STALE: Duration = Duration::from_secs(10);
/// How long a stateless client may keep it.
const TTL_MS: u64 = 5_000;

/// One entry of a list: its name, and its object with what is written otherwise.
struct Entry {
    name: Box<str>,
    edits: Box<[(Span, Box<[u8]>)]>,
    item: Arc<Item>,
}

/// Everything a principal may see of one kind.
struct Listing {
    /// By name.
    entries: Vec<Entry>,
    /// How long a stateless client may keep it.
    ttl_ms: u64,
}

/// Answers a list request.
pub async fn answer(
    mut ctx: Context,
    message: &Message,
    session: Option<&Session>,
    primitive: Primitive,
) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    let era = if session.is_some() {
        Era::Session
    } else {
        Era::Stateless
    };
    let declared = session.map_or_else(
        || {
            let declared = message.raw(Member::MetaClientCapabilities);
            declared.map_or(Capabilities::NONE, Capabilities::read)
        },
        |session| session.token.capabilities,
    );
    match page(&mut ctx, message, (era, declared), primitive, &id).await {
        Ok(bytes) => ctx.answer(json(StatusCode::OK, bytes)),
        Err(refusal) => ctx.refuse(refusal, Some(era), Some(&id)),
    }
}

async fn page(
    ctx: &mut Context,
    message: &Message,
    (era, declared): (Era, Capabilities),
    primitive: Primitive,
    id: &[u8],
) -> Result<bytes::Bytes, Refusal> {
    let method = message.method().as_str();
    charge::client(ctx, method)?;
    charge::shared(ctx, method)?;
    let snapshot = Arc::clone(&ctx.snapshot);
    let after = match message.text(Member::Cursor) {
        None if message.span(Member::Cursor).is_some() => {
            return Err(Cause::InvalidParams {
                problem: "params.cursor is a string",
            }
            .into());
        }
        None => None,
        Some(cursor) => {
            let cursor = cursor.map_err(|_| Cause::InvalidCursor)?;
            Some(open_cursor(ctx, primitive, &cursor)?)
        }
    };
    let Listing { entries, ttl_ms } = listing(ctx, declared, primitive).await;
    let start = match &after {
        None => 0,
        Some(after) => entries.partition_point(|entry| *entry.name <= **after),
    };
    let mut page = Page::new(id, primitive.member().name());
    let mut last = None;
    let mut rest = entries.get(start..).unwrap_or_default().iter().peekable();
    for entry in rest.by_ref() {
        push(&mut page, entry);
        last = Some(&entry.name);
        if page.len() >= PAGE_ITEMS || page.bytes() >= PAGE_BYTES {
            break;
        }
    }
    let next = match (rest.peek(), last) {
        (Some(_), Some(last)) => Some(seal_cursor(ctx, primitive, last)?),
        _ => None,
    };
    Ok(page.finish(era, next.as_deref(), ttl_ms, &snapshot.server_info))
}

fn push(page: &mut Page, entry: &Entry) {
    let json = &entry.item.json;
    let mut parts: Vec<&[u8]> = Vec::with_capacity(entry.edits.len() * 2 + 1);
    let mut done = 0;
    for (at, with) in &entry.edits {
        parts.push(json.get(done..at.start()).unwrap_or_default());
        parts.push(with);
        done = at.end();
    }
    parts.push(json.get(done..).unwrap_or_default());
    page.push(&parts);
}

/// Everything this principal may see on the endpoint, with a client that declares so much.
async fn listing(ctx: &Context, declared: Capabilities, primitive: Primitive) -> Listing {
    let snapshot = &ctx.snapshot;
    let allowed = |upstream: &Upstream, item: &Item| {
        if item.asks && upstream.may_ask(declared).is_empty() {
            return false;
        }
        snapshot
            .policy
            .decide(
                &ctx.who,
                &upstream.full_name,
                primitive.thing(&item.name),
                Asked::LISTED,
                ctx.now,
            )
            .is_listed()
    };
    match &ctx.endpoint {
        OwnedEndpoint::Server(path_name) => {
            let upstream = snapshot
                .upstream(path_name)
                .filter(|upstream| offered::has(ctx, upstream, primitive));
            let Some(upstream) = upstream else {
                return Listing {
                    entries: Vec::new(),
                    ttl_ms: TTL_MS,
                };
            };
            freshen(upstream).await;
            let inventory = upstream.link.inventory();
            let items = inventory
                .iter()
                .flat_map(|inventory| &inventory.of(primitive).items);
            let entries = items
                .filter(|item| upstream.offers_item(primitive, &item.name) && allowed(upstream, item))
                .map(|item| Entry {
                    name: item.name.clone(),
                    edits: Box::default(),
                    item: Arc::clone(item),
                })
                .collect();
            Listing {
                entries,
                ttl_ms: ttl(primitive, [&**upstream]),
            }
        }
        OwnedEndpoint::Federated | OwnedEndpoint::Set(_) => {
            let set = ctx.set();
            let seen: Vec<bool> = snapshot
                .upstreams
                .iter()
                .map(|upstream| offered::has(ctx, upstream, primitive))
                .collect();
            let parts = || {
                let parts = snapshot.upstreams.iter().zip(&seen);
                parts.filter(|(_, seen)| **seen).map(|(upstream, _)| &**upstream)
            };
            futures::future::join_all(parts().map(freshen)).await;
            let routes = ctx.app.routes(snapshot);
            let entries = routes
                .of(primitive)
                .all()
                .iter()
                .filter(|route| seen.get(route.server) == Some(&true))
                .filter(|route| {
                    snapshot.upstreams.get(route.server).is_some_and(|upstream| {
                        set.is_none_or(|set| set.has(&upstream.full_name, &route.item.name))
                            && allowed(upstream, &route.item)
                    })
                })
                .map(|route| Entry {
                    name: route.name.clone(),
                    edits: route.edits.clone(),
                    item: Arc::clone(&route.item),
                })
                .collect();
            Listing {
                entries,
                ttl_ms: ttl(primitive, parts()),
            }
        }
    }
}

/// The least that any part allows; nothing while a part is missing.
fn ttl<'u>(primitive: Primitive, parts: impl IntoIterator<Item = &'u Upstream>) -> u64 {
    let of_part = |upstream: &Upstream| {
        if !upstream.link.health().verified {
            return 0;
        }
        let inventory = upstream.link.inventory();
        let own = inventory
            .as_ref()
            .and_then(|inventory| inventory.of(primitive).ttl_ms);
        own.unwrap_or(TTL_MS)
    };
    parts.into_iter().map(of_part).fold(TTL_MS, u64::min)
}

/// Waits for the first list of a server; an old one is served, and asked for again behind the client's back.
async fn freshen(upstream: &Upstream) {
    upstream.wait_first_contact().await;
    let old = upstream
        .link
        .inventory()
        .as_ref()
        .is_none_or(|inventory| inventory.listed.elapsed() > STALE);
    if old {
        upstream.link.mark_stale();
    }
}

/// A cursor is the last name given out, sealed for this principal, endpoint and kind of list.
fn seal_cursor(ctx: &Context, primitive: Primitive, last: &str) -> Result<String, Cause> {
    let plain = [&ctx.who.key[..], &kind(primitive), last.as_bytes()].concat();
    ctx.snapshot
        .sealer
        .seal(TokenKind::Cursor, ctx.endpoint.binding(), &plain)
        .map_err(|_| Cause::Internal)
}

fn open_cursor(ctx: &Context, primitive: Primitive, cursor: &str) -> Result<Box<str>, Cause> {
    let plain = ctx
        .snapshot
        .sealer
        .open(TokenKind::Cursor, ctx.endpoint.binding(), cursor.as_bytes())
        .map_err(|_| Cause::InvalidCursor)?;
    let last = plain
        .strip_prefix(&ctx.who.key[..])
        .and_then(|rest| rest.strip_prefix(&kind(primitive)[..]))
        .ok_or(Cause::InvalidCursor)?;
    std::str::from_utf8(last)
        .map(Into::into)
        .map_err(|_| Cause::InvalidCursor)
}

/// A kind of list in a cursor.
const fn kind(primitive: Primitive) -> [u8; 1] {
    match primitive {
        Primitive::Tools => *b"t",
        Primitive::Prompts => *b"p",
        Primitive::Resources => *b"r",
        Primitive::Templates => *b"u",
    }
}
