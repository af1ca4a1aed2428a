//! Interleaved rounds: each proxy in turn, over and over, so that what else the machine does falls on all of them.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::accounting::{Sample, ratio};
use crate::call::Era;
use crate::load::{Client, Connection, Load, open_session};
use crate::proxy::{Kind, Proxy};
use crate::upstream::Upstream;

/// Before a round is measured: connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(300);
/// The proxy's core counts as saturated from this share of the time on in which the proxy ran or waited to run.
const SATURATED: f64 = 0.95;
/// Throughput is judged only if others did not take more of the core than this.
const DISTURBED: f64 = 0.10;
/// How long the last audit records may take to arrive.
const AUDIT: Duration = Duration::from_secs(5);

/// What is measured, and how long.
pub(crate) struct Plan {
    /// Eras.
    pub(crate) eras: Vec<Era>,
    /// Connections at a time.
    pub(crate) connections: Vec<usize>,
    /// Rounds of each.
    pub(crate) rounds: usize,
    /// Length of a round.
    pub(crate) length: Duration,
}

/// The result of one round.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Round {
    /// Which proxy.
    pub(crate) proxy: &'static str,
    /// Which era.
    pub(crate) era: Era,
    /// How many connections.
    pub(crate) connections: usize,
    /// Calls measured.
    pub(crate) calls: u64,
    /// The proxy's processor time, all threads.
    pub(crate) cpu_micros_per_call: f64,
    /// Throughput.
    pub(crate) calls_per_second: f64,
    /// Median time of a call.
    pub(crate) p50_micros: f64,
    /// 99 of 100 calls took less.
    pub(crate) p99_micros: f64,
    /// The kernel's share of the processor time.
    pub(crate) kernel_share: f64,
    /// Share of the time in which the proxy ran.
    pub(crate) ran: f64,
    /// Share in which it could have run, while others had its core.
    pub(crate) waited: f64,
    /// Share in which the load generator and the server ran, on the other core.
    pub(crate) load_ran: f64,
    /// The proxy's core was the limit.
    pub(crate) saturated: bool,
    /// It was the limit and the proxy had it nearly for itself: throughput may be judged.
    pub(crate) undisturbed: bool,
}

/// A proxy with its clients.
pub(crate) struct Runner {
    proxy: Proxy,
    clients: Vec<Client>,
    /// Requests it has answered.
    requests: u64,
}

impl Runner {
    /// Opens a session for each client of the largest round.
    pub(crate) async fn new(proxy: Proxy, tokens: &[Rc<str>], most: usize) -> anyhow::Result<Self> {
        let mut connection = Connection::open(proxy.address).await?;
        let mut runner = Self {
            proxy,
            clients: Vec::new(),
            requests: 0,
        };
        for token in tokens.iter().cycle().take(most) {
            let session = open_session(&mut connection, token).await?;
            runner.requests += 2;
            runner.clients.push(Client {
                token: Rc::clone(token),
                session: Some(session),
            });
        }
        Ok(runner)
    }

    /// The process.
    pub(crate) const fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// One round.
    pub(crate) async fn round(
        &mut self,
        era: Era,
        upstream: &Upstream,
        connections: usize,
        length: Duration,
    ) -> anyhow::Result<Round> {
        let seen = &upstream.seen;
        let (calls_before, authorized_before) = (seen.calls.get(), seen.authorized.get());
        let load = Load::start(self.proxy.address, era, connections, &self.clients).await?;
        tokio::time::sleep(WARM_UP).await;
        let (own_pid, pid) = (std::process::id(), self.proxy.pid());
        load.measure(true);
        let (before, own_before, first) = (Sample::take(pid)?, Sample::take(own_pid)?, load.calls());
        tokio::time::sleep(length).await;
        let (after, own_after, last) = (Sample::take(pid)?, Sample::take(own_pid)?, load.calls());
        load.measure(false);
        let (all, latencies) = load
            .finish()
            .await
            .with_context(|| format!("{} with {connections} connections", self.proxy.kind.as_str()))?;
        self.requests += all;
        ensure!(
            seen.calls.get() - calls_before == all,
            "the server saw {} calls, the clients made {all}",
            seen.calls.get() - calls_before
        );
        ensure!(
            self.proxy.kind == Kind::Nginx || seen.authorized.get() == authorized_before,
            "the gateway passed a client's credential on"
        );
        let spent = after.since(&before);
        let calls = last - first;
        ensure!(calls > 0, "no call was answered");
        let saturated = spent.ran + spent.waited >= SATURATED;
        Ok(Round {
            proxy: self.proxy.kind.as_str(),
            era,
            connections,
            calls,
            cpu_micros_per_call: spent.cpu.as_secs_f64() * 1e6 / ratio(calls, 1),
            calls_per_second: ratio(calls, 1) / spent.wall.as_secs_f64(),
            p50_micros: percentile(&latencies, 50),
            p99_micros: percentile(&latencies, 99),
            kernel_share: spent.kernel,
            ran: spent.ran,
            waited: spent.waited,
            load_ran: own_after.since(&own_before).ran,
            saturated,
            undisturbed: saturated && spent.waited <= DISTURBED,
        })
    }

    /// Every request must have left one audit record, and no more.
    pub(crate) async fn check_audit(&self) -> anyhow::Result<()> {
        let Some(audit) = self.proxy.audit() else {
            return Ok(());
        };
        let complete = async {
            while audit.records() < self.requests {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(AUDIT, complete).await.ok();
        ensure!(
            audit.records() == self.requests,
            "{} requests left {} audit records",
            self.requests,
            audit.records()
        );
        Ok(())
    }
}

fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    f64::from(sorted.get(at).copied().unwrap_or_default()) / 1000.0
}

/// All rounds of a plan.
pub(crate) async fn run(
    plan: &Plan,
    runners: &mut [Runner],
    upstream: impl Fn(Era) -> Rc<Upstream>,
) -> anyhow::Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for &era in &plan.eras {
        for &connections in &plan.connections {
            for number in 1..=plan.rounds {
                for runner in &mut *runners {
                    let round = runner
                        .round(era, &upstream(era), connections, plan.length)
                        .await?;
                    eprintln!(
                        "{:9} {connections:3} connections, round {number}/{}: {:17} {:6.2} us CPU, {:7.0} calls/s, p50 {:6.0} us, p99 {:6.0} us, core {:3.0} % + {:2.0} % waiting, load {:3.0} %",
                        era.as_str(),
                        plan.rounds,
                        round.proxy,
                        round.cpu_micros_per_call,
                        round.calls_per_second,
                        round.p50_micros,
                        round.p99_micros,
                        round.ran * 100.0,
                        round.waited * 100.0,
                        round.load_ran * 100.0,
                    );
                    rounds.push(round);
                }
            }
        }
    }
    for runner in runners {
        runner.check_audit().await?;
    }
    Ok(rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_and_of_none() {
        assert!((percentile(&[1000, 2000, 3000], 50) - 2.0).abs() < f64::EPSILON);
        assert!((percentile(&[1000, 2000, 3000], 99) - 3.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 99).abs() < f64::EPSILON);
    }
}
