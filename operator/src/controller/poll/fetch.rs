//! One read of one pod's status port: TLS with a pinned raw public key, our own token, a bounded answer, little time.
//!
//! It goes to the pod directly and not through the API server, so that looking costs the cluster nothing and needs no
//! right there.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use portcullis_config::PORT_STATUS;
use portcullis_config::keys::fingerprint;
use portcullis_config::status::Status;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one read may take, the connection included.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest status document that is read. One of 500 servers with 100 tools each has about 4 MiB.
const MAX_BYTES: usize = 8 << 20;
/// The longest token that is sent: a projected token has about 1 KiB.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A pod whose status port is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTarget {
    /// The pod's UID.
    pub uid: String,
    /// Its name, for messages.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// UID of the gateway it must report for.
    pub gateway_uid: String,
    /// Fingerprints of the identities it may have, of the session keys that exist.
    pub fingerprints: Vec<String>,
}

/// Why a pod's status could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Our own token is missing or unusable.
    #[error("the operator's token cannot be read: {0}")]
    Token(String),
    /// No connection.
    #[error("no connection to the status port: {0}")]
    Connect(#[source] std::io::Error),
    /// No complete answer in time.
    #[error("no answer from the status port within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// It is not who it should be, or does not speak TLS.
    #[error("the status port did not prove its identity: {0}")]
    Identity(#[source] std::io::Error),
    /// It broke off.
    #[error("the status port broke off: {0}")]
    Http(#[source] hyper::Error),
    /// It refused us.
    #[error("the status port answered {0}")]
    Refused(StatusCode),
    /// It reports for somebody else.
    #[error("the status port reports for another gateway")]
    WrongGateway,
    /// Its answer is too long.
    #[error("the status document is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Its answer is no status document.
    #[error("the status document cannot be read: {0}")]
    Malformed(#[source] serde_json::Error),
}

impl PollError {
    /// The error as metrics label it.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Connect(_) => "connect",
            Self::TimedOut => "timeout",
            Self::Identity(_) => "identity",
            Self::Http(_) => "http",
            Self::Refused(_) => "refused",
            Self::WrongGateway => "wrong_gateway",
            Self::TooLong => "too_long",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// A read under way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Status, PollError>> + Send + 'a>>;

/// Whatever can read a pod's status.
pub trait Fetch: Send + Sync + 'static {
    /// Reads it once.
    fn fetch<'a>(&'a self, target: &'a PodTarget) -> Fetching<'a>;
}

/// The real one.
#[derive(Debug)]
pub struct StatusPort {
    provider: Arc<CryptoProvider>,
    token_file: PathBuf,
    port: u16,
}

impl StatusPort {
    /// Reads status ports with the token in `token_file`, which is read again each time: the kubelet renews it.
    pub fn new(provider: Arc<CryptoProvider>, token_file: PathBuf) -> Self {
        Self {
            provider,
            token_file,
            port: PORT_STATUS,
        }
    }

    /// The same with another port, for tests.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    async fn token(&self) -> Result<header::HeaderValue, PollError> {
        let bad = |why: &str| PollError::Token(format!("{}: {why}", self.token_file.display()));
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|error| bad(&error.to_string()))?;
        let token = token.trim();
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(bad("empty, or longer than a token is"));
        }
        let mut value =
            header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad("not a token"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn read(&self, target: &PodTarget) -> Result<Status, PollError> {
        let token = self.token().await?;
        let stream = TcpStream::connect(SocketAddr::new(target.ip, self.port))
            .await
            .map_err(PollError::Connect)?;
        let config = client_config(&self.provider, &target.fingerprints)
            .map_err(|error| PollError::Identity(std::io::Error::other(error)))?;
        let name = ServerName::IpAddress(target.ip.into());
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(PollError::Identity)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(PollError::Http)?;
        let request = Request::get("/status")
            .header(header::HOST, format!("{}:{}", bracketed(target.ip), self.port))
            .header(header::AUTHORIZATION, token)
            .header(header::CONNECTION, "close")
            .body(Empty::<bytes::Bytes>::new())
            .expect("constant parts and an address make a request");
        let exchange = async {
            let response = sender.send_request(request).await.map_err(PollError::Http)?;
            if response.status() != StatusCode::OK {
                return Err(PollError::Refused(response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
            let bytes = body
                .map_err(|error| match error.downcast::<LengthLimitError>() {
                    Ok(_) => PollError::TooLong,
                    Err(error) => error
                        .downcast::<hyper::Error>()
                        .map_or_else(|_| PollError::TooLong, |error| PollError::Http(*error)),
                })?
                .to_bytes();
            serde_json::from_slice(&bytes).map_err(PollError::Malformed)
        };
        // The connection only has to be driven until the answer is there.
        tokio::select! {
            answer = exchange => answer,
            Err(error) = connection => Err(PollError::Http(error)),
        }
    }
}

impl Fetch for StatusPort {
    fn fetch<'a>(&'a self, target: &'a PodTarget) -> Fetching<'a> {
        Box::pin(async move {
            tokio::time::timeout(TIMEOUT, self.read(target))
                .await
                .unwrap_or(Err(PollError::TimedOut))
        })
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// TLS 1.3 that accepts a raw public key (RFC 7250) with one of these fingerprints, and nothing else.
fn client_config(
    provider: &Arc<CryptoProvider>,
    fingerprints: &[String],
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Pinned {
        provider: Arc::clone(provider),
        fingerprints: fingerprints.to_vec(),
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    provider: Arc<CryptoProvider>,
    fingerprints: Vec<String>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // With raw public keys, what stands in the certificate's place is the SubjectPublicKeyInfo itself.
        let shown = fingerprint(end_entity.as_ref());
        if self.fingerprints.contains(&shown) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(cert.as_ref()),
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use portcullis_config::keys::{Purpose, derive, ed25519_pkcs8, ed25519_spki};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::server::AlwaysResolvesServerRawPublicKeys;
    use rustls::sign::CertifiedKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const TOKEN: &str = "the-token";

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    /// What a status port of the session key `key` does on one connection: `answer`, if it is asked with the token.
    async fn status_port(key: [u8; 32], answer: Vec<u8>) -> (u16, String) {
        let seed = derive(&key, Purpose::Status).unwrap();
        let private = PrivatePkcs8KeyDer::from(ed25519_pkcs8(&seed));
        let signing = provider().key_provider.load_private_key(private.into()).unwrap();
        let public = ed25519_spki(&seed);
        let identity = CertifiedKey::new(vec![public.clone().into()], signing);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
                identity,
            ))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut tls) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return;
            };
            let mut request = vec![0; 4096];
            let read = tls.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
            let permitted = request.starts_with("get /status ")
                && request.contains(&format!("authorization: bearer {TOKEN}"));
            let answer = if permitted {
                answer
            } else {
                response("401 Unauthorized", b"")
            };
            // The reader may have hung up on an answer that is too long.
            drop(tls.write_all(&answer).await);
            drop(tls.shutdown().await);
        });
        (port, fingerprint(&public))
    }

    fn response(status: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn good() -> Vec<u8> {
        response("200 OK", br#"{"gatewayId": "uid", "config": {"hash": "h"}}"#)
    }

    async fn read(port: u16, fingerprint: &str, token: &str) -> Result<Status, PollError> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("portcullis-token-{}-{number}", std::process::id()));
        std::fs::write(&file, token).unwrap();
        let target = PodTarget {
            uid: "u".into(),
            name: "p".into(),
            ip: [127, 0, 0, 1].into(),
            gateway_uid: "uid".into(),
            fingerprints: vec!["0".repeat(64), fingerprint.to_owned()],
        };
        let answer = StatusPort::new(provider(), file.clone())
            .with_port(port)
            .fetch(&target)
            .await;
        std::fs::remove_file(file).unwrap();
        answer
    }

    #[tokio::test]
    async fn a_pod_that_holds_the_key_is_read() {
        let (port, fingerprint) = status_port([7; 32], good()).await;
        let status = read(port, &fingerprint, &format!("{TOKEN}\n")).await.unwrap();
        assert_eq!(
            (status.gateway_id.as_str(), status.config.hash.as_str()),
            ("uid", "h")
        );
    }

    #[tokio::test]
    async fn a_pod_that_holds_another_key_never_sees_the_token() {
        let (port, _) = status_port([7; 32], good()).await;
        let seed = derive(&[8; 32], Purpose::Status).unwrap();
        let other = fingerprint(&ed25519_spki(&seed));
        let error = read(port, &other, TOKEN).await.unwrap_err();
        assert_eq!(error.label(), "identity");
    }

    #[tokio::test]
    async fn a_plaintext_port_is_not_believed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(stream.write_all(&good()).await);
        });
        assert_eq!(
            read(port, &"1".repeat(64), TOKEN).await.unwrap_err().label(),
            "identity"
        );
    }

    #[tokio::test]
    async fn refusals_and_nonsense_have_names() {
        let (port, key) = status_port([7; 32], good()).await;
        assert_eq!(read(port, &key, "another").await.unwrap_err().label(), "refused");
        let (port, key) = status_port([7; 32], response("200 OK", b"nonsense")).await;
        assert_eq!(read(port, &key, TOKEN).await.unwrap_err().label(), "malformed");
        let (port, key) = status_port([7; 32], response("200 OK", &vec![b' '; MAX_BYTES + 1])).await;
        assert_eq!(read(port, &key, TOKEN).await.unwrap_err().label(), "too_long");
        let (port, key) = status_port([7; 32], good()).await;
        assert_eq!(read(port, &key, "").await.unwrap_err().label(), "token");
    }

    #[tokio::test]
    async fn nobody_there_is_no_connection_and_silence_is_cut_off() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = gone.local_addr().unwrap().port();
        drop(gone);
        assert_eq!(
            read(port, &"1".repeat(64), TOKEN).await.unwrap_err().label(),
            "connect"
        );
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let start = std::time::Instant::now();
        assert_eq!(
            read(port, &"1".repeat(64), TOKEN).await.unwrap_err().label(),
            "timeout"
        );
        assert!(start.elapsed() < TIMEOUT * 2);
    }
}
