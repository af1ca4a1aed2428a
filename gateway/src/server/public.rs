//! What the public port offers, given the configuration and the files: plaintext, a certificate, or nothing yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use portcullis_config::listen::{Public, TlsFiles};
use portcullis_config::status::{Reference, ReferenceState};
use rustls::ServerConfig;

use crate::config::files::Files;
use crate::server::readiness::Gate;
use crate::server::tls::{Certificate, CertificateStore, Transport, public_server, swappable};
use crate::telemetry::metrics::Metrics;

/// The public port's transport, kept in step with the files.
pub struct PublicTransport {
    transport: Arc<ArcSwap<Transport>>,
    store: Arc<CertificateStore>,
    tls: Arc<ServerConfig>,
    gate: Gate,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is served.
    current: Option<Served>,
    /// What the status document says of the certificate's file.
    reference: Option<Reference>,
}

struct Served {
    certificate: Certificate,
    /// The files' contents, so that a pass over unchanged files costs nothing.
    chain: bytes::Bytes,
    key: bytes::Bytes,
    /// Still what stands on disk.
    on_disk: bool,
}

impl PublicTransport {
    /// Closed until [`PublicTransport::update`].
    pub fn new(gate: Gate, metrics: Arc<Metrics>) -> Result<Arc<Self>, rustls::Error> {
        let store = Arc::new(CertificateStore::default());
        let tls = Arc::new(public_server(Arc::clone(&store))?);
        Ok(Arc::new(Self {
            transport: swappable(Transport::Closed),
            store,
            tls,
            gate,
            metrics,
            state: Mutex::default(),
        }))
    }

    /// What a listener follows.
    pub fn transport(&self) -> &Arc<ArcSwap<Transport>> {
        &self.transport
    }

    /// Is there anything to offer?
    pub fn is_open(&self) -> bool {
        !matches!(**self.transport.load(), Transport::Closed)
    }

    /// For the status document: the certificate's file, with its expiry or what is wrong with it.
    pub fn reference(&self) -> Option<Reference> {
        self.state().reference.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what `listen` asks for and `files` hold.
    pub fn update(&self, listen: &Public, files: &Files, now: Timestamp) {
        let mut state = self.state();
        match &listen.tls {
            None => {
                // Only what the configuration says in so many words is served without TLS.
                let transport = if listen.plaintext.is_some() {
                    self.gate.open();
                    Transport::Plaintext
                } else {
                    self.gate.close("neither tls nor plaintext is configured");
                    Transport::Closed
                };
                *state = State::default();
                self.store.clear();
                self.metrics.certificate_expiry.set(0);
                self.metrics.certificate_synchronized.set(1);
                self.transport.store(Arc::new(transport));
            }
            Some(tls) => {
                let problem = self.take(&mut state, tls, files, now);
                self.settle(&mut state, &tls.cert_file.display().to_string(), problem);
            }
        }
    }

    /// Makes the files' pair the served one. Some: why that was not possible.
    fn take(
        &self,
        state: &mut State,
        tls: &TlsFiles,
        files: &Files,
        now: Timestamp,
    ) -> Option<(ReferenceState, String)> {
        let (chain, key) = match (files.bytes(&tls.cert_file), files.bytes(&tls.key_file)) {
            (Ok(chain), Ok(key)) => (chain, key),
            (Err(error), _) => return Some(absent(&tls.cert_file, error)),
            (_, Err(error)) => return Some(absent(&tls.key_file, error)),
        };
        if let Some(served) = &mut state.current
            && served.chain == *chain
            && served.key == *key
        {
            served.on_disk = true;
            return None;
        }
        match Certificate::read(chain, key, now) {
            Ok(certificate) => {
                tracing::info!(expires = %certificate.expires, "serving a new certificate");
                self.store.set(&certificate);
                state.current = Some(Served {
                    certificate,
                    chain: chain.clone(),
                    key: key.clone(),
                    on_disk: true,
                });
                None
            }
            Err(error) => {
                if let Some(served) = &mut state.current {
                    served.on_disk = false;
                }
                tracing::error!(%error, kept = state.current.is_some(), "certificate refused");
                Some((ReferenceState::Invalid, error.to_string()))
            }
        }
    }

    /// Opens or closes the port, and says so everywhere.
    fn settle(&self, state: &mut State, path: &str, problem: Option<(ReferenceState, String)>) {
        let expires = state.current.as_ref().map(|served| served.certificate.expires);
        self.metrics
            .certificate_synchronized
            .set(i64::from(problem.is_none()));
        self.metrics
            .certificate_expiry
            .set(expires.map_or(0, Timestamp::as_second));
        let (mut reference_state, mut message) = (ReferenceState::Present, String::new());
        if let Some((what, why)) = problem {
            reference_state = what;
            message = why;
        }
        if state.current.is_some() {
            if reference_state != ReferenceState::Present {
                message.push_str("; the last good certificate stays in force until it expires");
            }
            self.transport
                .store(Arc::new(Transport::tls(Arc::clone(&self.tls))));
            self.gate.open();
        } else {
            self.transport.store(Arc::new(Transport::Closed));
            self.gate.close(format!("no certificate: {message}"));
        }
        state.reference = Some(Reference {
            path: path.to_owned(),
            state: reference_state,
            message,
            expires,
        });
    }

    /// Gives up a certificate that has expired and is no longer what stands on disk. One that does stand there goes on
    /// being served: its clients see what is wrong, while a closed port would tell them nothing.
    pub fn expire(&self, now: Timestamp) {
        let mut state = self.state();
        let over = state
            .current
            .as_ref()
            .is_some_and(|served| !served.on_disk && served.certificate.expires <= now);
        if over {
            tracing::error!("the last good certificate has expired and there is no other");
            state.current = None;
            self.store.clear();
            let (path, message) = match &state.reference {
                Some(reference) => (reference.path.clone(), reference.message.clone()),
                None => (String::new(), String::new()),
            };
            self.settle(&mut state, &path, Some((ReferenceState::Invalid, message)));
        }
    }
}

fn absent(path: &std::path::Path, error: &crate::config::files::FileError) -> (ReferenceState, String) {
    let state = if error.is_absent() {
        ReferenceState::Missing
    } else {
        ReferenceState::Invalid
    };
    (state, format!("{} {error}", path.display()))
}
