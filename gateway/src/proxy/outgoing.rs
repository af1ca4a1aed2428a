//! A client's call in the server's terms: the tool's own name, an id that is unique where clients share a session, and
//! the members of the server's era. Where nothing differs, the client's bytes go out as they came.

use bytes::Bytes;

use super::channel::Channel;
use super::inventory::Tool;
use super::registry::Session;
use super::relay::Mapping;
use super::upstream::Upstream;
use crate::mcp::edit::Patch;
use crate::mcp::envelope::Message;
use crate::mcp::meta;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;

/// The message for the server, and how to find the way back.
pub fn prepare(
    message: &Message,
    tool: &Tool,
    era: Era,
    channel: &Channel,
    session: Option<&Session>,
    upstream: &Upstream,
) -> Result<(Bytes, Mapping), Cause> {
    let client_id = message.slice(Member::Id).unwrap_or_default();
    let mut mapping = Mapping {
        server_id: client_id.clone(),
        client_id,
        token: None,
        era,
    };
    let text = message.bytes();
    let mut patch = Patch::new(text);
    let mut changed = false;
    let own_name = tool.name_at.of(&tool.json);
    let name = message.span(Member::Name).ok_or(Cause::Internal)?;
    if name.of(text) != own_name {
        patch.replace(name, own_name);
        changed = true;
    }
    if channel.shared {
        mapping.server_id = upstream.link.next_id().to_string().into();
        // The same number serves as progress token: unique among the calls in flight, as it must be.
        if let Some(token) = message.slice(Member::MetaProgressToken) {
            mapping.token = Some((token, mapping.server_id.clone()));
        }
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
        // What `initialize` said once stands in each request here.
        (Era::Session, Era::Stateless) => {
            session
                .ok_or(Cause::Internal)?
                .stateless_meta()
                .put_into(message, &mut patch);
            changed = true;
        }
        // Elicitation, sampling and roots are off: the server must not believe that it may ask for them.
        (Era::Stateless, Era::Stateless) => {
            if let Some(declared) = message.span(Member::MetaClientCapabilities)
                && declared.of(text) != b"{}"
            {
                patch.replace(declared, b"{}");
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
