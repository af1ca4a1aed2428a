//! What a server says in a client's own session beside its answers, and what of it is for the client.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Duration;

use super::asks::{self, Key};
use super::channel::Channel;
use super::question;
use super::registry::Session;
use super::upstream::Upstream;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::mcp::session::Capabilities;

/// What becomes of it.
#[derive(Debug)]
pub enum Pushed {
    /// The client is told.
    Told(Bytes),
    /// The client is asked.
    Asked {
        /// Under which key the question waits.
        key: Key,
        /// What is asked.
        method: Method,
        /// As the client sees it.
        bytes: Bytes,
    },
    /// The server is answered by the gateway.
    Reply(Bytes),
    /// Nothing.
    Nothing,
}

/// A request of the server. `ping` is answered by whoever receives it; what is off or what the client did not declare
/// does not exist. `session` is the client's, if the server speaks in a session that is the client's alone.
pub fn request(
    session: Option<&Session>,
    upstream: &Arc<Upstream>,
    channel: &Arc<Channel>,
    message: &Message,
    patience: Duration,
) -> Pushed {
    let Some(id) = message.id() else {
        return Pushed::Nothing;
    };
    let method = message.method();
    if method == Method::Ping {
        return Pushed::Reply(reply::empty_result(id, Era::Session));
    }
    let asked = session
        .filter(|session| question::may_be_asked(message, upstream.may_ask(session.token.capabilities)));
    let Some(session) = asked else {
        return Pushed::Reply(reply::error(&Cause::MethodUnknown, Some(id)));
    };
    match session.asks.put(message, upstream, channel, patience) {
        Ok((key, bytes)) => Pushed::Asked { key, method, bytes },
        Err(asks::TooMany) => Pushed::Reply(reply::error(&Cause::Overloaded, Some(id))),
    }
}

/// A notification of the server, other than progress.
pub fn notification(
    session: Option<&Session>,
    upstream: &Upstream,
    channel: &Arc<Channel>,
    message: &Message,
) -> Pushed {
    let features = upstream.features;
    let Some(session) = session else {
        return Pushed::Nothing;
    };
    let told = match message.method() {
        // Some servers know no levels, and some forget them.
        Method::LogMessage => {
            let least = session.level.get();
            features.logging && least.is_none_or(|least| least.lets_pass(message))
        }
        Method::ElicitationComplete => {
            features.elicitation && session.token.capabilities.has(Capabilities::ELICITATION_URL)
        }
        Method::Cancelled => {
            let withdrawn = message
                .raw(Member::RequestId)
                .and_then(|id| session.asks.withdrawn(channel, id));
            return withdrawn.map_or(Pushed::Nothing, |key| Pushed::Told(asks::cancellation(key)));
        }
        _ => false,
    };
    if told {
        Pushed::Told(message.bytes().clone())
    } else {
        Pushed::Nothing
    }
}
