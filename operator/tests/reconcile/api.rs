//! A small API server in memory: list, watch, get, create, server-side apply, merge patch, replace, delete with
//! preconditions, owners' garbage collection, the operator's rights, an audit log, and faults on request.
//!
//! Time is tokio's, so tests pause it.

pub mod fields;
pub mod http;
pub mod rights;
pub mod select;
pub mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use select::Selector;
use store::{Place, Preconditions, Refusal, Store};

/// One request, as an audit log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub verb: &'static str,
    pub resource: String,
    pub sub: Option<String>,
    pub namespace: String,
    pub name: String,
    pub code: u16,
}

impl Call {
    /// `verb resource[/sub] namespace/name`.
    pub fn line(&self) -> String {
        let sub = self.sub.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
        format!(
            "{} {}{sub} {}/{}",
            self.verb, self.resource, self.namespace, self.name
        )
    }

    pub fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

/// What is to go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused, without effect.
    Refuse(u16),
    /// Never answered, without effect.
    Hang,
    /// Done, but never answered.
    DoAndHang,
    /// Done, and the operator dies before it hears of it.
    DoAndCrash,
}

/// Decides what goes wrong; told the number of the request (watches and the lease apart) and what it is.
pub type Faults = Box<dyn FnMut(usize, &Call) -> Option<Fault> + Send>;

pub struct Watcher {
    resource: String,
    namespace: Option<String>,
    selector: Selector,
    events: mpsc::UnboundedSender<Result<Vec<u8>, std::io::Error>>,
}

#[derive(Default)]
struct Inner {
    store: Store,
    watchers: Vec<Watcher>,
    calls: Vec<Call>,
    counted: usize,
    faults: Option<Faults>,
    /// Kinds that the API server does not know.
    unknown: Vec<String>,
    /// Kinds whose lists fail, and how often one was asked for.
    unlisted: BTreeMap<String, usize>,
}

/// The API server. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    crashed: watch::Sender<usize>,
}

impl ApiServer {
    pub fn new() -> Self {
        let this = Self {
            inner: Arc::default(),
            changed: watch::Sender::new(0),
            crashed: watch::Sender::new(0),
        };
        for name in ["default", "agents", "other", "portcullis-system"] {
            let labels = json!({"kubernetes.io/metadata.name": name});
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            this.create("namespaces", &namespace);
        }
        this
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// A client that goes through [`http`].
    pub fn client(&self) -> kube::Client {
        kube::Client::new(http::Service(self.clone()), "default")
    }

    // What follows is the tests' own hand on the objects: not logged, not limited, not disturbed.

    /// Creates an object as a user would.
    pub fn create(&self, resource: &str, object: &Value) -> Value {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let place = Place::new(resource, &text("namespace"), &text("name"));
        self.change(|store| store.create(&place, "kubectl", object.clone()))
            .unwrap()
    }

    /// Changes an object as a user would.
    pub fn patch(&self, place: &Place, patch: &Value) -> Value {
        self.change(|store| store.merge(place, None, "kubectl", patch))
            .unwrap()
    }

    /// Changes an object's status, or a pod's.
    pub fn patch_status(&self, place: &Place, patch: &Value) {
        self.change(|store| store.merge(place, Some("status"), "kubelet", patch))
            .unwrap();
    }

    /// Deletes an object as a user would.
    pub fn delete(&self, place: &Place) {
        self.change(|store| store.delete(place, &Preconditions::default()))
            .unwrap();
    }

    /// Ends a pod for good, as the kubelet does.
    pub fn end_pod(&self, place: &Place) {
        self.change(|store| store.remove_pod(place)).unwrap();
    }

    pub fn get(&self, place: &Place) -> Option<Value> {
        self.lock().store.get(place).cloned()
    }

    pub fn list(&self, resource: &str) -> Vec<(Place, Value)> {
        let inner = self.lock();
        inner
            .store
            .of_resource(resource)
            .map(|(place, object)| (place.clone(), object.clone()))
            .collect()
    }

    pub fn all(&self) -> Vec<(Place, Value)> {
        let inner = self.lock();
        inner
            .store
            .all()
            .map(|(place, object)| (place.clone(), object.clone()))
            .collect()
    }

    /// Requests since the last [`Self::forget_calls`], watches and the lease apart.
    pub fn calls(&self) -> Vec<Call> {
        let inner = self.lock();
        inner.calls.iter().filter(|call| counts(call)).cloned().collect()
    }

    pub fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    pub fn set_faults(&self, faults: impl FnMut(usize, &Call) -> Option<Fault> + Send + 'static) {
        let mut inner = self.lock();
        inner.counted = 0;
        inner.faults = Some(Box::new(faults));
    }

    pub fn no_faults(&self) {
        self.lock().faults = None;
    }

    /// Makes a kind unknown, or known again.
    pub fn know(&self, resource: &str, known: bool) {
        let mut inner = self.lock();
        inner.unknown.retain(|one| one != resource);
        if !known {
            inner.unknown.push(resource.to_owned());
        }
    }

    /// From now on lists of this kind over all namespaces fail, as they do on an API server that is overloaded.
    pub fn fail_lists(&self, resource: &str) {
        self.lock().unlisted.insert(resource.to_owned(), 0);
    }

    /// Lists of this kind work again; says how many have failed.
    pub fn mend_lists(&self, resource: &str) -> usize {
        self.lock().unlisted.remove(resource).unwrap_or_default()
    }

    /// Breaks all watches off, as an API server does now and then.
    pub fn drop_watches(&self) {
        self.lock().watchers.clear();
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Told of every [`Fault::DoAndCrash`].
    pub fn crashes(&self) -> watch::Receiver<usize> {
        self.crashed.subscribe()
    }

    fn change<T>(&self, f: impl FnOnce(&mut Store) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut inner = self.lock();
        let before = inner.store.events.len();
        let result = f(&mut inner.store);
        let events = inner.store.events[before..].to_vec();
        for event in &events {
            inner
                .watchers
                .retain(|watcher| match http::watch_line(watcher, event) {
                    Some(line) => watcher.events.send(Ok(line)).is_ok(),
                    None => !watcher.events.is_closed(),
                });
        }
        let version = inner.store.version;
        drop(inner);
        if !events.is_empty() {
            self.changed.send_replace(version);
        }
        result
    }
}

/// Whether a request is one that rest has none of.
fn counts(call: &Call) -> bool {
    let listing = call.verb == "list" && call.namespace.is_empty();
    call.verb != "watch" && !listing && call.resource != "leases.coordination.k8s.io"
}
