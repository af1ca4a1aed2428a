//! The settings as flags and environment variables, the same for `portcullis operator` and `portcullis render`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Cluster, Dns, Operator, Scope, Settings};
use crate::api::labels::Labels;
use crate::api::names::{DnsLabel, DnsSubdomain};

/// What the operator is told about itself and its cluster.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operator and cluster")]
pub struct SettingsArgs {
    /// Namespace of the operator's pods.
    #[arg(
        long,
        env = "PORTCULLIS_OPERATOR_NAMESPACE",
        value_name = "NAME",
        default_value = "portcullis-system"
    )]
    pub operator_namespace: DnsLabel,
    /// Labels that select the operator's pods there, and no others: gateways let them in on their status port.
    #[arg(
        long,
        env = "PORTCULLIS_OPERATOR_POD_LABELS",
        value_name = "KEY=VALUE,...",
        value_delimiter = ',',
        value_parser = label,
        default_value = "app.kubernetes.io/name=portcullis,app.kubernetes.io/component=operator"
    )]
    pub operator_pod_labels: Vec<(String, String)>,
    /// The operator's ServiceAccount: gateways accept its tokens on their status port, and nobody else's.
    #[arg(
        long,
        env = "PORTCULLIS_SERVICE_ACCOUNT",
        value_name = "NAME",
        default_value = "portcullis-operator"
    )]
    pub service_account: DnsSubdomain,
    /// Renders as if the operator watched these namespaces only. The operator itself does not take it yet: it watches all.
    #[arg(
        long,
        env = "PORTCULLIS_WATCH_NAMESPACES",
        value_name = "NAME,...",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<DnsLabel>,
    /// Image of the gateway.
    #[arg(long, env = "PORTCULLIS_GATEWAY_IMAGE", value_name = "IMAGE", default_value = concat!("portcullis-gateway:", env!("CARGO_PKG_VERSION")))]
    pub gateway_image: String,
    /// Domain of the cluster's Services.
    #[arg(
        long,
        env = "PORTCULLIS_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local"
    )]
    pub cluster_domain: DnsSubdomain,
    /// Address ranges of pods. No gateway reaches them by a host name, unless allowPrivateAddresses says so.
    #[arg(
        long,
        env = "PORTCULLIS_POD_CIDRS",
        value_name = "CIDR,...",
        value_delimiter = ','
    )]
    pub pod_cidrs: Vec<IpNet>,
    /// Address ranges of Services. No gateway reaches them by a host name, unless allowPrivateAddresses says so.
    #[arg(
        long,
        env = "PORTCULLIS_SERVICE_CIDRS",
        value_name = "CIDR,...",
        value_delimiter = ','
    )]
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of the Kubernetes API besides its Service, and besides those that the operator reads from the
    /// EndpointSlice default/kubernetes: no gateway ever reaches them.
    #[arg(
        long,
        env = "PORTCULLIS_API_SERVER_CIDRS",
        value_name = "CIDR,...",
        value_delimiter = ','
    )]
    pub api_server_cidrs: Vec<IpNet>,
    /// Address of the Kubernetes API's Service, as every pod is told it.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "ADDRESS")]
    pub kubernetes_service_host: Option<IpAddr>,
    /// Port of the Kubernetes API's Service.
    #[arg(
        long,
        env = "KUBERNETES_SERVICE_PORT",
        value_name = "PORT",
        default_value_t = 443
    )]
    pub kubernetes_service_port: u16,
    /// The cluster's DNS servers, as a JSON list of NetworkPolicy peers. Default: the pods k8s-app=kube-dns of kube-system.
    #[arg(long, env = "PORTCULLIS_DNS_PEERS", value_name = "JSON", value_parser = peers)]
    pub dns_peers: Option<Peers>,
    /// Their ports, behind the Service.
    #[arg(long, env = "PORTCULLIS_DNS_PORTS", value_name = "PORT/PROTOCOL,...", value_delimiter = ',', value_parser = port, default_value = "53/UDP,53/TCP")]
    pub dns_ports: Vec<NetworkPolicyPort>,
    /// Who may read gateways' metrics, as a JSON list of NetworkPolicy peers. Default: nobody.
    #[arg(long, env = "PORTCULLIS_MONITORING_PEERS", value_name = "JSON", value_parser = peers)]
    pub monitoring_peers: Option<Peers>,
    /// The cluster runs pods in user namespaces of their own: pods get hostUsers: false.
    #[arg(long, env = "PORTCULLIS_USER_NAMESPACES")]
    pub user_namespaces: bool,
    /// Address and port to which no server may be able to connect, as each of their pods proves before its server starts.
    /// Default: the Kubernetes API's Service.
    #[arg(long, env = "PORTCULLIS_FENCE_PROBE", value_name = "ADDRESS:PORT")]
    pub fence_probe: Option<SocketAddr>,
    /// Start servers without that proof. Only for a cluster whose network cannot enforce policies.
    #[arg(long, env = "PORTCULLIS_NO_FENCE_PROBE", conflicts_with = "fence_probe")]
    pub no_fence_probe: bool,
}

/// Peers of a network policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Peers(pub Vec<NetworkPolicyPeer>);

/// Settings that contradict themselves, or would open a door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// A value.
    #[error(transparent)]
    Bad(#[from] super::BadSetting),
    /// Neither a probe's target nor word that there shall be none.
    #[error(
        "where the Kubernetes API listens is not known here: set --fence-probe ADDRESS:PORT (its Service, such as \
         10.96.0.1:443), or --no-fence-probe to start servers without proof that they are fenced"
    )]
    NoFenceProbe,
}

impl TryFrom<SettingsArgs> for Settings {
    type Error = FlagError;

    fn try_from(args: SettingsArgs) -> Result<Self, FlagError> {
        let SettingsArgs {
            operator_namespace,
            operator_pod_labels,
            service_account,
            watch_namespaces,
            gateway_image,
            cluster_domain,
            pod_cidrs,
            service_cidrs,
            api_server_cidrs,
            kubernetes_service_host,
            kubernetes_service_port,
            dns_peers,
            dns_ports,
            monitoring_peers,
            user_namespaces,
            fence_probe,
            no_fence_probe,
        } = args;
        let api_service = kubernetes_service_host.map(|host| SocketAddr::new(host, kubernetes_service_port));
        let fence_probe = match (no_fence_probe, fence_probe.or(api_service)) {
            (true, _) => None,
            (false, Some(target)) => Some(target),
            (false, None) => return Err(FlagError::NoFenceProbe),
        };
        let mut api_server = api_server_cidrs;
        api_server.extend(kubernetes_service_host.map(IpNet::from));
        let settings = Self {
            operator: Operator {
                namespace: operator_namespace.into(),
                pod_labels: operator_pod_labels.into_iter().collect::<Labels>(),
                service_account: service_account.into(),
            },
            scope: if watch_namespaces.is_empty() {
                Scope::Cluster
            } else {
                Scope::Namespaces(
                    watch_namespaces
                        .into_iter()
                        .map(String::from)
                        .collect::<BTreeSet<_>>(),
                )
            },
            cluster: Cluster {
                domain: cluster_domain.into(),
                pod_cidrs,
                service_cidrs,
                api_server,
                api_endpoints: BTreeSet::new(), // come from the cluster itself
            },
            gateway_image,
            dns: Dns {
                peers: dns_peers.map_or_else(|| Dns::default().peers, |Peers(peers)| peers),
                ports: dns_ports,
            },
            monitoring: monitoring_peers.map_or_else(Vec::new, |Peers(peers)| peers),
            user_namespaces,
            fence_probe,
        };
        settings.check()?;
        Ok(settings)
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!("{text:?}: write KEY=VALUE")),
    }
}

/// Peers as JSON. What is not read back as it was written holds a word that nobody knows, and would say less, or more,
/// than was meant.
fn peers(text: &str) -> Result<Peers, String> {
    let in_words = |error: &dyn Display| format!("not a JSON list of NetworkPolicy peers: {error}");
    let written: serde_json::Value = serde_json::from_str(text).map_err(|error| in_words(&error))?;
    let peers: Vec<NetworkPolicyPeer> =
        serde_json::from_value(written.clone()).map_err(|error| in_words(&error))?;
    let read = serde_json::to_value(&peers).map_err(|error| in_words(&error))?;
    if read != written {
        return Err(in_words(&"it has a field that peers do not have"));
    }
    Ok(Peers(peers))
}

fn port(text: &str) -> Result<NetworkPolicyPort, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let number: u16 = number
        .parse()
        .map_err(|_| format!("{text:?}: write PORT/PROTOCOL, such as 53/UDP"))?;
    if number == 0 || !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        return Err(format!("{text:?}: write PORT/PROTOCOL, such as 53/UDP"));
    }
    Ok(NetworkPolicyPort {
        end_port: None,
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some(protocol.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use rstest::rstest;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn parse(args: &[&str]) -> Result<Settings, String> {
        let command =
            Command::try_parse_from([&["test"], args].concat()).map_err(|error| error.to_string())?;
        Settings::try_from(command.settings).map_err(|error| error.to_string())
    }

    const PROBE: [&str; 2] = ["--fence-probe", "10.96.0.1:443"];

    #[test]
    fn defaults_make_settings_that_hold() {
        let settings = parse(&PROBE).unwrap();
        assert_eq!(settings.scope, Scope::Cluster);
        assert_eq!(settings.dns, Dns::default());
        assert_eq!(
            settings.operator.subject(),
            "system:serviceaccount:portcullis-system:portcullis-operator"
        );
        assert_eq!(settings.operator.pod_labels.len(), 2);
        assert!(settings.monitoring.is_empty());
    }

    #[test]
    fn what_pods_are_told_of_the_kubernetes_api_is_both_proven_and_kept_from_gateways() {
        let settings = parse(&[
            "--kubernetes-service-host",
            "198.19.0.1",
            "--kubernetes-service-port",
            "6443",
        ])
        .unwrap();
        assert_eq!(settings.fence_probe, Some("198.19.0.1:6443".parse().unwrap()));
        assert_eq!(settings.cluster.api_server, ["198.19.0.1/32".parse().unwrap()]);
    }

    #[test]
    fn no_proof_has_to_be_asked_for() {
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            return; // in a pod the default is known
        }
        assert!(parse(&[]).unwrap_err().contains("--no-fence-probe"));
        assert_eq!(parse(&["--no-fence-probe"]).unwrap().fence_probe, None);
    }

    #[rstest]
    #[case::typo(&["--monitoring-peers", r#"[{"podSelecter": {}, "namespaceSelector": {}}]"#], "a field that peers do not have")]
    #[case::nobody(&["--monitoring-peers", "[{}]"], "a peer needs")]
    #[case::no_dns(&["--dns-peers", "[]"], "means everybody")]
    #[case::label(&["--operator-pod-labels", "app"], "KEY=VALUE")]
    #[case::protocol(&["--dns-ports", "53/QUIC"], "PORT/PROTOCOL")]
    #[case::range(&["--pod-cidrs", "10.0.0.0/33"], "pod-cidrs")]
    #[case::namespace(&["--watch-namespaces", "Team"], "DNS label")]
    fn open_doors_and_typos_are_refused(#[case] args: &[&str], #[case] expected: &str) {
        let error = parse(&[&PROBE[..], args].concat()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn peers_and_ports_are_taken_as_written() {
        let settings = parse(
            &[
                &PROBE[..],
                &["--dns-peers", r#"[{"ipBlock": {"cidr": "169.254.20.10/32"}}]"#],
                &["--dns-ports", "5353/UDP,53"],
                &["--watch-namespaces", "b,a"],
            ]
            .concat(),
        )
        .unwrap();
        assert_eq!(settings.dns.peers.len(), 1);
        let ports: Vec<_> = settings
            .dns
            .ports
            .iter()
            .map(|port| (port.port.clone(), port.protocol.clone()))
            .collect();
        assert_eq!(
            ports,
            [
                (Some(IntOrString::Int(5353)), Some("UDP".into())),
                (Some(IntOrString::Int(53)), Some("TCP".into()))
            ]
        );
        assert_eq!(
            settings.scope,
            Scope::Namespaces(BTreeSet::from(["a".into(), "b".into()]))
        );
    }
}
