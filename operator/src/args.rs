//! The command line. Every flag of a long-running command has an environment variable, and every value is a type.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use portcullis_config::Duration;

use crate::check::{self, CheckArgs};
use crate::credential::ApiKeyArgs;
use crate::render::RenderArgs;
use crate::settings::SettingsArgs;
use crate::telemetry::Format;

/// Portcullis turns McpGateway and McpServer objects into hardened gateways for MCP servers.
///
/// In a cluster, portcullis operator runs as installed by the chart. The other commands need no cluster: crds prints what
/// to install first, render shows everything that the operator would make of your objects, check says what is wrong with them
/// and what a gateway would permit whom, and credential mints what clients present.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers.
    Operator(Box<OperatorArgs>),
    /// Print the CustomResourceDefinitions.
    ///
    /// Install them before the operator: portcullis crds | kubectl apply --server-side -f -
    Crds,
    /// Check objects in files, and explain what a gateway permits whom.
    #[command(after_long_help = check::HELP)]
    Check(Box<CheckArgs>),
    /// Print every object that the operator would apply.
    Render(Box<RenderArgs>),
    /// Mint a credential: the secret is shown once, the Secret holds only what verifies it.
    #[command(subcommand)]
    Credential(Credential),
    /// Print the version.
    Version,
}

/// Which credential.
#[derive(Debug, Subcommand)]
pub enum Credential {
    /// Mint an API key for one client (McpGateway spec.auth.apiKeys).
    ApiKey(ApiKeyArgs),
}

/// Runs the controllers until SIGTERM.
///
/// The cluster is found as kubectl finds it: KUBECONFIG, or the ServiceAccount of the pod. Several operators may run; the
/// one that holds the Lease acts, the others stand by with everything already read.
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// What the operator is told about itself and its cluster.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(
        long,
        env = "PORTCULLIS_METRICS_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:9090"
    )]
    pub metrics_address: SocketAddr,
    /// File with a ServiceAccount token of audience portcullis-status, presented to the gateways' status ports. It is read
    /// again each time, since the kubelet renews it.
    #[arg(
        long,
        env = "PORTCULLIS_STATUS_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/portcullis/status/token"
    )]
    pub status_token_file: PathBuf,
    /// Name of this pod, under which events and the Lease show it.
    #[arg(
        long,
        env = "PORTCULLIS_POD_NAME",
        value_name = "NAME",
        default_value = "portcullis-operator"
    )]
    pub pod_name: String,
    /// How the Lease is held.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// What is logged: a level, or directives such as info,kube=debug.
    #[arg(long, env = "PORTCULLIS_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How a log line looks.
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    pub log_format: Format,
}

/// Which of several operators acts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Leader election")]
pub struct LeaseArgs {
    /// Name of the Lease, in the operator's namespace.
    #[arg(
        long,
        env = "PORTCULLIS_LEASE_NAME",
        value_name = "NAME",
        default_value = "portcullis-operator"
    )]
    pub lease_name: String,
    /// For how long after a renewal the others leave it to the leader. Whole seconds; it must exceed the renewal deadline by
    /// more than the 10 s that a write may take.
    #[arg(
        long,
        env = "PORTCULLIS_LEASE_DURATION",
        value_name = "DURATION",
        default_value = "30s"
    )]
    pub lease_duration: Duration,
    /// When the leader stops writing, if it could not renew.
    #[arg(
        long,
        env = "PORTCULLIS_LEASE_RENEW_DEADLINE",
        value_name = "DURATION",
        default_value = "15s"
    )]
    pub lease_renew_deadline: Duration,
    /// How often the leader renews, and how often the others look.
    #[arg(
        long,
        env = "PORTCULLIS_LEASE_RETRY_PERIOD",
        value_name = "DURATION",
        default_value = "3s"
    )]
    pub lease_retry_period: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_operator_has_an_environment_variable_and_a_help_text() {
        let cli = Cli::command();
        let operator = cli.find_subcommand("operator").unwrap();
        for arg in operator
            .get_arguments()
            .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        {
            assert!(arg.get_env().is_some(), "{}", arg.get_id());
            assert!(arg.get_help().is_some(), "{}", arg.get_id());
        }
    }

    #[test]
    fn the_defaults_of_the_lease_fit_together() {
        let cli = Cli::try_parse_from(["portcullis", "operator", "--no-fence-probe"]).unwrap();
        let Command::Operator(args) = cli.command else {
            panic!("another command");
        };
        let config = crate::run::lease_config(&args, "ns");
        assert_eq!(config.check(crate::controller::client::WRITE_TIMEOUT), Ok(()));
        assert!(config.identity.starts_with("portcullis-operator_"));
        assert_ne!(config.identity, crate::run::lease_config(&args, "ns").identity);
    }
}
