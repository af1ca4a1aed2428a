//! The bounds of connections, from the configuration and, where it has no field, from here.

use std::time::Duration;

use portcullis_config::limits::Limits;

/// How long a connection may stay between requests. Longer than the idle time-outs of the usual load balancers in
/// front (60 s to 600 s), so that it is they who close first and no request meets a closing connection.
const IDLE: Duration = Duration::from_secs(620);

/// The same while all places are taken.
const IDLE_PRESSED: Duration = Duration::from_secs(2);

/// How long a peer may take nothing of an answer. As long as the usual proxies wait for theirs.
const STALLED_WRITE: Duration = Duration::from_secs(60);

/// The same while all places are taken: shorter, and still longer than a client may stop to draw breath. Anybody can take
/// all places for a while, and must not cut others off by it.
const STALLED_PRESSED: Duration = Duration::from_secs(15);

/// HTTP/2's own question and how long its answer may take.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// How long a connection whose answer is out waits for its client to close, too.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// The most header fields of a request; hyper keeps that many on the stack.
pub const MAX_HEADERS: usize = 100;

/// The times that bound a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the first byte of a head (or the accept) to its end.
    pub header: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Between requests, while all places are taken.
    pub idle_pressed: Duration,
    /// Without the peer taking anything of an answer that waits for it.
    pub stalled_write: Duration,
    /// The same while all places are taken.
    pub stalled_pressed: Duration,
    /// HTTP/2: after this long without a word from the client it is asked whether it is still there.
    pub ping: Duration,
    /// HTTP/2: how long its answer may take.
    pub pong: Duration,
}

impl Deadlines {
    /// How often they are checked: fine enough that a deadline is late by an eighth at most.
    pub(crate) fn sweep_interval(&self) -> Duration {
        (self.header.min(self.idle_pressed) / 8).clamp(Duration::from_millis(5), Duration::from_millis(500))
    }
}

/// The bounds of one listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Times.
    pub deadlines: Deadlines,
    /// Open connections.
    pub max_connections: u32,
    /// Bytes of a request's head.
    pub max_header_bytes: u32,
    /// HTTP/2 requests in flight on one connection.
    pub max_streams: u32,
}

impl ConnectionLimits {
    /// Of the public listener.
    pub fn public(limits: &Limits) -> Self {
        Self {
            deadlines: Deadlines {
                header: limits.header_timeout.get(),
                idle: IDLE,
                idle_pressed: IDLE_PRESSED,
                stalled_write: STALLED_WRITE,
                stalled_pressed: STALLED_PRESSED,
                ping: PING,
                pong: PONG,
            },
            max_connections: limits.max_connections,
            max_header_bytes: u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX),
            max_streams: 128,
        }
    }

    /// Of ports that only the platform reaches: few, small and short.
    pub fn internal() -> Self {
        Self {
            deadlines: Deadlines {
                header: Duration::from_secs(5),
                idle: Duration::from_secs(60),
                idle_pressed: IDLE_PRESSED,
                stalled_write: Duration::from_secs(10),
                stalled_pressed: Duration::from_secs(10),
                ping: PING,
                pong: PONG,
            },
            max_connections: 64,
            max_header_bytes: 16 << 10,
            max_streams: 16,
        }
    }
}
