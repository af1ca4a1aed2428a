//! What the gateway takes besides processor time: memory, time to start, space on disk.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::accounting::memory;
use crate::call::{Era, Sender};
use crate::config::Rules;
use crate::load::{Connection, open_session};
use crate::proxy::{Bench, Kind};
use crate::rounds::Runner;
use crate::upstream::Upstream;

/// How much is tried.
pub(crate) struct Effort {
    /// Starts.
    pub(crate) starts: usize,
    /// Sessions opened and left alone.
    pub(crate) sessions: u32,
    /// Sessions whose clients listen, each on a connection of its own.
    pub(crate) listening: u32,
    /// Connections of the load before memory is looked at again.
    pub(crate) connections: usize,
    /// Length of that load, for each era.
    pub(crate) length: Duration,
    /// After a start or a load, until memory is looked at: what is freed late is freed by then.
    pub(crate) settle: Duration,
}

/// The results.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Footprint {
    /// Size of the binary.
    pub(crate) binary_bytes: u64,
    /// From the start of the process to the first answer that it is ready, with the public port open.
    pub(crate) start_millis: Vec<f64>,
    /// Resident, and of that not backed by files, in KiB: started, configured, no client yet.
    pub(crate) idle_kib: (u64, u64),
    /// The same after load, its connections closed.
    pub(crate) loaded_kib: (u64, u64),
    /// The same for nginx after the same load.
    pub(crate) nginx_loaded_kib: (u64, u64),
    /// Sessions opened and left alone.
    pub(crate) sessions: u32,
    /// What one of them takes.
    pub(crate) session_bytes: f64,
    /// Sessions whose clients listen.
    pub(crate) listening: u32,
    /// What one of them takes, with its connection.
    pub(crate) listening_bytes: f64,
    /// What one takes beyond that when as many come again after all have ended: what the first ones left behind.
    pub(crate) listening_left_bytes: f64,
}

/// Measures all of it.
pub(crate) async fn measure(
    bench: &Bench,
    effort: &Effort,
    tokens: &[Rc<str>],
    upstream: impl Fn(Era) -> Rc<Upstream>,
) -> anyhow::Result<Footprint> {
    let gateway = Kind::Gateway(Rules::Few);
    let mut start_millis = Vec::new();
    for number in 0..effort.starts {
        let proxy = bench.start(gateway, &format!("start-{number}")).await?;
        start_millis.push(proxy.started_in.as_secs_f64() * 1e3);
    }
    let proxy = bench.start(gateway, "memory").await?;
    tokio::time::sleep(effort.settle).await;
    let idle_kib = memory(proxy.pid())?;
    let loaded_kib = after_load(proxy, effort, tokens, &upstream).await?;
    let nginx = bench.start(Kind::Nginx, "memory-nginx").await?;
    let nginx_loaded_kib = after_load(nginx, effort, tokens, &upstream).await?;
    let (listening_bytes, listening_left_bytes) = listening(bench, effort, tokens).await?;
    Ok(Footprint {
        binary_bytes: std::fs::metadata(&bench.gateway)?.len(),
        start_millis,
        idle_kib,
        loaded_kib,
        nginx_loaded_kib,
        sessions: effort.sessions,
        session_bytes: sessions(bench, effort, tokens).await?,
        listening: effort.listening,
        listening_bytes,
        listening_left_bytes,
    })
}

async fn after_load(
    proxy: crate::proxy::Proxy,
    effort: &Effort,
    tokens: &[Rc<str>],
    upstream: &impl Fn(Era) -> Rc<Upstream>,
) -> anyhow::Result<(u64, u64)> {
    let mut runner = Runner::new(proxy, tokens, effort.connections).await?;
    for era in Era::ALL {
        runner
            .round(era, &upstream(era), effort.connections, effort.length)
            .await?;
    }
    runner.check_audit().await?;
    tokio::time::sleep(effort.settle).await;
    memory(runner.proxy().pid())
}

/// Bytes per session: growth over many of them, opened one after the other and then left alone.
async fn sessions(bench: &Bench, effort: &Effort, tokens: &[Rc<str>]) -> anyhow::Result<f64> {
    let proxy = bench.start(Kind::Gateway(Rules::Few), "sessions").await?;
    let mut connection = Connection::open(proxy.address).await?;
    let mut tokens = tokens.iter().cycle();
    // The first ones also fill caches and pools, which is not theirs to answer for.
    for token in tokens.by_ref().take(100) {
        open_session(&mut connection, token).await?;
    }
    tokio::time::sleep(effort.settle).await;
    let (_, before) = memory(proxy.pid())?;
    for token in tokens.take(usize::try_from(effort.sessions)?) {
        open_session(&mut connection, token).await?;
    }
    tokio::time::sleep(effort.settle).await;
    let (_, after) = memory(proxy.pid())?;
    let grown = u32::try_from(after.saturating_sub(before))?;
    Ok(f64::from(grown) * 1024.0 / f64::from(effort.sessions.max(1)))
}

/// Bytes per session whose client listens, and what as many more take once those have ended.
async fn listening(bench: &Bench, effort: &Effort, tokens: &[Rc<str>]) -> anyhow::Result<(f64, f64)> {
    let proxy = bench.start(Kind::Gateway(Rules::Few), "listening").await?;
    let count = usize::try_from(effort.listening)?;
    let clients: Vec<_> = tokens.iter().cycle().take(count).collect();
    let mut most = Vec::new();
    // The first ones also fill caches and pools, which is not theirs to answer for.
    for count in [count.div_ceil(20), count, count] {
        tokio::time::sleep(effort.settle).await;
        let (_, before) = memory(proxy.pid())?;
        let mut open = Vec::with_capacity(count);
        for token in clients.iter().take(count) {
            let mut connection = Connection::open(proxy.address).await?;
            let session = open_session(&mut connection, token).await?;
            let sender = Sender {
                era: Era::Session,
                token,
                session: Some(&session),
            };
            connection.listen(&sender.listen()).await?;
            open.push((connection, sender.end()));
        }
        tokio::time::sleep(effort.settle).await;
        let (_, after) = memory(proxy.pid())?;
        most.push((before, after));
        for (connection, end) in open {
            drop(connection);
            Connection::open(proxy.address).await?.request(&end, 200).await?;
        }
    }
    let [_, (before, first), (_, second)] = most[..] else {
        anyhow::bail!("not three rounds");
    };
    let each = |kib: u64| {
        Ok::<_, anyhow::Error>(f64::from(u32::try_from(kib)?) * 1024.0 / f64::from(effort.listening.max(1)))
    };
    Ok((
        each(first.saturating_sub(before))?,
        each(second.saturating_sub(first))?,
    ))
}
