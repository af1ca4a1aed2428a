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
