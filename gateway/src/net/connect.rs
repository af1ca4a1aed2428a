//! One connection to a [`Target`]: resolve, judge, connect to that address, verify the certificate.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolve::{ResolveError, Resolver};
use super::target::Target;
use super::{address, alive};

/// Longest wait for TCP and TLS together, for all addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to targets; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    resolver: Resolver,
    tls: Arc<ArcSwap<ClientConfig>>,
}

/// Why there is no connection. The messages name hosts and addresses: they are for logs and status, not for clients.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name gave no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// It gave addresses, and the policy allows none of them.
    #[error("{host} resolves to {address}, which the address policy {policy} does not allow")]
    Refused {
        /// The name.
        host: String,
        /// One of its addresses.
        address: IpAddr,
        /// The policy's name.
        policy: &'static str,
    },
    /// Nobody answers there.
    #[error("no connection to {0}: {1}")]
    Tcp(SocketAddr, io::Error),
    /// TLS failed, the certificate for example.
    #[error("no TLS with {0}: {1}")]
    Tls(SocketAddr, io::Error),
    /// No name server answered.
    #[error("{0} was not resolved within {CONNECT_TIMEOUT:?}: do the name servers answer?")]
    ResolveTimeout(String),
    /// The address does not answer, as when a network policy drops what is sent to it.
    #[error("no connection to {0} within {CONNECT_TIMEOUT:?}, the last address tried was {1}")]
    Timeout(String, SocketAddr),
    /// What a session was pinned to is no longer there: the name leads elsewhere now, or nobody answers.
    #[error("the address {0} that the session is pinned to is gone: {1}")]
    PinLost(SocketAddr, String),
    /// HTTP could not be set up on it.
    #[error("no HTTP with {0}: {1}")]
    Http(SocketAddr, hyper::Error),
}

impl ConnectError {
    /// Does it say that nobody is at the address any more? A time that ran out does not, nor does a want of files or ports
    /// of ours.
    pub(super) fn is_nobody(&self) -> bool {
        use io::ErrorKind as K;
        match self {
            Self::Tcp(_, error) => matches!(
                error.kind(),
                K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable
            ),
            _ => false,
        }
    }

    /// May it be that somebody else has the address by now, or nobody: what was sent is swallowed, or the certificate is
    /// not the one?
    fn is_somebody_else(&self) -> bool {
        match self {
            Self::Timeout(..) => true,
            Self::Tls(_, error) => error
                .get_ref()
                .and_then(|error| error.downcast_ref::<rustls::Error>())
                .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_))),
            _ => false,
        }
    }
}

impl ConnectError {
    /// Did the time run out without an answer?
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout(..))
    }
}

impl Connector {
    /// Connects with `resolver`'s answers and `tls`'s trust anchors.
    pub fn new(resolver: Resolver, tls: Arc<ClientConfig>) -> Self {
        Self {
            resolver,
            tls: Arc::new(ArcSwap::new(tls)),
        }
    }

    /// Connects with these trust anchors from now on.
    pub fn set_tls(&self, tls: Arc<ClientConfig>) {
        self.tls.store(tls);
    }

    /// Every address of the target that its policy allows, in the resolver's order. Never empty.
    pub async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = self.resolver.resolve(&target.host).await?;
        let refused = found.first().copied();
        let allowed: Vec<SocketAddr> = found
            .into_iter()
            .filter(|ip| address::allowed(target.policy, *ip))
            .map(|ip| SocketAddr::new(ip, target.port))
            .collect();
        match (allowed.is_empty(), refused) {
            (true, Some(address)) => Err(ConnectError::Refused {
                host: target.host.to_string(),
                address,
                policy: name(target.policy),
            }),
            _ => Ok(allowed),
        }
    }

    /// A connection to the target: to `pinned` where one is given, and to no other then; else to the first address that
    /// answers.
    pub async fn connect(
        &self,
        target: &Target,
        pinned: Option<SocketAddr>,
    ) -> Result<(Stream, SocketAddr), ConnectError> {
        if let Some(pin) = pinned {
            return self.connect_pinned(target, pin).await;
        }
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut addresses = self.addresses_by(target, deadline).await?;
        // Replicas behind a headless name share the load.
        if addresses.len() > 1 {
            let start = rand::random_range(0..addresses.len());
            addresses.rotate_left(start);
        }
        let mut last = ConnectError::ResolveTimeout(target.host.to_string());
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            // One address that swallows packets must not use up the time of the others.
            let now = Instant::now();
            let until = now + deadline.saturating_duration_since(now) / left.max(1);
            left = left.saturating_sub(1);
            last = match self.connect_by(target, address, until).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => error,
            };
        }
        Err(last)
    }

    /// A connection to the one address at which a session was opened. Without TLS the pin holds only while the name leads
    /// there: an address that was given to somebody else since must not be sent what is meant for the target. With TLS
    /// the certificate tells who is there, and names that lead to other addresses each time, as those of large services do, keep
    /// their sessions. Lost is a pin only where that is certain: a name server or a server that is slow for once is an
    /// ordinary failure.
    async fn connect_pinned(
        &self,
        target: &Target,
        pin: SocketAddr,
    ) -> Result<(Stream, SocketAddr), ConnectError> {
        if target.tls_name.is_some() {
            if !address::allowed(target.policy, pin.ip()) {
                let why = "the address policy does not allow it any more".to_owned();
                return Err(ConnectError::PinLost(pin, why));
            }
        } else {
            let found = self
                .addresses_by(target, Instant::now() + CONNECT_TIMEOUT)
                .await?;
            if !found.contains(&pin) {
                return Err(if leads_elsewhere(&found, pin) {
                    ConnectError::PinLost(pin, format!("{} does not lead there", target.host))
                } else {
                    ConnectError::ResolveTimeout(target.host.to_string())
                });
            }
        }
        match self
            .connect_by(target, pin, Instant::now() + CONNECT_TIMEOUT)
            .await
        {
            Ok(stream) => Ok((stream, pin)),
            Err(error) if error.is_nobody() => Err(ConnectError::PinLost(pin, error.to_string())),
            // One that swallows packets or is somebody else, and that the name no longer leads to, will not be there again.
            Err(error) if target.tls_name.is_some() && error.is_somebody_else() => {
                let found = self.addresses_by(target, Instant::now() + CONNECT_TIMEOUT).await;
                match found {
                    Ok(found) if leads_elsewhere(&found, pin) => {
                        Err(ConnectError::PinLost(pin, error.to_string()))
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn addresses_by(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        timeout_at(deadline, self.addresses(target))
            .await
            .unwrap_or_else(|_| Err(ConnectError::ResolveTimeout(target.host.to_string())))
    }

    async fn connect_by(
        &self,
        target: &Target,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<Stream, ConnectError> {
        timeout_at(deadline, self.connect_to(target, address))
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout(target.host.to_string(), address)))
    }

    async fn connect_to(&self, target: &Target, address: SocketAddr) -> Result<Stream, ConnectError> {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|error| ConnectError::Tcp(address, error))?;
        tcp.set_nodelay(true)
            .and_then(|()| alive::demand(&tcp))
            .map_err(|error| ConnectError::Tcp(address, error))?;
        let Some(name) = &target.tls_name else {
            return Ok(Stream::Plain(tcp));
        };
        let tls = TlsConnector::from(self.tls.load_full())
            .connect(name.clone(), tcp)
            .await
            .map_err(|error| ConnectError::Tls(address, error))?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

/// Does a name with these addresses lead elsewhere? Half of an answer, of the other family only, does not say so.
fn leads_elsewhere(found: &[SocketAddr], pin: SocketAddr) -> bool {
    !found.contains(&pin) && found.iter().any(|ip| ip.is_ipv4() == pin.is_ipv4())
}

const fn name(policy: portcullis_config::server::AddressPolicy) -> &'static str {
    use portcullis_config::server::AddressPolicy as P;
    match policy {
        P::Public => "Public",
        P::Private => "Private",
        P::Cluster => "Cluster",
        P::Loopback => "Loopback",
    }
}

/// A connection, with or without TLS.
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::server::AddressPolicy;
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::trust;

    async fn connect(listener: &TcpListener, pinned: SocketAddr) -> Result<SocketAddr, ConnectError> {
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://localhost:{port}/").parse().unwrap();
        let target = Target::new(&url, AddressPolicy::Loopback).unwrap();
        let connector = Connector::new(
            Resolver::system(Duration::from_secs(5)),
            trust::client_config(trust::public_roots()),
        );
        let connected = connector.connect(&target, Some(pinned)).await;
        connected.map(|(_, address)| address)
    }

    #[tokio::test]
    async fn a_pin_holds_only_while_the_name_leads_there() {
        let ours = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ours.local_addr().unwrap();
        assert_eq!(connect(&ours, address).await.unwrap(), address);
        // Somebody answers there, and the policy allows it; but it is not what the name stands for.
        let other = TcpListener::bind(SocketAddr::new([127, 0, 0, 2].into(), address.port()))
            .await
            .unwrap();
        let refused = connect(&ours, other.local_addr().unwrap()).await;
        assert!(matches!(refused, Err(ConnectError::PinLost(..))), "{refused:?}");
        assert!(futures::FutureExt::now_or_never(other.accept()).is_none());
    }

    #[tokio::test]
    async fn a_server_that_vanishes_is_noticed() {
        let ours = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", ours.local_addr().unwrap()).parse().unwrap();
        let target = Target::new(&url, AddressPolicy::Loopback).unwrap();
        let connector = Connector::new(
            Resolver::system(Duration::from_secs(5)),
            trust::client_config(trust::public_roots()),
        );
        let (stream, _) = connector.connect(&target, None).await.unwrap();
        let Stream::Plain(tcp) = stream else {
            panic!("TLS where none was asked for")
        };
        let socket = socket2::SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_keepalive_time().unwrap() <= Duration::from_secs(60));
        assert!(socket.tcp_user_timeout().unwrap().unwrap() <= Duration::from_secs(120));
    }

    #[tokio::test]
    async fn with_tls_the_certificate_tells_who_is_there() {
        let ours = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = ours.local_addr().unwrap().port();
        let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), port);
        let other = TcpListener::bind(elsewhere).await.unwrap();
        let url = format!("https://localhost:{port}/").parse().unwrap();
        let connector = Connector::new(
            Resolver::system(Duration::from_secs(5)),
            trust::client_config(trust::public_roots()),
        );
        let connect = async |policy, pin| {
            let target = Target::new(&url, policy).unwrap();
            connector.connect(&target, Some(pin)).await.map(drop)
        };
        // The name leads elsewhere now; who answers without the certificate is an ordinary failure, not a lost session.
        let (refused, ()) = tokio::join!(connect(AddressPolicy::Loopback, elsewhere), async {
            drop(other.accept().await);
        });
        assert!(matches!(refused, Err(ConnectError::Tls(..))), "{refused:?}");
        // With another's certificate it is somebody else's address by now.
        let key = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls_pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (lost, _) = tokio::join!(connect(AddressPolicy::Loopback, elsewhere), async {
            acceptor.accept(other.accept().await.unwrap().0).await
        });
        assert!(matches!(lost, Err(ConnectError::PinLost(..))), "{lost:?}");
        let forbidden = connect(AddressPolicy::Public, elsewhere).await;
        assert!(
            matches!(forbidden, Err(ConnectError::PinLost(..))),
            "{forbidden:?}"
        );
    }

    #[tokio::test]
    async fn an_answer_of_the_other_family_says_nothing_about_a_pin() {
        let ours = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", ours.local_addr().unwrap()).parse().unwrap();
        let target = Target::new(&url, AddressPolicy::Loopback).unwrap();
        let connector = Connector::new(
            Resolver::system(Duration::from_secs(5)),
            trust::client_config(trust::public_roots()),
        );
        let pin = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), 1);
        let unknown = connector.connect(&target, Some(pin)).await;
        assert!(matches!(unknown, Err(ConnectError::ResolveTimeout(_))));
    }

    #[tokio::test]
    async fn a_pinned_address_that_does_not_answer_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("http://{address}/").parse().unwrap();
        let target = Target::new(&url, AddressPolicy::Loopback).unwrap();
        let connector = Connector::new(
            Resolver::system(Duration::from_secs(5)),
            trust::client_config(trust::public_roots()),
        );
        let pinned = connector.connect(&target, Some(address)).await;
        assert!(matches!(pinned, Err(ConnectError::PinLost(..))));
        let free = connector.connect(&target, None).await;
        assert!(matches!(free, Err(ConnectError::Tcp(..))));
    }
}
