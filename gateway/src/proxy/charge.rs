//! What is charged for a message that is about no thing of a server. Calls and the like are charged where they are
//! looked up (`target`).

use super::offered;
use crate::app::context::Context;
use crate::app::refusal::Refusal;
use crate::ratelimit::Subject;

/// As what the end of a session is charged: it is no MCP message.
pub const DELETE: &str = "DELETE";
/// As what a stream of a session is charged.
pub const GET: &str = "GET";

/// Charges the limits per client: every message of an authenticated client, before anything is done for it.
pub fn client(ctx: &Context, method: &str) -> Result<(), Refusal> {
    ctx.snapshot
        .limits
        .client(&subject(ctx, method), ctx.entry.started)?;
    Ok(())
}

/// Charges the limits over all clients: only for a principal who may use anything here, since a stranger must not drain
/// what others need.
pub fn shared(ctx: &Context, method: &str) -> Result<(), Refusal> {
    let limits = &ctx.snapshot.limits;
    if limits.has_shared() && offered::anything(ctx) {
        limits.shared(&subject(ctx, method), ctx.entry.started)?;
    }
    Ok(())
}

fn subject<'a>(ctx: &'a Context, method: &'a str) -> Subject<'a> {
    Subject {
        who: &ctx.who,
        method,
        server: ctx.endpoint_server(),
        tool: None,
        client: ctx.entry.client,
    }
}
