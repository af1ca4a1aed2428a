//! What a gateway's spec says, checked against everything it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use portcullis_config::network::{ProxyMode, TrustedProxy};

use super::attachment::{Attached, attachments};
use super::{Condition, DereferencedGateway, Problem, Reach, TokenIssuer, reasons, refs};
use crate::api::v1alpha1 as api;
use crate::api::v1alpha1::{IpBlock, McpGateway, McpGatewaySpec, NamespacesFrom, Peer};
use crate::build::session_key::SessionKeys;
use crate::identity::{Identity, Key};
use crate::settings::{Cluster, Scope, Settings};

/// A gateway that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedGateway {
    /// Who it is.
    pub identity: Identity,
    /// The object.
    pub gateway: Arc<McpGateway>,
    /// TLS or not, and from which Secret.
    pub transport: PublicTransport,
    /// How it treats each server that names it.
    pub servers: BTreeMap<Key, Result<Attached, Problem>>,
    /// What the network policy has to open besides the servers: key sets.
    pub reach: BTreeSet<Reach>,
    /// Who is believed about where a client calls from.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Servers that rules, limits and tool sets name, and that are not attached. Permitted: rules may be written first.
    pub unattached: BTreeSet<Key>,
    /// Its session keys.
    pub session_keys: SessionKeys,
    /// For the status port.
    pub token_issuer: TokenIssuer,
}

/// How clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicTransport {
    /// TLS with the certificate of this Secret.
    Tls {
        /// Name of the Secret.
        secret_name: String,
    },
    /// None, for a reason.
    Plaintext {
        /// The reason.
        reason: String,
    },
}

impl ValidatedGateway {
    /// The spec.
    pub fn spec(&self) -> &McpGatewaySpec {
        &self.gateway.spec
    }

    /// The servers it takes.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.servers.values().filter_map(|verdict| verdict.as_ref().ok())
    }
}

/// Validates a gateway. Problems of single servers are in [`ValidatedGateway::servers`]; those returned as error stop the
/// gateway as a whole, which then stays as it was.
pub fn gateway(inputs: &DereferencedGateway, settings: &Settings) -> Result<ValidatedGateway, Vec<Problem>> {
    let invalid = |message: &str| Problem::new(Condition::Accepted, reasons::INVALID_SPEC, message);
    let Some(gateway) = inputs.world.gateways.get(&inputs.key) else {
        return Err(vec![invalid("the gateway does not exist")]);
    };
    let Some(identity) = Identity::of(&**gateway) else {
        return Err(vec![invalid("the object has no name, namespace or UID")]);
    };
    let spec = &gateway.spec;
    let mut problems = Vec::new();
    let transport = match (&spec.tls.secret_name, &spec.tls.plaintext) {
        (Some(name), None) => Some(PublicTransport::Tls {
            secret_name: name.to_string(),
        }),
        (None, Some(plaintext)) => Some(PublicTransport::Plaintext {
            reason: plaintext.reason.clone(),
        }),
        _ => {
            problems.push(invalid("tls needs exactly one of secretName and plaintext"));
            None
        }
    };
    if spec.servers.namespaces.from == NamespacesFrom::Selector && settings.scope != Scope::Cluster {
        problems.push(Problem::new(
            Condition::Accepted,
            reasons::SELECTOR_NEEDS_CLUSTER_SCOPE,
            "servers.namespaces.from: Selector needs an operator that may read namespaces, and this one is limited to \
             some: use Same, or All, which means the ones it watches",
        ));
    }
    problems.extend(spec.network.ingress_from.iter().filter_map(|one| peer(one).err()));
    let reach = match key_sets(spec, &settings.cluster) {
        Ok(reach) => reach,
        Err(problem) => {
            problems.push(problem);
            BTreeSet::new()
        }
    };
    let trusted_proxies = match trusted_proxies(spec) {
        Ok(proxies) => proxies,
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    };
    let Some(transport) = transport.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };
    let servers = attachments(gateway, &inputs.world, settings);
    Ok(ValidatedGateway {
        unattached: unattached(spec, &identity.key, &servers),
        identity,
        gateway: Arc::clone(gateway),
        transport,
        servers,
        reach,
        trusted_proxies,
        session_keys: inputs.session_keys.clone(),
        token_issuer: inputs.token_issuer.clone(),
    })
}

/// What a key set's URL needs opened.
fn key_sets(spec: &McpGatewaySpec, cluster: &Cluster) -> Result<BTreeSet<Reach>, Problem> {
    spec.auth
        .jwt
        .iter()
        .filter_map(|jwt| {
            Some((
                jwt.jwks.uri.as_ref()?,
                refs::breadth(jwt.jwks.allow_private_addresses),
            ))
        })
        .map(|(uri, breadth)| refs::reach_of_url(uri, breadth, cluster))
        .collect()
}

/// Ranges of proxies, as the gateway reads them.
fn trusted_proxies(spec: &McpGatewaySpec) -> Result<Vec<TrustedProxy>, Problem> {
    let read = |proxy: &api::TrustedProxy| {
        let api::TrustedProxy { cidr, mode } = proxy;
        let Ok(range) = cidr.parse::<IpNet>() else {
            let message = format!("network.trustedProxies: {cidr:?} is no range of addresses");
            return Err(Problem::new(Condition::Accepted, reasons::INVALID_SPEC, message));
        };
        Ok(TrustedProxy {
            cidr: range,
            mode: match mode {
                api::ProxyMode::XForwardedFor => ProxyMode::XForwardedFor,
                api::ProxyMode::ProxyProtocol => ProxyMode::ProxyProtocol,
            },
        })
    };
    spec.network.trusted_proxies.iter().map(read).collect()
}

/// A network policy with a peer that the API server refuses would leave the pods without any.
fn peer(peer: &Peer) -> Result<(), Problem> {
    let refuse = |message: String| Err(Problem::new(Condition::Accepted, reasons::INVALID_PEER, message));
    let Peer {
        pod_selector,
        namespace_selector,
        ip_block,
    } = peer;
    let selects = pod_selector.is_some() || namespace_selector.is_some();
    let Some(IpBlock { cidr, except }) = ip_block else {
        if selects {
            return Ok(());
        }
        return refuse(
            "network.ingressFrom: a peer needs podSelector, namespaceSelector or ipBlock".to_owned(),
        );
    };
    if selects {
        return refuse(
            "network.ingressFrom: ipBlock cannot stand beside a selector: write two peers".to_owned(),
        );
    }
    let Ok(range) = cidr.parse::<IpNet>() else {
        return refuse(format!("network.ingressFrom: {cidr:?} is no range of addresses"));
    };
    for one in except {
        let inside = one
            .parse::<IpNet>()
            .is_ok_and(|one| range.contains(&one) && range.prefix_len() < one.prefix_len());
        if !inside {
            return refuse(format!(
                "network.ingressFrom: except {one:?} does not lie within {cidr}"
            ));
        }
    }
    Ok(())
}

/// A server as rules and limits name it: `NAME` is of the gateway's namespace.
pub fn named_server(text: &str, gateway: &Key) -> Key {
    match text.split_once('/') {
        Some((namespace, name)) => Key::new(namespace, name),
        None => Key::new(gateway.namespace.clone(), text),
    }
}

fn unattached(
    spec: &McpGatewaySpec,
    gateway: &Key,
    servers: &BTreeMap<Key, Result<Attached, Problem>>,
) -> BTreeSet<Key> {
    let in_rules = spec.authorization.rules.iter().flat_map(|rule| &rule.servers);
    let in_limits = spec
        .rate_limits
        .iter()
        .filter_map(|limit| limit.matches.as_ref()?.servers.as_ref())
        .flatten();
    let in_sets = spec.tool_sets.iter().flat_map(|set| &set.servers);
    in_rules
        .chain(in_limits)
        .chain(in_sets)
        .filter(|text| *text != "*")
        .map(|text| named_server(text, gateway))
        .filter(|key| !matches!(servers.get(key), Some(Ok(_))))
        .collect()
}
