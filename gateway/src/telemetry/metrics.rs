//! Metric families. What a request touches is an atomic that was resolved beforehand; labels are bounded: no principal,
//! no address, and no name from the wire that is not also in the configuration.

pub(crate) mod grid;
mod histogram;
mod labels;
mod process;
mod upstream;

use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use grid::{Grid, Label};
pub use histogram::Latency;
pub use labels::{CloseReason, EndpointKind, Method, Outcome, Port};
pub use upstream::{Upstream, UpstreamOutcome, Upstreams};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One label named `reason`.
pub type Reason = [(&'static str, &'static str); 1];
/// One label whose value comes from the configuration.
pub type Named = [(&'static str, String); 1];

/// One label named `path`, whose value comes from the configuration.
type Path = [(&'static str, String); 1];

/// All families.
pub struct Metrics {
    registry: Registry,
    /// Requests by endpoint and outcome.
    pub requests: Arc<Grid<EndpointKind, Outcome>>,
    /// MCP messages by method and outcome.
    pub messages: Arc<Grid<Method, Outcome>>,
    /// Time from a request's head to the end of its answer.
    pub request_duration: Arc<Latency>,
    /// Requests in flight. Set before each rendering, like all that is known elsewhere: see [`Metrics::before_render`].
    pub in_flight: Gauge,
    /// Refusals by the cause's label (`Cause::label`).
    refusals: Family<Reason, Counter>,
    /// Failed authentications by reason.
    auth_failures: Family<Reason, Counter>,
    /// Limit refusals by rule.
    limit_refusals: Family<Named, Counter>,
    /// Public documents that were read, by their path in the configuration.
    documents_read: Family<Path, Counter>,
    /// Authorisation denials by rule (empty: no rule allowed it).
    denials: Family<Named, Counter>,
    /// What goes to servers.
    pub upstreams: Arc<Upstreams>,
    /// Session-era sessions that this replica owns.
    pub sessions: Gauge,
    /// Open event streams to clients.
    pub streams: Gauge,
    connections: Arc<Grid<Port, CloseReason>>,
    connections_opened: Family<Reason, Counter>,
    connections_open: Family<Reason, Gauge>,
    /// Looks at the configuration and its files.
    pub config_checks: Counter,
    /// Configurations taken.
    pub reloads: Counter,
    /// Configurations refused.
    pub reloads_refused: Counter,
    /// 1 when what is on disk is in force.
    pub config_synchronized: Gauge,
    /// When the served certificate expires, seconds since 1970; 0 without TLS.
    pub certificate_expiry: Gauge,
    /// 1 when the certificate on disk is the one that is served.
    pub certificate_synchronized: Gauge,
    /// Audit records written.
    pub audit_written: Counter,
    /// Audit records lost because the queue was full or the sink failed.
    pub audit_dropped: Counter,
    /// 0 serving, 1 grace, 2 finishing, 3 deadline passed.
    pub drain_stage: Gauge,
    /// Bodies and events for which there was no memory.
    pub budget_refused: Counter,
    /// What bodies and events take, in bytes.
    pub budget_used: Gauge,
    before_render: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Metrics {
    /// All families, at zero. `started` is the process's start in seconds since 1970.
    #[expect(clippy::too_many_lines, reason = "a list: one family after the other")]
    pub fn new(started: f64) -> Arc<Self> {
        let mut root = Registry::default();
        root.register_collector(Box::new(process::Process::new(started)));
        let registry = root.sub_registry_with_prefix("portcullis_gateway");

        let requests = Arc::new(Grid::new(
            "requests",
            "Requests by endpoint kind and outcome",
            ["endpoint", "outcome"],
        ));
        registry.register_collector(Box::new(Arc::clone(&requests)));
        let messages = Arc::new(Grid::new(
            "messages",
            "MCP messages from clients by method and outcome",
            ["method", "outcome"],
        ));
        registry.register_collector(Box::new(Arc::clone(&messages)));
        let request_duration = Arc::new(Latency::default());
        registry.register_collector(Box::new(upstream::Single::new(
            "request_duration_seconds",
            "Time from a request's head to the end of its answer",
            Arc::clone(&request_duration),
        )));
        let connections = Arc::new(Grid::new(
            "connections_closed",
            "Connections that ended other than by their client's choice",
            ["port", "reason"],
        ));
        registry.register_collector(Box::new(Arc::clone(&connections)));
        let upstreams = Arc::new(Upstreams::default());
        registry.register_collector(Box::new(Arc::clone(&upstreams)));

        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let config_checks = counter(
            "config_checks",
            "Looks at the configuration and the files it names",
        );
        let reloads = counter("config_reloads", "Configurations that were taken");
        let reloads_refused = counter("config_reloads_refused", "Configurations that were refused");
        let audit_written = counter("audit_records", "Audit records written");
        let audit_dropped = counter("audit_records_dropped", "Audit records lost");
        let budget_refused = counter(
            "memory_budget_refusals",
            "Bodies and events for which the memory budget had no room",
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let in_flight = gauge(
            "requests_in_flight",
            "Requests being answered, streams not counted",
        );
        let sessions = gauge("sessions", "Session-era sessions that this replica owns");
        let streams = gauge("streams", "Open event streams to clients");
        let config_synchronized = gauge(
            "config_synchronized",
            "1 when the configuration on disk is the one in force",
        );
        let certificate_expiry = gauge(
            "certificate_expiry_timestamp_seconds",
            "When the served certificate expires, 0 without TLS",
        );
        let certificate_synchronized = gauge(
            "certificate_synchronized",
            "1 when the certificate on disk is the one that is served",
        );
        let drain_stage = gauge(
            "drain_stage",
            "0 serving, 1 not ready but accepting, 2 finishing what runs, 3 deadline passed",
        );
        let budget_used = gauge(
            "memory_budget_used_bytes",
            "What bodies and events take of the memory budget",
        );
        let refusals = family(registry, "refusals", "Requests refused, by cause");
        let auth_failures = family(registry, "auth_failures", "Failed authentications, by reason");
        let limit_refusals = family(registry, "limit_refusals", "Requests over a limit, by rule");
        let documents_read = family(
            registry,
            "documents_read",
            "Public documents that were read, by path",
        );
        let denials = family(registry, "denials", "Calls not permitted, by deciding rule");
        let connections_opened = family(registry, "connections", "Connections taken");
        let connections_open = family(registry, "connections_open", "Open connections");

        Arc::new(Self {
            registry: root,
            requests,
            messages,
            request_duration,
            in_flight,
            refusals,
            auth_failures,
            limit_refusals,
            documents_read,
            denials,
            upstreams,
            sessions,
            streams,
            connections,
            connections_opened,
            connections_open,
            config_checks,
            reloads,
            reloads_refused,
            config_synchronized,
            certificate_expiry,
            certificate_synchronized,
            audit_written,
            audit_dropped,
            budget_refused,
            budget_used,
            drain_stage,
            before_render: OnceLock::new(),
        })
    }

    /// Counts a refusal by its cause's label.
    pub fn refused(&self, label: &'static str) {
        self.refusals.get_or_create(&[("reason", label)]).inc();
    }

    /// Counts a failed authentication.
    pub fn auth_failed(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a call that authorisation refused. No rule: none allowed it.
    pub fn denied(&self, rule: Option<&str>) {
        let label = [("rule", rule.unwrap_or_default().to_owned())];
        self.denials.get_or_create(&label).inc();
    }

    /// Counts a request over the limit of this rule. Its handle is kept by who counts often: see
    /// A public document was read. `path` is one that the configuration names.
    pub fn document_read(&self, path: &str) {
        self.documents_read
            .get_or_create(&[("path", path.to_owned())])
            .inc();
    }

    /// [`Metrics::limit_counter`].
    pub fn limited(&self, rule: &str) {
        self.limit_refusals
            .get_or_create(&[("rule", rule.to_owned())])
            .inc();
    }

    /// The counter of a rule's refusals.
    pub fn limit_counter(&self, rule: &str) -> Counter {
        self.limit_refusals
            .get_or_create_owned(&[("rule", rule.to_owned())])
    }

    /// Handles for one port's connections.
    pub fn connections(&self, port: Port) -> ConnectionMetrics {
        let label = [("port", port.as_str())];
        ConnectionMetrics {
            port,
            opened: self.connections_opened.get_or_create_owned(&label),
            open: self.connections_open.get_or_create_owned(&label),
            closed: Arc::clone(&self.connections),
        }
    }

    /// `set` sets the gauges of what others know anyway: asked for when somebody looks, it costs a request nothing.
    /// Only the first call counts.
    pub fn before_render(&self, set: impl Fn() + Send + Sync + 'static) {
        self.before_render.set(Box::new(set)).ok();
    }

    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        if let Some(set) = self.before_render.get() {
            set();
        }
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    Family<L, M>: prometheus_client::registry::Metric + Default + Clone,
{
    let family = Family::<L, M>::default();
    registry.register(name, help, family.clone());
    family
}

/// Handles for one port's connections.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    port: Port,
    opened: Counter,
    open: Gauge,
    closed: Arc<Grid<Port, CloseReason>>,
}

impl ConnectionMetrics {
    pub(crate) fn opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    pub(crate) fn gone(&self) {
        self.open.dec();
    }

    /// A connection ends for this reason.
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed.inc(self.port, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_counted_is_rendered_and_what_was_not_is_absent() {
        let metrics = Metrics::new(1.5);
        metrics.requests.inc(EndpointKind::Federated, Outcome::Ok);
        metrics.requests.inc(EndpointKind::Federated, Outcome::Ok);
        metrics.messages.inc(Method::of("tools/call"), Outcome::Limited);
        metrics.refused("over_limit");
        metrics.denied(None);
        metrics.limited("per-client");
        metrics.limit_counter("per-client").inc();
        let server = metrics.upstreams.server("default/everything");
        server.finished(UpstreamOutcome::Ok, Duration::from_millis(3));
        metrics.connections(Port::Public).closed(CloseReason::Full);
        let text = metrics.render();
        for line in [
            "portcullis_gateway_requests_total{endpoint=\"federated\",outcome=\"ok\"} 2",
            "portcullis_gateway_messages_total{method=\"tools/call\",outcome=\"limited\"} 1",
            "portcullis_gateway_refusals_total{reason=\"over_limit\"} 1",
            "portcullis_gateway_denials_total{rule=\"\"} 1",
            "portcullis_gateway_limit_refusals_total{rule=\"per-client\"} 2",
            "portcullis_gateway_upstream_requests_total{server=\"default/everything\",outcome=\"ok\"} 1",
            "portcullis_gateway_upstream_duration_seconds_bucket{le=\"0.005\",server=\"default/everything\"} 1",
            "portcullis_gateway_upstream_duration_seconds_bucket{le=\"0.0025\",server=\"default/everything\"} 0",
            "portcullis_gateway_upstream_duration_seconds_bucket{le=\"+Inf\",server=\"default/everything\"} 1",
            "portcullis_gateway_connections_closed_total{port=\"public\",reason=\"full\"} 1",
            "process_start_time_seconds 1.5",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("endpoint=\"server\""));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_documentation_lists_every_family_with_its_type_and_nothing_else() {
        let documentation = include_str!("../../../docs/metrics.md");
        let mut documented: Vec<(&str, &str)> = documentation
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .filter_map(|(name, rest)| Some((name, rest.split_once(" |")?.0)))
            .collect();
        let metrics = Metrics::new(0.0);
        // Families that have counted nothing are not printed.
        metrics.refused("x");
        metrics.auth_failed("x");
        metrics.denied(None);
        metrics.limited("x");
        metrics.document_read("/x");
        metrics.connections(Port::Public).opened();
        let text = metrics.render();
        let mut there: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        documented.sort_unstable();
        there.sort_unstable();
        assert_eq!(documented, there);
    }

    #[test]
    fn servers_that_are_gone_leave_the_metrics() {
        let metrics = Metrics::new(0.0);
        let kept = metrics.upstreams.server("a/kept");
        kept.finished(UpstreamOutcome::Ok, Duration::ZERO);
        metrics
            .upstreams
            .server("a/gone")
            .finished(UpstreamOutcome::Timeout, Duration::ZERO);
        metrics.upstreams.retain(|name| name == "a/kept");
        let text = metrics.render();
        assert!(text.contains("a/kept") && !text.contains("a/gone"));
    }
}
