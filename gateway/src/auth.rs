//! Who may come in: the credential's form decides which method judges it, and nobody else gets a second look.
//!
//! What is here is part of a snapshot and never changes; what outlives a reload is in [`AuthShared`]. No request
//! waits for anything: keys are fetched in the background.

pub mod api_key;
pub mod audience;
pub mod bearer;
pub mod cache;
pub mod challenge;
pub mod claims;
pub mod jwks;
pub mod jwt;
mod load;
pub mod metadata;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use portcullis_config::auth::{METHOD_ANONYMOUS, METHOD_API_KEYS};
use portcullis_config::status::Reference;
use portcullis_config::{Config, Problem};
use tokio::sync::watch;

use api_key::ApiKeys;
use audience::Origins;
use bearer::Presented;
use cache::Cache;
use challenge::Challenges;
use identity::{Identity, PrincipalKey, principal_key};
use jwks::store::{Fetch, Registry};
use jwt::{Keys, Method, Parts, Refusal, Verified};
use metadata::Metadata;

pub use load::{Mounts, Unreadable};
pub use portcullis_policy::{authorize, glob, identity, names, uri, when};

/// Verified tokens that are remembered, and about how many bytes they may take.
const CACHE_ENTRIES: usize = 1 << 16;
const CACHE_BYTES: usize = 64 << 20;

/// Which resource a request is for (RFC 8707).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// `/mcp`.
    Federated,
    /// `/servers/{name}/mcp`, by the name in the path.
    Server(&'a str),
    /// `/sets/{name}/mcp`.
    Set(&'a str),
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// No credential.
    Missing,
    /// The credential is not good. The only failure that is charged to the address.
    Invalid {
        /// Why, for logs and audit. Holds nothing of the credential.
        reason: &'static str,
    },
    /// The keys to judge it are not there yet.
    NotReady,
    /// The credential is good, and its principal is locked out.
    Denied,
    /// The address failed too often, and this credential is absent, fails, or would have to be verified first.
    AddressExhausted,
}

/// What outlives a reload: verified tokens, and the keys of issuers.
pub struct AuthShared {
    cache: Cache,
    issuers: Registry,
}

impl AuthShared {
    /// Nothing verified and no keys yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            cache: Cache::new(CACHE_ENTRIES, CACHE_BYTES),
            issuers: Registry::default(),
        })
    }

    /// Keeps every issuer's keys fresh. Runs for the life of the process, once.
    pub async fn run(self: Arc<Self>, fetch: Arc<Fetch>) {
        self.issuers.run(fetch).await;
    }

    /// Moves whenever an issuer's keys come, change or go: time to ask [`Authenticator::can_judge`] again, and to look
    /// at open streams of principals whose key is gone.
    pub fn key_changes(&self) -> watch::Receiver<u64> {
        self.issuers.changes()
    }

    /// How many verified tokens are remembered.
    pub fn remembered(&self) -> usize {
        self.cache.remembered()
    }
}

/// Are API keys a way in?
enum ApiKeyMethod {
    /// Not configured.
    Off,
    /// Configured, and the keys could not be read.
    Unreadable,
    /// These count.
    On(ApiKeys),
}

impl ApiKeyMethod {
    fn can_judge(&self) -> bool {
        matches!(self, Self::On(keys) if !keys.is_empty())
    }
}

/// Judges credentials by one configuration.
pub struct Authenticator {
    methods: Box<[Method]>,
    api_keys: ApiKeyMethod,
    anonymous: Option<Arc<Identity>>,
    denied: HashSet<PrincipalKey>,
    origins: Origins,
    metadata: Option<Metadata>,
    challenges: Challenges,
    references: Vec<Reference>,
    shared: Arc<AuthShared>,
}

impl Authenticator {
    /// Makes ready what judges the credentials of a configuration that passed validation. A file that is missing is no
    /// problem of the configuration: it is reported by [`Authenticator::references`].
    pub fn build(
        config: &Config,
        files: &impl Mounts,
        shared: &Arc<AuthShared>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut references = Vec::new();
        let origins = Origins {
            canonical: metadata::origin(config),
        };
        let mut methods = Vec::new();
        for jwt in &config.auth.jwt {
            if jwt.name.contains('\0') {
                problems.push(Problem {
                    path: "auth.jwt.name".into(),
                    message: "must be printable".into(),
                });
            }
            match load::keys(jwt, files, &shared.issuers, &mut references) {
                Ok(keys) => methods.push(Method::new(jwt, &origins, keys)),
                Err(problem) => problems.push(problem),
            }
        }
        let api_keys = match &config.auth.api_keys {
            None => ApiKeyMethod::Off,
            Some(keys) => load::api_keys(&keys.dir, files, &mut references)
                .map_or(ApiKeyMethod::Unreadable, ApiKeyMethod::On),
        };
        let metadata = Metadata::build(config);
        let challenges = match Challenges::build(config, metadata.as_ref()) {
            Ok(challenges) if problems.is_empty() => challenges,
            Ok(_) => return Err(problems),
            Err(problem) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        Ok(Self {
            methods: methods.into(),
            api_keys,
            anonymous: config
                .auth
                .anonymous
                .as_ref()
                .map(|_| Arc::new(Identity::anonymous())),
            denied: config
                .gateway
                .denied_subjects
                .iter()
                .map(|denied| principal_key(&denied.method, &denied.subject))
                .collect(),
            origins,
            metadata,
            challenges,
            references,
            shared: shared.clone(),
        })
    }

    /// Who is calling. Cheap for a credential that was seen before: one digest and one look-up. For an address that
    /// failed too often only such credentials pass.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        endpoint: Endpoint<'_>,
        address_exhausted: bool,
        now: u64,
    ) -> Result<Arc<Identity>, AuthFailure> {
        let who = match bearer::presented(headers) {
            Ok(Presented::Nothing) if address_exhausted => Err(AuthFailure::AddressExhausted),
            Ok(Presented::Nothing) => self.anonymous.clone().ok_or(AuthFailure::Missing),
            Ok(Presented::ApiKey(key)) => self.api_key(key),
            Ok(Presented::Jwt(token)) => self.jwt(token, endpoint, address_exhausted, now),
            Err(reason) => Err(AuthFailure::Invalid { reason }),
        };
        match who {
            Ok(who) if self.is_denied(&who) => Err(AuthFailure::Denied),
            Err(AuthFailure::Invalid { .. }) if address_exhausted => Err(AuthFailure::AddressExhausted),
            who => who,
        }
    }

    /// Is this principal locked out? Also to be asked about principals of open streams after a reload.
    pub fn is_denied(&self, who: &Identity) -> bool {
        !self.denied.is_empty() && self.denied.contains(&who.key)
    }

    /// Can this principal still come in, as far as that can be told without its credential? For streams of those whom
    /// another replica vouches for.
    pub fn knows(&self, who: &Identity) -> bool {
        match &*who.method {
            METHOD_ANONYMOUS => self.anonymous.is_some(),
            METHOD_API_KEYS => match &self.api_keys {
                ApiKeyMethod::Off => false,
                ApiKeyMethod::Unreadable => true,
                ApiKeyMethod::On(keys) => keys.has_client(&who.subject),
            },
            method => self.methods.iter().any(|known| *known.name == *method),
        }
    }

    fn api_key(&self, key: &[u8]) -> Result<Arc<Identity>, AuthFailure> {
        match &self.api_keys {
            ApiKeyMethod::Off => Err(AuthFailure::Invalid {
                reason: "API keys are not accepted here",
            }),
            ApiKeyMethod::Unreadable => Err(AuthFailure::NotReady),
            ApiKeyMethod::On(keys) => keys
                .find(key)
                .cloned()
                .map_err(|reason| AuthFailure::Invalid { reason }),
        }
    }

    fn jwt(
        &self,
        token: &[u8],
        endpoint: Endpoint<'_>,
        address_exhausted: bool,
        now: u64,
    ) -> Result<Arc<Identity>, AuthFailure> {
        let invalid = |reason| AuthFailure::Invalid { reason };
        if self.methods.is_empty() {
            return Err(invalid("tokens are not accepted here"));
        }
        let digest = digest::digest(&digest::SHA256, token);
        let digest = *digest.as_ref().first_chunk().expect("SHA-256 gives 32 bytes");
        let known = self
            .shared
            .cache
            .get(&digest)
            .filter(|verified| self.still_holds(verified));
        let verified = match known {
            Some(verified) => verified,
            None if address_exhausted => return Err(AuthFailure::AddressExhausted),
            None => {
                let verified = self.verify(token, now).map_err(|refusal| match refusal {
                    Refusal::Invalid(reason) => invalid(reason),
                    Refusal::NotReady => AuthFailure::NotReady,
                })?;
                let verified = Arc::new(verified);
                self.shared.cache.insert(digest, verified.clone());
                verified
            }
        };
        if now >= verified.ends {
            return Err(invalid(jwt::EXPIRED));
        }
        if !verified.audiences.include(endpoint) {
            return Err(invalid("the token is meant for another endpoint"));
        }
        Ok(verified.identity.clone())
    }

    /// Was a token judged by a method that is still configured that way, with keys that are still in force?
    fn still_holds(&self, verified: &Verified) -> bool {
        self.methods
            .iter()
            .any(|method| method.epoch == verified.method && method.keys.are(verified.keys))
    }

    fn verify(&self, token: &[u8], now: u64) -> Result<Verified, Refusal> {
        let parts = Parts::split(token)?;
        let issuer = parts.issuer()?;
        jwt::method_of(&self.methods, &issuer)
            .ok_or(Refusal::Invalid("the token's issuer is unknown"))?
            .verify(&parts, &self.origins, now)
    }

    /// Can any method judge? Before that the process is not ready.
    pub fn can_judge(&self) -> bool {
        self.anonymous.is_some()
            || self.api_keys.can_judge()
            || self.methods.iter().any(|method| method.keys.current().is_some())
    }

    /// Which methods cannot judge and why, one line each, for a person.
    pub fn waiting(&self) -> Vec<String> {
        let issuers = self.methods.iter().filter_map(|method| {
            let why = match &method.keys {
                keys if keys.current().is_some() => return None,
                Keys::Remote(store) => store.failure().unwrap_or_else(|| "not fetched yet".to_owned()),
                Keys::Fixed(_) => "see references".to_owned(),
            };
            Some(format!("auth.jwt[{}] has no keys: {why}", method.name))
        });
        let configured = !matches!(self.api_keys, ApiKeyMethod::Off);
        let api_keys =
            (configured && !self.api_keys.can_judge()).then(|| "auth.apiKeys has no keys".to_owned());
        issuers.chain(api_keys).collect()
    }

    /// The mounted files and directories that authentication rests on.
    pub fn references(&self) -> Vec<Reference> {
        self.references.clone()
    }

    /// `WWW-Authenticate` beside a 401.
    pub fn challenge(&self, failure: &AuthFailure, endpoint: Endpoint<'_>) -> HeaderValue {
        self.challenges
            .unauthenticated(self.metadata.as_ref(), failure, endpoint)
    }

    /// `WWW-Authenticate` beside a 403 for want of a scope.
    pub fn insufficient_scope<S: AsRef<str>>(&self, endpoint: Endpoint<'_>, scopes: &[S]) -> HeaderValue {
        self.challenges
            .insufficient_scope(self.metadata.as_ref(), endpoint, scopes)
    }

    /// The protected-resource metadata at a path below `/.well-known/oauth-protected-resource`, as JSON.
    pub fn metadata(&self, path: &str) -> Option<Bytes> {
        self.metadata.as_ref()?.document(path)
    }
}
