//! Counters of what goes to each server. Handles are resolved once, when a configuration is taken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::grid::{Label as _, label};
use super::histogram::Latency;

label! {
    /// How a request to a server ended.
    UpstreamOutcome {
        /// An answer came.
        Ok = "ok",
        /// It answered with an HTTP error.
        HttpError = "http_error",
        /// No connection could be made.
        ConnectFailed = "connect_failed",
        /// No answer in time.
        Timeout = "timeout",
        /// The answer was no MCP, or too large.
        Invalid = "invalid",
        /// All of its places were taken.
        Busy = "busy",
        /// The gateway had no memory left for its answer.
        Shed = "shed",
        /// It was not asked, because calls before it failed one after the other.
        CircuitOpen = "circuit_open",
        /// The client went away first.
        Cancelled = "cancelled",
    }
}

/// One server's counters.
#[derive(Debug, Default)]
pub struct Upstream {
    outcomes: [AtomicU64; UpstreamOutcome::ALL.len()],
    duration: Latency,
    in_flight: AtomicI64,
    verified: AtomicI64,
}

impl Upstream {
    /// A request goes out.
    pub fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that [`Upstream::began`] is over.
    pub fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts how a request ended and how long that took.
    pub fn finished(&self, outcome: UpstreamOutcome, duration: Duration) {
        if let Some(count) = self.outcomes.get(outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.duration.observe(duration);
    }

    /// Counts a request that did not go out because all places were taken.
    pub fn turned_away(&self) {
        if let Some(count) = self.outcomes.get(UpstreamOutcome::Busy.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that did not go out because those before it failed.
    pub fn refused(&self) {
        if let Some(count) = self.outcomes.get(UpstreamOutcome::CircuitOpen.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Did the last check of the server succeed?
    pub fn set_verified(&self, verified: bool) {
        self.verified.store(i64::from(verified), Ordering::Relaxed);
    }
}

/// All servers' counters, by `namespace/name`.
#[derive(Debug, Default)]
pub struct Upstreams {
    servers: Mutex<BTreeMap<String, Arc<Upstream>>>,
}

impl Upstreams {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Upstream>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of a server of the configuration. The same name is the same handle.
    pub fn server(&self, name: &str) -> Arc<Upstream> {
        Arc::clone(self.lock().entry(name.to_owned()).or_default())
    }

    /// Forgets servers that are no longer configured.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| keep(name));
    }
}

impl Collector for Upstreams {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let servers = self.lock().clone();
        let mut metric = encoder.encode_descriptor(
            "upstream_requests",
            "Requests to servers by outcome",
            None,
            MetricType::Counter,
        )?;
        for (name, server) in &servers {
            for (outcome, count) in UpstreamOutcome::ALL.iter().zip(&server.outcomes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [("server", name.as_str()), ("outcome", outcome.as_str())];
                    ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        let mut metric = encoder.encode_descriptor(
            "upstream_duration_seconds",
            "Time to the head of a server's answer",
            None,
            MetricType::Histogram,
        )?;
        for (name, server) in &servers {
            let labels = [("server", name.as_str())];
            server.duration.encode(metric.encode_family(&labels)?)?;
        }
        let mut gauge = |name: &str, help: &str, value: fn(&Upstream) -> i64| -> fmt::Result {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (name, server) in &servers {
                let labels = [("server", name.as_str())];
                ConstGauge::new(value(server)).encode(metric.encode_family(&labels)?)?;
            }
            Ok(())
        };
        gauge(
            "upstream_in_flight",
            "Requests that a server is answering",
            |server| server.in_flight.load(Ordering::Relaxed),
        )?;
        gauge(
            "upstream_verified",
            "1 when the last check of a server succeeded",
            |server| server.verified.load(Ordering::Relaxed),
        )
    }
}

/// A histogram without labels.
#[derive(Debug)]
pub(super) struct Single {
    name: &'static str,
    help: &'static str,
    latency: Arc<Latency>,
}

impl Single {
    pub(super) fn new(name: &'static str, help: &'static str, latency: Arc<Latency>) -> Self {
        Self { name, help, latency }
    }
}

impl Collector for Single {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Histogram)?;
        self.latency.encode(metric)
    }
}
