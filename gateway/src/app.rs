//! The layer order on the public port, and on the hop between replicas. This file is the order that counts.

pub mod asked;
mod batch;
pub mod context;
mod earlier;
pub mod forward;
pub mod host;
pub mod intake;
pub(crate) mod passed;
pub mod permit;
pub mod rebuild;
pub mod refusal;
mod retire;
pub mod serve;
pub mod start;
pub mod state;
mod waits;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::auth::AuthFailure;
use crate::clock;
use crate::config::snapshot::Snapshot;
use crate::mcp::reply::Cause;
use crate::peer::hop::{FORWARDED, Forwarded};
use crate::proxy::path::{self, Path};
use crate::proxy::stream::Body;
use crate::server::connection::{Arrival, ConnInfo, Handler};
use crate::server::drain::Stage;
use crate::telemetry::metrics::EndpointKind;
use crate::web::documents::Document;
use crate::web::headers::SecurityHeaders;
use crate::web::origin::{self, Caller};
use context::{Context, Entry, OwnedEndpoint, RequestId};
use refusal::Refusal;
pub use state::App;

/// How long a request waits for a place when the gateway is full.
const QUEUE: Duration = Duration::from_millis(100);

/// Answers clients.
#[derive(Clone)]
pub struct Public(pub Arc<App>);

/// Answers other replicas.
#[derive(Clone)]
pub struct Peer(pub Arc<App>);

impl Handler for Public {
    type Body = Body;

    async fn call(&self, conn: &ConnInfo, request: Request<Incoming>) -> Response<Body> {
        // One configuration for the whole request: a reload never changes rules half-way.
        let Some(snapshot) = self.0.snapshot() else {
            let mut response = bare(StatusCode::SERVICE_UNAVAILABLE);
            SecurityHeaders::default().apply(response.headers_mut());
            return response;
        };
        let of = Arc::clone(&snapshot);
        let caller = snapshot.origins.judge(request.headers());
        let mut response = public(&self.0, snapshot, conn, request, caller == Caller::Foreign).await;
        let headers = response.headers_mut();
        of.security.apply(headers);
        if let Caller::Ours(origin) = caller {
            of.origins.apply(origin, headers);
        }
        response
    }

    fn arrival(&self, peer: IpAddr) -> Arrival {
        self.0
            .snapshot()
            .map_or(Arrival::Refused, |snapshot| snapshot.proxies.arrival(peer))
    }

    fn dress(&self, _: &ConnInfo, headers: &mut HeaderMap) {
        match self.0.snapshot() {
            Some(snapshot) => snapshot.security.apply(headers),
            None => SecurityHeaders::default().apply(headers),
        }
    }
}

/// One request of a client. What stands before authentication does little, and reads no body.
async fn public(
    app: &Arc<App>,
    snapshot: Arc<Snapshot>,
    conn: &ConnInfo,
    request: Request<Incoming>,
    foreign_page: bool,
) -> Response<Body> {
    // Where the client calls from: limits, records and logs know this address alone.
    let source = conn.source.ip();
    let located = snapshot.proxies.client(source, request.headers());
    let client = located.unwrap_or(source);
    let (head, body) = request.into_parts();
    let (kind, endpoint) = match path::parse(head.uri.path()) {
        Path::Federated => (EndpointKind::Federated, Some(OwnedEndpoint::Federated)),
        Path::Server(name) => (EndpointKind::Server, Some(OwnedEndpoint::Server(name.into()))),
        Path::Set(name) => (EndpointKind::Set, Some(OwnedEndpoint::set(name))),
        Path::ProtectedResource(_) => (EndpointKind::WellKnown, None),
        Path::Unknown if is_health(&snapshot, head.uri.path()) => (EndpointKind::Health, None),
        Path::Unknown if snapshot.documents.get(head.uri.path()).is_some() => (EndpointKind::WellKnown, None),
        Path::Unknown => (EndpointKind::Other, None),
    };
    let mut entry = Entry::new(app, &snapshot, RequestId::new(app.process), client, kind);
    // In-flight cap: a short wait, then a refusal. Streams give their place back when they begin.
    let Some(_place) = place(app).await else {
        return refuse(entry, Cause::Overloaded.into());
    };
    // A proxy that says what nobody can read may be anybody's way round the limits.
    if located.is_err() {
        let cause = Cause::HeaderMismatch {
            header: "X-Forwarded-For",
            problem: "holds what is no address, or too many",
        };
        return refuse(entry, cause.into());
    }
    if kind == EndpointKind::Health {
        return health(app, entry, &head.method);
    }
    // Documents for everybody: from configuration alone, whatever the Host header says.
    if kind == EndpointKind::WellKnown && head.method != Method::OPTIONS {
        return document(entry, &snapshot, &head.method, head.uri.path());
    }
    // DNS rebinding: a page in somebody's browser must not reach us under another name.
    if snapshot.hosts.check(&head.uri, &head.headers).is_err() {
        return refuse(entry, Cause::HostNotAllowed.into());
    }
    // Nor may other people's pages, whatever credential a browser adds.
    if foreign_page {
        return refuse(entry, Cause::OriginNotAllowed.into());
    }
    // A browser asks before a page that may call does: it sends no credential then.
    if head.method == Method::OPTIONS
        && !matches!(kind, EndpointKind::Other | EndpointKind::Health)
        && origin::is_preflight(&head.headers)
    {
        return preflight(entry, &head.headers);
    }
    if kind == EndpointKind::WellKnown {
        return document(entry, &snapshot, &head.method, head.uri.path());
    }
    let Some(endpoint) = endpoint else {
        return refuse(entry, Cause::NotFound.into());
    };
    entry.path = head.uri.path().into();
    // Who: failures are charged to the address, and only they.
    let now = clock::now_unix();
    let exhausted = app.failures.exhausted(client);
    let who = match snapshot
        .auth
        .authenticate(&head.headers, endpoint.get(), exhausted, now)
    {
        Ok(who) => who,
        Err(failure) => {
            if let AuthFailure::Invalid { reason } = failure {
                app.failures.charge(client);
                app.metrics.auth_failed(reason);
            }
            let refusal = unauthenticated(app, &snapshot, &endpoint, failure, client);
            return refuse(entry, refusal);
        }
    };
    entry.who = Some(Arc::clone(&who));
    let ctx = Context {
        app: Arc::clone(app),
        snapshot,
        who,
        endpoint,
        now,
        entry,
    };
    answer(ctx, head.method, &head.headers, body, head.uri, false).await
}

impl Handler for Peer {
    type Body = Body;

    async fn call(&self, _conn: &ConnInfo, request: Request<Incoming>) -> Response<Body> {
        peer(&self.0, request).await
    }
}

/// One request that another replica took from a client. The handshake has shown that it is a replica; it has
/// authenticated the client, and everything after that is done here.
async fn peer(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let Some(snapshot) = app.snapshot() else {
        return bare(StatusCode::SERVICE_UNAVAILABLE);
    };
    let (head, body) = request.into_parts();
    let Some(forwarded) = head.headers.get(FORWARDED).and_then(Forwarded::from_header) else {
        return bare(StatusCode::BAD_REQUEST);
    };
    let endpoint = match path::parse(head.uri.path()) {
        Path::Federated => OwnedEndpoint::Federated,
        Path::Server(name) => OwnedEndpoint::Server(name.into()),
        Path::Set(name) => OwnedEndpoint::set(name),
        _ => return bare(StatusCode::NOT_FOUND),
    };
    let who = Arc::new(forward::identity(&forwarded));
    let request_id = RequestId::from_peer(&forwarded.request_id);
    let mut entry = Entry::new(app, &snapshot, request_id, forwarded.client, EndpointKind::Peer);
    entry.path = head.uri.path().into();
    entry.who = Some(Arc::clone(&who));
    let Some(_place) = place(app).await else {
        return refuse(entry, Cause::Overloaded.into());
    };
    // The other replica may not have heard of a denial yet.
    if snapshot.auth.is_denied(&who) {
        return refuse(
            entry,
            unauthenticated(app, &snapshot, &endpoint, AuthFailure::Denied, forwarded.client),
        );
    }
    let now = clock::now_unix();
    let ctx = Context {
        app: Arc::clone(app),
        snapshot,
        who,
        endpoint,
        now,
        entry,
    };
    if forwarded.copy {
        return Box::pin(copied(ctx, &head.method, &head.headers, body)).await;
    }
    answer(ctx, head.method, &head.headers, body, head.uri, true).await
}

/// What the owner of a session is told as well.
async fn copied(ctx: Context, method: &Method, headers: &HeaderMap, body: Incoming) -> Response<Body> {
    let body = match *method {
        Method::POST => match intake::read(body, &ctx.snapshot.config.limits, &ctx.app.budget).await {
            Ok(body) => Some(body),
            Err(cause) => return ctx.refuse(cause.into(), None, None),
        },
        _ => None,
    };
    earlier::take(ctx, method, headers, body).await
}

/// An authenticated request: form, body, and then what the message asks for.
async fn answer(
    ctx: Context,
    method: Method,
    headers: &HeaderMap,
    body: Incoming,
    uri: http::Uri,
    forwarded: bool,
) -> Response<Body> {
    match method {
        Method::POST => {
            if let Err(cause) = intake::check_form(headers) {
                return ctx.refuse(cause.into(), None, None);
            }
            let body = match intake::read(body, &ctx.snapshot.config.limits, &ctx.app.budget).await {
                Ok(body) => body,
                Err(cause) => return ctx.refuse(cause.into(), None, None),
            };
            // Boxed: it is moved into place once instead of at every level above.
            Box::pin(serve::post(ctx, headers, body, uri, forwarded)).await
        }
        Method::GET => Box::pin(serve::get(ctx, headers, uri, forwarded)).await,
        Method::DELETE => Box::pin(serve::delete(ctx, headers, uri, forwarded)).await,
        _ => ctx.refuse(
            Cause::MethodNotAllowed {
                allow: "GET, POST, DELETE",
            }
            .into(),
            None,
            None,
        ),
    }
}

async fn place(app: &App) -> Option<tokio::sync::SemaphorePermit<'_>> {
    if let Ok(place) = app.in_flight.try_acquire() {
        return Some(place);
    }
    tokio::time::timeout(QUEUE, app.in_flight.acquire())
        .await
        .ok()?
        .ok()
}

fn unauthenticated(
    app: &App,
    snapshot: &Snapshot,
    endpoint: &OwnedEndpoint,
    failure: AuthFailure,
    client: IpAddr,
) -> Refusal {
    let cause = match failure {
        AuthFailure::NotReady => Cause::KeysNotReady,
        AuthFailure::AddressExhausted => Cause::TooManyFailures {
            retry_after: app.failures.wait(client).unwrap_or(Duration::from_secs(1)),
        },
        AuthFailure::Missing | AuthFailure::Invalid { .. } | AuthFailure::Denied => Cause::Unauthenticated,
    };
    let mut headers = HeaderMap::new();
    if cause == Cause::Unauthenticated {
        headers.insert(
            WWW_AUTHENTICATE,
            snapshot.auth.challenge(&failure, endpoint.get()),
        );
    }
    Refusal {
        cause,
        headers: Some(Box::new(headers)),
    }
}

/// Is this the path that load balancers ask? Some targets have an empty path, which never is.
fn is_health(snapshot: &Snapshot, path: &str) -> bool {
    let health = &snapshot.config.network.public_health;
    !health.is_empty() && path == health
}

/// Whether a load balancer should send requests here.
fn health(app: &App, mut entry: Entry, method: &Method) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return refuse(entry, Cause::MethodNotAllowed { allow: "GET, HEAD" }.into());
    }
    let serves = app.readiness.is_ready() && app.drain.stage() == Stage::Serving;
    let status = if serves {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    entry.allowed(status);
    entry.recorded = false;
    bare(status)
}

/// What a page may do here.
fn preflight(mut entry: Entry, request: &HeaderMap) -> Response<Body> {
    let methods = match entry.kind {
        EndpointKind::WellKnown => "GET, HEAD",
        _ => "GET, POST, DELETE",
    };
    let mut response = bare(StatusCode::NO_CONTENT);
    origin::preflight(request, methods, response.headers_mut());
    entry.allowed(StatusCode::NO_CONTENT);
    entry.recorded = false;
    response
}

/// What everybody may read: RFC 9728 metadata, and what `web.wellKnown` says.
fn document(mut entry: Entry, snapshot: &Snapshot, method: &Method, path: &str) -> Response<Body> {
    let metadata = snapshot.auth.metadata(path).map(Document::json);
    let configured = snapshot.documents.get(path);
    let Some(document) = metadata.as_ref().or(configured) else {
        return refuse(entry, Cause::NotFound.into());
    };
    entry.path = path.into();
    if !matches!(*method, Method::GET | Method::HEAD) {
        return refuse(entry, Cause::MethodNotAllowed { allow: "GET, HEAD" }.into());
    }
    entry.allowed(StatusCode::OK);
    // Who looks for ways in looks here first. The metadata is read by every client: a counter is enough.
    entry.recorded = configured.is_some();
    if configured.is_some() {
        entry.app().metrics.document_read(path);
    }
    document.answer(method)
}

/// Refuses before anybody is known: there is no message yet whose id an answer could carry.
fn refuse(mut entry: Entry, refusal: Refusal) -> Response<Body> {
    let cause = refusal.cause.clone();
    let response = refusal.render(None, None);
    entry.refused(&cause, response.status());
    response
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}
