//! What an open stream was permitted by, looked at again whenever that may have changed: with each configuration, with
//! each issuer's keys, and at the second at which a credential or a rule ends.
//!
//! Who calls is found out anew, from the credential that the request came with: whatever would refuse it now ends the
//! stream. Between two changes this costs a stream one look at a counter and one at the clock per event.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::watch;

use super::asked::Asked;
use super::context::{Context, OwnedEndpoint};
use super::state::App;
use crate::auth::authorize::{Decision, Kind, Thing};
use crate::auth::identity::Identity;
use crate::auth::{AuthFailure, Endpoint};
use crate::clock;
use crate::config::snapshot::Snapshot;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Era;
use crate::proxy::upstream::Upstream;
use crate::telemetry::metrics::{EndpointKind, Method as MethodLabel};

/// A stream's permission.
pub struct Permit {
    app: Arc<App>,
    who: Arc<Identity>,
    endpoint: OwnedEndpoint,
    shown: Shown,
    about: Option<About>,
    changes: watch::Receiver<()>,
    /// The second since 1970 at which time alone may end it.
    until: Option<u64>,
}

/// What showed who calls.
enum Shown {
    /// `Authorization`, as it came; or that there was none.
    Credential(HeaderMap),
    /// The word of another replica, which has the credential and looks at it itself. What can be told without it is
    /// judged here as well, once this replica knew the principal at all: it may have yet to hear of a new one.
    Vouched { known: bool },
}

/// What the stream is an answer about.
struct About {
    server: Arc<str>,
    kind: Kind,
    /// The server's own name for it.
    name: Box<str>,
    completion: bool,
    asked: Asked,
    era: Era,
}

impl Permit {
    /// Of a call that was admitted as `ctx` says, and came with these headers.
    pub fn of_call(ctx: &Context, headers: &HeaderMap, era: Era) -> Self {
        let shown = if ctx.entry.kind == EndpointKind::Peer {
            Shown::Vouched { known: false }
        } else {
            Shown::of(headers)
        };
        let about = match (&ctx.entry.server, &ctx.entry.thing, &ctx.entry.asked) {
            (Some(server), Some((kind, name)), Some(asked)) => Some(About {
                server: Arc::clone(server),
                kind: *kind,
                name: name.clone(),
                completion: ctx.entry.method == MethodLabel::Complete,
                asked: asked.clone(),
                era,
            }),
            _ => None,
        };
        Self::new(&ctx.app, &ctx.who, &ctx.endpoint, shown, about)
    }

    /// Of a stream that another replica answers: only who calls is judged here.
    pub fn of_caller(
        app: &Arc<App>,
        who: &Arc<Identity>,
        endpoint: &OwnedEndpoint,
        headers: &HeaderMap,
    ) -> Self {
        Self::new(app, who, endpoint, Shown::of(headers), None)
    }

    fn new(
        app: &Arc<App>,
        who: &Arc<Identity>,
        endpoint: &OwnedEndpoint,
        shown: Shown,
        about: Option<About>,
    ) -> Self {
        let mut changes = app.changes();
        // Something may have changed between the call's admission and now.
        changes.mark_changed();
        Self {
            app: Arc::clone(app),
            who: Arc::clone(who),
            endpoint: endpoint.clone(),
            shown,
            about,
            changes,
            until: None,
        }
    }

    /// Waits until something may have changed, and says why the stream may not go on, if so.
    pub async fn withdrawn(&mut self) -> Cause {
        loop {
            if let Some(cause) = self.refusal() {
                return cause;
            }
            let end = self.until;
            let in_time = async {
                match end {
                    None => pending().await,
                    Some(at) => {
                        let left = at.saturating_sub(clock::now_unix());
                        tokio::time::sleep(Duration::from_secs(left)).await;
                    }
                }
            };
            tokio::select! {
                // Its sender lives in the application, and that here.
                changed = self.changes.changed() => if changed.is_ok() {
                    self.changes.mark_changed();
                },
                () = in_time => {}
            }
        }
    }

    /// Why the stream may not go on, if so; judged only if something may have changed since the last time.
    pub fn refusal(&mut self) -> Option<Cause> {
        let changed = self.changes.has_changed().unwrap_or(true);
        let ended = || self.until.is_some_and(|at| at <= clock::now_unix());
        if !changed && !ended() {
            return None;
        }
        self.changes.mark_unchanged();
        let now = clock::now_unix();
        let Some(snapshot) = self.app.snapshot() else {
            return Some(Cause::Internal);
        };
        let judged = self.judge(&snapshot, now);
        let rule = snapshot.policy.next_end(now);
        self.until = self
            .who
            .ends()
            .into_iter()
            .chain(rule)
            .filter(|at| *at > now)
            .min();
        judged.err()
    }

    fn judge(&mut self, snapshot: &Snapshot, now: u64) -> Result<(), Cause> {
        if snapshot.config.gateway.suspend {
            return Err(Cause::Suspended);
        }
        self.who = self.caller(snapshot, now)?;
        match &self.about {
            Some(about) => about.judge(snapshot, &self.who, &self.endpoint, now),
            None => Ok(()),
        }
    }

    /// Who calls, by what is in force now.
    fn caller(&mut self, snapshot: &Snapshot, now: u64) -> Result<Arc<Identity>, Cause> {
        let auth = &snapshot.auth;
        match &mut self.shown {
            Shown::Vouched { known } => {
                let ended = self.who.ends().is_some_and(|at| at <= now);
                let forgotten = std::mem::replace(known, auth.knows(&self.who)) && !*known;
                if ended || forgotten || auth.is_denied(&self.who) {
                    return Err(Cause::Unauthenticated);
                }
                Ok(Arc::clone(&self.who))
            }
            Shown::Credential(headers) => match auth.authenticate(headers, self.endpoint.get(), false, now) {
                Ok(who) if who.key == self.who.key => Ok(who),
                Err(AuthFailure::NotReady) => Err(Cause::KeysNotReady),
                Ok(_) | Err(_) => Err(Cause::Unauthenticated),
            },
        }
    }
}

impl Shown {
    /// Copied: the head that it stands in is larger, and would be kept as long as the stream.
    fn of(headers: &HeaderMap) -> Self {
        let mut shown = HeaderMap::new();
        for value in headers.get_all(AUTHORIZATION) {
            if let Ok(mut copy) = http::HeaderValue::from_bytes(value.as_bytes()) {
                copy.set_sensitive(true);
                shown.append(AUTHORIZATION, copy);
            }
        }
        Self::Credential(shown)
    }
}

impl About {
    fn judge(
        &self,
        snapshot: &Snapshot,
        who: &Identity,
        endpoint: &OwnedEndpoint,
        now: u64,
    ) -> Result<(), Cause> {
        let upstream = snapshot
            .upstreams
            .iter()
            .find(|upstream| upstream.full_name == self.server)
            .filter(|upstream| self.is_served(snapshot, upstream, endpoint))
            .ok_or_else(|| self.unknown())?;
        if !upstream.visible_to(who) {
            return Err(self.forbidden(None));
        }
        let thing = match self.kind {
            Kind::Tool => Thing::Tool(&self.name),
            Kind::Prompt => Thing::Prompt(&self.name),
            Kind::Resource => Thing::Uri(&self.name),
        };
        match snapshot
            .policy
            .decide(who, &self.server, thing, self.asked.get(), now)
        {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { rule } => Err(self.forbidden(rule.cloned())),
            Decision::InsufficientScope { scopes, .. } => Err(Cause::InsufficientScope {
                scopes: scopes.into(),
            }),
        }
    }

    /// Is it there for anybody, at this endpoint?
    fn is_served(&self, snapshot: &Snapshot, upstream: &Arc<Upstream>, endpoint: &OwnedEndpoint) -> bool {
        let here = match endpoint.get() {
            Endpoint::Federated => true,
            Endpoint::Server(name) => snapshot
                .upstream(name)
                .is_some_and(|there| Arc::ptr_eq(there, upstream)),
            Endpoint::Set(name) => snapshot
                .sets
                .get(name)
                .is_some_and(|set| set.has(&self.server, &self.name)),
        };
        let features = upstream.features;
        let offered = match self.kind {
            Kind::Tool => upstream.offers(&self.name),
            Kind::Prompt => features.prompts,
            Kind::Resource => features.resources,
        };
        here && offered && (features.completions || !self.completion)
    }

    fn unknown(&self) -> Cause {
        let name = self.name.clone();
        match self.kind {
            Kind::Tool => Cause::ToolUnknown { name },
            Kind::Prompt => Cause::PromptUnknown { name },
            Kind::Resource => Cause::ResourceUnknown {
                uri: name,
                era: self.era,
            },
        }
    }

    fn forbidden(&self, rule: Option<Arc<str>>) -> Cause {
        let name = self.name.clone();
        match self.kind {
            Kind::Tool => Cause::ToolForbidden { name, rule },
            Kind::Prompt => Cause::PromptForbidden { name, rule },
            Kind::Resource => Cause::ResourceForbidden {
                uri: name,
                era: self.era,
                rule,
            },
        }
    }
}
