//! What a server's spec refers to, resolved: where the gateway connects to, what its network policy has to open for that,
//! which certificates it trusts and which Secret it presents.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as corev1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use portcullis_config::server::AddressPolicy;
use url::{Host, Url};

use super::{Condition, Problem, ServerInputs, reasons};
use crate::api::labels::{self, Labels};
use crate::api::names;
use crate::api::v1alpha1::{self as api, McpGateway, McpServer, SecretKeyRef};
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
    /// The Secret with its credential, in the gateway's own namespace.
    pub credential: Option<api::HeaderCredential>,
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

/// The pods or addresses behind a Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Pods that the Service selects.
    Pods {
        /// Their labels. Never empty.
        labels: Labels,
        /// Their port.
        port: Port,
    },
    /// Addresses somebody wrote into EndpointSlices.
    Addresses(BTreeSet<(IpAddr, u16)>),
}

/// The Service of the Kubernetes API, which selects no pods.
const KUBERNETES_API: (&str, &str) = ("default", "kubernetes");

fn unresolved(reason: &'static str, message: String) -> Problem {
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
    Ok(Upstream {
        credential: credential(server, local)?,
        key,
        prefix,
        url: place.url,
        address_policy: place.address_policy,
        ca,
        reach: place.reach,
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
    let endpoint = endpoint(container)?;
    let port = port_number(endpoint.port)?;
    let service = if container.replicas > 1 {
        names::server_pods(&key.name)
    } else {
        names::server_child(&key.name)
    };
    let host = format!("{service}.{}.svc.{}", key.namespace, settings.cluster.domain);
    Ok(Place {
        url: format!("http://{host}:{port}{}", endpoint.path),
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

/// The endpoint of a container that speaks streamable HTTP, the one transport there is.
pub fn endpoint(container: &api::Container) -> Result<&api::HttpEndpoint, Problem> {
    container
        .transport
        .streamable_http
        .as_ref()
        .ok_or_else(|| invalid("container.transport needs streamableHttp"))
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
    if addresses::is_forbidden(address, cluster) {
        return refused(
            "which nothing may lead to: it is loopback, link-local, a metadata service, the Kubernetes API, or reserved",
        );
    }
    if breadth == Breadth::Public && addresses::is_private(address, cluster) {
        return refused("which is private: set allowPrivateAddresses if it is meant");
    }
    Ok(Reach::Address { address, port })
}

/// What stands behind the port of the Service that the server names.
pub fn backend(
    service: &api::Service,
    key: &Key,
    inputs: &ServerInputs,
    cluster: &Cluster,
) -> Result<Backend, Problem> {
    let name = format!("Service {}/{}", key.namespace, service.name);
    let Some(found) = inputs.service.as_deref() else {
        return Err(unresolved(
            reasons::SERVICE_NOT_FOUND,
            format!("{name} does not exist: create it, or correct spec.service.name"),
        ));
    };
    if (&*key.namespace, service.name.as_str()) == KUBERNETES_API {
        return Err(unresolved(
            reasons::ADDRESS_REFUSED,
            format!("{name} is the Kubernetes API, which no gateway may reach"),
        ));
    }
    let missing = corev1::ServiceSpec::default();
    let spec = found.spec.as_ref().unwrap_or(&missing);
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(unresolved(
            reasons::EXTERNAL_NAME_REFUSED,
            format!(
                "{name} is an alias for another host: use spec.remote, which checks where the host leads"
            ),
        ));
    }
    let tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let port = spec
        .ports
        .iter()
        .flatten()
        .find(|port| port.port == service.port && tcp(port.protocol.as_deref()))
        .ok_or_else(|| {
            unresolved(
                reasons::SERVICE_PORT_NOT_FOUND,
                format!(
                    "{name} has no TCP port {}: correct spec.service.port",
                    service.port
                ),
            )
        })?;
    match spec.selector.as_ref().filter(|selector| !selector.is_empty()) {
        Some(selector) => Ok(Backend::Pods {
            labels: selector.clone(),
            port: target(spec, port)?,
        }),
        None => manual(&name, port, &inputs.endpoint_slices, cluster),
    }
}

/// The port of the pods. Without a cluster address nobody translates ports: the client's is the pod's.
fn target(spec: &corev1::ServiceSpec, port: &corev1::ServicePort) -> Result<Port, Problem> {
    if spec.cluster_ip.as_deref() == Some("None") {
        return port_number(port.port).map(Port::Number);
    }
    match &port.target_port {
        Some(IntOrString::String(name)) => Ok(name
            .parse()
            .map_or_else(|_| Port::Name(name.clone()), Port::Number)),
        Some(IntOrString::Int(number)) if *number != 0 => port_number(*number).map(Port::Number),
        Some(IntOrString::Int(_)) | None => port_number(port.port).map(Port::Number),
    }
}

/// Addresses that somebody wrote by hand. They are as far from our control as a URL, so what no URL may lead to is
/// refused here too: this is how a Service would be made to lead to the Kubernetes API.
fn manual(
    name: &str,
    port: &corev1::ServicePort,
    slices: &[Arc<EndpointSlice>],
    cluster: &Cluster,
) -> Result<Backend, Problem> {
    let mut found = BTreeSet::new();
    for slice in slices {
        let number = slice.ports.iter().flatten().find_map(|entry| {
            let same = entry.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default();
            let tcp = entry.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
            entry.port.filter(|_| same && tcp)
        });
        let Some(number) = number else { continue };
        let number = port_number(number)?;
        // Ready or not: a policy that followed each flicker of an endpoint would only lag behind it.
        for endpoint in &slice.endpoints {
            let addresses = endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
            found.extend(addresses.map(|address| (address.to_canonical(), number)));
        }
    }
    if let Some((address, _)) = found
        .iter()
        .find(|(address, _)| addresses::is_forbidden(*address, cluster))
    {
        return Err(unresolved(
            reasons::ADDRESS_REFUSED,
            format!(
                "an EndpointSlice of {name} leads to {address}, which nothing may lead to: it is loopback, link-local, \
                 a metadata service, the Kubernetes API, or reserved"
            ),
        ));
    }
    Ok(Backend::Addresses(found))
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
    match text {
        Some(text) => Ok(Ca::Inline(text.clone())),
        None => Err(unresolved(
            reasons::CA_BUNDLE_NOT_FOUND,
            format!(
                "ConfigMap {} of this namespace has no PEM certificates under key {}",
                bundle.config_map_name, bundle.key
            ),
        )),
    }
}

fn credential(server: &McpServer, local: bool) -> Result<Option<api::HeaderCredential>, Problem> {
    let Some(header) = &server.spec.credentials.header else {
        return Ok(None);
    };
    if local {
        return Ok(Some(header.clone()));
    }
    let SecretKeyRef { secret_name, .. } = &header.secret_ref;
    Err(Problem::new(
        Condition::Attached,
        reasons::CREDENTIALS_CROSS_NAMESPACE,
        format!(
            "the gateway is in another namespace, where Secret {secret_name} cannot be mounted: \
             move the server into the gateway's namespace, or remove spec.credentials"
        ),
    ))
}
