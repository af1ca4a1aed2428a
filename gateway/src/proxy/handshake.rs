//! Getting to know a server: `server/discover` for the stateless era, `initialize` for the one before; and the
//! sessions opened on it.

mod lists;
mod meet;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Request, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use meet::shape;

use super::channel::{Channel, is_session_id};
use super::exchange::{Exchange, Failure, Outgoing};
use super::legacy;
use super::link::Shape;
use super::opened::Opened;
use super::replies;
use super::upstream::Upstream;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::meta::StatelessMeta;
use crate::mcp::method::Method;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::{Era, Revision};
use crate::mcp::scan::Member;
use crate::mcp::session::Capabilities;

/// `Mcp-Method` of the stateless era.
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// "This revision is not spoken here": the error of the stateless era, which says in its data which are.
pub(super) const UNSUPPORTED_VERSION: i64 = -32_022;

/// As much of a revision's name as is repeated.
const MAX_REVISION: usize = 32;
/// Closing a session is a courtesy; it may not hold anything up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who opens a session: what `initialize` says.
pub struct Seed<'a> {
    /// `clientInfo`, a JSON object.
    pub client_info: &'a [u8],
    /// `capabilities`, a JSON object: the caller's, less what is off.
    pub capabilities: &'a [u8],
}

impl Seed<'static> {
    /// The gateway, on behalf of clients that it knows nothing of.
    pub const GATEWAY: Self = Self {
        client_info: concat!(
            r#"{"name":"portcullis","version":""#,
            env!("CARGO_PKG_VERSION"),
            r#""}"#
        )
        .as_bytes(),
        capabilities: b"{}",
    };
}

/// Where the ids of our own requests stand; ids are compared as they are written.
pub(super) const OWN_ID: &[u8] = br#""portcullis""#;

impl Upstream {
    /// Sends one request of our own and waits for its answer, at most the server's time-out.
    pub(super) async fn ask(
        &self,
        channel: &Channel,
        method: &'static str,
        params: &str,
    ) -> Result<(Message, Option<HeaderValue>, Option<std::net::SocketAddr>), Failure> {
        let message =
            format!(r#"{{"jsonrpc":"2.0","id":"portcullis","method":"{method}","params":{params}}}"#);
        let mut extra = HeaderMap::with_capacity(8);
        if channel.era() == Era::Stateless {
            extra.insert(MCP_METHOD, HeaderValue::from_static(method));
        }
        let outgoing = Outgoing {
            message: message.into(),
            channel,
            extra,
            credential: self.credential.shown(),
            bounds: self.bounds,
        };
        let answer = async {
            let mut exchange = Exchange::start(&self.link, outgoing, None).await?;
            let (session_id, address) = (exchange.session_id.clone(), exchange.address());
            while let Some(message) = exchange.next().await? {
                match message.kind() {
                    Kind::Response | Kind::ErrorResponse if message.id() == Some(OWN_ID) => {
                        exchange.finish();
                        return Ok((message, session_id, address));
                    }
                    // It may wait for the answer.
                    Kind::Request => self.refuse(channel, &message).await,
                    _ => {}
                }
            }
            Err(Failure::Invalid("it did not answer"))
        };
        tokio::time::timeout(self.timeout, answer)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// The same on a session that others call on: one such question at a time.
    pub(super) async fn ask_beside(
        &self,
        channel: &Channel,
        method: &'static str,
        params: &str,
    ) -> Result<Message, Failure> {
        self.ask(channel, method, params).await.map(|(answer, ..)| answer)
    }

    /// Does the server say, asked in an ordinary request, that it does not know the session?
    pub(super) async fn has_forgotten(&self, channel: &Channel) -> bool {
        let asked = self.ask(channel, Method::Ping.as_str(), "{}").await;
        matches!(
            asked,
            Err(Failure::SessionLost | Failure::Status(StatusCode::BAD_REQUEST, _))
        )
    }

    /// Opens a session on the server.
    pub async fn initialize(&self, seed: &Seed<'_>) -> Result<(Channel, Shape), Failure> {
        let known = self.link.shape().as_ref().map(|shape| shape.revision);
        if self.revision.or(known) == Some(Revision::V20241105) {
            let none = Failure::Invalid("it has no stream of events for a session of 2024-11-05");
            return Box::pin(self.initialize_in_stream(seed, none)).await;
        }
        // The first message of a session names no revision in a header: it is what the message settles.
        let opening = Channel {
            revision: Revision::V20250326,
            ..Channel::STATELESS
        };
        match self.initialize_in(opening, seed).await {
            // As a server of the first revision answers (specification, Backwards Compatibility).
            Err(failure @ Failure::Status(status, _))
                if self.revision.is_none() && matches!(status.as_u16(), 400 | 404 | 405) =>
            {
                Box::pin(self.initialize_in_stream(seed, failure)).await
            }
            done => done,
        }
    }

    /// Opens the session in which the gateway itself asks.
    async fn initialize_own(&self) -> Result<(Channel, Shape), Failure> {
        let seed = Seed {
            capabilities: &self.own_capabilities().to_json(Era::Session),
            ..Seed::GATEWAY
        };
        self.initialize(&seed).await
    }

    /// Answers what a server asks of the gateway itself: `ping` is answered by whoever receives it, and nothing else is done.
    pub(super) async fn refuse(&self, channel: &Channel, request: &Message) {
        let Some(id) = request.id() else { return };
        let answer = if request.method() == Method::Ping {
            reply::empty_result(id, Era::Session)
        } else {
            reply::error(&Cause::MethodUnknown, Some(id))
        };
        replies::notify(self, channel, answer, "the answer to the server's request").await;
    }

    /// Opens a session of the first revision; `none` is what it fails with where the server has no such thing.
    async fn initialize_in_stream(
        &self,
        seed: &Seed<'_>,
        none: Failure,
    ) -> Result<(Channel, Shape), Failure> {
        match legacy::open(self).await {
            Ok(Some(channel)) => self.initialize_in(channel, seed).await,
            Ok(None) => Err(none),
            Err(failure) => Err(failure),
        }
    }

    async fn initialize_in(&self, opening: Channel, seed: &Seed<'_>) -> Result<(Channel, Shape), Failure> {
        let first = opening.legacy.is_some().then_some(Revision::V20241105);
        let held_to = first.or(self.revision);
        let params = format!(
            r#"{{"protocolVersion":"{}","capabilities":{},"clientInfo":{}}}"#,
            held_to.unwrap_or(Revision::NEWEST_SESSION).as_str(),
            String::from_utf8_lossy(seed.capabilities),
            String::from_utf8_lossy(seed.client_info)
        );
        let (answer, session_id, address) = self.ask(&opening, "initialize", &params).await?;
        if session_id.as_ref().is_some_and(|id| !is_session_id(id)) {
            return Err(Failure::Invalid(
                "its session id is not visible ASCII of bounded length",
            ));
        }
        // Ended again unless all of this succeeds.
        let begun = Opened::new(
            &self.link,
            Channel {
                pinned: address.filter(|_| session_id.is_some()).or(opening.pinned),
                session_id,
                ..opening
            },
        );
        if answer.kind() == Kind::ErrorResponse {
            return Err(Failure::Invalid("it refused initialize"));
        }
        let offered = answer.str(Member::ResultProtocolVersion);
        let revision = offered
            .as_deref()
            .and_then(|version| Revision::parse(version.as_bytes()));
        if let Some(held_to) = held_to.filter(|held_to| revision != Some(*held_to)) {
            let offered = offered.as_deref().unwrap_or("none");
            return Err(Failure::OtherRevision {
                offered: offered.chars().take(MAX_REVISION).collect(),
                held_to,
            });
        }
        let revision = revision
            .filter(|revision| revision.era() == Era::Session)
            .ok_or(Failure::Invalid(
                "initialize settled on a revision that is not known",
            ))?;
        let channel = Channel {
            revision,
            ..begun.channel().as_ref().clone()
        };
        self.notify(
            &channel,
            Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        )
        .await?;
        begun.release();
        let shape = shape(&answer, revision, Member::ResultServerInfo);
        Ok((channel, shape))
    }

    /// Sends a notification or a response; nothing comes back.
    pub async fn notify(&self, channel: &Channel, message: Bytes) -> Result<(), Failure> {
        let outgoing = Outgoing {
            message,
            channel,
            extra: HeaderMap::with_capacity(8),
            credential: self.credential.shown(),
            bounds: self.bounds,
        };
        let sent = async {
            Exchange::start(&self.link, outgoing, None)
                .await
                .map(Exchange::finish)
        };
        tokio::time::timeout(self.timeout, sent)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// Ends a session on the server, best effort.
    pub async fn close(&self, channel: &Channel) {
        if let Some(legacy) = &channel.legacy {
            legacy.close();
        }
        if channel.session_id.is_none() {
            return;
        }
        let target = self.link.pool.target();
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = HttpMethod::DELETE;
        *request.uri_mut() = target.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, target.authority.clone());
        channel.set_headers(headers);
        if let Some((name, value)) = self.credential.shown() {
            headers.insert(name, value);
        }
        let pinned = channel.pinned;
        tokio::time::timeout(CLOSE_TIMEOUT, self.link.pool.send(request, pinned))
            .await
            .ok();
    }

    /// What the server speaks, asked for if it is not known: by one at a time, and within the server's time-out for all
    /// who wait.
    pub async fn shape(&self) -> Result<Arc<Shape>, Failure> {
        if let Some(shape) = &*self.link.shape() {
            return Ok(Arc::clone(shape));
        }
        // Boxed: large and rare, and every call would carry the room. The same holds below.
        Box::pin(self.in_turn(&self.link.greeting, || self.link.shape().clone(), || self.greet())).await
    }

    /// The session in which the gateway itself asks, opened if there is none.
    pub async fn shared_channel(&self) -> Result<Arc<Channel>, Failure> {
        if let Some(channel) = self.link.shared() {
            return Ok(channel);
        }
        Box::pin(self.in_turn(&self.link.opening, || self.link.shared(), || self.open_shared())).await
    }

    /// What is `known`, or else what `ask` finds out while `turn` is held. Who waited for another's turn shares its failure:
    /// asking again, one after the other, each would hold its place among the gateway's requests for longer than the last.
    async fn in_turn<T, A: Future<Output = Result<T, Failure>>>(
        &self,
        turn: &tokio::sync::Mutex<()>,
        known: impl Fn() -> Option<T>,
        ask: impl FnOnce() -> A,
    ) -> Result<T, Failure> {
        let came = Instant::now();
        if let Some(failure) = self.link.failed_since(came) {
            return Err(failure);
        }
        let asking = AtomicBool::new(false);
        let asked = async {
            let _one = turn.lock().await;
            if let Some(known) = known() {
                return Ok(known);
            }
            if let Some(failure) = self.link.failed_since(came) {
                return Err(failure);
            }
            asking.store(true, Ordering::Relaxed);
            ask().await
        };
        if let Ok(done) = tokio::time::timeout(self.timeout, asked).await {
            return done;
        }
        match known() {
            Some(known) => Ok(known),
            None if asking.load(Ordering::Relaxed) => Err(self.link.set_failed(Failure::Timeout)),
            // Only the one who asked can say that the server did not answer.
            None => Err(Failure::Timeout),
        }
    }

    async fn open_shared(&self) -> Result<Arc<Channel>, Failure> {
        let (channel, shape) = self
            .initialize_own()
            .await
            .map_err(|failure| self.link.set_failed(failure))?;
        self.link.set_shape(shape);
        let channel = Arc::new(Channel {
            shared: true,
            ..channel
        });
        self.link.set_shared(Some(Arc::clone(&channel)));
        Ok(channel)
    }
}

/// `_meta` of the gateway's own requests to a stateless server.
pub(super) fn meta(capabilities: Capabilities) -> String {
    let declared = capabilities.to_json(Era::Stateless);
    let meta = StatelessMeta::new(&declared, Some(Seed::GATEWAY.client_info), None);
    String::from_utf8_lossy(meta.object()).into_owned()
}
