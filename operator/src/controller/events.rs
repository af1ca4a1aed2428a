//! Events for whoever follows an object with `kubectl describe`: transitions only, best effort.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::debug;

use super::cache::Unreadable;
use super::client::{Kube, Object};
use super::error::Request;
use crate::identity::Key;
use crate::status::conditions::{Flip, bounded};

/// The API's bound on an event's note.
const MAX_NOTE: usize = 1024;
/// Most events one pass tells.
const MOST: usize = 8;

/// Publishes events. One for the whole process, so that repeats are gathered.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    kube: Kube,
}

impl Events {
    /// Events by `instance`, the pod's name.
    pub fn new(client: Client, kube: Kube, instance: &str) -> Self {
        let reporter = Reporter {
            controller: "portcullis.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            kube,
        }
    }

    /// Tells what flipped on `object`.
    pub async fn tell<K: Object>(&self, object: &K, flips: &[Flip]) {
        for flip in flips.iter().take(MOST) {
            let event = Event {
                type_: if flip.bad {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: flip.reason.clone(),
                note: Some(bounded(
                    &format!("{} is {}: {}", flip.type_, flip.now, flip.message),
                    MAX_NOTE,
                )),
                action: flip.type_.clone(),
                secondary: None,
            };
            self.publish(&event, &object.object_ref(&())).await;
        }
    }

    /// Tells that an object cannot be read.
    pub async fn unreadable(&self, kind: &'static str, unreadable: &Unreadable) {
        let event = Event {
            type_: EventType::Warning,
            reason: "Unreadable".to_owned(),
            note: Some(bounded(
                &format!(
                    "it does not match its schema and is left as it was, with everything that hangs on it: {}",
                    unreadable.error
                ),
                MAX_NOTE,
            )),
            action: "Read".to_owned(),
            secondary: None,
        };
        let reference = ObjectReference {
            api_version: Some(format!("{}/v1alpha1", crate::api::GROUP)),
            kind: Some(kind.to_owned()),
            namespace: Some(unreadable.key.namespace.to_string()),
            name: Some(unreadable.key.name.to_string()),
            uid: unreadable.uid.clone(),
            ..ObjectReference::default()
        };
        self.publish(&event, &reference).await;
    }

    async fn publish(&self, event: &Event, about: &ObjectReference) {
        let object = Key::new(
            about.namespace.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default(),
        );
        let request = Request {
            verb: "create",
            resource: "events".to_owned(),
            object: object.to_string(),
        };
        let published = self.recorder.publish(event, about);
        if let Err(error) = self.kube.write(request, published).await {
            debug!(%error, "an event was not published");
        }
    }
}
