//! The only wiring: configuration, telemetry, ports, reload, and the end. What answers requests comes in as an
//! [`Application`].

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use portcullis_config::keys::Purpose;
use portcullis_config::listen::{Listen, StatusListener};
use portcullis_config::status::Status;
use portcullis_config::{Loaded, Problem};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock;
use crate::config::files::Files;
use crate::config::load::load;
use crate::config::watch::{Configuration, Rebuild};
use crate::server::admin::Admin;
use crate::server::connection::Handler;
use crate::server::drain::{Drain, Finish};
use crate::server::limits::ConnectionLimits;
use crate::server::listener::{Listener, bind};
use crate::server::public::PublicTransport;
use crate::server::raw_key;
use crate::server::readiness::{Gate, Readiness};
use crate::server::registry::Registry;
use crate::server::status::{Access, StatusPort, StatusSource, TokenVerifier};
use crate::server::tls::{Transport, swappable};
use crate::spawn::Spawner;
use crate::telemetry::audit::Audit;
use crate::telemetry::logging::{self, LogControl};
use crate::telemetry::metrics::{Metrics, Port};

/// How long background tasks and the audit writer may take once everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often an expired certificate that has no successor on disk is looked for.
const EXPIRY_CHECK: Duration = Duration::from_secs(60);

/// What the process offers to its application.
#[derive(Clone)]
pub struct Services {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Decisions are recorded here.
    pub audit: Audit,
    /// The end of the process.
    pub drain: Drain,
    /// What is missing before traffic may come.
    pub readiness: Readiness,
    /// Background tasks.
    pub spawner: Spawner,
}

/// What answers requests.
pub trait Application: Rebuild {
    /// Answers the public port.
    type Handler: Handler;

    /// The handler. Called once, after the first rebuild.
    fn handler(self: &Arc<Self>) -> Self::Handler;

    /// Starts background tasks and further ports (the hop between replicas). Called once, after the first rebuild.
    /// Gives the connections of a further port on which clients' requests come: the end of the process waits for them
    /// too.
    fn start(self: &Arc<Self>) -> anyhow::Result<Option<Arc<Registry>>>;

    /// Adds what only the application knows to the status document: gateway id, session keys, servers, and what is
    /// wrong with the content of references.
    fn fill_status(&self, status: &mut Status);
}

/// Runs the gateway until it is told to end. `build` makes the application out of the process's services; it is rebuilt
/// with the first configuration before anything is served.
pub async fn serve<A, F>(path: &Path, build: F) -> anyhow::Result<()>
where
    A: Application,
    F: FnOnce(Services) -> anyhow::Result<Arc<A>>,
{
    // Before anything else, so that a signal during the start is not the default action.
    let signals = Signals::new()?;
    let loaded = load(path).with_context(|| format!("{} is refused", path.display()))?;
    let log = logging::init(loaded.config.telemetry.log_level)?;
    let metrics = Metrics::new(clock::since_epoch().as_secs_f64());
    let audit = Audit::start(
        std::io::stdout(),
        metrics.audit_written.clone(),
        metrics.audit_dropped.clone(),
    )?;
    let services = Services {
        audit,
        drain: Drain::new(metrics.drain_stage.clone()),
        readiness: Readiness::new(),
        spawner: Spawner::new(),
        metrics,
    };
    let ending = services.readiness.gate("serving", "starting");
    let app = build(services.clone())?;

    let public = PublicTransport::new(
        services.readiness.gate("tls", "not loaded"),
        Arc::clone(&services.metrics),
    )?;
    let listener = Slot::default();
    let wiring = Arc::new(Wiring {
        app: Arc::clone(&app),
        services: services.clone(),
        log,
        public: Arc::clone(&public),
        status: StatusWiring::default(),
        listener: listener.clone(),
        ports: OnceLock::new(),
    });
    let configuration = Configuration::start(
        path,
        Arc::clone(&wiring) as Arc<dyn Rebuild>,
        Arc::clone(&services.metrics),
        loaded,
    )
    .map_err(|problems| anyhow::anyhow!("{} is refused: {}", path.display(), in_words(&problems)))?;
    let inner = app.start()?;

    let config = configuration.loaded();
    let config = &config.config;
    let public_listener = Listener::new(
        ConnectionLimits::public(&config.limits),
        Arc::clone(public.transport()),
        app.handler(),
        services.metrics.connections(Port::Public),
    );
    listener.set(Arc::clone(&public_listener) as Arc<dyn Limited>);
    if let Some(address) = config.listen.metrics {
        let admin = Admin::new(
            Arc::clone(&services.metrics),
            services.readiness.clone(),
            services.spawner.clone(),
        );
        let transport = swappable(Transport::Plaintext);
        open(&services, Port::Metrics, bind(address), address, transport, admin)?;
    }
    if let Some(status) = &config.listen.status {
        let source = Arc::new(Document {
            wiring: Arc::clone(&wiring),
            configuration: Arc::clone(&configuration),
        });
        let port = StatusPort::new(source, Arc::clone(&wiring.status.access));
        let transport = Arc::clone(&wiring.status.transport);
        open(
            &services,
            Port::Status,
            bind(status.address),
            status.address,
            transport,
            port,
        )?;
    }
    services
        .spawner
        .spawn("config", Arc::clone(&configuration).watch());
    services
        .spawner
        .spawn("certificate", expiry_checks(Arc::clone(&public)));

    let address = config.listen.public.address;
    let accepting = tokio::spawn(accept_when_open(
        Arc::clone(&public_listener),
        public,
        address,
        services.drain.clone(),
        services.readiness.gate("public port", "not bound yet"),
    ));
    ending.open();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "started");

    let ended = Ending {
        registries: std::iter::once(Arc::clone(public_listener.registry()))
            .chain(inner)
            .collect(),
    };
    let mut signals = signals;
    tokio::select! {
        () = signals.next() => {}
        result = accepting => {
            // Before any signal only a port that cannot be bound ends it.
            result.context("the public listener panicked")??;
        }
    }
    let shutdown = configuration.loaded().config.shutdown.clone();
    let clean = services
        .drain
        .run(
            &ending,
            shutdown.grace.get(),
            shutdown.deadline.get(),
            &ended,
            signals.next(),
        )
        .await;
    let quiet = services.spawner.shutdown(LAST_WORDS).await;
    let written = services.audit.finish(LAST_WORDS);
    tracing::info!(clean, quiet, audit_written = written, "ended");
    Ok(())
}

/// Binds the public port when there is something to offer, and accepts until the drain says stop.
async fn accept_when_open<H: Handler>(
    listener: Arc<Listener<H>>,
    public: Arc<PublicTransport>,
    address: SocketAddr,
    drain: Drain,
    bound: Gate,
) -> anyhow::Result<()> {
    let mut said = false;
    while !public.is_open() {
        if !said {
            said = true;
            tracing::warn!(%address, "the public port stays closed until there is a certificate");
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = drain.stop_accepting().cancelled() => return Ok(()),
        }
    }
    let socket = bind(address).with_context(|| format!("the public port {address} cannot be bound"))?;
    bound.open();
    listener.run(socket, drain.stop_accepting().clone()).await;
    Ok(())
}

/// Opens a port for the platform. It lives as long as the process.
fn open<H: Handler>(
    services: &Services,
    port: Port,
    socket: std::io::Result<TcpListener>,
    address: SocketAddr,
    transport: Arc<ArcSwap<Transport>>,
    handler: H,
) -> anyhow::Result<()> {
    let socket = socket.with_context(|| format!("port {address} cannot be bound"))?;
    let metrics = services.metrics.connections(port);
    let listener = Listener::new(ConnectionLimits::internal(), transport, handler, metrics);
    let stop = services.spawner.stop_token().clone();
    services
        .spawner
        .spawn("internal port", listener.run(socket, stop));
    Ok(())
}

async fn expiry_checks(public: Arc<PublicTransport>) {
    loop {
        tokio::time::sleep(EXPIRY_CHECK).await;
        public.expire(clock::now());
    }
}

fn in_words(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Puts a configuration in force everywhere.
struct Wiring<A> {
    app: Arc<A>,
    services: Services,
    log: LogControl,
    public: Arc<PublicTransport>,
    status: StatusWiring,
    listener: Slot,
    ports: OnceLock<Ports>,
}

impl<A: Application> Rebuild for Wiring<A> {
    fn rebuild(&self, loaded: &Arc<Loaded>, files: &Arc<Files>) -> Result<(), Vec<Problem>> {
        // What can refuse comes first; the rest cannot.
        let config = &loaded.config;
        let access = StatusWiring::prepare(config.listen.status.as_ref())?;
        self.app.rebuild(loaded, files)?;
        self.note_ports(&config.listen);
        self.log.set_level(config.telemetry.log_level);
        self.services.audit.set_enabled(config.audit.stdout);
        self.public.update(&config.listen.public, files, clock::now());
        self.status.apply(access, loaded, files);
        self.listener.set_limits(ConnectionLimits::public(&config.limits));
        Ok(())
    }
}

impl<A> Wiring<A> {
    /// Ports are bound once. In a cluster another one comes with another pod; here a person may wonder.
    fn note_ports(&self, listen: &Listen) {
        let ports = Ports::of(listen);
        if *self.ports.get_or_init(|| ports) != ports {
            tracing::warn!(
                "the configuration names other ports than those that are open: restart to use them"
            );
        }
    }
}

/// Where a configuration wants to listen.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ports([Option<SocketAddr>; 4]);

impl Ports {
    fn of(listen: &Listen) -> Self {
        Self([
            Some(listen.public.address),
            listen.metrics,
            listen.status.as_ref().map(|status| status.address),
            listen.peer.as_ref().map(|peer| peer.address),
        ])
    }
}

/// The status port's transport and its reader, as the configuration and the session key make them.
struct StatusWiring {
    transport: Arc<ArcSwap<Transport>>,
    access: Arc<ArcSwap<Access>>,
}

impl Default for StatusWiring {
    fn default() -> Self {
        Self {
            transport: swappable(Transport::Closed),
            access: Arc::new(ArcSwap::from_pointee(Access::Closed)),
        }
    }
}

impl StatusWiring {
    fn prepare(listen: Option<&StatusListener>) -> Result<Access, Vec<Problem>> {
        match listen {
            None => Ok(Access::Closed),
            Some(StatusListener { token: None, .. }) => Ok(Access::Open),
            Some(StatusListener {
                token: Some(token), ..
            }) => TokenVerifier::new(token)
                .map(|verifier| Access::Token(Box::new(verifier)))
                .map_err(|error| {
                    vec![Problem {
                        path: "listen.status.token.jwks".into(),
                        message: error.to_string(),
                    }]
                }),
        }
    }

    fn apply(&self, access: Access, loaded: &Loaded, files: &Files) {
        let transport = match &access {
            Access::Closed => Transport::Closed,
            Access::Open => Transport::Plaintext,
            Access::Token(_) => match identity(loaded, files) {
                Ok(config) => Transport::tls(Arc::new(config)),
                Err(reason) => {
                    tracing::warn!(%reason, "the status port stays closed");
                    Transport::Closed
                }
            },
        };
        // Access first: a transport that opens must find the right guard.
        self.access.store(Arc::new(access));
        self.transport.store(Arc::new(transport));
    }
}

/// The status port's identity: derived from the sealing key, or, while that one is not mounted, from another that is.
fn identity(loaded: &Loaded, files: &Files) -> Result<rustls::ServerConfig, String> {
    let keys = loaded
        .config
        .session_keys
        .as_ref()
        .ok_or("no session key is configured")?;
    let (sealing, others): (Vec<_>, Vec<_>) = keys.keys.iter().partition(|key| key.id == keys.seal_with);
    let key = sealing
        .into_iter()
        .chain(others)
        .find_map(|key| files.bytes(&key.file).ok())
        .ok_or("no session key is mounted")?;
    let identity = raw_key::identity(key, Purpose::Status).map_err(|err| err.to_string())?;
    raw_key::server(identity).map_err(|err| err.to_string())
}

/// A listener whose bounds can be changed.
trait Limited: Send + Sync {
    fn set_limits(&self, limits: ConnectionLimits);
}

impl<H: Handler> Limited for Listener<H> {
    fn set_limits(&self, limits: ConnectionLimits) {
        Listener::set_limits(self, limits);
    }
}

/// The public listener, once there is one: the first rebuild comes before it.
#[derive(Clone, Default)]
struct Slot(Arc<OnceLock<Arc<dyn Limited>>>);

impl Slot {
    fn set(&self, listener: Arc<dyn Limited>) {
        if self.0.set(listener).is_err() {
            // There is only one public listener.
        }
    }

    fn set_limits(&self, limits: ConnectionLimits) {
        if let Some(listener) = self.0.get() {
            listener.set_limits(limits);
        }
    }
}

/// The status document.
struct Document<A> {
    wiring: Arc<Wiring<A>>,
    configuration: Arc<Configuration>,
}

impl<A: Application> StatusSource for Document<A> {
    fn status(&self) -> Status {
        let readiness = &self.wiring.services.readiness;
        let not_ready = readiness.pending();
        let mut references = self.configuration.references();
        if let Some(certificate) = self.wiring.public.reference()
            && let Some(known) = references.iter_mut().find(|known| known.path == certificate.path)
        {
            *known = certificate;
        }
        let mut status = Status {
            gateway_id: self.configuration.loaded().config.gateway.id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            config: self.configuration.status(),
            ready: not_ready.is_empty(),
            not_ready,
            references,
            ..Status::default()
        };
        self.wiring.app.fill_status(&mut status);
        status
    }
}

/// What the end has to wait for.
struct Ending {
    registries: Vec<Arc<Registry>>,
}

impl Finish for Ending {
    fn leave(&self) {
        self.registries.iter().for_each(|registry| registry.leave_all());
    }

    fn finish(&self) {
        self.registries.iter().for_each(|registry| registry.finish_all());
    }

    async fn finished(&self) {
        for registry in &self.registries {
            registry.wait_empty().await;
        }
    }

    fn abort(&self) -> usize {
        self.registries.iter().map(|registry| registry.abort_all()).sum()
    }
}

/// SIGTERM and SIGINT alike.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
