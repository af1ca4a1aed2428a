//! TLS for clients, with a certificate that is swapped while connections come in.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::server::certificate::not_after;

/// What a new connection gets.
pub enum Transport {
    /// Nothing: it is closed at once.
    Closed,
    /// HTTP as it is.
    Plaintext,
    /// TLS first.
    Tls(TlsAcceptor),
}

impl Transport {
    /// TLS with this configuration.
    pub fn tls(config: Arc<ServerConfig>) -> Self {
        Self::Tls(TlsAcceptor::from(config))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Plaintext => "Plaintext",
            Self::Tls(_) => "Tls",
        })
    }
}

/// Why a certificate and its key are not usable.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate file is not PEM, or empty.
    #[error("the certificate file holds no readable PEM certificate")]
    NoCertificate,
    /// The key file is not PEM, or of a kind we do not know.
    #[error("the key file holds no readable PEM private key")]
    NoKey,
    /// Another key than the certificate's.
    #[error("certificate and key do not belong together, or are of an unsupported kind: {0}")]
    Mismatch(rustls::Error),
    /// Over already.
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    /// No date in it.
    #[error("the certificate's validity cannot be read")]
    NoValidity,
}

/// A certificate chain with its key, checked.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// When the leaf expires.
    pub expires: Timestamp,
}

impl Certificate {
    /// Reads a PEM chain, leaf first, and its key, and checks that they belong together and that `now` is before the end.
    pub fn read(chain: &[u8], key: &[u8], now: Timestamp) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate)?;
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        let expires = not_after(leaf).ok_or(CertificateError::NoValidity)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(CertificateError::Mismatch)?;
        if expires <= now {
            return Err(CertificateError::Expired(expires));
        }
        Ok(Self {
            key: Arc::new(key),
            expires,
        })
    }
}

/// Shows clients the current certificate.
#[derive(Debug, Default)]
pub struct CertificateStore {
    current: ArcSwapOption<CertifiedKey>,
}

impl CertificateStore {
    /// From now on this one.
    pub fn set(&self, certificate: &Certificate) {
        self.current.store(Some(Arc::clone(&certificate.key)));
    }

    /// From now on none: handshakes fail.
    pub fn clear(&self) {
        self.current.store(None);
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// TLS 1.2 and 1.3 with the library's suites (all with forward secrecy and authenticated encryption), HTTP/2 and
/// HTTP/1.1, and session tickets whose keys live in this process only.
pub fn public_server(store: Arc<CertificateStore>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(store);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// A transport that can be swapped.
pub fn swappable(transport: Transport) -> Arc<ArcSwap<Transport>> {
    Arc::new(ArcSwap::from_pointee(transport))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::pair;
    use jiff::ToSpan as _;

    fn now() -> Timestamp {
        crate::clock::now()
    }

    #[test]
    fn a_pair_is_read_with_its_expiry() {
        let (chain, key) = pair(2040);
        let certificate = Certificate::read(chain.as_bytes(), key.as_bytes(), now()).unwrap();
        assert_eq!(certificate.expires.to_string(), "2040-01-01T00:00:00Z");
    }

    #[test]
    fn a_chain_keeps_its_order() {
        let (leaf, key) = pair(2040);
        let (issuer, _) = pair(2050);
        let certificate = Certificate::read((leaf + &issuer).as_bytes(), key.as_bytes(), now()).unwrap();
        assert_eq!(certificate.key.cert.len(), 2);
        assert_eq!(certificate.expires.to_string(), "2040-01-01T00:00:00Z");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (chain, _) = pair(2040);
        let (_, key) = pair(2040);
        let error = Certificate::read(chain.as_bytes(), key.as_bytes(), now()).unwrap_err();
        assert!(matches!(error, CertificateError::Mismatch(_)), "{error}");
    }

    #[test]
    fn what_is_no_pem_is_refused() {
        let (chain, key) = pair(2040);
        let read =
            |chain: &str, key: &str| Certificate::read(chain.as_bytes(), key.as_bytes(), now()).unwrap_err();
        assert!(matches!(read("", &key), CertificateError::NoCertificate));
        assert!(matches!(read(&key, &key), CertificateError::NoCertificate));
        assert!(matches!(
            read("-----BEGIN CERTIFICATE-----\nAA", &key),
            CertificateError::NoCertificate
        ));
        assert!(matches!(read(&chain, ""), CertificateError::NoKey));
        assert!(matches!(read(&chain, &chain), CertificateError::NoKey));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(read(garbage, &key), CertificateError::NoValidity));
    }

    #[test]
    fn an_expired_one_is_refused() {
        let (chain, key) = pair(2040);
        let after = "2040-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
        let read = |now| Certificate::read(chain.as_bytes(), key.as_bytes(), now);
        assert!(matches!(read(after), Err(CertificateError::Expired(_))));
        assert!(read(after.checked_sub(1.second()).unwrap()).is_ok());
    }
}
