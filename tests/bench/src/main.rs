//! Measures the gateway against nginx as a plain reverse proxy: one process on one core, load and server on the other.
//! `docs/benchmarks.md` says what is measured and how to read it.

mod accounting;
mod call;
mod config;
mod drain;
mod footprint;
mod load;
mod proxy;
mod report;
mod rounds;
mod token;
mod upstream;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use call::{Era, HOST};
use config::{Rules, Upstreams};
use footprint::Effort;
use proxy::{Bench, Kind};
use report::Report;
use rounds::{Plan, Runner};
use token::Issuer;
use upstream::Upstream;

/// Principals among which the connections are divided.
const PRINCIPALS: usize = 32;

/// Measures the gateway against nginx.
#[derive(Parser)]
struct Args {
    /// The gateway's binary.
    #[arg(long)]
    gateway: PathBuf,
    /// nginx's binary.
    #[arg(long)]
    nginx: PathBuf,
    /// Where configurations, logs and results go.
    #[arg(long)]
    out: PathBuf,
    /// The processor for the proxies; load and server should be on another.
    #[arg(long, default_value_t = 0)]
    core: u32,
    /// What is measured, for the report.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Eras.
    #[arg(long, value_delimiter = ',', default_values_t = ["session".to_owned(), "stateless".to_owned()])]
    eras: Vec<String>,
    /// Connections at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    connections: Vec<usize>,
    /// Rounds of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a round in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Which proxies; the last one stands for comparison when it is nginx.
    #[arg(long, value_delimiter = ',', default_values_t = ["gateway".to_owned(), "gateway-200-rules".to_owned(), "nginx".to_owned()])]
    proxies: Vec<String>,
    /// Only the rounds: no memory, no start time, no report.
    #[arg(long)]
    rounds_only: bool,
    /// A short run that only checks that every answer is right.
    #[arg(long)]
    smoke: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // One thread for load and server: the least that can be in the way of the proxies on the other core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure(&args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let folder = args.out.join("run");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let issuer = Issuer::new()?;
    let jwks = folder.join("jwks.json");
    std::fs::write(&jwks, issuer.jwks()?)?;
    let tokens = (0..PRINCIPALS)
        .map(|number| {
            issuer
                .token(&format!("agent-{number}"), &format!("http://{HOST}"))
                .map(Rc::from)
        })
        .collect::<anyhow::Result<Vec<Rc<str>>>>()?;
    let session = Rc::new(Upstream::start(Era::Session).await?);
    let stateless = Rc::new(Upstream::start(Era::Stateless).await?);
    let bench = Bench {
        gateway: args.gateway.canonicalize().context("--gateway")?,
        nginx: args.nginx.canonicalize().context("--nginx")?,
        folder,
        core: args.core,
        upstreams: Upstreams {
            session: session.address,
            stateless: stateless.address,
        },
        jwks,
    };
    let upstream = |era| match era {
        Era::Session => Rc::clone(&session),
        Era::Stateless => Rc::clone(&stateless),
    };
    let plan = plan(args)?;
    let most = plan.connections.iter().copied().max().unwrap_or(1);
    let mut runners = Vec::new();
    for name in &args.proxies {
        let proxy = bench.start(kind(name)?, name).await?;
        eprintln!("{name}: process {}, port {}", proxy.pid(), proxy.address.port());
        runners.push(Runner::new(proxy, &tokens, most).await?);
    }
    let rounds = rounds::run(&plan, &mut runners, upstream).await?;
    if args.rounds_only {
        return Ok(());
    }
    let audit_sample = runners
        .iter()
        .find_map(|runner| runner.proxy().audit())
        .map(drain::Drain::sample)
        .unwrap_or_default();
    drop(runners);
    let footprint = footprint::measure(&bench, &effort(args), &tokens, upstream).await?;
    let report = Report {
        date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        circumstances: circumstances(args, &plan)?,
        rows: report::rows(&rounds, Kind::Nginx.as_str()),
        footprint,
        audit_sample,
        rounds,
    };
    let name = if args.smoke { "smoke" } else { "benchmark" };
    std::fs::write(args.out.join(format!("{name}.md")), report.markdown())?;
    std::fs::write(
        args.out.join(format!("{name}.json")),
        serde_json::to_string_pretty(&report)?,
    )?;
    eprintln!("\n{}", report.markdown());
    Ok(())
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let eras = args
        .eras
        .iter()
        .map(|name| {
            let era = Era::ALL.into_iter().find(|era| era.as_str() == name);
            era.with_context(|| format!("no era is called {name}"))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(if args.smoke {
        Plan {
            eras,
            connections: vec![1, 16],
            rounds: 1,
            length: Duration::from_millis(700),
        }
    } else {
        Plan {
            eras,
            connections: args.connections.clone(),
            rounds: args.rounds,
            length: Duration::try_from_secs_f64(args.seconds)?,
        }
    })
}

const fn effort(args: &Args) -> Effort {
    if args.smoke {
        Effort {
            starts: 1,
            sessions: 100,
            listening: 40,
            connections: 16,
            length: Duration::from_millis(200),
            settle: Duration::from_millis(200),
        }
    } else {
        Effort {
            starts: 20,
            sessions: 5000,
            listening: 2000,
            connections: 256,
            length: Duration::from_secs(2),
            settle: Duration::from_secs(3),
        }
    }
}

fn kind(name: &str) -> anyhow::Result<Kind> {
    [Kind::Gateway(Rules::Few), Kind::Gateway(Rules::Many), Kind::Nginx]
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .with_context(|| format!("no proxy is called {name}"))
}

fn circumstances(args: &Args, plan: &Plan) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let field = |file: &str, name: &str| -> anyhow::Result<String> {
        let text = std::fs::read_to_string(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.unwrap_or_default().trim_matches([' ', '\t', ':']).to_owned())
    };
    let said = |binary: &Path, arg: &str| -> anyhow::Result<String> {
        let output = Command::new(binary).arg(arg).output()?;
        // nginx tells its version on standard error.
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(BTreeMap::from([
        (
            "machine",
            format!(
                "{}, {}, Linux {}",
                field("/proc/cpuinfo", "model name")?,
                field("/proc/meminfo", "MemTotal")?,
                std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()
            ),
        ),
        (
            "pinning",
            format!(
                "proxies on processor {}, load and server on {processors} other",
                args.core
            ),
        ),
        (
            "load average",
            std::fs::read_to_string("/proc/loadavg")?.trim().to_owned(),
        ),
        (
            "gateway",
            format!("{}, {}", said(&args.gateway, "version")?, args.commit),
        ),
        ("nginx", said(&args.nginx, "-v")?),
        (
            "rounds",
            format!("{} of {:?}, interleaved", plan.rounds, plan.length),
        ),
    ]))
}
