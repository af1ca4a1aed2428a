//! How long a policy takes from the API to the kernel, as a packet sees it.
//!
//! ```text
//! eval "$(tests/cluster/env)"
//! cargo run -p portcullis-netpol --example latency -- --kubeconfig "$KUBECONFIG"
//! ```
//!
//! Starts a pod that listens nowhere and knocks at it from this host every millisecond: a refusal
//! is an answer and means that the packet passed; silence means that it was dropped. Then it
//! creates a policy that denies all ingress and deletes it again, some times over, and tells when
//! the answers stopped and came back. It must run where pods are reached by routing: on the host
//! of the test cluster.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};
use portcullis_netpol::watch::client;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Longer than any answer takes on this machine.
const SILENCE: Duration = Duration::from_millis(200);

#[derive(Parser)]
struct Args {
    /// Kubeconfig of an account that may create namespaces, pods and policies
    #[arg(long)]
    kubeconfig: PathBuf,
    /// How many times the policy is created and deleted
    #[arg(long, default_value = "20")]
    rounds: usize,
    /// An image that is on the node and only waits
    #[arg(long, default_value = "localhost/pause:dev")]
    image: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        bail!("a TLS provider was installed before main");
    }
    let args = Args::parse();
    let client = client(&args.kubeconfig).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let named = json!({"metadata": {"generateName": "latency-"}});
    let created = namespaces
        .create(&PostParams::default(), &serde_json::from_value(named)?)
        .await?;
    let namespace = created.metadata.name.context("a namespace has a name")?;
    let outcome = measure(&client, &namespace, &args).await;
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    outcome
}

async fn measure(client: &kube::Client, namespace: &str, args: &Args) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let address = start_pod(&pods, &args.image).await?;
    let target = SocketAddr::from((address, 1));
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let deny = serde_json::from_value(json!({
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }))?;
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let knocking = Knocking::start(target);
        sleep(Duration::from_millis(20)).await;
        let asked = Instant::now();
        policies.create(&PostParams::default(), &deny).await?;
        sleep(Duration::from_millis(300)).await;
        let knocks = knocking.stop().await?;
        // The first knock after the last one that was answered.
        let last = knocks.iter().rposition(|k| k.answered);
        let first_silent = last.and_then(|n| knocks.get(n + 1));
        on.push(first_silent.context("the policy had no effect")?.at - asked);

        let knocking = Knocking::start(target);
        sleep(Duration::from_millis(20)).await;
        let asked = Instant::now();
        policies.delete("deny", &DeleteParams::default()).await?;
        sleep(Duration::from_millis(300)).await;
        let knocks = knocking.stop().await?;
        let first = knocks.iter().find(|k| k.answered);
        off.push(first.context("the policy stayed in force")?.at - asked);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} rounds, from the request to the API:", args.rounds)?;
    for (what, mut times) in [("in force", on), ("lifted", off)] {
        times.sort();
        let ms = |n: usize| times.get(n).map_or(0.0, |t| t.as_secs_f64() * 1000.0);
        let (least, median, most) = (ms(0), ms(times.len() / 2), ms(times.len() - 1));
        writeln!(
            out,
            "{what:9} least {least:.1} ms, median {median:.1} ms, most {most:.1} ms"
        )?;
    }
    Ok(())
}

async fn start_pod(pods: &Api<Pod>, image: &str) -> Result<Ipv4Addr> {
    let pod = json!({
        "metadata": {"name": "target"},
        "spec": {
            "containers": [{"name": "wait", "image": image, "imagePullPolicy": "IfNotPresent"}],
            "terminationGracePeriodSeconds": 0,
        },
    });
    let pod = serde_json::from_value(pod)?;
    // The namespace's service account may take a moment.
    let mut tries = 0;
    while let Err(error) = pods.create(&PostParams::default(), &pod).await {
        tries += 1;
        if tries == 50 {
            return Err(error.into());
        }
        sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..300 {
        let status = pods.get("target").await?.status.unwrap_or_default();
        if status.phase.as_deref() == Some("Running")
            && let Some(text) = status.pod_ip
        {
            let address: Ipv4Addr = text.parse()?;
            if knock(SocketAddr::from((address, 1))).await.answered {
                return Ok(address);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("the pod does not run or cannot be reached from here")
}

struct Knock {
    at: Instant,
    answered: bool,
}

async fn knock(target: SocketAddr) -> Knock {
    let at = Instant::now();
    let answered = timeout(SILENCE, TcpStream::connect(target)).await.is_ok();
    Knock { at, answered }
}

/// Knocks at a door once a millisecond.
struct Knocking {
    task: JoinHandle<Vec<JoinHandle<Knock>>>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Knocking {
    fn start(target: SocketAddr) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut knocks = Vec::new();
            let mut clock = interval(Duration::from_millis(1));
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stopped.try_recv().is_err() {
                clock.tick().await;
                knocks.push(tokio::spawn(knock(target)));
            }
            knocks
        });
        Self { task, stop }
    }

    /// Everything knocked, in order.
    async fn stop(self) -> Result<Vec<Knock>> {
        if self.stop.send(()).is_err() {
            bail!("the knocking ended by itself");
        }
        let mut knocks = Vec::new();
        for knock in join_all(self.task.await?).await {
            knocks.push(knock?);
        }
        knocks.sort_by_key(|k| k.at);
        Ok(knocks)
    }
}
