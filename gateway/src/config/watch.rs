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
mod tests {
    use super::*;
    use crate::config::scratch::{Scratch, config_text};
    use portcullis_config::status::ReferenceState;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Notes what it is given.
    #[derive(Default)]
    struct Recorder {
        taken: Mutex<Vec<(String, Option<String>)>>,
        refuse: AtomicBool,
    }

    impl Recorder {
        fn last(&self) -> (String, Option<String>) {
            self.taken.lock().unwrap().last().cloned().unwrap()
        }

        fn count(&self) -> usize {
            self.taken.lock().unwrap().len()
        }
    }

    impl Rebuild for Recorder {
        fn rebuild(&self, loaded: &Arc<Loaded>, files: &Arc<Files>) -> Result<(), Vec<Problem>> {
            if self.refuse.load(Ordering::SeqCst) && loaded.config.gateway.name == "refused" {
                return Err(vec![Problem {
                    path: "gateway.name".into(),
                    message: "not this one".into(),
                }]);
            }
            let credential = loaded
                .config
                .servers
                .first()
                .and_then(|server| server.credential.as_ref());
            let credential = credential
                .and_then(|credential| files.bytes(&credential.file).ok())
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            self.taken
                .lock()
                .unwrap()
                .push((loaded.config.gateway.name.clone(), credential));
            Ok(())
        }
    }

    fn text(name: &str, credential: &str) -> String {
        config_text(&format!(
            "servers:\n- {{name: s, namespace: default, prefix: s, url: 'https://s/mcp', addressPolicy: Public, \
             credential: {{name: authorization, file: {credential}}}}}\n"
        ))
        .replace("name: main", &format!("name: {name}"))
    }

    struct Case {
        scratch: Scratch,
        recorder: Arc<Recorder>,
        configuration: Arc<Configuration>,
        metrics: Arc<Metrics>,
        path: PathBuf,
    }

    /// As in a pod: the configuration and a credential in mounts of their own.
    fn start() -> Case {
        let scratch = Scratch::new();
        let mount = scratch.mount("config", &[("gateway.yaml", &text("one", "../secrets/s/token"))]);
        scratch.mount("secrets", &[("s/token", "first")]);
        let path = mount.join("gateway.yaml");
        let recorder = Arc::new(Recorder::default());
        let metrics = Metrics::new(0.0);
        let loaded = load(&path).unwrap();
        let configuration = Configuration::start(
            &path,
            Arc::clone(&recorder) as Arc<dyn Rebuild>,
            Arc::clone(&metrics),
            loaded,
        )
        .unwrap();
        Case {
            scratch,
            recorder,
            configuration,
            metrics,
            path,
        }
    }

    impl Case {
        fn look(&self) -> Outcome {
            self.configuration.look(Instant::now())
        }

        fn put(&self, text: &str) {
            self.scratch.mount("config", &[("gateway.yaml", text)]);
        }
    }

    #[test]
    fn nothing_new_changes_nothing() {
        let case = start();
        assert_eq!(case.recorder.last(), ("one".into(), Some("first".into())));
        for _ in 0..3 {
            assert_eq!(case.look(), Outcome::Unchanged);
        }
        assert_eq!(case.recorder.count(), 1);
        assert_eq!(case.metrics.config_synchronized.get(), 1);
    }

    #[test]
    fn a_new_secret_is_taken_without_a_new_configuration() {
        let case = start();
        let hash = case.configuration.status().hash;
        case.scratch.mount("secrets", &[("s/token", "second")]);
        assert_eq!(case.look(), Outcome::Taken);
        assert_eq!(case.recorder.last(), ("one".into(), Some("second".into())));
        assert_eq!(case.configuration.status().hash, hash);
    }

    #[test]
    fn a_revoked_secret_acts_and_is_reported() {
        let case = start();
        case.scratch.mount("secrets", &[]);
        assert_eq!(case.look(), Outcome::Taken);
        assert_eq!(case.recorder.last(), ("one".into(), None));
        let references = case.configuration.references();
        assert_eq!(references[0].state, ReferenceState::Missing);
        assert_eq!(
            case.metrics.config_synchronized.get(),
            1,
            "a reference is no reason to refuse"
        );
    }

    #[test]
    fn an_invalid_configuration_leaves_the_old_one_and_says_why() {
        let case = start();
        let before = case.configuration.status();
        case.put(&text("two", "x").replace("prefix: s", "prefix: s__s"));
        assert_eq!(case.look(), Outcome::Refused);
        let status = case.configuration.status();
        assert_eq!(status.hash, before.hash);
        assert!(status.rejected_hash.is_some_and(|hash| hash != before.hash));
        assert!(
            status
                .rejected_reason
                .unwrap()
                .contains("servers[default/s].prefix")
        );
        assert_eq!(case.metrics.config_synchronized.get(), 0);
        assert_eq!(case.metrics.reloads_refused.get(), 1);
        // Looked at again and again, it is refused once.
        assert_eq!(case.look(), Outcome::Unchanged);
        assert_eq!(case.metrics.reloads_refused.get(), 1);
        // And revocations act in the meantime.
        case.scratch.mount("secrets", &[]);
        assert_eq!(case.look(), Outcome::Taken);
        assert_eq!(case.recorder.last(), ("one".into(), None));
        assert_eq!(case.metrics.config_synchronized.get(), 0);
    }

    #[test]
    fn a_configuration_that_the_application_refuses_leaves_the_old_one() {
        let case = start();
        case.recorder.refuse.store(true, Ordering::SeqCst);
        case.put(&text("refused", "../secrets/s/token"));
        assert_eq!(case.look(), Outcome::Refused);
        let status = case.configuration.status();
        assert_eq!(
            status.rejected_reason.as_deref(),
            Some("gateway.name: not this one")
        );
        assert_eq!(case.configuration.loaded().config.gateway.name, "one");
        // Revocations act here, too.
        case.scratch.mount("secrets", &[]);
        assert_eq!(case.look(), Outcome::Refused);
        assert_eq!(case.recorder.last(), ("one".into(), None));
        // A good one clears it all.
        case.put(&text("three", "../secrets/s/token"));
        assert_eq!(case.look(), Outcome::Taken);
        assert_eq!(case.configuration.status().rejected_hash, None);
        assert_eq!(case.metrics.config_synchronized.get(), 1);
    }

    #[test]
    fn a_vanished_file_leaves_the_configuration_in_force() {
        let case = start();
        case.scratch.mount("config", &[]);
        assert_eq!(case.look(), Outcome::Refused);
        let status = case.configuration.status();
        assert!(status.rejected_reason.unwrap().ends_with("is missing"));
        assert_eq!(status.rejected_hash, None);
        case.put(&text("one", "../secrets/s/token"));
        assert_eq!(case.look(), Outcome::Unchanged);
        assert_eq!(case.configuration.status().rejected_reason, None);
    }

    #[test]
    fn a_credential_under_a_new_name_is_bridged_until_it_is_mounted() {
        let case = start();
        case.put(&text("two", "../secrets/s/renamed"));
        assert_eq!(case.look(), Outcome::Taken);
        assert_eq!(case.recorder.last(), ("two".into(), Some("first".into())));
        case.scratch.mount("secrets", &[("s/renamed", "second")]);
        assert_eq!(case.look(), Outcome::Taken);
        assert_eq!(case.recorder.last(), ("two".into(), Some("second".into())));
    }

    #[test]
    fn the_bridge_ends_although_nothing_happens_on_disk() {
        let case = start();
        case.put(&text("two", "../secrets/s/renamed"));
        assert_eq!(case.look(), Outcome::Taken);
        let later = Instant::now() + Duration::from_secs(91);
        assert_eq!(case.configuration.look(later), Outcome::Taken);
        assert_eq!(case.recorder.last(), ("two".into(), None));
    }

    /// Far below the poll's ten seconds, far above what an event takes.
    async fn noticed(case: &Case, expected: (&str, Option<&str>)) {
        let expected = (expected.0.to_owned(), expected.1.map(str::to_owned));
        let began = Instant::now();
        while case.recorder.last() != expected {
            assert!(
                began.elapsed() < Duration::from_secs(8),
                "no event: {:?}",
                case.recorder.last()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn swapped_links_are_noticed_again_and_again() {
        let case = start();
        let watching = tokio::spawn(Arc::clone(&case.configuration).watch());
        // The watches are set when the first look has had its chance; until then an event could be missed.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for round in 0..3 {
            let token = format!("token {round}");
            case.scratch.mount("secrets", &[("s/token", &token)]);
            noticed(&case, (&case.recorder.last().0, Some(&token))).await;
            let name = format!("round-{round}");
            case.put(&text(&name, "../secrets/s/token"));
            noticed(&case, (&name, Some(&token))).await;
        }
        case.scratch.mount("secrets", &[]);
        noticed(&case, ("round-2", None)).await;
        watching.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_plain_file_that_is_edited_or_replaced_is_noticed() {
        let scratch = Scratch::new();
        let path = scratch.write("gateway.yaml", text("one", "token"));
        scratch.write("token", "first");
        let recorder = Arc::new(Recorder::default());
        let metrics = Metrics::new(0.0);
        let loaded = load(&path).unwrap();
        let configuration = Configuration::start(
            &path,
            Arc::clone(&recorder) as Arc<dyn Rebuild>,
            Arc::clone(&metrics),
            loaded,
        )
        .unwrap();
        let case = Case {
            scratch,
            recorder,
            configuration,
            metrics,
            path,
        };
        let watching = tokio::spawn(Arc::clone(&case.configuration).watch());
        tokio::time::sleep(Duration::from_millis(200)).await;
        case.scratch.write("token", "second");
        noticed(&case, ("one", Some("second"))).await;
        // As editors and `mv` do it.
        let new = case.scratch.write("gateway.yaml.new", text("two", "token"));
        std::fs::rename(new, &case.path).unwrap();
        noticed(&case, ("two", Some("second"))).await;
        std::fs::remove_file(case.scratch.path().join("token")).unwrap();
        noticed(&case, ("two", None)).await;
        watching.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reading_is_no_reason_to_read_again() {
        let case = start();
        let watching = tokio::spawn(Arc::clone(&case.configuration).watch());
        tokio::time::sleep(Duration::from_millis(600)).await;
        // The kernel tells of our own reading, too: taken for a change, it would never end.
        assert_eq!(case.metrics.config_checks.get(), 0);
        case.scratch.mount("secrets", &[("s/token", "second")]);
        noticed(&case, ("one", Some("second"))).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let checks = case.metrics.config_checks.get();
        assert!((1..=4).contains(&checks), "{checks}");
        watching.abort();
    }
}
