//! The processes under measurement.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::{self, Rules, Upstreams};
use crate::drain::Drain;

/// Longest wait for a process to serve.
const START: Duration = Duration::from_secs(30);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_micros(200);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gateway.
    Gateway(Rules),
    /// The yardstick.
    Nginx,
}

impl Kind {
    /// In reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway(Rules::Few) => "gateway",
            Self::Gateway(Rules::Many) => "gateway-200-rules",
            Self::Nginx => "nginx",
        }
    }
}

/// What all of them need.
pub(crate) struct Bench {
    /// The gateway's binary.
    pub(crate) gateway: PathBuf,
    /// nginx's binary.
    pub(crate) nginx: PathBuf,
    /// Files of this run.
    pub(crate) folder: PathBuf,
    /// The processor the proxies run on.
    pub(crate) core: u32,
    /// The servers behind them.
    pub(crate) upstreams: Upstreams,
    /// The issuer's keys.
    pub(crate) jwks: PathBuf,
}

/// A running proxy. Dropping it ends it.
pub(crate) struct Proxy {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How long it took to serve.
    pub(crate) started_in: Duration,
    metrics: Option<SocketAddr>,
    child: Child,
    drain: Option<Drain>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Bench {
    /// Starts one and waits until it serves.
    pub(crate) async fn start(&self, kind: Kind, name: &str) -> anyhow::Result<Proxy> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let (address, metrics) = (free_port()?, free_port()?);
        let file = folder.join(if kind == Kind::Nginx {
            "nginx.conf"
        } else {
            "gateway.yaml"
        });
        let mut command = pinned(self.core);
        match kind {
            Kind::Nginx => {
                std::fs::write(&file, config::nginx(address, self.upstreams, &folder))?;
                command
                    .arg(&self.nginx)
                    .arg("-p")
                    .arg(&folder)
                    .arg("-c")
                    .arg(&file);
                command.stdout(Stdio::null());
            }
            Kind::Gateway(rules) => {
                let text = config::gateway(address, metrics, self.upstreams, &self.jwks, rules);
                std::fs::write(&file, text)?;
                command.arg(&self.gateway).arg("serve").arg("--config").arg(&file);
                command.stdout(Stdio::piped());
            }
        }
        let log = folder.join("stderr.log");
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("taskset is missing")?;
        let drain = child.stdout.take().map(Drain::start).transpose()?;
        let mut proxy = Proxy {
            kind,
            address,
            started_in: Duration::ZERO,
            metrics: drain.is_some().then_some(metrics),
            child,
            drain,
        };
        proxy.wait(began, &log).await?;
        Ok(proxy)
    }
}

impl Proxy {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its audit records, where it makes any.
    pub(crate) const fn audit(&self) -> Option<&Drain> {
        self.drain.as_ref()
    }

    async fn wait(&mut self, began: Instant, log: &Path) -> anyhow::Result<()> {
        loop {
            let ready = match self.metrics {
                // Ready is what the gateway itself says to a load balancer; then its port must be open.
                Some(metrics) => says_ready(metrics).await && TcpStream::connect(self.address).await.is_ok(),
                None => TcpStream::connect(self.address).await.is_ok(),
            };
            if ready {
                self.started_in = began.elapsed();
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > START {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("{} does not serve: {ended:?}\n{said}", self.kind.as_str());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn says_ready(metrics: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(metrics).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    ask.await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}

/// A command for one processor.
fn pinned(core: u32) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string());
    command
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
