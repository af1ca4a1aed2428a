//! Which servers attach to which gateways: both sides must agree, and names must not clash.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::refs::{self, Upstream};
use super::{Condition, Problem, ServerInputs, World, reasons};
use crate::api::labels::Labels;
use crate::api::names::default_tool_prefix;
use crate::api::v1alpha1::{
    LabelSelector, McpGateway, McpServer, NamespacesFrom, Profile, SelectorOperator, SelectorRequirement,
};
use crate::build::config;
use crate::identity::Key;
use crate::settings::{Scope, Settings};

/// A server that a gateway takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// How the gateway reaches and treats it.
    pub upstream: Upstream,
    /// Served to testers only.
    pub quarantined: bool,
}

/// How much of a gateway's configuration its servers may take up together. The rest is the gateway's own: whoever may
/// attach servers must never be able to keep an incident switch from being written.
pub const MAX_SERVERS_BYTES: usize = 704 << 10;

/// How `gateway` treats each server that names it. A problem here keeps out that one server and no other.
pub fn attachments(
    gateway: &McpGateway,
    world: &World,
    settings: &Settings,
) -> BTreeMap<Key, Result<Attached, Problem>> {
    let holders = prefix_holders(gateway, world, &settings.scope);
    let mut oldest_first: Vec<(&Key, &ServerInputs)> = naming(gateway, world).collect();
    oldest_first.sort_by_key(|(key, inputs)| rank(key, inputs));
    let mut taken = 0;
    oldest_first
        .into_iter()
        .map(|(key, inputs)| {
            let verdict = attach(gateway, inputs, world, &holders, settings)
                .and_then(|attached| fit(attached, &mut taken));
            (key.clone(), verdict)
        })
        .collect()
}

/// Servers take room in the order of their age, so that a newcomer cannot push out one that is served.
fn fit(attached: Attached, taken: &mut usize) -> Result<Attached, Problem> {
    let size = config::size(&attached);
    let total = taken.saturating_add(size);
    if total > MAX_SERVERS_BYTES {
        return Err(Problem::new(
            Condition::Attached,
            reasons::CONFIG_TOO_LARGE,
            format!(
                "the servers of this gateway take up the {} KiB that its configuration has for them: attach this one to \
                 another gateway, or shorten lists of tools and certificates",
                MAX_SERVERS_BYTES >> 10
            ),
        ));
    }
    *taken = total;
    Ok(attached)
}

/// The servers that name `gateway`.
fn naming<'w>(gateway: &McpGateway, world: &'w World) -> impl Iterator<Item = (&'w Key, &'w ServerInputs)> {
    let gateway = Key::of(gateway);
    world
        .servers
        .iter()
        .filter(move |(_, inputs)| names(&inputs.server, &gateway))
}

fn attach(
    gateway: &McpGateway,
    inputs: &ServerInputs,
    world: &World,
    holders: &BTreeMap<String, Key>,
    settings: &Settings,
) -> Result<Attached, Problem> {
    let server = &*inputs.server;
    consent(gateway, inputs, &settings.scope)?;
    image_is_pinned(server, &strictest(inputs, world, &settings.scope))?;
    let prefix = prefix(gateway, server);
    let key = Key::of(server);
    if let Some(holder) = holders.get(&prefix).filter(|holder| **holder != key) {
        return Err(Problem::new(
            Condition::Attached,
            reasons::PREFIX_CONFLICT,
            format!(
                "the tool prefix {prefix:?} belongs to the older McpServer {holder} at this gateway: \
                 set spec.tools.prefix to another one"
            ),
        ));
    }
    Ok(Attached {
        upstream: refs::upstream(gateway, inputs, prefix, settings)?,
        quarantined: is_quarantined(gateway, server),
    })
}

/// Whether `server` names `gateway`.
pub fn names(server: &McpServer, gateway: &Key) -> bool {
    gateways_named(server).any(|named| named == *gateway)
}

/// The gateways that `server` names, as often and in the order as it names them.
pub fn gateways_named(server: &McpServer) -> impl Iterator<Item = Key> {
    let own = server.namespace().unwrap_or_default();
    server.spec.gateway_refs.iter().map(move |reference| {
        let namespace = reference.namespace.as_deref().unwrap_or(&own);
        Key::new(namespace, reference.name.as_str())
    })
}

/// Both sides agree: the server names the gateway, and the gateway admits the server's namespace.
pub fn consent(gateway: &McpGateway, inputs: &ServerInputs, scope: &Scope) -> Result<(), Problem> {
    let key = Key::of(gateway);
    let refuse = |reason, message: String| Err(Problem::new(Condition::Attached, reason, message));
    if !names(&inputs.server, &key) {
        return refuse(
            reasons::NOT_REFERENCED,
            format!("spec.gatewayRefs does not name McpGateway {key}"),
        );
    }
    let namespace = inputs.server.namespace().unwrap_or_default();
    let admitted = &gateway.spec.servers.namespaces;
    let (yes, says) = match admitted.from {
        NamespacesFrom::Same => (namespace == *key.namespace, "only its own namespace"),
        NamespacesFrom::All => (
            watched(scope, &namespace),
            "only namespaces that the operator watches",
        ),
        NamespacesFrom::Selector => (
            // Without a selector or without labels to hold against it, nobody is admitted.
            admitted
                .selector
                .as_ref()
                .zip(inputs.namespace_labels.as_ref())
                .is_some_and(|(selector, labels)| selects(selector, labels)),
            "only namespaces with certain labels",
        ),
    };
    if yes {
        return Ok(());
    }
    refuse(
        reasons::NAMESPACE_NOT_ADMITTED,
        format!(
            "McpGateway {key} admits {says}: have its spec.servers.namespaces admit namespace {namespace}"
        ),
    )
}

fn watched(scope: &Scope, namespace: &str) -> bool {
    match scope {
        Scope::Cluster => true,
        Scope::Namespaces(names) => names.contains(namespace),
    }
}

/// Whether a selector selects what has these labels, as Kubernetes has it.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let LabelSelector {
        match_labels,
        match_expressions,
    } = selector;
    match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions
            .iter()
            .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &SelectorRequirement, labels: &Labels) -> bool {
    let SelectorRequirement {
        key,
        operator,
        values,
    } = requirement;
    let value = labels.get(key);
    match operator {
        SelectorOperator::In => value.is_some_and(|value| values.contains(value)),
        SelectorOperator::NotIn => value.is_none_or(|value| !values.contains(value)),
        SelectorOperator::Exists => value.is_some(),
        SelectorOperator::DoesNotExist => value.is_none(),
    }
}

/// The strictest profile among the gateways that take the server.
pub fn strictest(inputs: &ServerInputs, world: &World, scope: &Scope) -> Strictest {
    let production = gateways_named(&inputs.server)
        .filter_map(|key| world.gateways.get(&key))
        .find(|gateway| {
            gateway.spec.profile == Profile::Production && consent(gateway, inputs, scope).is_ok()
        });
    Strictest {
        production: production.map(|gateway| Key::of(&**gateway)),
    }
}

/// The strictest profile among a server's gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strictest {
    /// A Production gateway that takes the server, if there is one.
    pub production: Option<Key>,
}

/// A tag can come to mean another program, so Production wants a digest. Where one of several gateways wants it, no
/// gateway serves the server without, because it is the same pods.
pub fn image_is_pinned(server: &McpServer, strictest: &Strictest) -> Result<(), Problem> {
    let (Some(container), Some(gateway)) = (&server.spec.container, &strictest.production) else {
        return Ok(());
    };
    if has_digest(&container.image) {
        return Ok(());
    }
    Err(Problem::new(
        Condition::Attached,
        reasons::IMAGE_DIGEST_REQUIRED,
        format!(
            "McpGateway {gateway} has profile Production, which takes images by digest only: \
             write spec.container.image as NAME@sha256:DIGEST"
        ),
    ))
}

/// Whether an image reference ends in a SHA-256 or SHA-512 digest, so that it means one content for ever.
pub fn has_digest(image: &str) -> bool {
    let Some((name, digest)) = image.split_once('@') else {
        return false;
    };
    let length = match digest.split_once(':') {
        Some(("sha256", _)) => 64,
        Some(("sha512", _)) => 128,
        _ => return false,
    };
    let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
    !name.is_empty()
        && hex.len() == length
        && hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// First part of the server's federated tool names at this gateway.
pub fn prefix(gateway: &McpGateway, server: &McpServer) -> String {
    server.spec.tools.prefix.clone().unwrap_or_else(|| {
        default_tool_prefix(
            &server.namespace().unwrap_or_default(),
            &server.name_any(),
            &gateway.namespace().unwrap_or_default(),
        )
    })
}

/// Who may use each prefix: the server that has been there longest, so that no newcomer can take over another's tool
/// names. One that is refused for another reason still holds its prefix.
fn prefix_holders(gateway: &McpGateway, world: &World, scope: &Scope) -> BTreeMap<String, Key> {
    let mut oldest: BTreeMap<String, Rank> = BTreeMap::new();
    for (key, inputs) in naming(gateway, world) {
        if consent(gateway, inputs, scope).is_err() {
            continue;
        }
        let candidate = rank(key, inputs);
        oldest
            .entry(prefix(gateway, &inputs.server))
            .and_modify(|holder| {
                if candidate < *holder {
                    holder.clone_from(&candidate);
                }
            })
            .or_insert_with(|| candidate.clone());
    }
    oldest
        .into_iter()
        .map(|(prefix, (_, _, key))| (prefix, key))
        .collect()
}

/// Who was there first. What has no time of creation, a file, yields to what has one; among equals the name decides.
fn rank(key: &Key, inputs: &ServerInputs) -> Rank {
    let created = inputs.server.creation_timestamp().map(|time| time.0);
    (created.is_none(), created, key.clone())
}

type Rank = (bool, Option<Timestamp>, Key);

/// A server nobody vouches for is served to nobody under Production, until somebody says otherwise.
fn is_quarantined(gateway: &McpGateway, server: &McpServer) -> bool {
    use crate::api::v1alpha1::Trust;
    let by_default = match (server.spec.trust, gateway.spec.profile) {
        (Trust::Untrusted, Profile::Production) => true,
        (Trust::Untrusted, Profile::Development) => false,
    };
    server.spec.quarantine.enabled.unwrap_or(by_default)
}
