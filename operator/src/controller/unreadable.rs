//! What cannot be read is not what is not wanted: what hangs on an object that does not match its schema stays as it is.
//!
//! Definitions and an operator of different versions make such objects, of all tenants at once, and gateways must outlive
//! that. An object that could be read once counts as it last was. Of one that this process never could read nothing is
//! known, so whatever it may bear on waits: servers that name the gateway, gateways whose configuration in force has the
//! server.

use std::sync::Arc;

use tracing::warn;

use super::Ctx;
use super::apply::controller_uid;
use super::cache::Unreadable;
use super::error::Error;
use super::stores::Stores;
use super::target::Target;
use crate::api::names::gateway_child;
use crate::api::v1alpha1::{McpGateway, McpServer};
use crate::identity::{Identity, Key};
use crate::validate::attachment::gateways_named;

/// Tells on the object itself that it cannot be read, once.
pub async fn tell(ctx: &Ctx, target: &Target) {
    let unreadable = match target {
        Target::Gateway(key) => ctx.stores.gateways.unreadable(key),
        Target::Server(key) => ctx.stores.servers.unreadable(key),
    };
    if let Some(unreadable) = unreadable.filter(|one| one.is_news()) {
        ctx.events.unreadable(target.kind(), &unreadable).await;
    }
}

/// Ends the pass over a server that names a gateway of which nothing is known: without it the server's fence would shut
/// that gateway out.
pub fn hold_server(stores: &Stores, server: &McpServer) -> Result<(), Error> {
    match gateways_named(server).find_map(|gateway| stores.gateways.unknown(&gateway)) {
        Some(unknown) => Err(waiting("McpGateway", &unknown)),
        None => Ok(()),
    }
}

/// Ends the pass over a gateway that serves a server of which nothing is known, unless somebody has edited the gateway
/// since the last pass: whoever may write servers must never be able to keep an incident switch from acting. The server
/// is left out then.
pub fn hold_gateway(stores: &Stores, identity: &Identity, gateway: &McpGateway) -> Result<(), Error> {
    let unknown = stores.servers.all_unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    let served = served(stores, identity);
    let Some(unknown) = unknown.iter().find(|one| served.contains(&one.key)) else {
        return Ok(());
    };
    let observed = gateway
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    if observed == gateway.metadata.generation {
        return Err(waiting("McpServer", unknown));
    }
    warn!(
        gateway = %identity.key, server = %unknown.key,
        "the gateway was edited, and goes on without a server that does not match its schema"
    );
    Ok(())
}

fn waiting(kind: &'static str, unknown: &Arc<Unreadable>) -> Error {
    Error::Unreadable {
        kind,
        name: unknown.key.to_string(),
        error: unknown.error.clone(),
    }
}

/// The servers in a gateway's configuration in force.
fn served(stores: &Stores, gateway: &Identity) -> Vec<Key> {
    let Identity { key, uid } = gateway;
    let name = Key::new(key.namespace.clone(), gateway_child(&key.name));
    let config = stores
        .config_maps
        .get(&name)
        .filter(|config| controller_uid(&**config) == Some(uid));
    let texts = config
        .iter()
        .flat_map(|config| config.data.iter().flat_map(|data| data.values()));
    texts
        .filter_map(|text| serde_yaml::from_str::<Named>(text).ok())
        .flat_map(|named| named.servers)
        .map(|server| Key::new(server.namespace, server.name))
        .collect()
}

/// The part of a configuration that names servers.
#[derive(serde::Deserialize)]
struct Named {
    servers: Vec<NamedServer>,
}

#[derive(serde::Deserialize)]
struct NamedServer {
    namespace: String,
    name: String,
}
