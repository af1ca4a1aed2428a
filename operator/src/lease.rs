//! Which of several operators acts: the one that holds the Lease.
//!
//! A Lease does not fence. What holds instead: a write is begun only while the last renewal is younger than the renewal
//! deadline, and it ends within the write time-out, which is shorter than the rest of the lease; nothing is retried
//! behind our back. So when another process may take the lease, at most what was on the wire can still land, and all of
//! it is idempotent. A process that loses the lease exits.

pub mod decide;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use decide::{Decision, Observed, Record, decide};

/// How the lease is held.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are. Must differ between any two processes that ever run, restarts of one included.
    pub identity: String,
    /// For how long after a renewal others leave it to us.
    pub lease_duration: Duration,
    /// When we stop writing after the last renewal that went well.
    pub renew_deadline: Duration,
    /// How often we renew, and how often a waiting process looks.
    pub retry_period: Duration,
}

/// Values of [`Config`] that would let two processes write at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// A write could outlive the lease.
    #[error(
        "the lease's duration must exceed its renewal deadline by more than the {0} s that a write may take"
    )]
    WriteOutlivesLease(u64),
    /// One failed renewal would lose the lease.
    #[error("the renewal deadline must be at least twice the retry period")]
    NoSecondTry,
    /// The API counts whole seconds.
    #[error("the lease's duration must be whole seconds, at least one")]
    NotWholeSeconds,
}

impl Config {
    /// Whether the times fit together.
    pub fn check(&self, write_timeout: Duration) -> Result<(), BadConfig> {
        if self.lease_duration.as_secs() == 0 || self.lease_duration.subsec_nanos() != 0 {
            return Err(BadConfig::NotWholeSeconds);
        }
        if self.lease_duration.saturating_sub(self.renew_deadline) <= write_timeout {
            return Err(BadConfig::WriteOutlivesLease(write_timeout.as_secs()));
        }
        if self.renew_deadline < self.retry_period * 2 {
            return Err(BadConfig::NoSecondTry);
        }
        Ok(())
    }
}

/// Whether this process may write, as everybody who writes asks it.
#[derive(Clone, Debug)]
pub struct Leadership {
    writes_until: Arc<Mutex<Option<Instant>>>,
    leading: watch::Receiver<bool>,
}

impl Leadership {
    /// Leadership that nobody contests: for a single replica without a lease, and for tests.
    pub fn uncontested() -> Self {
        let (tx, leading) = watch::channel(true);
        // The value is all that is needed; a receiver keeps it when its sender goes.
        drop(tx);
        Self {
            writes_until: Arc::new(Mutex::new(Some(
                Instant::now() + Duration::from_secs(60 * 60 * 24 * 365 * 30),
            ))),
            leading,
        }
    }

    /// Whether a write may begin now.
    pub fn may_write(&self) -> bool {
        self.writes_until
            .lock()
            .expect("no code that holds this lock can panic")
            .is_some_and(|until| Instant::now() < until)
    }

    /// Whether the lease was acquired.
    pub fn is_leading(&self) -> bool {
        *self.leading.borrow()
    }

    /// Waits until the lease is acquired; never, if the holder is gone.
    pub async fn acquired(&self) {
        let mut leading = self.leading.clone();
        if leading.wait_for(|leading| *leading).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Why a holder stopped.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else holds it now.
    #[error("the lease is held by {0}")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("the lease could not be renewed within {0} s")]
    NotRenewed(u64),
}

/// The holder: acquires, renews, releases.
pub struct Holder {
    api: Api<Lease>,
    config: Config,
    writes_until: Arc<Mutex<Option<Instant>>>,
    leading: watch::Sender<bool>,
}

impl Holder {
    /// A holder that has not begun. `client` must not retry by itself.
    pub fn new(client: Client, config: Config) -> (Self, Leadership) {
        let writes_until = Arc::new(Mutex::new(None));
        let (tx, leading) = watch::channel(false);
        let leadership = Leadership {
            writes_until: Arc::clone(&writes_until),
            leading,
        };
        let api = Api::namespaced(client, &config.namespace);
        let holder = Self {
            api,
            config,
            writes_until,
            leading: tx,
        };
        (holder, leadership)
    }

    /// Holds the lease until `stop`, then releases it. Returns early only when it was held and lost.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Lost> {
        let acquired = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            record = self.acquire() => record,
        };
        info!(lease = %self.config.name, identity = %self.config.identity, "leading");
        let version = Mutex::new(acquired.clone());
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            lost = self.keep(acquired, &version) => Err(lost),
        };
        // Whoever writes learns it first; only then may the next one start.
        self.permit(None);
        self.leading.send_replace(false);
        if outcome.is_ok() {
            let record = version
                .lock()
                .expect("no code that holds this lock can panic")
                .clone();
            self.release(&record).await;
        }
        outcome
    }

    /// Waits for the lease. Returns the record that makes it ours.
    async fn acquire(&self) -> Record {
        let mut observed: Option<Observed> = None;
        loop {
            let wait = match self.try_acquire(&mut observed).await {
                Ok(Ok(record)) => return record,
                Ok(Err(wait)) => wait.min(self.config.retry_period),
                Err(error) => {
                    warn!(lease = %self.config.name, %error, "the lease cannot be read or written; trying again");
                    self.config.retry_period
                }
            };
            // Two waiting processes must not ask in step.
            tokio::time::sleep(wait.mul_f64(0.8 + 0.2 * rand::random::<f64>())).await;
        }
    }

    async fn try_acquire(
        &self,
        observed: &mut Option<Observed>,
    ) -> Result<Result<Record, Duration>, RequestError> {
        let found = self.request(self.api.get_opt(&self.config.name)).await?;
        let now = Instant::now();
        *observed = found.map(|lease| Observed::update(observed.take(), record_of(&lease), now));
        let begun = Instant::now();
        let written = match decide(observed.as_ref(), &self.config.identity, now) {
            Decision::Wait(wait) => return Ok(Err(wait)),
            Decision::Create => {
                let lease = self.lease(None);
                self.request(self.api.create(&PostParams::default(), &lease))
                    .await
            }
            Decision::Acquire | Decision::Renew => {
                let lease = self.lease(observed.as_ref().map(|seen| &seen.record));
                self.request(
                    self.api
                        .replace(&self.config.name, &PostParams::default(), &lease),
                )
                .await
            }
        };
        match written {
            Ok(lease) => {
                self.permit(Some(begun + self.config.renew_deadline));
                self.leading.send_replace(true);
                Ok(Ok(record_of(&lease)))
            }
            // Somebody was faster: look again.
            Err(error) if error.is_conflict() => Ok(Err(self.config.retry_period)),
            Err(error) => Err(error),
        }
    }

    /// Renews until that fails for good.
    async fn keep(&self, mut record: Record, current: &Mutex<Record>) -> Lost {
        let mut renewed = Instant::now();
        let mut pause = self.config.retry_period;
        loop {
            let deadline = renewed + self.config.renew_deadline;
            tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
            let begun = Instant::now();
            if begun >= deadline {
                return Lost::NotRenewed(self.config.renew_deadline.as_secs());
            }
            let lease = self.lease(Some(&record));
            let answer = self
                .request(
                    self.api
                        .replace(&self.config.name, &PostParams::default(), &lease),
                )
                .await;
            pause = match answer {
                Ok(lease) => {
                    record = record_of(&lease);
                    renewed = begun;
                    self.permit(Some(begun + self.config.renew_deadline));
                    self.config.retry_period
                }
                Err(error) => {
                    warn!(lease = %self.config.name, %error, "the lease was not renewed; trying again");
                    // A write that timed out may have landed, which is a conflict from then on: look what is there.
                    if let Ok(Some(lease)) = self.request(self.api.get_opt(&self.config.name)).await {
                        let found = record_of(&lease);
                        match found.holder.as_deref() {
                            Some(holder) if holder == self.config.identity => record = found,
                            Some(other) if !other.is_empty() => return Lost::Taken(other.to_owned()),
                            Some(_) | None => record = found,
                        }
                    }
                    self.config.retry_period / 4
                }
            };
            current
                .lock()
                .expect("no code that holds this lock can panic")
                .clone_from(&record);
        }
    }

    /// Lets the next one in at once. That it fails only costs the others the rest of the lease.
    async fn release(&self, record: &Record) {
        let mut lease = self.lease(Some(record));
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let answer = self
            .request(
                self.api
                    .replace(&self.config.name, &PostParams::default(), &lease),
            )
            .await;
        match answer {
            Ok(_) => info!(lease = %self.config.name, "released"),
            Err(error) => {
                warn!(lease = %self.config.name, %error, "the lease was not released; it will expire");
            }
        }
    }

    fn permit(&self, until: Option<Instant>) {
        *self
            .writes_until
            .lock()
            .expect("no code that holds this lock can panic") = until;
    }

    /// The object as we want it, on top of what it was.
    fn lease(&self, previous: Option<&Record>) -> Lease {
        let now = Timestamp::now();
        let ours = previous.filter(|record| record.holder.as_deref() == Some(&self.config.identity));
        let acquired = ours.and_then(|record| record.acquired).unwrap_or(now);
        let transitions = match previous {
            None => 0,
            Some(record) if ours.is_some() => record.transitions,
            Some(record) => record.transitions.saturating_add(1),
        };
        Lease {
            metadata: ObjectMeta {
                namespace: Some(self.config.namespace.clone()),
                name: Some(self.config.name.clone()),
                resource_version: previous.map(|record| record.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.config.identity.clone()),
                lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                acquire_time: Some(MicroTime(acquired)),
                lease_transitions: Some(transitions),
                preferred_holder: None,
                strategy: None,
            }),
        }
    }

    /// A request under a time-out that leaves room for a second try within the renewal deadline.
    async fn request<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>> + Send,
    ) -> Result<T, RequestError> {
        let limit = self.config.renew_deadline / 3;
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(RequestError::Kube(Box::new(error))),
            Err(_elapsed) => Err(RequestError::TimedOut(limit.as_secs())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Kube(Box<kube::Error>),
    #[error("no answer within {0} s")]
    TimedOut(u64),
}

impl RequestError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Kube(error) => matches!(&**error, kube::Error::Api(status) if status.code == 409),
            Self::TimedOut(_) => false,
        }
    }
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
        acquired: spec
            .and_then(|spec| spec.acquire_time.as_ref())
            .map(|time| time.0),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
        version: lease.resource_version().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(30, 15, 3, Ok(()))]
    #[case(25, 15, 3, Err(BadConfig::WriteOutlivesLease(10)))]
    #[case(30, 4, 3, Err(BadConfig::NoSecondTry))]
    #[case(0, 0, 0, Err(BadConfig::NotWholeSeconds))]
    fn times_that_do_not_fit_are_refused(
        #[case] duration: u64,
        #[case] deadline: u64,
        #[case] retry: u64,
        #[case] expected: Result<(), BadConfig>,
    ) {
        let config = Config {
            namespace: "n".into(),
            name: "l".into(),
            identity: "i".into(),
            lease_duration: Duration::from_secs(duration),
            renew_deadline: Duration::from_secs(deadline),
            retry_period: Duration::from_secs(retry),
        };
        assert_eq!(config.check(Duration::from_secs(10)), expected);
    }

    #[tokio::test]
    async fn uncontested_leadership_may_write() {
        let leadership = Leadership::uncontested();
        assert!(leadership.may_write() && leadership.is_leading());
        leadership.acquired().await;
    }
}
