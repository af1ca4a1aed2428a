//! Sessions of 2024-11-05, HTTP with SSE: the session is one stream of events, on which the server first says where
//! messages go, and then says everything that it has to say.
//!
//! A task of its own reads the stream, so that whoever is slow holds up nobody else: an answer goes to the call that it
//! is for, progress to the call whose it is, and everything else to whoever listens to the session, or else to a call
//! that can deal with it. What waits to be taken is bounded for each of them; who lets more than that pile up loses its
//! part of the stream, and the session goes on. Letting go of the session closes the stream, and so ends it.

mod routes;

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::cancel::Cancel;
use super::channel::Channel;
use super::exchange::{Exchange, Failure, read_short};
use super::link::Link;
use super::replies;
use super::upstream::Upstream;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method as McpMethod;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::{Era, Revision};
use crate::net::Target;
use routes::Routes;
pub use routes::Waiting;

/// The longest address of a session.
const MAX_ENDPOINT: usize = 2048;
/// Events before the one that says where messages go.
const MAX_BEFORE: usize = 16;
/// Nesting of our own messages, which were scanned before.
const MAX_DEPTH: u32 = 256;
/// Answers of the gateway to one session's server that are on their way.
const MAX_REPLIES: usize = 4;

/// A session.
pub struct Legacy {
    /// Where its messages go, on the server's own origin.
    endpoint: Uri,
    routes: Arc<Routes>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Legacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its address is what it is recognised by, and must not stand in a log.
        f.debug_struct("Legacy").finish_non_exhaustive()
    }
}

impl Drop for Legacy {
    fn drop(&mut self) {
        self.close();
    }
}

impl Legacy {
    /// Ends it: its stream is closed.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Listens to what the server says beside calls, in place of whoever did before.
    pub fn listen(&self) -> Result<Waiting, Failure> {
        self.routes.listen()
    }

    /// Sends `message`, which `request` carries: what comes back, if it asks for something.
    pub async fn post(
        self: Arc<Self>,
        link: &Link,
        message: Bytes,
        mut request: Request<Full<Bytes>>,
        pinned: Option<std::net::SocketAddr>,
        call: Option<Cancel>,
    ) -> Result<Option<Waiting>, Failure> {
        let known = Message::from_client(message, MAX_DEPTH).ok();
        // Before it is sent: its answer may be there first.
        let waiting = match known.filter(|message| message.kind() == Kind::Request) {
            Some(request) => Some(self.routes.wait(&request)?),
            None => None,
        };
        if self.routes.is_over() {
            return Err(Failure::SessionLost);
        }
        *request.uri_mut() = self.endpoint.clone();
        let going = || call.iter().for_each(Cancel::set_sent);
        let (response, lease) = link.pool.send_noting(request, pinned, going).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Err(Failure::SessionLost);
        }
        if !status.is_success() {
            return Err(Failure::Status(status, None));
        }
        read_short(response.into_body(), &link.budget).await?;
        link.pool.put(lease);
        Ok(waiting)
    }
}

/// Opens a session: the way to it, or `None` where the server has no such stream.
pub async fn open(upstream: &Upstream) -> Result<Option<Channel>, Failure> {
    let opening = async {
        let mut exchange = match Exchange::listen(upstream, &Channel::legacy(None, None), None).await {
            Err(Failure::Status(status, _)) if status.is_client_error() => return Ok(None),
            opened => opened?,
        };
        let endpoint = match endpoint(&mut exchange, upstream.link.pool.target()).await {
            Err(Failure::Status(status, _)) if status.is_client_error() => return Ok(None),
            endpoint => endpoint?,
        };
        let pinned = exchange.address();
        let legacy = Arc::new(Legacy {
            endpoint,
            routes: Arc::new(Routes::new(upstream.bounds.event)),
            stop: CancellationToken::new(),
        });
        tokio::spawn(listen(Reader {
            exchange,
            routes: Arc::clone(&legacy.routes),
            stop: legacy.stop.clone(),
            session: Arc::downgrade(&legacy),
            link: Arc::downgrade(&upstream.link),
            replies: Arc::new(Semaphore::new(MAX_REPLIES)),
        }));
        Ok(Some(Channel::legacy(Some(legacy), pinned)))
    };
    timeout(upstream.timeout, opening)
        .await
        .unwrap_or(Err(Failure::Timeout))
}

/// Waits for the event that says where messages go.
async fn endpoint(exchange: &mut Exchange, target: &Target) -> Result<Uri, Failure> {
    for _ in 0..MAX_BEFORE {
        let Some(event) = exchange.event().await? else {
            break;
        };
        if event.event.as_deref() == Some(b"endpoint") {
            let data = event.data.unwrap_or_default();
            return std::str::from_utf8(&data)
                .ok()
                .and_then(|address| within(target, address))
                .ok_or(Failure::Invalid(
                    "it wants messages sent to another origin, or to no address",
                ));
        }
    }
    Err(Failure::Invalid("it did not say where messages go"))
}

/// `address` as a path on the server's own origin. Elsewhere nothing is sent: its credential goes with each message.
fn within(target: &Target, address: &str) -> Option<Uri> {
    if address.len() > MAX_ENDPOINT {
        return None;
    }
    let scheme = if target.tls_name.is_some() {
        "https"
    } else {
        "http"
    };
    let base = format!("{scheme}://{}{}", target.authority.to_str().ok()?, target.path);
    let base: Url = base.parse().ok()?;
    let url = base.join(address).ok()?;
    let own = url.origin() == base.origin() && url.username().is_empty() && url.password().is_none();
    own.then(|| match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })?
    .parse()
    .ok()
}

/// What the task that reads a stream has.
struct Reader {
    exchange: Exchange,
    routes: Arc<Routes>,
    stop: CancellationToken,
    session: Weak<Legacy>,
    link: Weak<Link>,
    replies: Arc<Semaphore>,
}

async fn listen(mut reader: Reader) {
    loop {
        let next = tokio::select! {
            biased;
            () = reader.stop.cancelled() => break,
            next = reader.exchange.next() => next,
        };
        match next {
            Ok(Some(message)) => {
                if let Some(nobodys) = reader.routes.route(message) {
                    reader.refuse(&nobodys);
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "a session's stream broke off");
                break;
            }
        }
    }
    reader.routes.end();
}

impl Reader {
    /// Nobody is there who could deal with a server's question: it must not wait for ever.
    fn refuse(&self, message: &Message) {
        let (Some(id), Some(legacy)) = (message.id(), self.session.upgrade()) else {
            return;
        };
        let upstream = self.link.upgrade().and_then(|link| link.sessions.current());
        // A server that asks faster than it takes answers gets none.
        let (Some(upstream), Ok(place)) = (upstream, Arc::clone(&self.replies).try_acquire_owned()) else {
            return;
        };
        let answer = if message.method() == McpMethod::Ping {
            reply::empty_result(id, Era::Session)
        } else {
            reply::error(&Cause::MethodUnknown, Some(id))
        };
        let pinned = self.exchange.address();
        tokio::spawn(async move {
            let channel = Channel::legacy(Some(legacy), pinned);
            replies::notify(&upstream, &channel, answer, "the answer to the server's request").await;
            drop(place);
        });
    }
}

impl Channel {
    /// The way to a session of the first revision.
    pub(super) const fn legacy(legacy: Option<Arc<Legacy>>, pinned: Option<std::net::SocketAddr>) -> Self {
        Self {
            revision: Revision::V20241105,
            session_id: None,
            pinned,
            shared: false,
            legacy,
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::server::AddressPolicy;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/messages?sessionId=1", Some("/messages?sessionId=1"))]
    #[case("messages", Some("/a/messages"))]
    #[case("?s=1", Some("/a/sse?s=1"))]
    #[case("https://s.example/m", Some("/m"))]
    #[case("https://S.EXAMPLE:443/m", Some("/m"))]
    #[case("https://s.example:8443/m", None)]
    #[case("http://s.example/m", None)]
    #[case("//other.example/m", None)]
    #[case("https://other.example/m", None)]
    #[case("https://u:p@s.example/m", None)]
    #[case("\\\\other.example/m", None)]
    #[case("javascript:alert(1)", None)]
    fn messages_go_to_the_servers_own_origin_alone(#[case] address: &str, #[case] expected: Option<&str>) {
        let url = "https://s.example/a/sse?x=1".parse().unwrap();
        let target = Target::new(&url, AddressPolicy::Public).unwrap();
        let found = within(&target, address).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn an_address_without_end_is_none() {
        let url = "https://s.example/sse".parse().unwrap();
        let target = Target::new(&url, AddressPolicy::Public).unwrap();
        assert!(within(&target, &"a".repeat(MAX_ENDPOINT)).is_some());
        assert!(within(&target, &"a".repeat(MAX_ENDPOINT + 1)).is_none());
    }
}
