//! Trust anchors for outgoing TLS: the public ones that Mozilla keeps, or a bundle in their place.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The bundle holds no usable certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not PEM.
    #[error("the CA bundle is not PEM: {0}")]
    Pem(String),
    /// A certificate in it cannot be a trust anchor.
    #[error("the CA bundle holds a certificate that cannot be a trust anchor: {0}")]
    Anchor(String),
    /// Nothing in it.
    #[error("the CA bundle holds no certificate")]
    Empty,
}

/// The public trust anchors.
pub fn public_roots() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

/// The trust anchors of a PEM bundle.
pub fn bundle_roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TrustError::Pem(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| TrustError::Anchor(error.to_string()))?;
    }
    if roots.is_empty() {
        Err(TrustError::Empty)
    } else {
        Ok(roots)
    }
}

/// A client configuration that trusts `roots`, offers HTTP/1.1, and presents no certificate.
pub fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
