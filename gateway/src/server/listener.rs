//! Accepts connections, up to a number, until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::net::alive;
use crate::server::connection::{Accepted, Arrival, Handler, Protocol};
use crate::server::limits::ConnectionLimits;
use crate::server::registry::Registry;
use crate::server::tls::Transport;
use crate::telemetry::metrics::{CloseReason, ConnectionMetrics};

/// Connections that the kernel holds until we accept them.
const BACKLOG: u32 = 4096;

/// How long a new connection waits for a place while idle ones are asked to leave.
const PLACE_WAIT: Duration = Duration::from_millis(500);

/// How long to rest when the process has run out of something that only time gives back, such as descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Binds a port.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart must not wait for the last process's connections to time out.
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: a client that vanished without a word is noticed in the end, even on a silent stream.
    alive::ask(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One port: its transport, its bounds and its open connections.
pub struct Listener<H> {
    transport: Arc<ArcSwap<Transport>>,
    protocol: ArcSwap<Protocol>,
    limits: ArcSwap<ConnectionLimits>,
    places: Arc<Semaphore>,
    registry: Arc<Registry>,
    handler: H,
    metrics: ConnectionMetrics,
}

impl<H: Handler> Listener<H> {
    /// A listener that answers with `handler`. `transport` may be swapped while it runs: every new connection takes
    /// the one that is there when it comes.
    pub fn new(
        limits: ConnectionLimits,
        transport: Arc<ArcSwap<Transport>>,
        handler: H,
        metrics: ConnectionMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            transport,
            protocol: ArcSwap::from_pointee(Protocol::new(&limits)),
            places: Arc::new(Semaphore::new(places(&limits))),
            registry: Registry::new(limits.deadlines, metrics.clone()),
            limits: ArcSwap::from_pointee(limits),
            handler,
            metrics,
        })
    }

    /// Its open connections.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Takes the bounds of a reloaded configuration. Connections that are open keep their protocol settings, not
    /// their deadlines.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        let old = self.limits.swap(Arc::new(limits));
        if *old == limits {
            return;
        }
        self.registry.set_deadlines(limits.deadlines);
        self.protocol.store(Arc::new(Protocol::new(&limits)));
        let (before, now) = (places(&old), places(&limits));
        if now > before {
            self.places.add_permits(now - before);
        } else {
            // Places that are taken now are given up as their connections end.
            let missing = before - now;
            let gone = self.places.forget_permits(missing);
            if gone < missing {
                let places = Arc::clone(&self.places);
                let rest = u32::try_from(missing - gone).unwrap_or(u32::MAX);
                tokio::spawn(async move {
                    if let Ok(permits) = places.acquire_many_owned(rest).await {
                        permits.forget();
                    }
                });
            }
        }
    }

    /// Accepts until `stop`, then takes what the kernel has already queued, and closes the port. Connections live on.
    pub async fn run(self: Arc<Self>, socket: TcpListener, stop: CancellationToken) {
        let sweeps = tokio::spawn(Arc::clone(&self.registry).run_sweeps());
        let _sweeps = AbortOnDrop(sweeps);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer).await,
                Err(err) if is_about_one_connection(&err) => {}
                Err(err) => {
                    tracing::warn!(error = %err, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        while let Some(Ok((stream, peer))) = futures::FutureExt::now_or_never(socket.accept()) {
            self.admit(stream, peer).await;
        }
        drop(socket);
        // The sweep has to go on while connections end.
        self.registry.wait_empty().await;
    }

    async fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let arrival = self.handler.arrival(peer.ip());
        if arrival == Arrival::Refused {
            self.metrics.closed(CloseReason::NoProxy);
            return;
        }
        let Some(place) = self.place().await else {
            self.metrics.closed(CloseReason::Full);
            return;
        };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let accepted = Accepted {
            stream,
            peer,
            announced: arrival == Arrival::Announced,
            local,
            transport: self.transport.load_full(),
            protocol: self.protocol.load_full(),
            entry: self.registry.enter(),
            handler: self.handler.clone(),
            metrics: self.metrics.clone(),
        };
        tokio::spawn(async move {
            accepted.run().await;
            drop(place);
        });
    }

    /// A place for one more connection. When all are taken, those that only wait are asked to leave first.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        self.registry.set_pressure(true);
        self.registry.sweep();
        let place = tokio::time::timeout(PLACE_WAIT, Arc::clone(&self.places).acquire_owned()).await;
        self.registry.set_pressure(false);
        place.ok()?.ok()
    }
}

fn places(limits: &ConnectionLimits) -> usize {
    usize::try_from(limits.max_connections)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// Errors of `accept` that say something of one connection only (it was gone before we took it).
fn is_about_one_connection(err: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        err.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
