//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::Ipv4Net;

/// Enforces NetworkPolicy on a one-node test cluster with nftables.
#[derive(Debug, Clone, Parser)]
#[command(version, after_long_help = TEACH)]
pub struct Args {
    /// Kubeconfig of an account that may list and watch pods, namespaces and networkpolicies
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,

    /// Addresses that pods get; one that is not known as a running pod's is cut off
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Ipv4Net,

    /// Address of the node; no other host may use it as its source
    #[arg(long, value_name = "IP")]
    pub node_ip: Ipv4Addr,

    /// Network namespace to put the table in (default: the one this process runs in)
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,

    /// Serve /healthz here: 200 once the cluster's policies are in force, 503 otherwise
    #[arg(long, value_name = "ADDR:PORT")]
    pub health_addr: Option<SocketAddr>,

    /// The nftables tool
    #[arg(long, value_name = "PATH", default_value = "nft")]
    pub nft: PathBuf,

    /// How long to gather further changes after the first before computing the table
    #[arg(long, value_name = "MILLISECONDS", default_value = "3", value_parser = millis)]
    pub debounce: Duration,
}

fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

const TEACH: &str = "\
What it does:
  Watches Pods, Namespaces and NetworkPolicies and keeps the nftables table
  `ip portcullis_netpol` equal to what they say. Each change replaces the whole table
  in one transaction; nothing is in between. Look at it with:

    nft list table ip portcullis_netpol

  The rules that drop carry counters, and the chain of a policy carries its name.

What it judges:
  - traffic between pods, and between pods and the outside (forward hook);
  - traffic from pods to the node, by the pod's egress rules (input hook);
  - service traffic by the address and port it ends at, not by the service's.
What it lets pass:
  - established connections, whatever changed since;
  - the node to its pods (probes), and a pod to itself, also through its service.
What it drops besides:
  - packets from or to addresses of the pod range that are no running pod's (so a new
    pod is cut off until its policies are in force), and forged sources.

Start it before the first pod. It puts the table up with no pod known, then fills it
when the API server answers. SIGTERM and SIGINT take the table away; a kill leaves it,
and the next start takes over from it.

It needs root (or CAP_NET_ADMIN, and CAP_SYS_ADMIN for --netns). RUST_LOG sets what is
logged (default: info), one JSON object a line on standard error.

Example:
  nsenter --net=/run/netns/node portcullis-netpol --kubeconfig admin.conf \\
    --pod-cidr 198.18.0.0/24 --node-ip 198.18.255.2 --health-addr 127.0.0.1:9099
";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn values_become_types() {
        let args = Args::try_parse_from([
            "portcullis-netpol",
            "--kubeconfig=/x",
            "--pod-cidr=198.18.0.0/24",
            "--node-ip=198.18.255.2",
            "--health-addr=127.0.0.1:9099",
        ])
        .unwrap();
        assert_eq!(args.pod_cidr.prefix_len(), 24);
        assert_eq!(args.debounce, Duration::from_millis(3));
        assert_eq!(args.health_addr.unwrap().port(), 9099);
    }

    #[test]
    fn ipv6_ranges_are_refused() {
        let result = Args::try_parse_from([
            "portcullis-netpol",
            "--kubeconfig=/x",
            "--pod-cidr=fd00::/64",
            "--node-ip=198.18.255.2",
        ]);
        assert!(result.is_err());
    }
}
