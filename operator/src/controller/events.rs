//! Events for whoever follows an object with `kubectl describe`: transitions only, best effort.

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::debug;

use super::client::{Kube, Object, request};
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
            let namespace = object.namespace().unwrap_or_default();
            let mut request = request::<K>("create", "", &namespace, &object.name_any());
            "events".clone_into(&mut request.resource);
            let reference = object.object_ref(&());
            let published = self.recorder.publish(&event, &reference);
            if let Err(error) = self.kube.write(request, published).await {
                debug!(%error, "an event was not published");
            }
        }
    }
}
