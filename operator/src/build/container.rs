//! The three programs that run in our pods: the gateway, a server, and the proof that a server is fenced.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Probe,
    ResourceRequirements, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portcullis_config::{CONFIG_PATH, PORT_METRICS as METRICS, PORT_PEER as PEER, PORT_STATUS as STATUS};

use super::network_policy::public_port;
use super::security::{self, RunAs};
use super::service::{PORT_MCP, PORT_METRICS, PORT_PEERS, PORT_STATUS};
use crate::api::v1alpha1 as api;
use crate::validate::{ValidatedContainer, ValidatedGateway};

/// Name of the gateway's container.
pub const GATEWAY: &str = "gateway";
/// Name of a server's container.
pub const SERVER: &str = "server";
/// Name of the init container that proves the fence.
pub const FENCE_PROOF: &str = "fence-proof";

/// The gateway.
pub fn gateway(
    gateway: &ValidatedGateway,
    image: &str,
    run_as: RunAs,
    mounts: Vec<VolumeMount>,
) -> Container {
    Container {
        name: GATEWAY.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(["serve", "--config", CONFIG_PATH].map(str::to_owned).to_vec()),
        env: Some(vec![pod_ip()]),
        ports: Some(vec![
            port(PORT_MCP, public_port(&gateway.transport)),
            port(PORT_METRICS, METRICS),
            port(PORT_STATUS, STATUS),
            port(PORT_PEERS, PEER),
        ]),
        resources: Some((&gateway.spec().workload.resources).into()),
        security_context: Some(security::container(run_as)),
        startup_probe: Some(http("/livez", 1, 1, 30)),
        readiness_probe: Some(http("/readyz", 2, 2, 3)),
        liveness_probe: Some(http("/livez", 10, 5, 6)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// A server's program. What it prints stays in its log: it is not copied into the pod's status.
pub fn server(server: &ValidatedContainer, run_as: RunAs, mounts: Vec<VolumeMount>) -> Container {
    let api::Container {
        image,
        transport: _, // is `server.port`
        args,
        env,
        secret_files: _, // are among the mounts
        volumes: _,      // likewise
        resources,
        replicas: _,           // a matter of the Deployment
        user: _,               // is `run_as`
        image_pull_secrets: _, // a matter of the pod
    } = &server.container;
    Container {
        name: SERVER.to_owned(),
        image: Some(image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: (!args.is_empty()).then(|| args.iter().map(|arg| literal(arg)).collect()),
        env: Some(environment(env)),
        ports: Some(vec![port(PORT_MCP, server.port)]),
        resources: Some(resources.into()),
        security_context: Some(security::container(run_as)),
        startup_probe: Some(tcp(2, 90)),
        readiness_probe: Some(tcp(5, 3)),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Proves, before the server starts, that the pod cannot connect to what is known to listen. Policies take effect some
/// time after the pod exists; where none is enforced at all, the server never starts.
pub fn fence_proof(image: &str, known_to_listen: SocketAddr, run_as: RunAs) -> Container {
    let target = known_to_listen.to_string();
    Container {
        name: FENCE_PROOF.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(
            ["probe", "connect", &target, "--expect", "blocked"]
                .map(str::to_owned)
                .to_vec(),
        ),
        resources: Some(amounts(
            [("cpu", "10m"), ("memory", "16Mi")],
            [("cpu", "100m"), ("memory", "64Mi")],
        )),
        security_context: Some(security::container(run_as)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn amounts<const N: usize>(requests: [(&str, &str); N], limits: [(&str, &str); N]) -> ResourceRequirements {
    let with_storage = |amounts: [(&str, &str); N]| -> BTreeMap<String, Quantity> {
        amounts
            .into_iter()
            .chain([("ephemeral-storage", "16Mi")])
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .collect()
    };
    ResourceRequirements {
        claims: None,
        requests: Some(with_storage(requests)),
        limits: Some(with_storage(limits)),
    }
}

/// The variables of a server: HOME where it can write, unless the spec says another, and the spec's.
fn environment(given: &[api::EnvVar]) -> Vec<EnvVar> {
    let variable = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let home = (!given.iter().any(|one| one.name == "HOME")).then(|| variable("HOME", "/tmp".to_owned()));
    let given = given
        .iter()
        .map(|api::EnvVar { name, value }| variable(name, literal(value)));
    home.into_iter().chain(given).collect()
}

/// Kubernetes replaces `$(NAME)` in arguments and variables, and reads `$$` as `$`. The spec's text is meant as it
/// stands.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The pod's own address, by which a replica finds itself among its peers. The only variable the gateway gets.
fn pod_ip() -> EnvVar {
    EnvVar {
        name: "POD_IP".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "status.podIP".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// A probe of the gateway, on the port that no client reaches.
fn http(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PORT_METRICS.to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        ..probe(period, timeout, failures)
    }
}

/// A probe of a server: it accepts connections. More is for the gateway to judge, which speaks MCP.
fn tcp(period: i32, failures: i32) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::String(PORT_MCP.to_owned()),
            host: None,
        }),
        ..probe(period, 2, failures)
    }
}

fn probe(period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        ..Probe::default()
    }
}
