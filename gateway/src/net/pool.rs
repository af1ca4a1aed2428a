//! Keep-alive HTTP/1.1 connections to one target.
//!
//! A connection is used by one exchange at a time and comes back when the answer was read to its end. A request goes
//! out twice only where the first connection never took it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use super::connect::{ConnectError, Connector};
use super::target::Target;

/// Idle connections kept for one target.
const MAX_IDLE: usize = 256;
/// How long an idle connection is kept when the server does not say.
const IDLE: Duration = Duration::from_secs(55);
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 << 10;

/// Connections to one target.
pub struct Pool {
    connector: Connector,
    target: Target,
    idle: Mutex<Vec<Idle>>,
    /// Moves with the trust anchors: a connection is kept only by those that it was opened by.
    epoch: AtomicU64,
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    until: Instant,
}

/// An exchange in progress: give it back with [`Pool::put`] when the answer's body was read to its end, or drop it,
/// which closes the connection.
pub struct Lease {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    keep_for: Duration,
    epoch: u64,
}

impl Lease {
    /// Where the connection goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection: the request was not processed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended before an answer: the request may have been processed.
    #[error("the connection to {0} ended without an answer: {1}")]
    Broken(SocketAddr, hyper::Error),
}

impl Pool {
    /// A pool without connections.
    pub fn new(connector: Connector, target: Target) -> Self {
        Self {
            connector,
            target,
            idle: Mutex::new(Vec::new()),
            epoch: AtomicU64::new(0),
        }
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Verifies servers with these trust anchors from now on, also those it is connected to.
    pub fn trust(&self, tls: Arc<ClientConfig>) {
        self.connector.set_tls(tls);
        let mut idle = self.lock();
        self.epoch.fetch_add(1, Ordering::Relaxed);
        idle.clear();
    }

    /// Its connector, for callers that need the addresses.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends `request` (origin-form URI, `Host` set) and gives the head of the answer. `pinned` asks for one address
    /// among the target's.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        pinned: Option<SocketAddr>,
    ) -> Result<(Response<Incoming>, Lease), ExchangeError> {
        self.send_noting(request, pinned, || {}).await
    }

    /// The same; calls `going` when there is a connection, just before the request goes out on it.
    pub async fn send_noting(
        &self,
        mut request: Request<Full<Bytes>>,
        pinned: Option<SocketAddr>,
        going: impl Fn(),
    ) -> Result<(Response<Incoming>, Lease), ExchangeError> {
        loop {
            let epoch = self.epoch.load(Ordering::Relaxed);
            let (mut sender, address, fresh) = if let Some(idle) = self.take(pinned) {
                (idle.sender, idle.address, false)
            } else {
                // Boxed: large and rare, and every exchange would carry the room.
                let (sender, address) = Box::pin(self.open(pinned)).await?;
                (sender, address, true)
            };
            going();
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let keep_for = keep_for(response.headers());
                    return Ok((
                        response,
                        Lease {
                            sender,
                            address,
                            keep_for,
                            epoch,
                        },
                    ));
                }
                Err(mut error) => match error.take_message() {
                    // Closed under us before a byte was written: the next idle connection, or a fresh one.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(ExchangeError::Broken(address, error.into_error())),
                },
            }
        }
    }

    /// Does anybody do a handshake there? Whoever refuses one for a reason of its own is alive.
    pub async fn is_alive(&self) -> bool {
        match self.connector.connect(&self.target, None).await {
            Ok(_) => true,
            Err(error) => !error.is_silence() && !error.is_nobody(),
        }
    }

    /// Takes back a connection whose answer was read to its end.
    pub fn put(&self, lease: Lease) {
        let Lease {
            sender,
            address,
            keep_for,
            epoch,
        } = lease;
        if sender.is_closed() || keep_for.is_zero() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE && epoch == self.epoch.load(Ordering::Relaxed) {
            idle.push(Idle {
                sender,
                address,
                until: Instant::now() + keep_for,
            });
        }
    }

    fn take(&self, pinned: Option<SocketAddr>) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.lock();
        // Last in, first out: the warmest connection, and the others age.
        let mut at = idle.len();
        while let Some(next) = at.checked_sub(1) {
            at = next;
            let Some(candidate) = idle.get_mut(at) else {
                break;
            };
            if candidate.sender.is_closed() {
                idle.swap_remove(at);
                continue;
            }
            if candidate.until <= now {
                idle.swap_remove(at);
                continue;
            }
            if pinned.is_some_and(|address| address != candidate.address) {
                continue;
            }
            if !is_ready(&mut candidate.sender) {
                continue;
            }
            return Some(idle.swap_remove(at));
        }
        None
    }

    async fn open(
        &self,
        pinned: Option<SocketAddr>,
    ) -> Result<(SendRequest<Full<Bytes>>, SocketAddr), ConnectError> {
        let (stream, address) = self.connector.connect(&self.target, pinned).await?;
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Http(address, error))?;
        // Ends with the connection: the last sender that is dropped closes it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %address, "upstream connection ended");
            }
        });
        Ok((sender, address))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Did the connection finish its last exchange? Asked once, without waiting.
fn is_ready(sender: &mut SendRequest<Full<Bytes>>) -> bool {
    sender.is_ready() || matches!(sender.ready().now_or_never(), Some(Ok(())))
}

/// How long the server will keep the connection: a second less than it says, so that we are not the one to write into
/// a connection that is being closed.
fn keep_for(headers: &HeaderMap) -> Duration {
    let said = headers
        .get("keep-alive")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| {
            text.split(',')
                .find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse::<u64>().ok())
        });
    said.map_or(IDLE, |secs| Duration::from_secs(secs.saturating_sub(1)))
        .min(IDLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_word_bounds_how_long_a_connection_is_kept() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", value.parse().unwrap());
            keep_for(&headers)
        };
        assert_eq!(keep_for(&HeaderMap::new()), IDLE);
        assert_eq!(with("timeout=5"), Duration::from_secs(4));
        assert_eq!(with("max=100, timeout=5"), Duration::from_secs(4));
        assert_eq!(with("timeout=1"), Duration::ZERO);
        assert_eq!(with("timeout=3600"), IDLE);
        assert_eq!(with("nonsense"), IDLE);
    }
}
