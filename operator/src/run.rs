//! The only wiring: what `portcullis operator` is made of, and how it ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};
use rustls::crypto::CryptoProvider;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin;
use crate::args::OperatorArgs;
use crate::controller::client::WRITE_TIMEOUT;
use crate::controller::poll::fetch::StatusPort;
use crate::controller::{self, Ctx, OperatorVitals, Parts};
use crate::lease::{self, Holder};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::telemetry;

/// How long the end may take, from the signal on, before the process goes anyway.
const SHUTDOWN: Duration = Duration::from_secs(25);

/// Runs the operator until SIGTERM, SIGINT or the loss of the lease.
pub async fn operator(args: OperatorArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.settings.watch_namespaces.is_empty(),
        "--watch-namespaces (PORTCULLIS_WATCH_NAMESPACES) is for portcullis render: the operator watches every namespace"
    );
    telemetry::init(&args.log, args.log_format)?;
    let settings = Settings::try_from(args.settings.clone())?;
    let lease_config = lease_config(&args, &settings.operator.namespace);
    lease_config.check(WRITE_TIMEOUT)?;
    let provider = CryptoProvider::get_default().context("no cryptography provider is installed")?;

    let mut config = Config::infer()
        .await
        .context("no cluster is configured: set KUBECONFIG, or run in a pod")?;
    // The client would retry 429 and 5xx behind our back, up to 15 times and for minutes: we have classes, delays and
    // time-outs of our own, and a write must not outlive the lease.
    config.default_retry = false;
    info!(version = env!("CARGO_PKG_VERSION"), cluster = %config.cluster_url, "starting");
    let lease_client = Client::try_from(config.clone())?;
    let client = Client::try_from(config)?;

    let stop = CancellationToken::new();
    let release = CancellationToken::new();
    let (holder, leadership) = Holder::new(lease_client, lease_config);
    let metrics = Metrics::new();
    let ctx = Ctx::new(Parts {
        client,
        leadership,
        metrics: metrics.clone(),
        settings,
        fetch: Arc::new(StatusPort::new(Arc::clone(provider), args.status_token_file)),
        instance: args.pod_name,
        stop: stop.clone(),
    });
    let listener = TcpListener::bind(args.metrics_address)
        .await
        .with_context(|| format!("cannot listen on {}", args.metrics_address))?;
    let router = admin::router(OperatorVitals(Arc::clone(&ctx)), metrics);
    let admin = tokio::spawn(admin::serve(listener, router, release.clone()));
    let mut holding = tokio::spawn(holder.run(release.clone()));
    let mut controllers = tokio::spawn(controller::run(ctx));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: ending"),
        _ = interrupt.recv() => info!("SIGINT: ending"),
        // Whoever lost the lease must not write any more; the next process starts from what is true.
        lost = &mut holding => {
            match lost {
                Ok(Ok(())) => error!("the lease holder ended by itself"),
                Ok(Err(lost)) => error!(error = %lost, "ending, since the lease is lost"),
                Err(panic) => error!(error = %panic, "the lease holder failed"),
            }
            return Ok(ExitCode::FAILURE);
        }
        ended = &mut controllers => {
            error!(?ended, "the controllers ended by themselves");
            return Ok(ExitCode::FAILURE);
        }
    }
    // Finish what runs, then let the next one in, then go.
    stop.cancel();
    let end = async {
        let controllers = controllers.await;
        release.cancel();
        (controllers, holding.await, admin.await)
    };
    match tokio::time::timeout(SHUTDOWN, end).await {
        Ok((Ok(()), Ok(Ok(())), _)) => Ok(ExitCode::SUCCESS),
        Ok((controllers, lease, _)) => {
            error!(?controllers, ?lease, "not a clean end");
            Ok(ExitCode::FAILURE)
        }
        Err(_elapsed) => {
            error!("the end took too long");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How the lease is held. The identity differs between any two processes, restarts in the same pod included.
pub fn lease_config(args: &OperatorArgs, namespace: &str) -> lease::Config {
    let lease = &args.lease;
    lease::Config {
        namespace: namespace.to_owned(),
        name: lease.lease_name.clone(),
        identity: format!("{}_{:08x}", args.pod_name, rand::random::<u32>()),
        lease_duration: lease.lease_duration.get(),
        renew_deadline: lease.lease_renew_deadline.get(),
        retry_period: lease.lease_retry_period.get(),
    }
}
