//! What stands behind a Service: the pods it selects, or the addresses that somebody gave it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as corev1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::refs::{Port, port_number, unresolved};
use super::{Problem, ServerInputs, reasons};
use crate::api::labels::Labels;
use crate::api::v1alpha1 as api;
use crate::build::addresses;
use crate::identity::Key;
use crate::settings::Cluster;

/// The Service of the Kubernetes API, which selects no pods.
const KUBERNETES_API: (&str, &str) = ("default", "kubernetes");

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

/// What stands behind the port of the Service that the server names.
pub fn backend(
    service: &api::Service,
    key: &Key,
    inputs: &ServerInputs,
    cluster: &Cluster,
) -> Result<Backend, Problem> {
    let name = format!("Service {}/{}", key.namespace, service.name);
    if (&*key.namespace, service.name.as_str()) == KUBERNETES_API {
        return Err(unresolved(
            reasons::ADDRESS_REFUSED,
            format!("{name} is the Kubernetes API, which no gateway may reach"),
        ));
    }
    let Some(found) = inputs.service.as_deref() else {
        return Err(unresolved(
            reasons::SERVICE_NOT_FOUND,
            format!("{name} does not exist: create it, or correct spec.service.name"),
        ));
    };
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
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|text| text.parse::<IpAddr>().ok());
            found.extend(addresses.map(|address| (address.to_canonical(), number)));
        }
    }
    if let Some((address, _)) = found
        .iter()
        .find(|(address, port)| addresses::is_forbidden(*address, *port, cluster))
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
