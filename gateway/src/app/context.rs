//! What is known of one request while it is worked on, and what is recorded of it at the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::asked::Asked;
use super::state::App;
use crate::auth::Endpoint;
use crate::auth::authorize::{Kind, Shadows};
use crate::auth::identity::Identity;
use crate::config::snapshot::Snapshot;
use crate::mcp::reply::Cause;
use crate::proxy::sets::Set;
use crate::telemetry::audit::{Decision, Record};
use crate::telemetry::metrics::{EndpointKind, Label as _, Method as MethodLabel, Outcome};

/// Stands in the audit record, in refusals and in the hop to another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// A new one, unique over replicas and restarts.
    pub fn new(process: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut text = String::with_capacity(26);
        for (value, digits) in [(process, 16u32), (number, 10)] {
            for place in (0..digits).rev() {
                let digit = usize::try_from((value >> (place * 4)) & 0xf).expect("four bits");
                text.push(char::from(*DIGITS.get(digit).expect("four bits")));
            }
        }
        Self(text.into())
    }

    /// That of a message of a batch.
    #[must_use]
    pub fn part(&self, at: usize) -> Self {
        Self(format!("{}-{}", self.0, at + 1).into())
    }

    /// One that another replica gave.
    pub fn from_peer(text: &str) -> Self {
        Self(
            text.chars()
                .filter(char::is_ascii_alphanumeric)
                .take(64)
                .collect(),
        )
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request that came from an authenticated principal.
pub struct Context {
    /// The process.
    pub app: Arc<App>,
    /// The configuration, one for the whole request.
    pub snapshot: Arc<Snapshot>,
    /// Who asks.
    pub who: Arc<Identity>,
    /// What for.
    pub endpoint: OwnedEndpoint,
    /// Seconds since 1970.
    pub now: u64,
    /// What will be recorded.
    pub entry: Entry,
}

/// [`Endpoint`] without a borrow, for what outlives the request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedEndpoint {
    /// `/mcp`.
    Federated,
    /// `/servers/NAME/mcp`.
    Server(Box<str>),
    /// `/sets/NAME/mcp`: `sets/NAME`, which is the name of no server.
    Set(Box<str>),
}

/// Stands before the name of a set where that of a server could stand.
const SET: &str = "sets/";

impl OwnedEndpoint {
    /// That of a set.
    pub fn set(name: &str) -> Self {
        Self::Set([SET, name].concat().into())
    }

    /// The borrowed form.
    pub fn get(&self) -> Endpoint<'_> {
        match self {
            Self::Federated => Endpoint::Federated,
            Self::Server(name) => Endpoint::Server(name),
            Self::Set(name) => Endpoint::Set(name.strip_prefix(SET).unwrap_or(name)),
        }
    }

    /// What binds sealed tokens to it.
    pub fn binding(&self) -> &str {
        match self {
            Self::Federated => "",
            Self::Server(name) | Self::Set(name) => name,
        }
    }
}

/// One request's record, made when it is dropped: whatever happens, it is made once.
pub struct Entry {
    app: Arc<App>,
    snapshot: Arc<Snapshot>,
    /// Its id.
    pub request_id: RequestId,
    /// Where the client calls from.
    pub client: IpAddr,
    /// When it came.
    pub started: Instant,
    /// Which kind of endpoint, for metrics.
    pub kind: EndpointKind,
    /// The path, as far as it is one of ours.
    pub path: Box<str>,
    /// Who asks, once that is known.
    pub who: Option<Arc<Identity>>,
    /// What for.
    pub method: MethodLabel,
    /// The server.
    pub server: Option<Arc<str>>,
    /// What of it, by the server's own name: a tool, a prompt, a resource.
    pub thing: Option<(Kind, Box<str>)>,
    /// What was asked of it.
    pub asked: Option<Asked>,
    /// The rule or limit that decided.
    pub rule: Option<Arc<str>>,
    /// What shadow rules would do.
    pub shadows: Shadows,
    /// The word for why not.
    pub reason: Option<&'static str>,
    /// The decision.
    pub decision: Decision,
    /// For metrics.
    pub outcome: Outcome,
    /// The answer's status.
    pub status: StatusCode,
    /// The server's share of the time.
    pub upstream: Option<Duration>,
    /// False: not worth a record of its own (forwarded to the owner, which makes it).
    pub recorded: bool,
    /// One message of a batch: it is recorded by itself, and no request of its own.
    pub part: bool,
}

impl Entry {
    /// Begins: should nothing else be said, the client went away.
    pub fn new(
        app: &Arc<App>,
        snapshot: &Arc<Snapshot>,
        request_id: RequestId,
        client: IpAddr,
        kind: EndpointKind,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            snapshot: Arc::clone(snapshot),
            request_id,
            client,
            started: Instant::now(),
            kind,
            path: Box::default(),
            who: None,
            method: MethodLabel::None,
            server: None,
            thing: None,
            asked: None,
            rule: None,
            shadows: Shadows::default(),
            reason: Some("client_gone"),
            decision: Decision::Error,
            outcome: Outcome::Cancelled,
            status: StatusCode::OK,
            upstream: None,
            recorded: true,
            part: false,
        }
    }

    /// The process.
    pub fn app(&self) -> &App {
        &self.app
    }

    fn named(&self, kind: Kind) -> Option<&str> {
        let (of, name) = self.thing.as_ref()?;
        (*of == kind).then_some(&**name)
    }

    /// It was answered.
    pub fn allowed(&mut self, status: StatusCode) {
        (self.decision, self.outcome, self.reason, self.status) =
            (Decision::Allow, Outcome::Ok, None, status);
    }

    /// It was answered by a server, perhaps with an error of its own.
    pub fn answered(&mut self, status: StatusCode, error: bool) {
        self.allowed(status);
        if error {
            self.outcome = Outcome::UpstreamError;
        }
    }

    /// It was refused.
    pub fn refused(&mut self, cause: &Cause, status: StatusCode) {
        (self.decision, self.outcome) = judge(cause);
        self.reason = Some(cause.audit_reason());
        self.status = status;
        match cause {
            Cause::RateLimited { rule, .. } => {
                self.rule = Some(Arc::clone(rule));
                self.app.metrics.limited(rule);
            }
            Cause::ToolForbidden { .. } | Cause::PromptForbidden { .. } | Cause::ResourceForbidden { .. } => {
                let rule = cause.forbidding_rule();
                self.rule = rule.cloned();
                self.app.metrics.denied(rule.map(|rule| &**rule));
            }
            _ => {}
        }
        self.app.metrics.refused(cause.label());
    }
}

/// What kind of refusal it is, for people who count.
const fn judge(cause: &Cause) -> (Decision, Outcome) {
    match cause {
        Cause::RateLimited { .. }
        | Cause::TooManyFailures { .. }
        | Cause::SessionLimit
        | Cause::StreamLimit => (Decision::Limit, Outcome::Limited),
        Cause::Unauthenticated | Cause::KeysNotReady => (Decision::Deny, Outcome::Unauthenticated),
        Cause::ToolUnknown { .. }
        | Cause::ToolForbidden { .. }
        | Cause::PromptUnknown { .. }
        | Cause::PromptForbidden { .. }
        | Cause::ResourceUnknown { .. }
        | Cause::ResourceForbidden { .. }
        | Cause::InsufficientScope { .. }
        | Cause::HostNotAllowed
        | Cause::OriginNotAllowed
        | Cause::Suspended => (Decision::Deny, Outcome::Denied),
        Cause::Overloaded
        | Cause::Draining
        | Cause::UpstreamUnavailable
        | Cause::UpstreamBusy
        | Cause::UpstreamFailing { .. }
        | Cause::UpstreamTimeout
        | Cause::UpstreamInvalid
        | Cause::ResponseTooLarge
        | Cause::OwnerLost
        | Cause::AuditUnavailable
        | Cause::Internal => (Decision::Error, Outcome::Unavailable),
        _ => (Decision::Deny, Outcome::Invalid),
    }
}

impl Entry {
    /// A server asked the client something while its request was answered: a record of its own.
    pub fn asked(&self, server: Option<&str>, method: &str) {
        let label = MethodLabel::of(method);
        self.app.metrics.messages.inc(label, Outcome::Ok);
        self.write(
            server,
            Some(method),
            Decision::Allow,
            Some("asked_by_server"),
            None,
        );
    }

    fn write(
        &self,
        server: Option<&str>,
        method: Option<&str>,
        decision: Decision,
        reason: Option<&str>,
        duration: Option<Duration>,
    ) {
        self.app.audit.record(&Record {
            gateway: &self.snapshot.name,
            request_id: self.request_id.as_str(),
            principal: self.who.as_ref().map(|who| (&*who.method, &*who.subject)),
            client: Some(self.client),
            endpoint: &self.path,
            mcp_method: method,
            server,
            tool: self.named(Kind::Tool),
            prompt: self.named(Kind::Prompt),
            resource: self.named(Kind::Resource),
            decision,
            reason,
            rule: self.rule.as_deref(),
            shadows: &self.shadows.matching,
            shadows_unclear: &self.shadows.unclear,
            status: self.status.as_u16(),
            duration,
            upstream: self.upstream,
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let metrics = &self.app.metrics;
        if !self.part {
            metrics.requests.inc(self.kind, self.outcome);
            metrics.request_duration.observe(duration);
        }
        // Those that another replica works on are counted there, and those of a batch whose turn never came nowhere.
        if self.recorded {
            metrics.messages.inc(self.method, self.outcome);
        }
        if !self.recorded {
            return;
        }
        let method = (self.method != MethodLabel::None).then(|| self.method.as_str());
        self.write(
            self.server.as_deref(),
            method,
            self.decision,
            self.reason,
            Some(duration),
        );
    }
}

impl Context {
    /// The set that the endpoint is for: none where it is for no set, or for one that does not exist.
    pub fn set(&self) -> Option<&Set> {
        match self.endpoint.get() {
            Endpoint::Set(name) => self.snapshot.sets.get(name),
            Endpoint::Federated | Endpoint::Server(_) => None,
        }
    }

    /// `namespace/name` of the server that the endpoint is for: none where it is for several, or for one that does not
    /// exist.
    pub fn endpoint_server(&self) -> Option<&str> {
        match &self.endpoint {
            OwnedEndpoint::Server(name) => Some(&self.snapshot.upstream(name)?.full_name),
            OwnedEndpoint::Federated | OwnedEndpoint::Set(_) => None,
        }
    }
}
