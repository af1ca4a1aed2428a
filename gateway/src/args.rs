//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Portcullis gateway: one authenticated, authorised, rate-limited endpoint in front of MCP servers.
#[derive(Clone, Debug, Parser)]
#[command(name = "portcullis-gateway", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Try it on this machine, without Kubernetes:
  portcullis-gateway serve --config docs/examples/local.yaml

In a cluster the operator writes the configuration and starts this binary; nothing has to be run by hand.";

/// The modes of the binary.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM.
    Serve(Serve),
    /// Prove from inside a container that its controls hold. Prints JSON; exits 0 when they do, 1 when one does not.
    #[command(subcommand)]
    Probe(Probe),
    /// Print the version.
    Version,
}

/// `serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct Serve {
    /// The configuration file. It and every file it names are watched: changes take effect without a restart.
    #[arg(long, env = "PORTCULLIS_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

const SERVE_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  drain: not ready at once, keep accepting for shutdown.grace, finish what runs, end at shutdown.deadline
  a second one     end at once

Output:
  standard error   log lines, one JSON object each
  standard output  audit records, one JSON object each, marked \"log\":\"audit\" (schema: docs/audit.md)

Exit status:
  0 after a drain, 1 when the configuration is refused at the start or a port cannot be bound.
A configuration that is refused later never ends the process: the one in force stays, /status and
portcullis_gateway_config_synchronized say so.";

/// `probe`.
#[derive(Clone, Debug, Subcommand)]
pub enum Probe {
    /// This process's user, capabilities, seccomp, root filesystem, mounted tokens and environment.
    #[command(name = "self")]
    Own(ProbeSelf),
    /// Whether a TCP connection can be made.
    Connect(ProbeConnect),
}

/// `probe self`.
#[derive(Clone, Debug, Default, Args)]
pub struct ProbeSelf {
    /// A further environment variable that is expected to be there, besides KUBERNETES_* and this program's own.
    #[arg(long = "allow-env", value_name = "NAME")]
    pub allow_env: Vec<String>,
}

/// `probe connect`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis-gateway probe connect 10.96.0.1:443 --expect blocked
  portcullis-gateway probe connect 127.0.0.1:9090 --expect open --timeout 1s

A fence that drops packets gives no answer (blocked by time-out); one that rejects them gives an error at once. `blocked`
accepts either, but not a refusal by the port itself: that would mean the packet got there.")]
pub struct ProbeConnect {
    /// Address or name, and port. A fence is tested by address: a name that does not resolve says nothing about it.
    #[arg(value_name = "HOST:PORT")]
    pub target: Target,
    /// How long to wait for an answer.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub timeout: Duration,
    /// The outcome that makes the probe succeed.
    #[arg(long, value_enum, default_value_t = Expect::Open)]
    pub expect: Expect,
}

/// What `probe connect` should find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Expect {
    /// Somebody accepts.
    Open,
    /// The host answers that nobody listens on the port.
    Refused,
    /// Nothing gets through: no answer, or an answer of the network that there is no way.
    Blocked,
}

/// Where `probe connect` goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name, resolved as the gateway resolves its upstreams' names.
    Name(String, u16),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write ADDRESS:PORT, [IPV6]:PORT or NAME:PORT";
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let name_like = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(name_like) {
            return Err(FORM);
        }
        let port = port.parse().map_err(|_| FORM)?;
        Ok(Self::Name(host.to_owned(), port))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<portcullis_config::Duration>()
        .map(portcullis_config::Duration::get)
        .map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use rstest::rstest;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest]
    #[case(&["serve", "--config", "a.yaml"])]
    #[case(&["probe", "self"])]
    #[case(&["probe", "self", "--allow-env", "HOME", "--allow-env", "PATH"])]
    #[case(&["probe", "connect", "10.0.0.1:443", "--timeout", "500ms", "--expect", "blocked"])]
    #[case(&["probe", "connect", "[::1]:443"])]
    #[case(&["probe", "connect", "example.com:443"])]
    #[case(&["version"])]
    fn these_are_understood(#[case] args: &[&str]) {
        let args = std::iter::once(&"portcullis-gateway").chain(args);
        Cli::try_parse_from(args).unwrap();
    }

    #[rstest]
    #[case(&["probe", "connect", "example.com"])]
    #[case(&["probe", "connect", "http://example.com:80"])]
    #[case(&["probe", "connect", "10.0.0.1:99999"])]
    #[case(&["probe", "connect", "10.0.0.1"])]
    #[case(&["probe", "connect", "10.0.0.1:443", "--timeout", "3"])]
    #[case(&["probe", "connect", "10.0.0.1:443", "--expect", "maybe"])]
    #[case(&["frobnicate"])]
    #[case(&[])]
    fn these_are_refused(#[case] args: &[&str]) {
        let args = std::iter::once(&"portcullis-gateway").chain(args);
        assert!(Cli::try_parse_from(args).is_err());
    }
}
