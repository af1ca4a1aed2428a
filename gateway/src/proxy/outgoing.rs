//! A client's call in the server's terms: the server's own name, an id that is unique where clients share a session, and
//! the members of the server's era. Where nothing differs, the client's bytes go out as they came.

use bytes::Bytes;

use super::channel::Channel;
use super::declared;
use super::level::Level;
use super::registry::Session;
use super::target::Target;
use super::tasks;
use super::terms::{Mapping, TaskIds};
use crate::mcp::edit::Patch;
use crate::mcp::envelope::Message;
use crate::mcp::meta;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;

/// The message for the server, and how to find the way back. `state` is the server's own `requestState`, as JSON, in place
/// of the sealed one.
pub fn prepare(
    message: &Message,
    target: &Target,
    era: Era,
    channel: &Channel,
    session: Option<&Session>,
    state: Option<&[u8]>,
) -> Result<(Bytes, Mapping), Cause> {
    let client_id = message.slice(Member::Id).unwrap_or_default();
    let mut mapping = Mapping {
        server_id: client_id.clone(),
        client_id,
        token: None,
        era,
        server_era: channel.era(),
        method: message.method(),
        rewrite: target.rewrite.clone(),
        log: None,
        task: None,
    };
    let features = target.upstream.features;
    // A session says once for all what it wants logged.
    if era == Era::Stateless && features.logging {
        mapping.log = Level::asked(message);
    }
    let told;
    let text = message.bytes();
    // What `initialize` said once stands in each request to a stateless server.
    let said = match (era, channel.era()) {
        (Era::Session, Era::Stateless) => {
            let session = session.ok_or(Cause::Internal)?;
            let told = target.upstream.may_ask(session.token.capabilities);
            Some(session.stateless_meta(told, features.logging))
        }
        _ => None,
    };
    let mut patch = Patch::new(text);
    let mut changed = false;
    let own_name = target.own_json();
    let name = target.named_at(message).ok_or(Cause::Internal)?;
    if name.of(text) != own_name {
        patch.replace(name, own_name);
        changed = true;
    }
    if let (Some(at), Some(state)) = (message.span(Member::RequestState), state) {
        patch.replace(at, state);
        changed = true;
    }
    if tasks::is_about(message.method()) {
        mapping.task = Some(Box::new(TaskIds {
            own: own_name.into(),
            clients: message.slice(Member::TaskId).unwrap_or_default(),
        }));
    }
    let token = message.slice(Member::MetaProgressToken);
    if channel.shared {
        mapping.server_id = target.upstream.link.next_id().to_string().into();
        // The same number serves as progress token: unique among the calls in flight, as it must be.
        mapping.token = token.map(|token| (token, mapping.server_id.clone()));
    } else {
        mapping.token = token.map(|token| (token.clone(), token));
    }
    let server_id = mapping.server_id.clone();
    if channel.shared {
        let id = message.span(Member::Id).ok_or(Cause::Internal)?;
        patch.replace(id, &server_id);
        if let Some(token) = message.span(Member::MetaProgressToken) {
            patch.replace(token, &server_id);
        }
        changed = true;
    }
    match (era, channel.era()) {
        (Era::Session, Era::Session) => {}
        // Its own members would mean nothing to a server of the era before.
        (Era::Stateless, Era::Session) => {
            meta::strip_stateless(message, &mut patch);
            changed = true;
        }
        (Era::Session, Era::Stateless) => {
            // The era before has no such members, and who writes them could bring a server another's state.
            if message.span(Member::RequestState).is_some() || message.span(Member::InputResponses).is_some()
            {
                return Err(Cause::InvalidParams {
                    problem: "params.requestState and params.inputResponses belong to another protocol version",
                });
            }
            if let Some(said) = &said {
                said.put_into(message, &mut patch);
            }
            changed = true;
        }
        // The server must not believe that it may ask for what is off.
        (Era::Stateless, Era::Stateless) => {
            if let Some(at) = message.span(Member::MetaClientCapabilities) {
                told = declared::narrowed(at.of(text), features);
                if let Some(told) = &told {
                    patch.replace(at, told);
                    changed = true;
                }
            }
            let level = message.span(Member::MetaLogLevel).filter(|_| !features.logging);
            if let (Some(meta), Some(level)) = (message.span(Member::Meta), level) {
                patch.members(meta, &[Some(level)], &[]);
                changed = true;
            }
        }
    }
    if !changed {
        return Ok((text.clone(), mapping));
    }
    let bytes = patch.apply().map_err(|_| Cause::Internal)?;
    Ok((bytes, mapping))
}
