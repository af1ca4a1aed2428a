//! What the operator counts. Labels are bounded: kinds, verbs, classes, never names.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::controller::error::{ApiError, Class, Classify};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Values that are read when somebody asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Objects queued or worked on.
    pub queue: usize,
    /// Objects waiting after a failure.
    pub backoff: usize,
    /// Gateway pods that are polled.
    pub polled: usize,
    /// Whether this process leads.
    pub leading: bool,
    /// Gateways and servers that cannot be read.
    pub unreadable: usize,
}

/// All metrics. Cloning gives another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<Pass, Counter>,
    pass_seconds: Family<Kind, Histogram>,
    requests: Family<Request, Counter>,
    applied: Family<Kind, Counter>,
    pruned: Family<Kind, Counter>,
    reverted: Family<Kind, Counter>,
    status_writes: Family<Kind, Counter>,
    nudges: Family<Outcome, Counter>,
    polls: Family<Outcome, Counter>,
    queue: Gauge,
    backoff: Gauge,
    polled: Gauge,
    leading: Gauge,
    unreadable: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh metrics with a registry of their own.
    pub fn new() -> Self {
        let passes = Family::<Pass, Counter>::default();
        let pass_seconds = Family::<Kind, Histogram>::new_with_constructor(|| {
            Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
        });
        let requests = Family::<Request, Counter>::default();
        let [applied, pruned, reverted, status_writes] =
            std::array::from_fn(|_| Family::<Kind, Counter>::default());
        let [nudges, polls] = std::array::from_fn(|_| Family::<Outcome, Counter>::default());
        let [queue, backoff, polled, leading] = std::array::from_fn(|_| Gauge::default());
        let unreadable = Gauge::default();

        let mut registry = Registry::with_prefix("portcullis_operator");
        registry.register(
            "build",
            "What runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "reconciles",
            "Passes over an object, by kind and result",
            passes.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long a pass takes",
            pass_seconds.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the Kubernetes API, watches and the lease apart",
            requests.clone(),
        );
        registry.register("children_applied", "Objects applied, by kind", applied.clone());
        registry.register(
            "children_pruned",
            "Objects removed because nothing asks for them any more",
            pruned.clone(),
        );
        registry.register(
            "foreign_changes_reverted",
            "Objects of ours that somebody else had changed",
            reverted.clone(),
        );
        registry.register(
            "status_writes",
            "Writes of status, by kind",
            status_writes.clone(),
        );
        registry.register(
            "nudges",
            "Annotations that make the kubelet refresh a pod's volumes",
            nudges.clone(),
        );
        registry.register("polls", "Reads of a gateway pod's status port", polls.clone());
        registry.register(
            "queue_length",
            "Objects waiting for a pass or in one",
            queue.clone(),
        );
        registry.register(
            "backoff_objects",
            "Objects whose last pass failed",
            backoff.clone(),
        );
        registry.register(
            "polled_pods",
            "Gateway pods whose status port is read",
            polled.clone(),
        );
        registry.register("leader", "1 while this process holds the lease", leading.clone());
        registry.register(
            "unreadable_objects",
            "Gateways and servers that do not match their schema",
            unreadable.clone(),
        );
        Self {
            registry: Arc::new(registry),
            passes,
            pass_seconds,
            requests,
            applied,
            pruned,
            reverted,
            status_writes,
            nudges,
            polls,
            queue,
            backoff,
            polled,
            leading,
            unreadable,
        }
    }

    /// A pass ended.
    pub fn pass(&self, kind: &'static str, failure: Option<Class>, took: Duration) {
        let result = failure.map_or("ok", Class::as_str);
        self.passes.get_or_create(&Pass { kind, result }).inc();
        self.pass_seconds
            .get_or_create(&Kind { kind: kind.into() })
            .observe(took.as_secs_f64());
    }

    /// A request to the API server ended.
    pub fn api_request(&self, verb: &'static str, error: Option<&ApiError>) {
        let result = error.map_or("ok", |error| error.class().as_str());
        self.requests.get_or_create(&Request { verb, result }).inc();
    }

    /// An object was applied.
    pub fn applied(&self, kind: &str) {
        self.applied.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// An object was removed.
    pub fn pruned(&self, kind: &str) {
        self.pruned.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// Somebody had changed an object of ours.
    pub fn reverted(&self, kind: &str) {
        self.reverted.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// A status was written.
    pub fn status_written(&self, kind: &str) {
        self.status_writes
            .get_or_create(&Kind { kind: kind.into() })
            .inc();
    }

    /// A pod was nudged, or could not be.
    pub fn nudged(&self, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.nudges.get_or_create(&Outcome { result }).inc();
    }

    /// A pod was polled.
    pub fn polled(&self, result: &'static str) {
        self.polls.get_or_create(&Outcome { result }).inc();
    }

    /// Everything in OpenMetrics text, with `gauges` as they are now.
    pub fn text(&self, gauges: Gauges) -> Result<String, std::fmt::Error> {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.queue.set(number(gauges.queue));
        self.backoff.set(number(gauges.backoff));
        self.polled.set(number(gauges.polled));
        self.leading.set(i64::from(gauges.leading));
        self.unreadable.set(number(gauges.unreadable));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::new();
        metrics.pass("McpGateway", None, Duration::from_millis(3));
        metrics.pass("McpGateway", Some(Class::Conflict), Duration::from_millis(3));
        metrics.applied("Deployment");
        let text = metrics
            .text(Gauges {
                queue: 2,
                leading: true,
                ..Gauges::default()
            })
            .unwrap();
        for line in [
            "portcullis_operator_reconciles_total{kind=\"McpGateway\",result=\"ok\"} 1",
            "portcullis_operator_reconciles_total{kind=\"McpGateway\",result=\"conflict\"} 1",
            "portcullis_operator_children_applied_total{kind=\"Deployment\"} 1",
            "portcullis_operator_queue_length 2",
            "portcullis_operator_leader 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
