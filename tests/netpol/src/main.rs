//! Entry point: see the library for what it does.

use anyhow::Result;
use clap::Parser;
use portcullis_netpol::{args::Args, run};

#[tokio::main]
async fn main() -> Result<()> {
    // The provider is process-wide and must be there before the first TLS client.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a TLS provider was installed before main");
    }
    run::run(Args::parse()).await
}
