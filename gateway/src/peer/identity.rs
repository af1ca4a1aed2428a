//! TLS between replicas: Ed25519 raw public keys, pinned in both directions.

use std::sync::Arc;

use portcullis_config::keys::{self, KeyTooShort, Purpose};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};

/// What a replica shows to its peers and accepts from them. Both configurations are for one set of session keys.
#[derive(Clone)]
pub struct Identity {
    /// For the peer listener.
    pub server: Arc<ServerConfig>,
    /// For the hop to another replica.
    pub client: Arc<ClientConfig>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A session key is too short.
    #[error(transparent)]
    Key(#[from] KeyTooShort),
    /// The TLS library refused the key.
    #[error("the peer identity cannot be set up: {0}")]
    Tls(#[from] Error),
}

impl Identity {
    /// Shows the identity of `own`, accepts those of `accepted` (session keys, `own` among them).
    pub fn new<'k>(own: &[u8], accepted: impl Iterator<Item = &'k [u8]>) -> Result<Self, IdentityError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seed = keys::derive(own, Purpose::Peer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(keys::ed25519_pkcs8(&seed)));
        let key = provider.key_provider.load_private_key(key)?;
        let shown = CertificateDer::from(keys::ed25519_spki(&seed));
        let certified = Arc::new(CertifiedKey::new(vec![shown], key));
        let pinned = accepted
            .map(|key| keys::derive(key, Purpose::Peer).map(|seed| keys::ed25519_spki(&seed)))
            .collect::<Result<Vec<_>, _>>()?;
        let verifier = Arc::new(Pinned {
            keys: pinned,
            algorithms: provider.signature_verification_algorithms,
        });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::<Pinned>::clone(&verifier))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(
                &certified,
            ))));
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed handshake shows no key, and a rotated key must not live on in a ticket.
        server.send_tls13_tickets = 0;
        let resolver: Arc<dyn ResolvesClientCert> =
            Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified));
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver);
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

/// Accepts exactly these public keys, and checks that the other end holds the private one.
#[derive(Debug)]
struct Pinned {
    keys: Vec<Vec<u8>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn judge(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        if self.keys.iter().any(|key| key.as_slice() == shown.as_ref()) {
            Ok(())
        } else {
            Err(Error::General(
                "the other end is no replica of this gateway".into(),
            ))
        }
    }

    fn signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// Only TLS 1.3 is offered, so that a TLS 1.2 signature is never asked for.
const NO_TLS12: fn() -> Error = || Error::General("only TLS 1.3 is spoken between replicas".into());

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
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
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn talk(server: &Identity, client: &Identity) -> std::io::Result<Vec<u8>> {
        let (a, b) = tokio::io::duplex(1 << 16);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&server.server));
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&client.client));
        let serve = async move {
            let mut stream = acceptor.accept(a).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let call = async move {
            let mut stream = connector
                .connect(ServerName::try_from("peer").unwrap(), b)
                .await?;
            let mut out = Vec::new();
            stream.read_to_end(&mut out).await?;
            Ok(out)
        };
        let (sent, received) = tokio::join!(serve, call);
        sent.and(received)
    }

    fn identity(own: u8, accepted: &[u8]) -> Identity {
        let keys: Vec<[u8; 32]> = accepted.iter().map(|byte| [*byte; 32]).collect();
        Identity::new(&[own; 32], keys.iter().map(<[u8; 32]>::as_slice)).unwrap()
    }

    #[tokio::test]
    async fn replicas_with_a_common_key_talk() {
        assert_eq!(
            talk(&identity(1, &[1]), &identity(1, &[1])).await.unwrap(),
            b"hello"
        );
    }

    #[tokio::test]
    async fn two_keys_overlap_during_a_rotation() {
        assert_eq!(
            talk(&identity(2, &[1, 2]), &identity(1, &[1, 2])).await.unwrap(),
            b"hello"
        );
    }

    #[tokio::test]
    async fn a_stranger_is_refused_in_both_directions() {
        assert!(talk(&identity(1, &[1]), &identity(2, &[1, 2])).await.is_err());
        assert!(talk(&identity(2, &[1, 2]), &identity(1, &[1])).await.is_err());
    }

    #[tokio::test]
    async fn a_client_without_a_key_is_refused() {
        let mut bare = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(crate::net::trust::public_roots())
            .with_no_client_auth();
        bare.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stranger = Identity {
            client: Arc::new(bare),
            ..identity(1, &[1])
        };
        assert!(talk(&identity(1, &[1]), &stranger).await.is_err());
    }
}
