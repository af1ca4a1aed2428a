//! The only writer of status: compares, and writes what differs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{At, Kube, Object};
use super::error::Error;
use super::target::Target;
use crate::identity::Key;
use crate::metrics::Metrics;

/// One write, as the API server answered it.
#[derive(Clone, Debug)]
struct Written {
    uid: Option<String>,
    /// Version of the object that the write was made on.
    base: Option<String>,
    /// What was sent.
    sent: Value,
    /// What the API server made of it. An older CRD drops fields that it does not know.
    kept: Value,
}

/// Writes statuses, and remembers the last one of each object.
pub struct StatusWriter {
    kube: Kube,
    metrics: Metrics,
    written: Mutex<HashMap<Target, Written>>,
}

impl StatusWriter {
    /// Nothing has been written yet.
    pub fn new(kube: Kube, metrics: Metrics) -> Self {
        Self {
            kube,
            metrics,
            written: Mutex::default(),
        }
    }

    /// The status as it surely is: what the watch shows, unless that is what our own last write was made on.
    pub fn current<K: Object, S: Serialize + DeserializeOwned + Clone + Default>(
        &self,
        target: &Target,
        object: &K,
        shown: Option<&S>,
    ) -> S {
        let newer = self
            .lock()
            .get(target)
            .filter(|written| written.base == object.resource_version() && written.uid == object.uid())
            .and_then(|written| serde_json::from_value(written.kept.clone()).ok());
        newer.or_else(|| shown.cloned()).unwrap_or_default()
    }

    /// Writes `wanted` if it is not what `current` says. Says whether it did.
    pub async fn write<K: Object, S: Serialize>(
        &self,
        manager: &str,
        target: &Target,
        object: &K,
        current: &S,
        wanted: &S,
    ) -> Result<bool, Error> {
        let value =
            |status: &S| serde_json::to_value(status).map_err(|error| Error::Invariant(error.to_string()));
        let (current, wanted) = (value(current)?, value(wanted)?);
        let again = self.lock().get(target).is_some_and(|written| {
            written.uid == object.uid() && written.sent == wanted && written.kept == current
        });
        if current == wanted || again {
            return Ok(false);
        }
        let key = Key::of(object);
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": &*key.name, "namespace": &*key.namespace, "uid": object.uid()},
            "status": wanted,
        });
        let at = At {
            namespace: &key.namespace,
            name: &key.name,
        };
        let answer: K = self.kube.apply_status(manager, &at, &body).await?;
        self.metrics.status_written(target.kind());
        let kept = serde_json::to_value(&answer)
            .ok()
            .and_then(|mut answer| answer.get_mut("status").map(Value::take))
            .unwrap_or_default();
        if kept != wanted {
            tracing::warn!(%target, "the CRD is older than the operator: it dropped a part of the status; install the present CRDs");
        }
        let written = Written {
            uid: object.uid(),
            base: object.resource_version(),
            sent: wanted,
            kept,
        };
        self.lock().insert(target.clone(), written);
        Ok(true)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, target: &Target) {
        self.lock().remove(target);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Written>> {
        self.written
            .lock()
            .expect("no code that holds this lock can panic")
    }
}
