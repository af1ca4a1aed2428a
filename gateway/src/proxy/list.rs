//! `tools/list`: what this principal may use, server by server, page by page, in the order of names.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};

use super::call::json;
use super::inventory::Tool;
use super::stream::Body;
use super::upstream::Upstream;
use crate::app::context::{Context, OwnedEndpoint};
use crate::app::refusal::Refusal;
use crate::mcp::envelope::Message;
use crate::mcp::reply::{Cause, Page};
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::mcp::seal::TokenKind;
use crate::ratelimit::Subject;

/// Tools on one page.
const PAGE_ITEMS: usize = 250;
/// A page is closed once it is this long.
const PAGE_BYTES: usize = 512 << 10;
/// A list older than this is asked for again, in the background.
const STALE: Duration = Duration::from_secs(10);
/// How long a stateless client may keep it.
const TTL_MS: u64 = 5_000;

/// One entry of a list: name, and the tool's object around it.
struct Entry {
    name: Box<str>,
    /// The name as JSON, where it is not the server's own.
    renamed: Option<Box<str>>,
    tool: Arc<Tool>,
}

/// Answers a `tools/list`.
pub async fn tools(mut ctx: Context, message: &Message, era: Era) -> Response<Body> {
    let id = message.slice(Member::Id).unwrap_or_default();
    match page(&mut ctx, message, era, &id).await {
        Ok(bytes) => ctx.answer(json(StatusCode::OK, bytes)),
        Err(refusal) => ctx.refuse(refusal, Some(era), Some(&id)),
    }
}

async fn page(ctx: &mut Context, message: &Message, era: Era, id: &[u8]) -> Result<bytes::Bytes, Refusal> {
    let method = message.method().as_str();
    let subject = Subject {
        who: &ctx.who,
        method,
        server: None,
        tool: None,
    };
    let snapshot = Arc::clone(&ctx.snapshot);
    snapshot.limits.client(&subject, ctx.entry.started)?;
    snapshot.limits.shared(&subject, ctx.entry.started)?;
    let after = match message.text(Member::Cursor) {
        None if message.span(Member::Cursor).is_some() => {
            return Err(Cause::InvalidParams {
                problem: "params.cursor is a string",
            }
            .into());
        }
        None => None,
        Some(cursor) => Some(open_cursor(ctx, &cursor.map_err(|_| Cause::InvalidCursor)?)?),
    };
    let entries = entries(ctx).await;
    let start = match &after {
        None => 0,
        Some(after) => entries.partition_point(|entry| *entry.name <= **after),
    };
    let mut page = Page::new(id, "tools");
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
        (Some(_), Some(last)) => Some(seal_cursor(ctx, last)?),
        _ => None,
    };
    Ok(page.finish(era, next.as_deref(), TTL_MS, &snapshot.server_info))
}

fn push(page: &mut Page, entry: &Entry) {
    let json = &entry.tool.json;
    match &entry.renamed {
        None => page.push(&[json]),
        Some(name) => {
            let (before, after) = (
                json.get(..entry.tool.name_at.start()),
                json.get(entry.tool.name_at.end()..),
            );
            if let (Some(before), Some(after)) = (before, after) {
                page.push(&[before, name.as_bytes(), after]);
            }
        }
    }
}

/// Everything this principal may see on the endpoint, by name.
async fn entries(ctx: &Context) -> Vec<Entry> {
    let snapshot = &ctx.snapshot;
    let seen = |upstream: &Upstream| {
        upstream.visible_to(&ctx.who) && snapshot.policy.any_tool(&ctx.who, &upstream.full_name, ctx.now)
    };
    let allowed = |upstream: &Upstream, tool: &Tool| {
        snapshot
            .policy
            .decide(&ctx.who, &upstream.full_name, &tool.name, ctx.now)
            .is_listed()
    };
    match &ctx.endpoint {
        OwnedEndpoint::Server(path_name) => {
            let Some(upstream) = snapshot.upstream(path_name).filter(|upstream| seen(upstream)) else {
                return Vec::new();
            };
            freshen(upstream).await;
            let inventory = upstream.link.inventory();
            let tools = inventory.iter().flat_map(|inventory| &inventory.tools);
            tools
                .filter(|tool| upstream.offers(&tool.name) && allowed(upstream, tool))
                .map(|tool| Entry {
                    name: tool.name.clone(),
                    renamed: None,
                    tool: Arc::clone(tool),
                })
                .collect()
        }
        OwnedEndpoint::Federated => {
            futures::future::join_all(snapshot.upstreams.iter().map(|upstream| freshen(upstream))).await;
            let routes = ctx.app.routes(snapshot);
            let upstreams: Vec<bool> = snapshot.upstreams.iter().map(|upstream| seen(upstream)).collect();
            routes
                .all()
                .iter()
                .filter(|route| upstreams.get(route.server) == Some(&true))
                .filter(|route| {
                    snapshot
                        .upstreams
                        .get(route.server)
                        .is_some_and(|upstream| allowed(upstream, &route.tool))
                })
                .map(|route| Entry {
                    name: route.name.clone(),
                    renamed: Some(route.name_json.clone()),
                    tool: Arc::clone(&route.tool),
                })
                .collect()
        }
    }
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

/// A cursor is the last name given out, sealed for this principal and endpoint.
fn seal_cursor(ctx: &Context, last: &str) -> Result<String, Cause> {
    let mut plain = ctx.who.key.to_vec();
    plain.extend_from_slice(last.as_bytes());
    ctx.snapshot
        .sealer
        .seal(TokenKind::Cursor, ctx.endpoint.binding(), &plain)
        .map_err(|_| Cause::Internal)
}

fn open_cursor(ctx: &Context, cursor: &str) -> Result<Box<str>, Cause> {
    let plain = ctx
        .snapshot
        .sealer
        .open(TokenKind::Cursor, ctx.endpoint.binding(), cursor.as_bytes())
        .map_err(|_| Cause::InvalidCursor)?;
    let (who, last) = plain
        .split_at_checked(ctx.who.key.len())
        .ok_or(Cause::InvalidCursor)?;
    if who != ctx.who.key {
        return Err(Cause::InvalidCursor);
    }
    std::str::from_utf8(last)
        .map(Into::into)
        .map_err(|_| Cause::InvalidCursor)
}
