//! Entry point: allocator, crypto provider, runtime, subcommand.

use std::process::ExitCode;

use clap::Parser as _;
use portcullis_gateway::app::App;
use portcullis_gateway::args::{Cli, Command};
use portcullis_gateway::net::Resolver;
use portcullis_gateway::{probe, run};

/// Answers of the resolver are used no longer than this, whatever their records say.
const MAX_DNS_TTL: std::time::Duration = std::time::Duration::from_secs(30);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(code) => code,
        Err(err) => {
            // Before the logger is there, and for people at a terminal: plain words, causes included.
            eprintln!("portcullis-gateway: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    // One provider for the whole process; whoever asks for "the default" gets it.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another crypto provider is installed already");
    }
    match cli.command {
        Command::Serve(serve) => runtime()?
            .block_on(run::serve(&serve.config, |services| {
                Ok(App::new(services, Resolver::system(MAX_DNS_TTL)))
            }))
            .map(|()| ExitCode::SUCCESS),
        Command::Probe(args) => runtime()?.block_on(probe::run(args)),
        Command::Version => {
            probe::print(&format!("portcullis-gateway {}", env!("CARGO_PKG_VERSION")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One thread where one CPU is ours (by affinity or cgroup quota): no work is then handed between threads.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cpus) if cpus.get() > 1 => tokio::runtime::Builder::new_multi_thread(),
        Ok(_) | Err(_) => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}
