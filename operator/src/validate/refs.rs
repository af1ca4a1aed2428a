//! What a server's spec refers to, resolved: where the gateway connects to, what its network policy has to open for that,
//! which certificates it trusts and which Secret it presents.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kube::ResourceExt;
use portcullis_config::server::AddressPolicy;
use url::{Host, Url};

use super::credential::Credential;
use super::service::{Backend, backend};
use super::{Condition, Problem, ServerInputs, reasons};
use crate::api::labels;
use crate::api::names;
use crate::api::v1alpha1::{self as api, McpGateway, McpServer};
use crate::build::addresses::{self, Breadth};
use crate::identity::Key;
use crate::settings::{Cluster, Settings};

/// A server as one gateway reaches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The server.
    pub key: Key,
    /// First part of its federated tool names, unique at this gateway.
    pub prefix: String,
    /// Its endpoint.
    pub url: String,
    /// Which addresses the URL's host may resolve to.
    pub address_policy: AddressPolicy,
    /// Trust anchors in place of the public ones.
    pub ca: Option<Ca>,
    /// What it is shown, from Secrets of the gateway's own namespace.
    pub credential: Option<Credential>,
    /// What the network policy has to open.
    pub reach: BTreeSet<Reach>,
    /// The server's object, for what is passed on as it stands.
    pub server: Arc<McpServer>,
}

/// Certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    /// A ConfigMap of the gateway's own namespace, mounted.
    Mounted(api::CaBundle),
    /// The text of one in another namespace, which a pod cannot mount.
    Inline(String),
}

/// A destination of a gateway's connections, as a network policy can name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Pods of a namespace.
    Pods {
        /// The namespace.
        namespace: String,
        /// Labels of the pods. Never empty.
        labels: BTreeMap<String, String>,
        /// Their port, not the Service's.
        port: Port,
    },
    /// One address.
    Address {
        /// The address.
        address: IpAddr,
        /// Its port.
        port: u16,
    },
    /// Whatever a host name resolves to.
    Name {
        /// How far it may lead.
        breadth: Breadth,
        /// The URL's port.
        port: u16,
    },
}

/// A container port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By the name the pod gives it.
    Name(String),
}

/// The most that a server of another namespace may put into the gateway's configuration with its authorities.
const MAX_INLINE_CA: usize = 64 << 10;

pub(super) fn unresolved(reason: &'static str, message: String) -> Problem {
    Problem::new(Condition::ResolvedRefs, reason, message)
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Condition::Accepted, reasons::INVALID_SPEC, message)
}

/// The server as `gateway` reaches it.
pub fn upstream(
    gateway: &McpGateway,
    inputs: &ServerInputs,
    prefix: String,
    settings: &Settings,
) -> Result<Upstream, Problem> {
    let server = &*inputs.server;
    let key = Key::of(server);
    let local = server.namespace() == gateway.namespace();
    let spec = &server.spec;
    let place = match (&spec.remote, &spec.service, &spec.container) {
        (Some(remote), None, None) => of_remote(remote, settings)?,
        (None, Some(service), None) => of_service(service, &key, inputs, settings)?,
        (None, None, Some(container)) => of_container(container, &key, settings)?,
        _ => {
            return Err(invalid(
                "exactly one of remote, service and container is required",
            ));
        }
    };
    let ca = place.ca.map(|bundle| ca(bundle, local, inputs)).transpose()?;
    let credential = Credential::of(server, local)?;
    let mut reach = place.reach;
    if let Some(oauth) = credential.as_ref().and_then(Credential::oauth) {
        let breadth = breadth(oauth.allow_private_addresses);
        reach.insert(reach_of_url(&oauth.token_url, breadth, &settings.cluster)?);
    }
    Ok(Upstream {
        credential,
        key,
        prefix,
        url: place.url,
        address_policy: place.address_policy,
        ca,
        reach,
        server: Arc::clone(&inputs.server),
    })
}

struct Place {
    url: String,
    address_policy: AddressPolicy,
    ca: Option<api::CaBundle>,
    reach: BTreeSet<Reach>,
}

fn of_remote(remote: &api::Remote, settings: &Settings) -> Result<Place, Problem> {
    let breadth = breadth(remote.allow_private_addresses);
    Ok(Place {
        reach: BTreeSet::from([reach_of_url(&remote.url, breadth, &settings.cluster)?]),
        url: remote.url.clone(),
        address_policy: match breadth {
            Breadth::Public => AddressPolicy::Public,
            Breadth::Private => AddressPolicy::Private,
        },
        ca: remote.tls.ca_bundle.clone(),
    })
}

fn of_container(container: &api::Container, key: &Key, settings: &Settings) -> Result<Place, Problem> {
    let (port, path) = endpoint(container)?;
    let port = port_number(port)?;
    let service = if container.replicas > 1 {
        names::server_pods(&key.name)
    } else {
        names::server_child(&key.name)
    };
    let host = format!("{service}.{}.svc.{}", key.namespace, settings.cluster.domain);
    Ok(Place {
        url: format!("http://{host}:{port}{path}"),
        address_policy: AddressPolicy::Cluster,
        ca: None,
        reach: BTreeSet::from([Reach::Pods {
            namespace: key.namespace.to_string(),
            labels: labels::server_selector(&key.name),
            port: Port::Number(port),
        }]),
    })
}

fn of_service(
    service: &api::Service,
    key: &Key,
    inputs: &ServerInputs,
    settings: &Settings,
) -> Result<Place, Problem> {
    let backend = backend(service, key, inputs, &settings.cluster)?;
    let reach = match backend {
        Backend::Pods { labels, port } => BTreeSet::from([Reach::Pods {
            namespace: key.namespace.to_string(),
            labels,
            port,
        }]),
        Backend::Addresses(addresses) => addresses
            .into_iter()
            .map(|(address, port)| Reach::Address { address, port })
            .collect(),
    };
    // A certificate covers NAME.NAMESPACE.svc, as the field says; without one the full name spares a search.
    let (scheme, domain) = match (&service.tls, &service.plaintext) {
        (Some(_), None) => ("https", String::new()),
        (None, Some(_)) => ("http", format!(".{}", settings.cluster.domain)),
        _ => return Err(invalid("service needs exactly one of tls and plaintext")),
    };
    Ok(Place {
        url: format!(
            "{scheme}://{}.{}.svc{domain}:{}{}",
            service.name, key.namespace, service.port, service.path
        ),
        address_policy: AddressPolicy::Cluster,
        ca: service.tls.as_ref().and_then(|tls| tls.ca_bundle.clone()),
        reach,
    })
}

/// The port and the path at which a container is spoken to.
pub fn endpoint(container: &api::Container) -> Result<(i32, &str), Problem> {
    match &container.transport {
        api::Transport {
            streamable_http: Some(http),
            sse: None,
        } => Ok((http.port, &http.path)),
        api::Transport {
            streamable_http: None,
            sse: Some(sse),
        } => Ok((sse.port, &sse.path)),
        _ => Err(invalid(
            "container.transport needs exactly one of streamableHttp and sse",
        )),
    }
}

/// A port of the schema's range as a port.
pub fn port_number(port: i32) -> Result<u16, Problem> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| invalid(format!("{port} is no port: write 1 to 65535")))
}

/// How far the host of a URL may lead.
pub fn breadth(allow_private_addresses: bool) -> Breadth {
    if allow_private_addresses {
        Breadth::Private
    } else {
        Breadth::Public
    }
}

/// What a network policy has to open for a URL. A literal address is opened alone, if anything may lead there at all.
pub fn reach_of_url(text: &str, breadth: Breadth, cluster: &Cluster) -> Result<Reach, Problem> {
    let url = Url::parse(text).map_err(|error| invalid(format!("{text:?} is no URL: {error}")))?;
    let port = url
        .port_or_known_default()
        .filter(|_| url.scheme() == "https")
        .ok_or_else(|| invalid(format!("{text:?} must be an https URL")))?;
    let address = match url.host() {
        Some(Host::Domain(_)) => return Ok(Reach::Name { breadth, port }),
        Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
        Some(Host::Ipv6(v6)) => IpAddr::V6(v6).to_canonical(),
        None => return Err(invalid(format!("{text:?} names no host"))),
    };
    let refused = |why: &str| {
        Err(Problem::new(
            Condition::Accepted,
            reasons::ADDRESS_REFUSED,
            format!("{text:?} leads to {address}, {why}"),
        ))
    };
    if addresses::is_forbidden(address, port, cluster) {
        return refused(
            "which nothing may lead to: it is loopback, link-local, a metadata service, the Kubernetes API, or reserved",
        );
    }
    if breadth == Breadth::Public && addresses::is_private(address, cluster) {
        return refused("which is private: set allowPrivateAddresses if it is meant");
    }
    Ok(Reach::Address { address, port })
}

fn ca(bundle: api::CaBundle, local: bool, inputs: &ServerInputs) -> Result<Ca, Problem> {
    if local {
        return Ok(Ca::Mounted(bundle));
    }
    let text = inputs
        .ca_bundle
        .as_deref()
        .filter(|found| found.name_any() == bundle.config_map_name.as_str())
        .and_then(|found| found.data.as_ref()?.get(bundle.key.as_str()))
        .filter(|text| text.contains("-----BEGIN CERTIFICATE-----"));
    let place = format!(
        "ConfigMap {} of this namespace, key {}",
        bundle.config_map_name, bundle.key
    );
    match text {
        Some(text) if text.len() <= MAX_INLINE_CA => Ok(Ca::Inline(text.clone())),
        Some(text) => Err(unresolved(
            reasons::CA_BUNDLE_TOO_LARGE,
            format!(
                "{place}, has {} KiB of certificates; for a gateway in another namespace at most {} KiB are passed on: \
                 name only the authorities of this server",
                text.len().div_ceil(1024),
                MAX_INLINE_CA >> 10
            ),
        )),
        None => Err(unresolved(
            reasons::CA_BUNDLE_NOT_FOUND,
            format!("{place}, has no PEM certificates"),
        )),
    }
}
