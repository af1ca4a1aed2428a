//! Asks every gateway pod what it really does: every 15 s, sooner while something is under way.
//!
//! A pass over a gateway says which pods are its own ([`Poller::follow`]); this loop reads them and asks for another pass
//! when what they say has changed.

pub mod board;
pub mod fetch;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::board::Board;
use self::fetch::{Fetch, PodTarget, PollError};
use crate::identity::Key;
use crate::metrics::Metrics;

/// How often a pod is read when nothing happens.
const INTERVAL: Duration = Duration::from_secs(15);
/// How soon it is read again while it has not got the configuration it should have, or failed once.
const BRISK: Duration = Duration::from_millis(700);
/// And how soon right after a change, which arrives within half a second if all goes well.
const FIRST: Duration = Duration::from_millis(250);
/// For how long that is.
const FIRST_FOR: Duration = Duration::from_secs(3);
/// For how long after a change that goes on.
const BRISK_FOR: Duration = Duration::from_secs(60);
/// How soon a pod that nothing is expected of, but that said nothing yet, is asked again.
const UNREAD: Duration = Duration::from_secs(3);
/// How many pods are read at a time.
const CONCURRENCY: usize = 32;

/// Who is told that a gateway's pods say something new.
pub type OnChange = Arc<dyn Fn(&Key) + Send + Sync>;

/// The pods that are read, and when.
pub struct Poller {
    followed: Mutex<Followed>,
    changed: Notify,
    /// What they said.
    pub board: Board,
    fetch: Arc<dyn Fetch>,
    metrics: Metrics,
}

#[derive(Default)]
struct Followed {
    gateways: HashMap<Key, Gateway>,
    due: BTreeSet<(Instant, Key, String)>,
}

struct Gateway {
    expected_hash: String,
    expected_since: Instant,
    pods: HashMap<String, Pod>,
}

struct Pod {
    target: PodTarget,
    /// When it is read next; none while it is being read.
    due: Option<Instant>,
}

impl Followed {
    /// Sets which pods of a gateway are read, and what they should report.
    fn set(&mut self, gateway: &Key, expected_hash: &str, targets: Vec<PodTarget>, now: Instant) {
        let known = self.gateways.entry(gateway.clone()).or_insert_with(|| Gateway {
            expected_hash: expected_hash.to_owned(),
            expected_since: now,
            pods: HashMap::new(),
        });
        let moved = known.expected_hash != expected_hash;
        if moved {
            expected_hash.clone_into(&mut known.expected_hash);
            known.expected_since = now;
        }
        let mut before = std::mem::take(&mut known.pods);
        for target in targets {
            let uid = target.uid.clone();
            let due = match before.remove(&uid) {
                // Being read: its end decides.
                Some(Pod { due: None, .. }) => None,
                Some(Pod {
                    due: Some(due),
                    target: old,
                }) => {
                    let sooner = if old != target {
                        now
                    } else if moved {
                        now + FIRST
                    } else {
                        due
                    };
                    self.due.remove(&(due, gateway.clone(), uid.clone()));
                    Some(due.min(sooner))
                }
                None => Some(now),
            };
            if let Some(due) = due {
                self.due.insert((due, gateway.clone(), uid.clone()));
            }
            known.pods.insert(uid, Pod { target, due });
        }
        for (uid, pod) in before {
            if let Some(due) = pod.due {
                self.due.remove(&(due, gateway.clone(), uid));
            }
        }
    }

    fn forget(&mut self, gateway: &Key) {
        for (uid, pod) in self
            .gateways
            .remove(gateway)
            .map(|g| g.pods)
            .into_iter()
            .flatten()
        {
            if let Some(due) = pod.due {
                self.due.remove(&(due, gateway.clone(), uid));
            }
        }
    }

    /// Takes the first pod that is due, or tells when the next one will be.
    fn take(&mut self, now: Instant) -> Result<(Key, PodTarget), Option<Instant>> {
        loop {
            match self.due.first() {
                None => return Err(None),
                Some((due, _, _)) if *due > now => return Err(Some(*due)),
                Some(_) => {}
            }
            let Some((_, gateway, uid)) = self.due.pop_first() else {
                return Err(None);
            };
            let pod = self.gateways.get_mut(&gateway).and_then(|g| g.pods.get_mut(&uid));
            if let Some(pod) = pod {
                pod.due = None;
                return Ok((gateway, pod.target.clone()));
            }
        }
    }

    /// Says when a pod that was read is read again.
    fn again(&mut self, gateway: &Key, uid: &str, seen: Seen<'_>, now: Instant, jitter: f64) {
        let Some(known) = self.gateways.get_mut(gateway) else {
            return;
        };
        let Some(pod) = known.pods.get_mut(uid) else {
            return;
        };
        let since = now.saturating_duration_since(known.expected_since);
        let brisk = since < BRISK_FOR;
        let pause = match seen {
            Seen::Hash(hash) if since < FIRST_FOR && *hash != known.expected_hash => FIRST,
            Seen::Hash(hash) if brisk && *hash != known.expected_hash => BRISK,
            Seen::Failed(1) => BRISK,
            Seen::Failed(_) if brisk => UNREAD,
            Seen::Hash(_) | Seen::Failed(_) => INTERVAL,
        };
        let due = now + pause.mul_f64(0.9 + 0.2 * jitter);
        pod.due = Some(due);
        self.due.insert((due, gateway.clone(), uid.to_owned()));
    }
}

/// What a read brought, as far as the next one depends on it.
#[derive(Clone, Copy)]
enum Seen<'a> {
    Hash(&'a str),
    Failed(u32),
}

impl Poller {
    /// A poller that reads by `fetch`.
    pub fn new(fetch: Arc<dyn Fetch>, metrics: Metrics) -> Self {
        Self {
            followed: Mutex::default(),
            changed: Notify::new(),
            board: Board::default(),
            fetch,
            metrics,
        }
    }

    /// Sets which pods are a gateway's own, and the configuration hash that they should report.
    pub fn follow(&self, gateway: &Key, expected_hash: &str, targets: Vec<PodTarget>) {
        let uids: Vec<String> = targets.iter().map(|target| target.uid.clone()).collect();
        self.board
            .retain(gateway, |uid| uids.iter().any(|known| known == uid));
        self.lock().set(gateway, expected_hash, targets, Instant::now());
        self.changed.notify_one();
    }

    /// Forgets a gateway.
    pub fn forget(&self, gateway: &Key) {
        self.lock().forget(gateway);
        self.board.retain(gateway, |_| false);
    }

    /// How many pods are read.
    pub fn len(&self) -> usize {
        self.lock()
            .gateways
            .values()
            .map(|gateway| gateway.pods.len())
            .sum()
    }

    /// Whether no pod is read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads pods until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken, on_change: OnChange) {
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        let mut reads = JoinSet::new();
        loop {
            while reads.try_join_next().is_some() {}
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let (gateway, target) = tokio::select! {
                () = stop.cancelled() => break,
                next = self.next() => next,
            };
            let this = Arc::clone(&self);
            let on_change = Arc::clone(&on_change);
            reads.spawn(async move {
                if this.read(&gateway, &target).await {
                    on_change(&gateway);
                }
                drop(permit);
            });
        }
        reads.shutdown().await;
    }

    async fn next(&self) -> (Key, PodTarget) {
        loop {
            let next = match self.lock().take(Instant::now()) {
                Ok(pod) => return pod,
                Err(next) => next,
            };
            let changed = self.changed.notified();
            match next {
                Some(due) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Reads one pod; says whether what is known of it changed.
    async fn read(&self, gateway: &Key, target: &PodTarget) -> bool {
        let outcome = self.fetch.fetch(target).await.and_then(|status| {
            // The key it proved to hold is this gateway's; what it says must be about it, too.
            if status.gateway_id == target.gateway_uid {
                Ok(status)
            } else {
                Err(PollError::WrongGateway)
            }
        });
        self.metrics
            .polled(outcome.as_ref().map_or_else(PollError::label, |_| "ok"));
        let hash = outcome.as_ref().ok().map(|status| status.config.hash.clone());
        if let Err(error) = &outcome {
            debug!(%gateway, pod = target.name, %error, "a pod's status could not be read");
        }
        // A pod that was replaced while it was read must not come back to life.
        if !self.follows(gateway, &target.uid) {
            return false;
        }
        let outcome = outcome.map_err(|error| error.to_string());
        let changed = self.board.record(gateway, &target.uid, outcome);
        let failures = self
            .board
            .of(gateway)
            .get(&target.uid)
            .map_or(0, |report| report.failures);
        let seen = hash.as_deref().map_or(Seen::Failed(failures), Seen::Hash);
        self.lock()
            .again(gateway, &target.uid, seen, Instant::now(), rand::random());
        self.changed.notify_one();
        changed
    }

    fn follows(&self, gateway: &Key, uid: &str) -> bool {
        self.lock()
            .gateways
            .get(gateway)
            .is_some_and(|known| known.pods.contains_key(uid))
    }

    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.followed
            .lock()
            .expect("no code that holds this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_config::status::Status;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn target(uid: &str) -> PodTarget {
        PodTarget {
            uid: uid.into(),
            name: uid.into(),
            ip: [127, 0, 0, 1].into(),
            gateway_uid: String::new(),
            fingerprints: Vec::new(),
        }
    }

    fn gateway() -> Key {
        Key::new("ns", "gw")
    }

    #[test]
    fn a_new_pod_is_read_at_once_and_then_every_interval() {
        let now = Instant::now();
        let mut followed = Followed::default();
        followed.set(&gateway(), "h", vec![target("a")], now);
        assert_eq!(followed.take(now), Ok((gateway(), target("a"))));
        assert_eq!(followed.take(now), Err(None));
        followed.again(&gateway(), "a", Seen::Hash("h"), now, 0.5);
        assert_eq!(followed.take(now), Err(Some(now + INTERVAL)));
    }

    #[test]
    fn a_changed_configuration_brings_brisk_reads_for_a_while() {
        let now = Instant::now();
        let mut followed = Followed::default();
        followed.set(&gateway(), "h1", vec![target("a")], now);
        followed.take(now).unwrap();
        followed.again(&gateway(), "a", Seen::Hash("h1"), now, 0.5);
        followed.set(&gateway(), "h2", vec![target("a")], now);
        assert_eq!(followed.take(now), Err(Some(now + FIRST)));
        let then = now + FIRST;
        followed.take(then).unwrap();
        followed.again(&gateway(), "a", Seen::Hash("h1"), then, 0.5);
        assert_eq!(followed.take(then), Err(Some(then + FIRST)));
        let then = now + FIRST_FOR;
        followed.take(then).unwrap();
        followed.again(&gateway(), "a", Seen::Hash("h1"), then, 0.5);
        assert_eq!(followed.take(then), Err(Some(then + BRISK)));
        let late = now + BRISK_FOR + BRISK;
        followed.take(late).unwrap();
        followed.again(&gateway(), "a", Seen::Hash("h1"), late, 0.5);
        assert_eq!(followed.take(late), Err(Some(late + INTERVAL)));
    }

    #[test]
    fn pods_that_are_gone_are_not_read_any_more() {
        let now = Instant::now();
        let mut followed = Followed::default();
        followed.set(&gateway(), "h", vec![target("a"), target("b")], now);
        followed.set(&gateway(), "h", vec![target("b")], now);
        assert_eq!(followed.take(now), Ok((gateway(), target("b"))));
        followed.again(&gateway(), "a", Seen::Failed(1), now, 0.5);
        assert_eq!(followed.take(now), Err(None));
        followed.again(&gateway(), "b", Seen::Failed(1), now, 0.5);
        followed.forget(&gateway());
        assert!(followed.due.is_empty() && followed.gateways.is_empty());
    }

    struct Counting(AtomicUsize);

    impl Fetch for Counting {
        fn fetch<'a>(&'a self, _target: &'a PodTarget) -> fetch::Fetching<'a> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(Status::default()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_answer_again_tells_nobody() {
        let fetch = Arc::new(Counting(AtomicUsize::new(0)));
        let poller = Arc::new(Poller::new(Arc::clone(&fetch) as Arc<dyn Fetch>, Metrics::new()));
        let told = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&poller).run(stop.clone(), {
            let told = Arc::clone(&told);
            Arc::new(move |_| {
                told.fetch_add(1, Ordering::Relaxed);
            })
        }));
        poller.follow(&gateway(), "", vec![target("a")]);
        tokio::time::sleep(Duration::from_secs(100)).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        let reads = fetch.0.load(Ordering::Relaxed);
        assert!((6..=8).contains(&reads), "{reads}");
    }
}
