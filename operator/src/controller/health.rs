//! What readiness knows of the watches, and what it says about them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use kube::runtime::watcher;
use tracing::{debug, warn};

/// Shared note of what does not work. Cloning gives another handle to the same note.
#[derive(Clone, Debug, Default)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    troubles: BTreeMap<String, Trouble>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing has come in yet.
    Starting,
    /// The API server does not know the kind.
    Missing,
    /// The watch broke, and whether the cache still holds what it last saw.
    Failing { error: String, synced: bool },
}

impl Health {
    /// Announces a watch: until it works, the process is not ready.
    pub fn starting(&self, kind: &str) {
        self.lock().troubles.insert(kind.to_owned(), Trouble::Starting);
    }

    /// The watch delivers.
    pub fn watch_works(&self, kind: &str) {
        if let Some(trouble) = self.lock().troubles.remove(kind)
            && trouble != Trouble::Starting
        {
            tracing::info!(kind, "the watch works again");
        }
    }

    /// The API server does not know the kind.
    pub fn kind_missing(&self, kind: &str) {
        self.lock().troubles.insert(kind.to_owned(), Trouble::Missing);
    }

    /// The watch broke. It restarts by itself; only what lasts is worth a warning.
    pub fn watch_failed(&self, kind: &str, error: &watcher::Error, synced: bool) {
        let trouble = Trouble::Failing {
            error: error.to_string(),
            synced,
        };
        let previous = self.lock().troubles.insert(kind.to_owned(), trouble);
        if previous.is_some() {
            warn!(kind, %error, "a watch keeps failing");
        } else {
            debug!(kind, %error, "a watch ended and is started again");
        }
    }

    /// What stands against being ready, one line each. A watch that broke after it had worked does not: its cache
    /// still holds what it saw, and a restart would lose that.
    pub fn not_ready(&self) -> Vec<String> {
        self.lock()
            .troubles
            .iter()
            .filter_map(|(kind, trouble)| match trouble {
                Trouble::Missing => Some(format!(
                    "the API server does not know {kind}: install the CRDs (chart portcullis-crds)"
                )),
                Trouble::Starting => Some(format!("{kind} not listed yet")),
                Trouble::Failing { synced: true, .. } => None,
                Trouble::Failing { error, synced: false } => {
                    Some(format!("{kind} cannot be listed: {error}"))
                }
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code that holds this lock can panic")
    }
}
