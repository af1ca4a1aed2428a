//! What stands for the rest of a cluster: a Deployment controller, a kubelet, and gateways that load what is mounted and
//! say so on their status port.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_config::status::{Reference, ReferenceState, ServerStatus, Status, ToolStatus};
use portcullis_operator::controller::poll::fetch::{Fetch, Fetching, PodTarget, PollError};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::api::ApiServer;
use crate::api::store::Place;

/// How long a pod takes to end.
pub const GRACE: Duration = Duration::from_secs(3);

/// How the pods behave.
#[derive(Default)]
pub struct Behaviour {
    /// Pods whose status port does not answer.
    pub mute: bool,
    /// Pods never become ready, and say this.
    pub not_ready: Option<String>,
    /// The kubelet is late by this many nudges.
    pub ignored_nudges: usize,
    /// Paths that the gateways miss.
    pub missing: Vec<String>,
    /// Deployments none of whose pods are ready.
    pub broken_deployments: HashSet<String>,
    /// Servers that do not answer, by name.
    pub dead_servers: HashSet<String>,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    /// By pod UID: the configuration that is mounted, and the annotations when it was.
    mounted: BTreeMap<String, Mounted>,
    polls: usize,
    /// Pods that are on their way out, by UID.
    ending: HashSet<String>,
}

struct Mounted {
    text: String,
    loaded: Option<portcullis_config::Loaded>,
    gateway_uid: String,
    annotations: Value,
    ignored: usize,
}

/// The rest of the cluster.
#[derive(Clone)]
pub struct Cluster {
    api: ApiServer,
    state: Arc<Mutex<State>>,
}

impl Cluster {
    /// Starts it; it goes on until the test ends.
    pub fn start(api: &ApiServer) -> (Self, JoinHandle<()>) {
        let this = Self {
            api: api.clone(),
            state: Arc::default(),
        };
        let running = tokio::spawn({
            let this = this.clone();
            async move {
                let mut changes = this.api.subscribe();
                loop {
                    this.settle();
                    if changes.changed().await.is_err() {
                        return;
                    }
                    // Other controllers are not instantaneous either.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        (this, running)
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.lock().unwrap().behaviour);
        self.api.patch(
            &Place::new("namespaces", "", "default"),
            &json!({"metadata": {"annotations": {"t": "x"}}}),
        );
        self.settle();
    }

    pub fn polls(&self) -> usize {
        self.state.lock().unwrap().polls
    }

    /// Brings ReplicaSets, pods and statuses to where the Deployments want them.
    pub fn settle(&self) {
        for (place, deployment) in self.api.list("deployments.apps") {
            self.roll_out(&place, &deployment);
        }
        for (place, pod) in self.api.list("pods") {
            self.mount(&place, &pod);
            self.end(&place, &pod);
        }
    }

    fn roll_out(&self, place: &Place, deployment: &Value) {
        let template = &deployment["spec"]["template"];
        let hash = portcullis_operator::api::names::short_hash(&template.to_string());
        let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        let set = Place::new(
            "replicasets.apps",
            &place.namespace,
            &format!("{}-{hash}", place.name),
        );
        if self.api.get(&set).is_none() {
            let labels = template["metadata"]["labels"].clone();
            self.api.create(
                "replicasets.apps",
                &json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {
                    "namespace": set.namespace, "name": set.name, "labels": labels,
                    "ownerReferences": [owner("apps/v1", "Deployment", &place.name, &deployment["metadata"]["uid"])],
                }}),
            );
        }
        // New pods first, then the old ones go: nothing here measures availability.
        let set_object = self.api.get(&set).expect("made above");
        for number in 0..replicas {
            let pod = Place::new("pods", &set.namespace, &format!("{}-{number}", set.name));
            if self.api.get(&pod).is_none() {
                self.start_pod(&pod, &set, &set_object, template, number);
            }
        }
        for (old, object) in self.api.list("replicasets.apps") {
            let of_this = object["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"];
            if of_this && old != set {
                self.api.delete(&old);
            }
        }
        for (pod, object) in self.api.list("pods") {
            let of_set = object["metadata"]["ownerReferences"][0]["uid"] == set_object["metadata"]["uid"];
            let number = pod
                .name
                .rsplit('-')
                .next()
                .and_then(|number| number.parse::<i64>().ok());
            if of_set && number.is_some_and(|number| number >= replicas) {
                self.api.delete(&pod);
            }
        }
        let ready = {
            let behaviour = &self.state.lock().unwrap().behaviour;
            let none = behaviour.not_ready.is_some() || behaviour.broken_deployments.contains(&place.name);
            if none { 0 } else { replicas }
        };
        let status = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
        });
        if deployment["status"] != status {
            self.api.patch_status(place, &json!({"status": status}));
        }
    }

    /// A pod that was told to end does so after a while, once.
    fn end(&self, place: &Place, pod: &Value) {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if pod["metadata"]["deletionTimestamp"].is_null() || !self.state.lock().unwrap().ending.insert(uid) {
            return;
        }
        let (api, place) = (self.api.clone(), place.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            api.end_pod(&place);
        });
    }

    fn start_pod(&self, pod: &Place, set: &Place, set_object: &Value, template: &Value, number: i64) {
        self.api.create(
            "pods",
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "namespace": pod.namespace, "name": pod.name, "labels": template["metadata"]["labels"],
                "ownerReferences": [owner("apps/v1", "ReplicaSet", &set.name, &set_object["metadata"]["uid"])],
            }, "spec": template["spec"]}),
        );
        self.set_ready(pod, number);
    }

    fn set_ready(&self, pod: &Place, number: i64) {
        let ready = if self.state.lock().unwrap().behaviour.not_ready.is_some() {
            "False"
        } else {
            "True"
        };
        self.api.patch_status(
            pod,
            &json!({"status": {
                "phase": "Running",
                "podIP": format!("198.18.0.{}", 10 + number),
                "conditions": [{"type": "Ready", "status": ready}],
            }}),
        );
    }

    /// The kubelet reads a gateway's ConfigMap when its pod starts, and again when the pod's annotations change.
    fn mount(&self, place: &Place, pod: &Value) {
        let Some(gateway) = pod["metadata"]["labels"]["portcullis.dev/gateway"].as_str() else {
            return;
        };
        let uid = pod["metadata"]["uid"].as_str().expect("a UID").to_owned();
        let annotations = pod["metadata"]["annotations"].clone();
        let config = self.api.get(&Place::new(
            "configmaps",
            &place.namespace,
            &format!("{gateway}-gateway"),
        ));
        let Some(text) = config
            .as_ref()
            .and_then(|config| config["data"]["gateway.yaml"].as_str())
        else {
            return;
        };
        let gateway_uid = config
            .as_ref()
            .and_then(|config| config["metadata"]["ownerReferences"][0]["uid"].as_str());
        let mut state = self.state.lock().unwrap();
        let patience = state.behaviour.ignored_nudges;
        let mounted = state.mounted.entry(uid).or_insert_with(|| Mounted {
            text: text.to_owned(),
            loaded: None,
            gateway_uid: gateway_uid.unwrap_or_default().to_owned(),
            annotations: annotations.clone(),
            ignored: 0,
        });
        if mounted.annotations != annotations {
            mounted.annotations = annotations;
            if mounted.ignored < patience {
                mounted.ignored += 1;
            } else {
                mounted.ignored = 0;
                text.clone_into(&mut mounted.text);
                mounted.loaded = None;
            }
        }
    }

    fn status_of(&self, uid: &str) -> Result<Status, PollError> {
        let mut state = self.state.lock().unwrap();
        state.polls += 1;
        if state.behaviour.mute {
            return Err(PollError::TimedOut);
        }
        let State {
            mounted, behaviour, ..
        } = &mut *state;
        let mounted = mounted.get_mut(uid).ok_or(PollError::TimedOut)?;
        let loaded = mounted.loaded.get_or_insert_with(|| {
            portcullis_config::parse(mounted.text.as_bytes(), Path::new("/etc/portcullis/config"))
                .unwrap_or_else(|error| panic!("the gateway would refuse this: {error}\n{}", mounted.text))
        });
        let servers = loaded
            .config
            .servers
            .iter()
            .map(|server| {
                let dead = behaviour.dead_servers.contains(&server.name);
                ServerStatus {
                    namespace: server.namespace.clone(),
                    name: server.name.clone(),
                    verified: !dead,
                    reason: if dead {
                        "ConnectFailed".into()
                    } else {
                        String::new()
                    },
                    message: if dead {
                        "connection refused".into()
                    } else {
                        String::new()
                    },
                    protocol_version: "2025-06-18".into(),
                    server_name: server.name.clone(),
                    server_version: "1.0.0".into(),
                    tools: if dead {
                        Vec::new()
                    } else {
                        vec![
                            ToolStatus {
                                name: "read_file".into(),
                                served: true,
                            },
                            ToolStatus {
                                name: "write_file".into(),
                                served: false,
                            },
                        ]
                    },
                }
            })
            .collect();
        let mut status = Status {
            gateway_id: mounted.gateway_uid.clone(),
            version: "0.1.0".into(),
            ready: behaviour.not_ready.is_none(),
            not_ready: behaviour.not_ready.clone().into_iter().collect(),
            references: behaviour
                .missing
                .iter()
                .map(|path| Reference {
                    path: path.clone(),
                    state: ReferenceState::Missing,
                    ..Reference::default()
                })
                .collect(),
            servers,
            ..Status::default()
        };
        status.config.hash.clone_from(&loaded.hash);
        Ok(status)
    }
}

fn owner(api_version: &str, kind: &str, name: &str, uid: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true})
}

impl Fetch for Cluster {
    fn fetch<'a>(&'a self, target: &'a PodTarget) -> Fetching<'a> {
        assert!(
            !target.fingerprints.is_empty(),
            "a pod without a pinned identity must not be read"
        );
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.status_of(&target.uid)
        })
    }
}
