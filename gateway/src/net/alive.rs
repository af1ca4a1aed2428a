//! Notices peers that vanished without a word: a host that lost its power, a firewall that forgot the connection. Where
//! nothing is sent, nothing else would ever tell.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Silence after which the peer's kernel is asked for a sign of life.
const IDLE: Duration = Duration::from_secs(30);
/// Between two such questions.
const INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered questions after which the connection is broken.
const RETRIES: u32 = 3;
/// How long what was sent may be without acknowledgement (RFC 5482). A server that is there but takes nothing
/// of a request for so long is held to it as well.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// The peer of `socket` is asked for signs of life. Sockets that a listening one accepts inherit it.
pub fn ask(socket: &impl AsFd) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// The same, and what is sent must be acknowledged in time: for connections to servers.
pub fn demand(socket: &impl AsFd) -> io::Result<()> {
    ask(socket)?;
    SockRef::from(socket).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}
