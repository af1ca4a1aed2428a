//! Keeping the kernel's table equal to what the cluster says.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::{debug, error, info, warn};

use crate::compile::compile;
use crate::health::Health;
use crate::nft::Nft;
use crate::render::{removal, render};
use crate::table::{Network, Table};
use crate::watch::Cluster;
use crate::world::World;

/// Pause after a table that could not be put in force.
const RETRY: Duration = Duration::from_secs(1);

/// The table's owner.
pub struct Enforcer {
    nft: Nft,
    network: Network,
    debounce: Duration,
    health: Health,
    in_force: Option<String>,
    problems: Vec<String>,
}

impl Enforcer {
    /// Nothing is done yet.
    pub fn new(nft: Nft, network: Network, debounce: Duration, health: Health) -> Self {
        Self {
            nft,
            network,
            debounce,
            health,
            in_force: None,
            problems: Vec::new(),
        }
    }

    /// Cuts off all pods until their policies are known, unless a table is there already: the
    /// one of a process that was killed is as it was then, and better than an outage.
    pub async fn fence(&self) -> Result<()> {
        if self.nft.table_exists().await? {
            info!("taking over the table that is there");
            return Ok(());
        }
        let table = render(&Table::fence(self.network));
        self.nft.run_script(&table).await?;
        info!("no pod is known yet: all are cut off");
        Ok(())
    }

    /// Follows the cluster until told to stop. A transaction under way is finished first.
    pub async fn follow(&mut self, cluster: &Cluster, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = pin!(stop);
        tokio::select! {
            () = &mut stop => return Ok(()),
            listed = cluster.listed() => listed?,
        }
        loop {
            let since = tokio::select! {
                () = &mut stop => return Ok(()),
                since = cluster.changed() => since,
            };
            // Changes come in flocks, and a transaction costs the same for one as for many.
            tokio::time::sleep(self.debounce).await;
            let world = cluster.world();
            match self.enforce(&world, since).await {
                Ok(()) => self.health.set(true),
                Err(error) => {
                    self.health.set(false);
                    error!(error = format!("{error:#}"), "not in force, trying again");
                    tokio::time::sleep(RETRY).await;
                    cluster.touch();
                }
            }
        }
    }

    async fn enforce(&mut self, world: &World, since: Instant) -> Result<()> {
        self.report(world);
        let started = Instant::now();
        let table = compile(world, self.network);
        let script = render(&table);
        if self.in_force.as_deref() == Some(script.as_str()) {
            debug!("nothing that matters has changed");
            return Ok(());
        }
        let computed = started.elapsed();
        self.nft.run_script(&script).await?;
        info!(
            pods = table.pods.len(),
            isolated = table.isolated().len(),
            policies = world.policies.len(),
            bytes = script.len(),
            compute_us = micros(computed),
            // From the first change heard of to the table being in the kernel.
            total_us = micros(since.elapsed()),
            "in force"
        );
        self.in_force = Some(script);
        Ok(())
    }

    /// Says once what policies hold that cannot be read.
    fn report(&mut self, world: &World) {
        let problems: Vec<_> = world
            .policies
            .iter()
            .flat_map(|policy| {
                let all = policy.problems.iter();
                all.map(|p| format!("{}/{}: {p}", policy.namespace, policy.name))
            })
            .collect();
        for problem in &problems {
            if !self.problems.contains(problem) {
                warn!(problem, "a policy cannot be read and allows less");
            }
        }
        self.problems = problems;
    }

    /// Takes the table away.
    pub async fn remove(&self) -> Result<()> {
        self.health.set(false);
        self.nft.run_script(&removal()).await?;
        info!("table removed");
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
