//! TLS: versions, protocols, and a certificate that changes under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_gateway::server::tls::{Certificate, CertificateStore, Transport, public_server};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::{Server, limits, post, rest, serve_on, until};

/// A certificate in a store, and clients that trust it.
pub(crate) struct Certified {
    pub(crate) store: Arc<CertificateStore>,
    roots: RootCertStore,
}

fn pair() -> (Certificate, CertificateDer<'static>) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let now = portcullis_gateway::clock::now();
    let certificate = Certificate::read(chain.as_bytes(), key.as_bytes(), now).unwrap();
    (
        certificate,
        CertificateDer::from_pem_slice(chain.as_bytes()).unwrap(),
    )
}

impl Certified {
    pub(crate) fn new() -> Self {
        let mut certified = Self {
            store: Arc::default(),
            roots: RootCertStore::empty(),
        };
        certified.renew();
        certified
    }

    /// Another certificate, trusted as well.
    pub(crate) fn renew(&mut self) -> CertificateDer<'static> {
        let (certificate, der) = pair();
        self.roots.add(der.clone()).unwrap();
        self.store.set(&certificate);
        der
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::new(public_server(Arc::clone(&self.store)).unwrap())
    }

    pub(crate) fn client(
        &self,
        alpn: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        // A resumed session shows the certificate of its beginning.
        config.resumption = rustls::client::Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }

    pub(crate) async fn connect(&self, server: &Server, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let connector = self.client(alpn, rustls::ALL_VERSIONS);
        handshake(&connector, server).await.unwrap()
    }
}

async fn handshake(connector: &TlsConnector, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await
}

#[tokio::test]
async fn both_versions_are_served() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connector = certified.client(&[b"http/1.1"], &[version]);
        let mut stream = handshake(&connector, &server).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        stream.write_all(post("/", "hello").as_bytes()).await.unwrap();
        until(&mut stream, "hello\r\n0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_no_answer_of_http() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    let answer = server.exchange(post("/", "{}")).await;
    assert!(!answer.contains("HTTP/"), "{answer}");
    assert_eq!(server.echo.calls(), 0);
}

#[tokio::test]
async fn without_a_certificate_handshakes_fail() {
    let certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    certified.store.clear();
    let connector = certified.client(&[b"http/1.1"], rustls::ALL_VERSIONS);
    assert!(handshake(&connector, &server).await.is_err());
}

#[tokio::test]
async fn a_closed_transport_closes_connections_at_once() {
    let server = serve_on(limits(), Transport::Closed);
    assert_eq!(rest(&mut server.connect().await).await, "");
    assert_eq!(server.echo.calls(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_without_a_failure() {
    let mut certified = Certified::new();
    let config = certified.server();
    // All certificates are made beforehand, so that every client trusts them all.
    let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
    for (_, der) in &pairs {
        certified.roots.add(der.clone()).unwrap();
    }
    let server = Arc::new(serve_on(limits(), Transport::tls(config)));
    let done = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..4 {
        // New connections all the time, each with two requests.
        let connector = certified.client(&[b"http/1.1"], &[&rustls::version::TLS13]);
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        clients.push(tokio::spawn(async move {
            let mut seen = std::collections::HashSet::new();
            let mut requests = 0;
            while done.load(Ordering::SeqCst) == 0 {
                let mut stream = handshake(&connector, &server).await.unwrap();
                if let Some(chain) = stream.get_ref().1.peer_certificates() {
                    seen.insert(chain[0].to_vec());
                }
                for _ in 0..2 {
                    stream.write_all(post("/", "hello").as_bytes()).await.unwrap();
                    until(&mut stream, "hello\r\n0\r\n\r\n").await;
                    requests += 1;
                }
            }
            (seen.len(), requests)
        }));
    }
    for (certificate, _) in &pairs {
        tokio::time::sleep(Duration::from_millis(100)).await;
        certified.store.set(certificate);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    done.store(1, Ordering::SeqCst);
    let mut most = 0;
    for client in clients {
        let (seen, requests) = client.await.unwrap();
        assert!(requests > 0);
        most = most.max(seen);
    }
    assert!(most > 1, "no client saw a change");
    // From now on only the last one.
    let connector = certified.client(&[b"http/1.1"], &[&rustls::version::TLS13]);
    let stream = handshake(&connector, &server).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], pairs[4].1);
}

#[tokio::test]
async fn a_connection_that_is_open_outlives_a_new_certificate() {
    let mut certified = Certified::new();
    let server = serve_on(limits(), Transport::tls(certified.server()));
    let mut stream = certified.connect(&server, &[b"http/1.1"]).await;
    for _ in 0..2 {
        stream.write_all(post("/", "hello").as_bytes()).await.unwrap();
        until(&mut stream, "hello\r\n0\r\n\r\n").await;
        certified.renew();
    }
}
