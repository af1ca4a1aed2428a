//! Notices that something changed on disk and puts it in force, or says why not.
//!
//! Events only save time: they come from directories (the kubelet swaps a symbolic link there), may be lost or merged,
//! and mean nothing but "look again". A slow poll compares contents, so that a lost event costs seconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use portcullis_config::status::{ConfigStatus, Reference};
use portcullis_config::{Loaded, Problem};
use tokio::sync::Notify;

use crate::config::files::{Files, Retention, entries};
use crate::config::load::{Refused, load};
use crate::telemetry::metrics::Metrics;

/// How long changes gather before they are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often contents are compared without an event.
const POLL: Duration = Duration::from_secs(10);
/// How far above a file its mount is looked for: a projected volume may nest its files below the swapped link.
const LEVELS: usize = 4;
/// The link that the kubelet swaps.
const DATA_LINK: &str = "..data";

/// Puts a configuration in force.
pub trait Rebuild: Send + Sync + 'static {
    /// Replaces what is in force as a whole, or refuses and leaves it untouched. Called with the configuration in force
    /// as well, when only files changed: that must not fail for what a file holds or lacks.
    fn rebuild(&self, loaded: &Arc<Loaded>, files: &Arc<Files>) -> Result<(), Vec<Problem>>;
}

/// The configuration in force, and how it compares to the disk.
pub struct Configuration {
    path: PathBuf,
    rebuild: Arc<dyn Rebuild>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

struct State {
    loaded: Arc<Loaded>,
    files: Arc<Files>,
    retention: Retention,
    rejected: Option<Rejected>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rejected {
    hash: Option<String>,
    reason: String,
}

/// What a look at the disk led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is new.
    Unchanged,
    /// Something new is in force.
    Taken,
    /// Something new was refused; what was in force stays.
    Refused,
}

impl Configuration {
    /// Reads everything for the first time. There is nothing to fall back to: a refusal is the caller's to report.
    pub fn start(
        path: &Path,
        rebuild: Arc<dyn Rebuild>,
        metrics: Arc<Metrics>,
        loaded: Loaded,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        let loaded = Arc::new(loaded);
        let mut retention = Retention::new();
        let entries = entries(&loaded.config);
        let files = Arc::new(retention.apply(&entries, Files::read(&loaded.config), Instant::now()));
        rebuild.rebuild(&loaded, &files)?;
        metrics.reloads.inc();
        metrics.config_synchronized.set(1);
        Ok(Arc::new(Self {
            path: path.to_owned(),
            rebuild,
            metrics,
            state: Mutex::new(State {
                loaded,
                files,
                retention,
                rejected: None,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.state().loaded)
    }

    /// For the status document.
    pub fn status(&self) -> ConfigStatus {
        let state = self.state();
        ConfigStatus {
            hash: state.loaded.hash.clone(),
            rejected_hash: state.rejected.as_ref().and_then(|rejected| rejected.hash.clone()),
            rejected_reason: state.rejected.as_ref().map(|rejected| rejected.reason.clone()),
        }
    }

    /// For the status document: what became of each path.
    pub fn references(&self) -> Vec<Reference> {
        self.state().files.references()
    }

    /// Looks at the disk once. Blocks.
    pub fn look(&self, now: Instant) -> Outcome {
        self.metrics.config_checks.inc();
        let mut state = self.state();
        match load(&self.path) {
            Ok(loaded) if loaded.hash == state.loaded.hash => {
                let current = Arc::clone(&state.loaded);
                let outcome = self.take(&mut state, current, now);
                if outcome != Outcome::Refused {
                    self.settle(&mut state);
                }
                outcome
            }
            Ok(loaded) => {
                let hash = loaded.hash.clone();
                match self.take(&mut state, Arc::new(loaded), now) {
                    Outcome::Refused => {
                        // Revocations must act although the new configuration does not.
                        let current = Arc::clone(&state.loaded);
                        self.take(&mut state, current, now);
                        Outcome::Refused
                    }
                    taken => {
                        tracing::info!(%hash, "configuration taken");
                        self.settle(&mut state);
                        taken
                    }
                }
            }
            Err(refused) => {
                let rejected = Rejected::from(&refused);
                let fresh = self.reject(&mut state, rejected);
                let current = Arc::clone(&state.loaded);
                match self.take(&mut state, current, now) {
                    Outcome::Unchanged if fresh => Outcome::Refused,
                    outcome => outcome,
                }
            }
        }
    }

    /// Reads what `loaded` names and puts both in force, unless nothing is new.
    fn take(&self, state: &mut State, loaded: Arc<Loaded>, now: Instant) -> Outcome {
        let entries = entries(&loaded.config);
        // A copy: a configuration that is refused must not decide what the one in force remembers.
        let mut retention = state.retention.clone();
        let files = retention.apply(&entries, Files::read(&loaded.config), now);
        if files == *state.files && loaded.hash == state.loaded.hash {
            state.retention = retention;
            return Outcome::Unchanged;
        }
        let files = Arc::new(files);
        match self.rebuild.rebuild(&loaded, &files) {
            Ok(()) => {
                self.metrics.reloads.inc();
                for reference in files
                    .references()
                    .iter()
                    .filter(|reference| !reference.message.is_empty())
                {
                    tracing::warn!(
                        path = reference.path,
                        problem = reference.message,
                        "reference not resolved"
                    );
                }
                state.loaded = loaded;
                state.files = files;
                state.retention = retention;
                Outcome::Taken
            }
            Err(problems) => {
                let reason = problems
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ");
                let hash = Some(loaded.hash.clone());
                self.reject(state, Rejected { hash, reason });
                Outcome::Refused
            }
        }
    }

    /// Notes that what is on disk is in force.
    fn settle(&self, state: &mut State) {
        state.rejected = None;
        self.metrics.config_synchronized.set(1);
    }

    /// Notes a refusal. True: it is not the one that was noted before.
    fn reject(&self, state: &mut State, rejected: Rejected) -> bool {
        self.metrics.config_synchronized.set(0);
        if state.rejected.as_ref() == Some(&rejected) {
            return false;
        }
        self.metrics.reloads_refused.inc();
        tracing::error!(
            reason = %rejected.reason,
            in_force = %state.loaded.hash,
            "configuration refused, the one in force stays"
        );
        state.rejected = Some(rejected);
        true
    }

    /// Watches for ever.
    pub async fn watch(self: Arc<Self>) {
        let changed = Arc::new(Notify::new());
        let mut watches = Watches::new(Arc::clone(&changed));
        loop {
            watches.follow(&self.directories());
            tokio::select! {
                () = changed.notified() => tokio::time::sleep(DEBOUNCE).await,
                () = tokio::time::sleep(POLL) => {}
            }
            let this = Arc::clone(&self);
            // Reading and rebuilding take milliseconds that no request should wait for.
            let look = tokio::task::spawn_blocking(move || this.look(Instant::now()));
            if let Err(err) = look.await {
                // The state it left behind is whole: everything is replaced at the end, if at all.
                tracing::error!(error = %err, "the configuration could not be looked at");
            }
        }
    }

    /// Directories in which something may change that concerns us.
    fn directories(&self) -> Vec<PathBuf> {
        let loaded = self.loaded();
        let mut found = watched(&self.path);
        for entry in entries(&loaded.config) {
            found.extend(watched(&entry.path));
            if entry.kind.is_directory() {
                // So that the directory itself is the parent.
                found.extend(watched(&entry.path.join("key")));
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Where a change of `path` shows: in its parent, or, while that is not there, in the nearest directory above that is;
/// and in the mount whose `..data` link it stands behind.
fn watched(path: &Path) -> Vec<PathBuf> {
    let above: Vec<PathBuf> = path
        .ancestors()
        .skip(1)
        .take(LEVELS)
        .map(|directory| {
            if directory.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                directory.to_owned()
            }
        })
        .collect();
    let nearest = above.iter().find(|directory| directory.is_dir());
    let mount = above
        .iter()
        .find(|directory| directory.join(DATA_LINK).symlink_metadata().is_ok());
    nearest.into_iter().chain(mount).cloned().collect()
}

impl From<&Refused> for Rejected {
    fn from(refused: &Refused) -> Self {
        Self {
            hash: refused.hash().map(str::to_owned),
            reason: refused.to_string(),
        }
    }
}

/// The directories under watch.
struct Watches {
    watcher: Option<RecommendedWatcher>,
    /// Each directory and what it really was when the watch was set: a swapped link makes it another one.
    set: BTreeMap<PathBuf, PathBuf>,
}

impl Watches {
    fn new(changed: Arc<Notify>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            // Our own reading is an access; everything else, an overflow included, is a reason to look.
            let is_change = event.as_ref().map_or(true, |event| {
                event.need_rescan() || !matches!(event.kind, EventKind::Access(_))
            });
            if is_change {
                changed.notify_one();
            }
        };
        let watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => Some(watcher),
            Err(err) => {
                tracing::warn!(error = %err, "no file events: changes are noticed by polling only");
                None
            }
        };
        Self {
            watcher,
            set: BTreeMap::new(),
        }
    }

    /// Watches exactly these from now on.
    fn follow(&mut self, directories: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted: BTreeMap<PathBuf, PathBuf> = directories
            .iter()
            .filter_map(|directory| Some((directory.clone(), directory.canonicalize().ok()?)))
            .collect();
        for (directory, real) in &self.set {
            if wanted.get(directory) != Some(real)
                && let Err(err) = watcher.unwatch(directory)
            {
                // It went away with its directory.
                tracing::debug!(directory = %directory.display(), error = %err, "watch not removed");
            }
        }
        let mut set = BTreeMap::new();
        for (directory, real) in wanted {
            let kept = self.set.get(&directory) == Some(&real);
            if kept || watch(watcher, &directory) {
                set.insert(directory, real);
            }
        }
        self.set = set;
    }
}

fn watch(watcher: &mut RecommendedWatcher, directory: &Path) -> bool {
    match watcher.watch(directory, RecursiveMode::NonRecursive) {
        Ok(()) => true,
        Err(err) => {
            tracing::warn!(directory = %directory.display(), error = %err, "not watched, polling only");
            false
        }
    }
}

#[cfg(test)]
mod tests;
