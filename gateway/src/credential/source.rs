//! Where one server's tokens come from: fetched in the background, ahead of their end, and kept over reloads.
//!
//! No call ever waits for a fetch. While the token endpoint is down, the last token serves until it ends; after that calls are
//! refused, never sent without it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::HeaderValue;
use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::grant::{self, Grant, Token};
use crate::net::Fetcher;

/// A fetch takes no longer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer of a token endpoint.
const MAX_ANSWER: usize = 64 << 10;
/// The first repetition after a failure; doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_mins(1);
/// The least time between fetches that a server's refusals ask for: one that refuses everything must not make us a flood.
const ON_REFUSAL: Duration = Duration::from_secs(10);

/// What may change without the source being another one.
pub struct Secrets {
    secret: SecretString,
    ca: Option<Bytes>,
}

impl Secrets {
    /// The client's secret, and trust anchors (PEM) in place of the public ones.
    pub fn new(secret: &str, ca: Option<Bytes>) -> Self {
        Self {
            secret: secret.into(),
            ca,
        }
    }

    fn are(&self, other: &Self) -> bool {
        self.secret.expose_secret() == other.secret.expose_secret() && self.ca == other.ca
    }
}

/// The tokens of one server.
pub struct Source {
    grant: Grant,
    secrets: ArcSwap<Secrets>,
    held: ArcSwapOption<Held>,
    failure: Mutex<String>,
    /// What the fetching side waits for while it holds no source: asks for a fetch now.
    wanted: Arc<Notify>,
    /// When the last fetch that a refusal asked for was let through.
    refused: Mutex<Option<Instant>>,
}

/// A token came.
struct Fetched {
    lifetime: Duration,
    /// There was none before.
    is_first: bool,
}

struct Held {
    value: HeaderValue,
    ends: Instant,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Nothing is fetched before [`Source::keep`] runs.
    pub fn new(grant: Grant, secrets: Secrets) -> Self {
        Self {
            grant,
            secrets: ArcSwap::from_pointee(secrets),
            held: ArcSwapOption::empty(),
            failure: Mutex::new("the token has not been fetched yet".into()),
            wanted: Arc::default(),
            refused: Mutex::default(),
        }
    }

    /// Does it ask this?
    pub fn asks(&self, grant: &Grant) -> bool {
        self.grant == *grant
    }

    /// Puts other secrets in force. The token stays until there is one by these.
    pub fn set_secrets(&self, secrets: Secrets) {
        if !self.secrets.load().are(&secrets) {
            self.secrets.store(Arc::new(secrets));
            self.wanted.notify_one();
        }
    }

    /// The token in force, as a header's value.
    pub fn shown(&self) -> Option<HeaderValue> {
        let held = self.held.load();
        let held = held.as_ref()?;
        (Instant::now() < held.ends).then(|| held.value.clone())
    }

    /// Why there is none.
    pub fn failure(&self) -> String {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The server refused the token.
    pub fn was_refused(&self) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_none_or(|at| at.elapsed() >= ON_REFUSAL) {
            *refused = Some(Instant::now());
            self.wanted.notify_one();
        }
    }

    /// Keeps a source's token fresh until nobody holds the source. Calls `came` when there is one where there was none.
    pub async fn keep(source: Weak<Self>, server: Arc<str>, fetcher: Fetcher, came: impl Fn() + Send) {
        let mut failures = 0;
        loop {
            let Some(alive) = source.upgrade() else {
                return;
            };
            let pause = match alive.fetch(&fetcher).await {
                Ok(Fetched { lifetime, is_first }) => {
                    failures = 0;
                    if is_first {
                        tracing::info!(server = &*server, "the token for the server is there");
                        came();
                    }
                    renewal(lifetime)
                }
                Err((first, reason)) => {
                    failures += 1;
                    if first {
                        tracing::warn!(
                            server = &*server,
                            reason,
                            "no token for the server could be fetched"
                        );
                    }
                    retry_after(failures)
                }
            };
            let wanted = Arc::clone(&alive.wanted);
            drop(alive);
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                () = wanted.notified() => {}
            }
        }
    }

    /// Fetches once. What fails is given with whether that is news.
    async fn fetch(&self, fetcher: &Fetcher) -> Result<Fetched, (bool, String)> {
        let began = Instant::now();
        let secrets = self.secrets.load_full();
        let form = self.grant.ask(secrets.secret.expose_secret());
        let Grant { url, policy, .. } = &self.grant;
        let answer = fetcher
            .post(url, *policy, secrets.ca.as_deref(), form, MAX_ANSWER, TIMEOUT)
            .await;
        let token = answer
            .map_err(|error| error.to_string())
            .and_then(|(status, body)| grant::read(status, &body));
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Ok(Token { value, lifetime }) => {
                failure.clear();
                failure.push_str("the token has expired");
                let is_first = self.shown().is_none();
                self.held.store(Some(Arc::new(Held {
                    value,
                    ends: began + usable(lifetime),
                })));
                Ok(Fetched { lifetime, is_first })
            }
            Err(reason) => {
                let news = *failure != reason;
                failure.clone_from(&reason);
                Err((news, reason))
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Whoever waits finds the source gone and ends.
        self.wanted.notify_one();
    }
}

/// How long a token is shown: a little less than it holds, so that it does not end on its way.
fn usable(lifetime: Duration) -> Duration {
    lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(10)))
}

/// When its successor is fetched: early enough that a token endpoint may be down for a while.
fn renewal(lifetime: Duration) -> Duration {
    (lifetime * 2 / 3).max(Duration::from_secs(1))
}

fn retry_after(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
    doubled
        .map_or(RETRY_MOST, |factor| RETRY_FIRST.saturating_mul(factor))
        .min(RETRY_MOST)
}

/// So that replicas do not come together.
fn jittered(pause: Duration) -> Duration {
    pause * rand::rng().random_range(90..=100) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends_and_not_shown_to_its_end() {
        for seconds in [2, 5, 60, 3600, 86_400] {
            let lifetime = Duration::from_secs(seconds);
            assert!(renewal(lifetime) < usable(lifetime), "{seconds}");
            assert!(usable(lifetime) < lifetime, "{seconds}");
        }
    }

    #[test]
    fn failures_are_repeated_ever_more_seldom() {
        let waits: Vec<u64> = [1, 2, 3, 6, 7, 40, 4_000_000_000]
            .map(|failures| retry_after(failures).as_secs())
            .into();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
    }
}
