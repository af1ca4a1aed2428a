//! Tasks (the extension `io.modelcontextprotocol/tasks`): a server goes on with a call by itself and gives a task id, by
//! which the client asks for the rest. The id is sealed with its principal, its server and its tool: it is found without
//! a table, by every replica, and by nobody else.

use super::declared::{self, TASKS};
use super::exchange::Failure;
use super::origin::Origin;
use super::terms::{self, Mapping};
use super::unfinished::may_be_asked;
use super::upstream::Upstream;
use crate::app::context::{Context, OwnedEndpoint};
use crate::auth::authorize::Kind;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::json_string;
use crate::mcp::scan::{self, Member, Span};
use crate::mcp::seal::TokenKind;
use crate::mcp::session::Capabilities;

/// How long a client may ask for a task: as long as a session lasts.
const LIFE_SECONDS: u64 = 24 * 3600;

/// A task as its id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `namespace/name` of its server.
    pub server: Box<str>,
    /// The server's own name of the tool that it came of.
    pub tool: Box<str>,
    /// The server's own id of it, as JSON.
    pub id: Box<[u8]>,
}

/// Is it one of the methods about a task?
pub const fn is_about(method: Method) -> bool {
    matches!(
        method,
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel
    )
}

/// Does the client of this request know tasks?
pub fn declares(message: &Message) -> bool {
    message
        .raw(Member::MetaClientCapabilities)
        .is_some_and(|declared| declared::has_extension(declared, TASKS))
}

/// Has a server that this principal may call tools of tasks, at this endpoint?
pub fn are_offered(ctx: &Context) -> bool {
    let has = |upstream: &Upstream| {
        upstream.link.has_tasks()
            && upstream.visible_to(&ctx.who)
            && ctx
                .snapshot
                .policy
                .any(&ctx.who, &upstream.full_name, Kind::Tool, ctx.now)
    };
    match &ctx.endpoint {
        OwnedEndpoint::Server(name) => ctx.snapshot.upstream(name).is_some_and(|upstream| has(upstream)),
        OwnedEndpoint::Federated => ctx.snapshot.upstreams.iter().any(|upstream| has(upstream)),
        OwnedEndpoint::Set(_) => ctx.set().is_some_and(|set| {
            let mut upstreams = ctx.snapshot.upstreams.iter();
            upstreams.any(|upstream| set.has_server(&upstream.full_name) && has(upstream))
        }),
    }
}

/// Is this request about a task that was given out here?
pub fn is_ours(ctx: &Context, message: &Message) -> bool {
    message
        .str(Member::TaskId)
        .is_some_and(|id| open(ctx, &id).is_some())
}

/// Where a new task's id stands in a result, and what the client gets in its place.
pub fn sealed(ctx: &Context, message: &Message) -> Result<(Span, Vec<u8>), Failure> {
    const NO_ID: Failure = Failure::Invalid("its task has no id");
    let at = id_in(message, Member::Result).ok_or(NO_ID)?;
    let id = at.of(message.bytes());
    // It goes into a header as well, where only a text can stand.
    if id.len() <= 2 || id.first() != Some(&b'"') || scan::unescape(id).is_err() {
        return Err(NO_ID);
    }
    let (Some(server), Some((_, tool))) = (&ctx.entry.server, &ctx.entry.thing) else {
        return Err(NO_ID);
    };
    let task = Task {
        server: (**server).into(),
        tool: tool.clone(),
        id: id.into(),
    };
    let plain = task.encode(ctx.now + LIFE_SECONDS, &ctx.who.key);
    let token = ctx
        .snapshot
        .sealer
        .seal(TokenKind::Task, ctx.endpoint.binding(), &plain)
        .map_err(|_| Failure::Invalid("its task's id is longer than a gateway seals"))?;
    let mut quoted = Vec::with_capacity(token.len() + 2);
    json_string(&token, &mut quoted);
    Ok((at, quoted))
}

/// The task that an id stands for, for its owner.
pub fn open(ctx: &Context, id: &str) -> Option<Task> {
    let sealer = &ctx.snapshot.sealer;
    let plain = sealer
        .open(TokenKind::Task, ctx.endpoint.binding(), id.as_bytes())
        .ok()?;
    Task::decode(&plain, ctx.now, &ctx.who.key)
}

/// Where the server's own id stands in what it says about a task, which the client knows by its own. What it asks
/// the client there must not be off.
pub fn id_in_answer(origin: &Origin, message: &Message, mapping: &Mapping) -> Result<Option<Span>, Failure> {
    let Some(result) = message.span(Member::Result) else {
        let data = message.span(Member::ErrorData);
        let at = data.and_then(|data| scan::field(message.bytes(), data, "taskId"));
        // The server may write it anew.
        let is_own = |at: &Span| {
            let task = mapping.task.as_ref();
            task.is_some_and(|task| terms::same_id(at.of(message.bytes()), &task.own))
        };
        return Ok(at.filter(is_own));
    };
    if mapping.method == Method::TasksGet
        && let Some(questions) = scan::field(message.bytes(), result, "inputRequests")
    {
        // Who asks for a task may have said elsewhere what it can do.
        may_be_asked(message.bytes(), questions, origin.allowed).map_err(Failure::Invalid)?;
    }
    Ok(id_in(message, Member::Result))
}

fn id_in(message: &Message, object: Member) -> Option<Span> {
    scan::field(message.bytes(), message.span(object)?, "taskId")
}

impl Task {
    fn encode(&self, expires: u64, who: &[u8; 16]) -> Vec<u8> {
        let mut out = expires.to_le_bytes().to_vec();
        out.extend_from_slice(who);
        for part in [self.server.as_bytes(), self.tool.as_bytes()] {
            out.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.id);
        out
    }

    fn decode(plain: &[u8], now: u64, who: &[u8; 16]) -> Option<Self> {
        let (expires, rest) = plain.split_first_chunk::<8>()?;
        let (owner, rest) = rest.split_first_chunk::<16>()?;
        if u64::from_le_bytes(*expires) < now || owner != who {
            return None;
        }
        let (server, rest) = text(rest)?;
        let (tool, id) = text(rest)?;
        Some(Self {
            server: server.into(),
            tool: tool.into(),
            id: id.into(),
        })
    }
}

fn text(plain: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = plain.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// All that a client could declare.
pub const ANYTHING: Capabilities = Capabilities::OF_ROOTS
    .with(Capabilities::OF_SAMPLING)
    .with(Capabilities::OF_ELICITATION);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_its_owners_for_its_time() {
        let task = Task {
            server: "a/s".into(),
            tool: "t".into(),
            id: Box::from(*b"\"x\\u0079\""),
        };
        let plain = task.encode(100, &[1; 16]);
        assert_eq!(Task::decode(&plain, 100, &[1; 16]), Some(task));
        assert_eq!(Task::decode(&plain, 101, &[1; 16]), None);
        assert_eq!(Task::decode(&plain, 100, &[2; 16]), None);
        for cut in 0..30 {
            assert_eq!(Task::decode(plain.get(..cut).unwrap(), 0, &[1; 16]), None);
        }
    }
}
