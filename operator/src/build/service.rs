//! Services: by which names pods are reached.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portcullis_config::PORT_PEER;

use super::meta::Owner;
use crate::api::names::{gateway_child, gateway_peers, server_child, server_pods};
use crate::validate::gateway::PublicTransport;

/// Name of the port of MCP traffic, on pods and Services.
pub const PORT_MCP: &str = "mcp";
/// Name of the port of metrics and probes.
pub const PORT_METRICS: &str = "metrics";
/// Name of the port of the status document.
pub const PORT_STATUS: &str = "status";
/// Name of the port between replicas.
pub const PORT_PEERS: &str = "peer";

/// The Service that clients use. Metrics and status are on no Service at all.
pub fn gateway(owner: &Owner, transport: &PublicTransport) -> Service {
    let (port, protocol) = match transport {
        PublicTransport::Tls { .. } => (443, "https"),
        PublicTransport::Plaintext { .. } => (80, "http"),
    };
    let name = gateway_child(&owner.identity.key.name);
    service(owner, name, false, mcp_port(port, protocol))
}

/// The headless Service by which replicas find each other. Only ready ones stand in it: what is not ready owns no
/// session.
pub fn peers(owner: &Owner) -> Service {
    let port = ServicePort {
        name: Some(PORT_PEERS.to_owned()),
        port: i32::from(PORT_PEER),
        target_port: Some(IntOrString::String(PORT_PEERS.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    service(owner, gateway_peers(&owner.identity.key.name), true, port)
}

/// The Service of a server that Portcullis runs. The gateway connects to the port that the container has.
pub fn server(owner: &Owner, port: u16) -> Service {
    let name = server_child(&owner.identity.key.name);
    service(owner, name, false, mcp_port(port, "http"))
}

/// The headless Service of a server with several pods: the gateway pins a session to the pod where it began, so it has
/// to see them one by one.
pub fn pods_of_server(owner: &Owner, port: u16) -> Service {
    let name = server_pods(&owner.identity.key.name);
    service(owner, name, true, mcp_port(port, "http"))
}

fn mcp_port(port: u16, protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(PORT_MCP.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(PORT_MCP.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some(protocol.to_owned()),
        node_port: None,
    }
}

fn service(owner: &Owner, name: String, headless: bool, port: ServicePort) -> Service {
    Service {
        metadata: owner.meta(name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: headless.then(|| "None".to_owned()),
            selector: Some(owner.selector_labels()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
