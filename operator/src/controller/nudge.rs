//! Makes the kubelet refresh a pod's volumes at once, by touching the pod.
//!
//! Without it a changed ConfigMap takes about a minute to arrive; with it, half a second. The touch is an annotation,
//! written through `pods/status`: that right cannot change what a pod runs. The kubelet's own copy of the ConfigMap may lag
//! behind the annotation, so a pod that does not report the new configuration is touched again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tracing::debug;

use super::client::{At, Kube};
use crate::api::labels::{CONFIG_HASH, REFRESHED};
use crate::api::names::short_hash;
use crate::identity::Key;
use crate::metrics::Metrics;

/// When a pod is touched for a new configuration. The kubelet hears of the ConfigMap by a watch of its own, which often
/// comes in just after the first touch.
const HASH_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(700),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// When a pod is touched for a refresh that somebody asked for. Nothing says when a Secret has arrived, so all of them
/// happen.
const REFRESH_AT: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
/// How many pods are touched at a time.
const CONCURRENCY: usize = 16;

/// A pod that may need a touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nudgeable {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The configuration it reports; none while it reports nothing that counts.
    pub reported: Option<String>,
    /// Whether it was tried in vain to read it.
    pub unreachable: bool,
    /// Its annotations, as the watch saw them.
    pub config_hash: Option<String>,
    /// The last refresh it was touched for.
    pub refreshed: Option<String>,
}

/// What was done to one pod.
#[derive(Clone, Debug, Default)]
struct Done {
    hash: Option<Series>,
    refresh: Option<Series>,
}

/// A series of touches for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Series {
    cause: String,
    since: Instant,
    touches: usize,
}

/// What is touched now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Pods and the annotations they get.
    pub touches: Vec<(Nudgeable, Vec<(&'static str, String)>)>,
    /// When the next touch would be due.
    pub next: Option<Instant>,
}

/// The series of all pods, by gateway.
#[derive(Debug, Default)]
pub struct Nudges {
    pods: Mutex<HashMap<Key, HashMap<String, Done>>>,
}

impl Nudges {
    /// Decides which pods of a gateway to touch now, and notes it as done. `refresh` is the value of the annotation by
    /// which somebody asks for one.
    pub fn plan(
        &self,
        gateway: &Key,
        pods: Vec<Nudgeable>,
        expected: &str,
        refresh: Option<&str>,
        now: Instant,
    ) -> Plan {
        let mut all = self.lock();
        let known = all.entry(gateway.clone()).or_default();
        known.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        let refresh = refresh.map(short_hash);
        let mut plan = Plan::default();
        for pod in pods {
            let done = known.entry(pod.uid.clone()).or_default();
            let mut annotations = Vec::new();
            if let Some(value) = hash_touch(&pod, done, expected, now, &mut plan.next) {
                annotations.push((CONFIG_HASH, value));
            }
            if let Some(value) = refresh_touch(&pod, done, refresh.as_deref(), now, &mut plan.next) {
                annotations.push((REFRESHED, value));
            }
            if !annotations.is_empty() {
                plan.touches.push((pod, annotations));
            }
        }
        plan
    }

    /// Forgets a gateway.
    pub fn forget(&self, gateway: &Key) {
        self.lock().remove(gateway);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, HashMap<String, Done>>> {
        self.pods.lock().expect("no code that holds this lock can panic")
    }
}

/// Whether the pod is to be touched for its configuration.
fn hash_touch(
    pod: &Nudgeable,
    done: &mut Done,
    expected: &str,
    now: Instant,
    next: &mut Option<Instant>,
) -> Option<String> {
    let needs = match &pod.reported {
        Some(reported) => reported != expected,
        // A pod that starts reads the present configuration by itself; one that cannot be read may have an old one.
        None => pod.unreachable,
    };
    if !needs {
        done.hash = None;
        return None;
    }
    let known = done.hash.as_ref().is_some_and(|series| series.cause == expected);
    if !known {
        done.hash = Some(Series {
            cause: expected.to_owned(),
            since: now,
            // What another process did before is not done again, as far as the annotation tells.
            touches: touches_in(pod.config_hash.as_deref(), expected),
        });
    }
    let series = done.hash.as_mut()?;
    let due = due(series, &HASH_AT, now, next)?;
    Some(value_of(expected, due))
}

/// Whether the pod is to be touched for a refresh.
fn refresh_touch(
    pod: &Nudgeable,
    done: &mut Done,
    refresh: Option<&str>,
    now: Instant,
    next: &mut Option<Instant>,
) -> Option<String> {
    let refresh = refresh?;
    let known = done
        .refresh
        .as_ref()
        .is_some_and(|series| series.cause == refresh);
    if !known {
        done.refresh = Some(Series {
            cause: refresh.to_owned(),
            since: now,
            touches: touches_in(pod.refreshed.as_deref(), refresh),
        });
    }
    let series = done.refresh.as_mut()?;
    let due = due(series, &REFRESH_AT, now, next)?;
    Some(value_of(refresh, due))
}

/// The number of the touch that is due now, counted as done from here on. Otherwise `next` is moved to when it will be.
fn due(
    series: &mut Series,
    schedule: &[Duration],
    now: Instant,
    next: &mut Option<Instant>,
) -> Option<usize> {
    let later = |at: Instant, next: &mut Option<Instant>| {
        *next = Some(next.map_or(at, |known| known.min(at)));
    };
    let number = series.touches;
    let at = series.since + *schedule.get(number)?;
    if at > now {
        later(at, next);
        return None;
    }
    series.touches = number + 1;
    if let Some(after) = schedule.get(series.touches) {
        later((series.since + *after).max(now), next);
    }
    Some(number)
}

/// The kubelet acts on a change only, so each touch of a series has a value of its own.
fn value_of(cause: &str, number: usize) -> String {
    if number == 0 {
        cause.to_owned()
    } else {
        format!("{cause}.{number}")
    }
}

/// How many touches for `cause` an annotation tells of.
fn touches_in(annotation: Option<&str>, cause: &str) -> usize {
    let Some(rest) = annotation.and_then(|text| text.strip_prefix(cause)) else {
        return 0;
    };
    if rest.is_empty() {
        return 1;
    }
    rest.strip_prefix('.')
        .and_then(|number| number.parse::<usize>().ok())
        .map_or(0, |number| number.saturating_add(1))
}

/// Touches the pods. That one fails is no failure of the pass: the next touch, or the kubelet's own round, does it.
pub async fn carry_out(kube: &Kube, metrics: &Metrics, manager: &str, gateway: &Key, plan: &Plan) {
    stream::iter(&plan.touches)
        .for_each_concurrent(CONCURRENCY, |(pod, annotations)| async move {
            let values: Map<String, Value> = annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Value::String(value.clone())))
                .collect();
            let patch = json!({"metadata": {"uid": pod.uid, "annotations": values}});
            let at = At {
                namespace: &gateway.namespace,
                name: &pod.name,
            };
            let answer = kube.merge_status::<Pod>(manager, &at, &patch).await;
            metrics.nudged(answer.is_ok());
            match answer {
                Ok(_) => debug!(%gateway, pod = pod.name, "nudged"),
                Err(error) => debug!(%gateway, pod = pod.name, %error, "not nudged"),
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(reported: Option<&str>) -> Nudgeable {
        Nudgeable {
            uid: "u".into(),
            name: "p".into(),
            reported: reported.map(Into::into),
            unreachable: false,
            config_hash: None,
            refreshed: None,
        }
    }

    fn gateway() -> Key {
        Key::new("ns", "gw")
    }

    fn values(plan: &Plan) -> Vec<String> {
        plan.touches
            .iter()
            .flat_map(|(_, annotations)| annotations.iter().map(|(key, value)| format!("{key}={value}")))
            .collect()
    }

    fn secs(plan: &Plan, base: Instant) -> Option<u64> {
        plan.next.map(|at| (at - base).as_secs())
    }

    #[test]
    fn a_pod_with_an_old_configuration_is_touched_until_it_reports_the_new_one() {
        let nudges = Nudges::default();
        let base = Instant::now();
        let at = |secs| base + Duration::from_secs(secs);
        let step = |now, reported| nudges.plan(&gateway(), vec![pod(Some(reported))], "new", None, now);

        let first = step(at(0), "old");
        assert_eq!(
            (values(&first), secs(&first, base)),
            (vec!["portcullis.dev/config-hash=new".into()], Some(0))
        );
        assert_eq!(values(&step(at(1), "old")), ["portcullis.dev/config-hash=new.1"]);
        let between = step(at(1), "old");
        assert_eq!((values(&between), secs(&between, base)), (vec![], Some(2)));
        assert_eq!(values(&step(at(2), "old")), ["portcullis.dev/config-hash=new.2"]);
        assert_eq!(values(&step(at(5), "old")), ["portcullis.dev/config-hash=new.3"]);
        let last = step(at(15), "old");
        assert_eq!(
            (values(&last), last.next),
            (vec!["portcullis.dev/config-hash=new.4".into()], None)
        );
        assert_eq!(step(at(100), "old"), Plan::default());
        assert_eq!(step(at(101), "new"), Plan::default());
        // The next change begins a series of its own.
        let next = nudges.plan(&gateway(), vec![pod(Some("new"))], "newer", None, at(200));
        assert_eq!(values(&next), ["portcullis.dev/config-hash=newer"]);
    }

    #[test]
    fn a_pod_that_starts_is_left_alone_and_one_that_cannot_be_read_is_not() {
        let nudges = Nudges::default();
        let now = Instant::now();
        assert_eq!(
            nudges.plan(&gateway(), vec![pod(None)], "h", None, now),
            Plan::default()
        );
        let unreachable = Nudgeable {
            unreachable: true,
            ..pod(None)
        };
        assert_eq!(
            nudges
                .plan(&gateway(), vec![unreachable], "h", None, now)
                .touches
                .len(),
            1
        );
    }

    #[test]
    fn a_refresh_touches_three_times_whatever_is_reported() {
        let nudges = Nudges::default();
        let base = Instant::now();
        let mut seen = Vec::new();
        for millis in [0, 500, 1_000, 2_999, 3_000, 60_000] {
            let now = base + Duration::from_millis(millis);
            let plan = nudges.plan(&gateway(), vec![pod(Some("h"))], "h", Some("2026-01-01"), now);
            seen.extend(values(&plan).into_iter().map(|value| (millis, value)));
        }
        let cause = short_hash("2026-01-01");
        let expected = [
            (0, format!("{REFRESHED}={cause}")),
            (1_000, format!("{REFRESHED}={cause}.1")),
            (3_000, format!("{REFRESHED}={cause}.2")),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_another_process_did_is_not_done_again() {
        let nudges = Nudges::default();
        let cause = short_hash("v");
        let done = Nudgeable {
            refreshed: Some(format!("{cause}.2")),
            ..pod(Some("h"))
        };
        assert_eq!(
            nudges.plan(&gateway(), vec![done], "h", Some("v"), Instant::now()),
            Plan::default()
        );
    }

    #[test]
    fn annotations_tell_how_often() {
        assert_eq!(touches_in(None, "h"), 0);
        assert_eq!(touches_in(Some("other"), "h"), 0);
        assert_eq!(touches_in(Some("h"), "h"), 1);
        assert_eq!(touches_in(Some("h.3"), "h"), 4);
        assert_eq!(touches_in(Some("h3"), "h"), 0);
    }
}
