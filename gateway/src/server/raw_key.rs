//! TLS identities without certificates: an Ed25519 raw public key (RFC 7250) derived from the session key, so that
//! whoever knows its fingerprint knows whom it talks to, and nobody has to issue or renew anything.

use std::sync::Arc;

use portcullis_config::keys::{self, KeyTooShort, Purpose};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum RawKeyError {
    /// The session key is too short.
    #[error(transparent)]
    Key(#[from] KeyTooShort),
    /// The TLS library did not take it.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The identity that `session_key` gives for `purpose`.
pub fn identity(session_key: &[u8], purpose: Purpose) -> Result<Arc<CertifiedKey>, RawKeyError> {
    let seed = keys::derive(session_key, purpose)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(keys::ed25519_pkcs8(&seed)));
    let key = rustls::crypto::aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(private)?;
    let public = CertificateDer::from(keys::ed25519_spki(&seed));
    Ok(Arc::new(CertifiedKey::new(vec![public], key)))
}

/// A server that shows this identity and asks for none. TLS 1.3 only: both ends are ours.
pub fn server(identity: Arc<CertifiedKey>) -> Result<rustls::ServerConfig, RawKeyError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}
