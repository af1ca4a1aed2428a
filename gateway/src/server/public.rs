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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scratch::{Scratch, config_text};
    use crate::server::readiness::Readiness;
    use crate::server::testing::pair;
    use portcullis_config::Config;
    use std::path::Path;

    struct Case {
        scratch: Scratch,
        config: Config,
        readiness: Readiness,
        metrics: Arc<Metrics>,
        public: Arc<PublicTransport>,
        now: Timestamp,
    }

    fn case() -> Case {
        let scratch = Scratch::new();
        let text = config_text("").replace(
            "plaintext: {reason: a test}",
            "tls: {certFile: tls/tls.crt, keyFile: tls/tls.key}",
        );
        let config = portcullis_config::parse(text.as_bytes(), scratch.path())
            .unwrap()
            .config;
        let readiness = Readiness::new();
        let metrics = Metrics::new(0.0);
        let public = PublicTransport::new(readiness.gate("tls", "not loaded"), Arc::clone(&metrics)).unwrap();
        Case {
            scratch,
            config,
            readiness,
            metrics,
            public,
            now: "2026-06-01T00:00:00Z".parse().unwrap(),
        }
    }

    impl Case {
        fn mount(&self, files: &[(&str, &str)]) {
            self.scratch.mount("tls", files);
        }

        fn update(&self) -> Reference {
            let files = Files::read(&self.config);
            self.public.update(&self.config.listen.public, &files, self.now);
            self.public.reference().unwrap()
        }

        fn served(&self) -> Option<Timestamp> {
            let state = self.public.state();
            state.current.as_ref().map(|served| served.certificate.expires)
        }
    }

    fn year(year: i32) -> Timestamp {
        format!("{year}-01-01T00:00:00Z").parse().unwrap()
    }

    #[test]
    fn without_a_certificate_the_port_stays_closed_until_one_comes() {
        let case = case();
        let reference = case.update();
        assert_eq!(reference.state, ReferenceState::Missing);
        assert!(!case.public.is_open());
        assert!(case.readiness.pending()[0].contains("tls.crt is missing"));
        let (chain, key) = pair(2030);
        case.mount(&[("tls.crt", &chain), ("tls.key", &key)]);
        let reference = case.update();
        assert_eq!(
            (reference.state, reference.expires),
            (ReferenceState::Present, Some(year(2030)))
        );
        assert!(case.public.is_open() && case.readiness.is_ready());
        assert_eq!(case.metrics.certificate_expiry.get(), year(2030).as_second());
    }

    #[test]
    fn a_bad_pair_leaves_the_last_good_one_and_says_so() {
        let case = case();
        let (chain, key) = pair(2030);
        let (other, _) = pair(2040);
        case.mount(&[("tls.crt", &chain), ("tls.key", &key)]);
        case.update();
        case.mount(&[("tls.crt", &other), ("tls.key", &key)]);
        let reference = case.update();
        assert_eq!(reference.state, ReferenceState::Invalid);
        assert!(
            reference.message.contains("do not belong together"),
            "{}",
            reference.message
        );
        assert_eq!(
            reference.expires,
            Some(year(2030)),
            "the expiry is that of what is served"
        );
        assert_eq!(case.served(), Some(year(2030)));
        assert!(case.public.is_open() && case.readiness.is_ready());
        assert_eq!(case.metrics.certificate_synchronized.get(), 0);
        // The good pair again: nothing is wrong any more.
        case.mount(&[("tls.crt", &chain), ("tls.key", &key)]);
        assert_eq!(case.update().state, ReferenceState::Present);
        assert_eq!(case.metrics.certificate_synchronized.get(), 1);
    }

    #[test]
    fn an_expired_successor_does_not_replace_a_good_one() {
        let case = case();
        let (chain, key) = pair(2030);
        let (expired, its_key) = pair(2026);
        case.mount(&[("tls.crt", &chain), ("tls.key", &key)]);
        case.update();
        case.mount(&[("tls.crt", &expired), ("tls.key", &its_key)]);
        let reference = case.update();
        assert_eq!(reference.state, ReferenceState::Invalid);
        assert_eq!(case.served(), Some(year(2030)));
    }

    #[test]
    fn a_new_pair_is_served_at_once() {
        let case = case();
        for end in [2030, 2031] {
            let (chain, key) = pair(end);
            case.mount(&[("tls.crt", &chain), ("tls.key", &key)]);
            case.update();
            assert_eq!(case.served(), Some(year(end)));
        }
    }

    #[test]
    fn the_last_good_one_ends_with_its_expiry_when_it_is_not_what_stands_on_disk() {
        let case = case();
        let (chain, key) = pair(2030);
        case.mount(&[("tls.crt", &chain), ("tls.key", &key)]);
        case.update();
        let after = year(2030);
        case.public.expire(after);
        assert!(
            case.public.is_open(),
            "it still stands on disk: clients see what is wrong"
        );
        case.mount(&[("tls.crt", "garbage"), ("tls.key", &key)]);
        case.update();
        case.public.expire(case.now);
        assert!(case.public.is_open());
        case.public.expire(after);
        assert!(!case.public.is_open() && !case.readiness.is_ready());
    }

    #[test]
    fn plaintext_needs_its_own_words() {
        let case = case();
        let mut listen = case.config.listen.public.clone();
        listen.tls = None;
        case.public.update(&listen, &Files::default(), case.now);
        assert!(!case.public.is_open());
        listen.plaintext = Some(portcullis_config::listen::Plaintext {
            reason: "a test".into(),
        });
        case.public.update(&listen, &Files::default(), case.now);
        assert!(matches!(**case.public.transport().load(), Transport::Plaintext));
        // And TLS never falls back to it.
        case.public
            .update(&case.config.listen.public, &Files::default(), case.now);
        assert!(matches!(**case.public.transport().load(), Transport::Closed));
        assert!(Path::new(&case.public.reference().unwrap().path).ends_with("tls/tls.crt"));
    }
}
