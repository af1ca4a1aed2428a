//! What we applied last, and how it looked when the API server had taken it: by that a pass tells at rest that nothing
//! is to be sent.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use portcullis_config::keys::sha256_hex;
use serde_json::Value;
use tokio::time::Instant;

use crate::controller::client::Object;
use crate::identity::Key;

/// Annotation by which the Deployment controller numbers its ReplicaSets: it is no change of ours or anybody's.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// How many of an object's former versions are remembered, so that a watch that lags behind our own writes is not taken
/// for somebody's change.
const LAG: usize = 4;

/// So many foreign changes are changed back within [`CONTEST`]; more of them are a fight, which nobody wins by going on.
const FIGHT: usize = 5;
/// See [`FIGHT`].
const CONTEST: Duration = Duration::from_secs(600);

/// One object, as we left it.
#[derive(Clone, Debug)]
struct Left {
    /// Hash of what we sent.
    wanted: String,
    /// The version that made.
    version: Option<String>,
    /// The versions it had before, the latest last.
    former: Vec<String>,
    /// Hash of everything in it that is not status or bookkeeping.
    content: String,
    /// When it was found changed by somebody else, lately.
    touched: Vec<Instant>,
}

impl Left {
    fn supersede(&mut self, version: Option<String>) {
        if version != self.version {
            self.former.extend(std::mem::replace(&mut self.version, version));
        }
        let excess = self.former.len().saturating_sub(LAG);
        self.former.drain(..excess);
    }
}

/// How an object that the watch shows relates to what we did to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// As we left it, and wanted so.
    Unchanged,
    /// Wanted as we left it, but somebody changed it since.
    Touched,
    /// Wanted otherwise now, or never applied by this process.
    Unknown,
}

/// Everything applied by this process.
#[derive(Debug, Default)]
pub struct Memo {
    left: Mutex<HashMap<(&'static str, Key), Left>>,
}

impl Memo {
    /// Compares an object as the watch shows it, and the hash of what is wanted, with how we left it.
    pub fn compare<K: Object>(&self, seen: &K, wanted: &str) -> Known {
        let left = self.lock().get(&slot::<K>(&Key::of(seen))).cloned();
        let Some(left) = left.filter(|left| left.wanted == wanted) else {
            return Known::Unknown;
        };
        let version = seen.resource_version();
        let ours = left.version == version || version.is_some_and(|version| left.former.contains(&version));
        if ours || left.content == content(seen) {
            Known::Unchanged
        } else {
            Known::Touched
        }
    }

    /// Notes that what hashes to `wanted` was applied on top of version `before` and became `applied`.
    pub fn remember<K: Object>(&self, applied: &K, wanted: String, before: Option<String>) {
        let mut lefts = self.lock();
        let version = applied.resource_version();
        let content = content(applied);
        let left = lefts.entry(slot::<K>(&Key::of(applied))).or_insert_with(|| Left {
            wanted: String::new(),
            version: before.clone(),
            former: Vec::new(),
            content: String::new(),
            touched: Vec::new(),
        });
        left.supersede(before);
        left.supersede(version);
        left.wanted = wanted;
        left.content = content;
    }

    /// Whether an object that somebody else changed was changed back so often lately that it is to be left for a while;
    /// if not, notes that it is changed back once more.
    pub fn is_contested<K: Object>(&self, key: &Key, now: Instant) -> bool {
        let mut lefts = self.lock();
        let Some(left) = lefts.get_mut(&slot::<K>(key)) else {
            return false;
        };
        left.touched
            .retain(|at| now.saturating_duration_since(*at) < CONTEST);
        let contested = left.touched.len() >= FIGHT;
        if !contested {
            left.touched.push(now);
        }
        contested
    }

    /// Notes that we ourselves changed an object further.
    pub fn follow<K: Object>(&self, applied: &K) {
        if let Some(left) = self.lock().get_mut(&slot::<K>(&Key::of(applied))) {
            left.supersede(applied.resource_version());
            left.content = content(applied);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget<K: Object>(&self, key: &Key) {
        self.lock().remove(&slot::<K>(key));
    }

    /// How many objects are remembered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(&'static str, Key), Left>> {
        self.left.lock().expect("no code that holds this lock can panic")
    }
}

fn slot<K: Object>(key: &Key) -> (&'static str, Key) {
    (std::any::type_name::<K>(), key.clone())
}

/// Hash of an object as sent.
pub fn hash(body: &Value) -> String {
    sha256_hex(body.to_string().as_bytes())
}

/// Hash of everything in an object but its status and what the API server and the Deployment controller note in it.
fn content<K: Object>(object: &K) -> String {
    let mut body = serde_json::to_value(object).expect("objects of the API have a JSON form");
    if let Some(body) = body.as_object_mut() {
        body.remove("status");
    }
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        for noise in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(noise);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(REVISION);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    hash(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
    use kube::ResourceExt;

    fn deployment(version: &str) -> Deployment {
        let mut object = Deployment::default();
        object.metadata.name = Some("d".into());
        object.metadata.namespace = Some("n".into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    fn labelled(version: &str, value: &str) -> Deployment {
        let mut object = deployment(version);
        object.labels_mut().insert("a".into(), value.into());
        object
    }

    #[test]
    fn status_and_bookkeeping_are_no_change_and_anything_else_is() {
        let memo = Memo::default();
        assert_eq!(memo.compare(&deployment("1"), "w"), Known::Unknown);
        memo.remember(&deployment("1"), "w".into(), None);
        assert_eq!(memo.compare(&deployment("1"), "w"), Known::Unchanged);
        assert_eq!(memo.compare(&deployment("1"), "other"), Known::Unknown);

        let mut rolled = deployment("2");
        rolled.status = Some(DeploymentStatus {
            ready_replicas: Some(2),
            ..DeploymentStatus::default()
        });
        rolled.annotations_mut().insert(REVISION.into(), "1".into());
        rolled.metadata.generation = Some(3);
        assert_eq!(memo.compare(&rolled, "w"), Known::Unchanged);
        assert_eq!(memo.compare(&labelled("3", "b"), "w"), Known::Touched);

        memo.forget::<Deployment>(&Key::of(&rolled));
        assert!(memo.is_empty());
    }

    #[test]
    fn a_watch_that_lags_behind_our_writes_shows_no_foreign_change() {
        let memo = Memo::default();
        memo.remember(&labelled("2", "new"), "w".into(), Some("1".into()));
        assert_eq!(memo.compare(&labelled("1", "old"), "w"), Known::Unchanged);
        memo.follow(&labelled("3", "newer"));
        assert_eq!(memo.compare(&labelled("1", "old"), "w"), Known::Unchanged);
        assert_eq!(memo.compare(&labelled("2", "new"), "w"), Known::Unchanged);
        assert_eq!(memo.compare(&labelled("4", "old"), "w"), Known::Touched);
    }

    #[test]
    fn a_change_now_and_then_is_no_fight() {
        let memo = Memo::default();
        let object = labelled("1", "x");
        let key = Key::of(&object);
        memo.remember(&object, "w".into(), None);
        let base = Instant::now();
        let contested = |secs: u64| memo.is_contested::<Deployment>(&key, base + Duration::from_secs(secs));
        assert!((0..100).all(|n| !contested(n * 150)));
        let start = 100_000;
        let fight: Vec<bool> = (0..6).map(|n| contested(start + n)).collect();
        assert_eq!(fight, [false, false, false, false, false, true]);
        assert!(contested(start + 500) && !contested(start + 600));
    }

    #[test]
    fn few_former_versions_are_kept() {
        let memo = Memo::default();
        memo.remember(&labelled("0", "x"), "w".into(), None);
        for version in 1..=10 {
            memo.follow(&labelled(&version.to_string(), &version.to_string()));
        }
        assert_eq!(memo.compare(&labelled("8", "x"), "w"), Known::Unchanged);
        assert_eq!(memo.compare(&labelled("2", "x"), "w"), Known::Touched);
    }
}
