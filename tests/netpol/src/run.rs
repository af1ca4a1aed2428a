//! The wiring: logs, health, client, signals.

use std::io::stderr;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::enforce::Enforcer;
use crate::health::{Health, serve};
use crate::nft::Nft;
use crate::table::Network;
use crate::watch::{Cluster, client};

/// Runs until SIGTERM or SIGINT, or until it cannot go on.
pub async fn run(args: Args) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter)
        .with_writer(stderr)
        .init();
    // Before anything that takes time, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let health = Health::default();
    if let Some(address) = args.health_addr {
        let (address, _task) = serve(address, health.clone()).await?;
        info!(%address, "health is served");
    }
    let client = client(&args.kubeconfig).await?;
    let network = Network {
        pod_cidr: args.pod_cidr,
        node_ip: args.node_ip,
    };
    let nft = Nft::new(args.nft, args.netns);
    let mut enforcer = Enforcer::new(nft, network, args.debounce, health);
    enforcer.fence().await?;

    let cluster = Cluster::follow(&client);
    let asked_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // After a failure the table stays and goes on to protect; only when asked is it removed.
    enforcer.follow(&cluster, asked_to_end).await?;
    enforcer.remove().await?;
    info!("ends");
    Ok(())
}
