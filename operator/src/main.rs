//! `portcullis`: the operator and its tools.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use portcullis_operator::args::{Cli, Command, Credential};
use portcullis_operator::{check, crds, credential, render, run};

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // For people at a terminal: plain words, causes included.
            eprintln!("portcullis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    // Everything that speaks TLS in this process uses one provider.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a cryptography provider was installed before main");
    }
    let mut out = io::stdout().lock();
    let mut err = io::stderr();
    match cli.command {
        Command::Operator(args) => {
            drop(out);
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("the runtime cannot be built")?
                .block_on(run::operator(*args))
        }
        Command::Crds => {
            out.write_all(crds::stream()?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(args) => check::run(*args, &mut out, &mut err),
        Command::Render(args) => render::run(*args, &mut out, &mut err),
        Command::Credential(Credential::ApiKey(args)) => {
            credential::api_key(&args, &mut out, &mut err)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            writeln!(out, "portcullis {}", env!("CARGO_PKG_VERSION"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
