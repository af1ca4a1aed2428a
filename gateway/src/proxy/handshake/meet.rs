//! What does a server speak? The question, and how its answer is read.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_config::Features;

use super::{UNSUPPORTED_VERSION, meta};
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::reply::json_string;
use crate::mcp::revision::{Era, Revision};
use crate::mcp::scan::{self, Member, Span};
use crate::net::pool::ExchangeError;
use crate::proxy::channel::Channel;
use crate::proxy::declared;
use crate::proxy::exchange::Failure;
use crate::proxy::link::{SessionsToo, Shape};
use crate::proxy::upstream::Upstream;

/// The longest `instructions` passed on.
const MAX_INSTRUCTIONS: usize = 16 << 10;
/// The longest `serverInfo` passed on.
const MAX_SERVER_INFO: usize = 4 << 10;

impl Upstream {
    /// Asks the server what it speaks, and notes it, or how it failed.
    pub(super) async fn greet(&self) -> Result<Arc<Shape>, Failure> {
        self.meet().await.map_err(|failure| self.link.set_failed(failure))
    }

    async fn meet(&self) -> Result<Arc<Shape>, Failure> {
        if let Some(revision) = self.revision {
            let shape = match revision.era() {
                Era::Stateless => self.meet_stateless().await?,
                Era::Session => self.meet_in_session().await?,
            };
            self.link.set_shape(shape.clone());
            return Ok(Arc::new(shape));
        }
        // Half of the time: a server that says nothing to a question it does not know still gets the other one.
        let discovered = tokio::time::timeout(self.timeout / 2, self.discover());
        let shape = match discovered.await.unwrap_or(Err(Failure::Timeout)) {
            Ok(Some(shape)) => shape,
            Err(failure @ (Failure::Exchange(ExchangeError::Connect(_)) | Failure::NoCommonRevision)) => {
                return Err(failure);
            }
            // Whatever else it says to a question it does not know: it is of the era before.
            Ok(None) | Err(_) => self.meet_in_session().await?,
        };
        let shape_now = Arc::new(shape);
        self.link.set_shape((*shape_now).clone());
        Ok(shape_now)
    }

    /// Gets to know a server with sessions, and keeps the one in which the gateway itself asks.
    async fn meet_in_session(&self) -> Result<Shape, Failure> {
        let (channel, shape) = self.initialize_own().await?;
        self.link.set_shared(Some(Arc::new(Channel {
            shared: true,
            ..channel
        })));
        Ok(shape)
    }

    /// Gets to know a server that is held to the stateless revision. One that does not know `server/discover`, as it
    /// should, is taken to have tools and nothing else.
    async fn meet_stateless(&self) -> Result<Shape, Failure> {
        let known = match self.discover().await {
            Err(Failure::Status(status, None)) if matches!(status.as_u16(), 400 | 404 | 405) => None,
            asked => asked?,
        };
        let shape = known.unwrap_or_else(|| Shape {
            revision: Revision::STATELESS,
            server_info: nameless(""),
            name: String::new(),
            version: String::new(),
            instructions: None,
            has_tools: true,
            offers: Features {
                elicitation: true,
                sampling: true,
                roots: true,
                ..Features::default()
            },
            subscribe: false,
            sessions_too: SessionsToo::No,
            tasks: false,
        });
        Ok(Shape {
            sessions_too: SessionsToo::No,
            ..shape
        })
    }

    async fn discover(&self) -> Result<Option<Shape>, Failure> {
        let params = format!("{{\"_meta\":{}}}", meta(self.own_capabilities()));
        // Who refuses this revision and names it among its own is asked once more.
        for _ in 0..2 {
            let answer = match self.ask(&Channel::STATELESS, "server/discover", &params).await {
                Ok((answer, ..)) => answer,
                Err(Failure::Status(_, Some(answer))) => *answer,
                Err(failure) => return Err(failure),
            };
            let refused = answer.kind() == Kind::ErrorResponse;
            let versions = if refused {
                spoken_instead(&answer)
            } else {
                answer.span(Member::ResultSupportedVersions)
            };
            let Some(versions) = versions else {
                return Ok(None);
            };
            let speaks = |wanted: fn(Revision) -> bool| {
                scan::elements(answer.bytes(), versions)
                    .map_while(Result::ok)
                    .filter_map(|version| Revision::parse(scan::contents(version.of(answer.bytes()))))
                    .any(wanted)
            };
            match speaks(|revision| revision == Revision::STATELESS) {
                true if refused => {}
                true => {
                    let says_so = speaks(|revision| revision.is_served() && revision.era() == Era::Session);
                    return Ok(Some(Shape {
                        sessions_too: if says_so {
                            SessionsToo::Yes
                        } else {
                            SessionsToo::Unsaid
                        },
                        ..shape(&answer, Revision::STATELESS, Member::ResultMetaServerInfo)
                    }));
                }
                // It knows the question: `initialize` is for one that says that it speaks an era with sessions.
                false if self.revision.is_none() && speaks(|revision| revision.era() == Era::Session) => {
                    return Ok(None);
                }
                false => break,
            }
        }
        Err(Failure::NoCommonRevision)
    }
}

/// The list of revisions in an error that says that ours is not among them.
fn spoken_instead(answer: &Message) -> Option<Span> {
    if answer.integer(Member::ErrorCode) != Some(UNSUPPORTED_VERSION) {
        return None;
    }
    let versions = scan::field(answer.bytes(), answer.span(Member::ErrorData)?, "supported")?;
    (versions.first(answer.bytes()) == b'[').then_some(versions)
}

pub(super) fn shape(answer: &Message, revision: Revision, info: Member) -> Shape {
    let bytes = answer.bytes();
    let info = answer
        .span(info)
        .filter(|span| span.first(bytes) == b'{' && span.of(bytes).len() <= MAX_SERVER_INFO);
    let word = |name: &str| {
        let raw = scan::field(bytes, info?, name)?.of(bytes);
        scan::unescape(raw)
            .ok()
            .filter(|_| raw.first() == Some(&b'"'))
            .map(std::borrow::Cow::into_owned)
    };
    let (name, version) = (
        word("name").unwrap_or_default(),
        word("version").unwrap_or_default(),
    );
    let server_info = info.map_or_else(|| nameless(&name), |span| bytes.slice(span.start()..span.end()));
    let has = |name: &str| {
        answer
            .span(Member::ResultCapabilities)
            .is_some_and(|capabilities| scan::field(bytes, capabilities, name).is_some())
    };
    let has_tools = has("tools");
    let offers = Features {
        prompts: has("prompts"),
        resources: has("resources"),
        // The first revision has completions without a capability for them.
        completions: has("completions") || revision == Revision::V20241105,
        // Any server may ask the caller, and of every server it is found out what changed.
        elicitation: true,
        sampling: true,
        roots: true,
        logging: has("logging"),
        subscriptions: true,
    };
    let subscribe = answer
        .span(Member::ResultCapabilities)
        .and_then(|capabilities| scan::field(bytes, capabilities, "resources"))
        .and_then(|resources| scan::field(bytes, resources, "subscribe"))
        .is_some_and(|subscribe| subscribe.of(bytes) == b"true");
    let tasks = revision.era() == Era::Stateless
        && answer
            .raw(Member::ResultCapabilities)
            .is_some_and(|capabilities| declared::has_extension(capabilities, declared::TASKS));
    let instructions = answer
        .str(Member::ResultInstructions)
        .filter(|text| text.len() <= MAX_INSTRUCTIONS)
        .map(std::borrow::Cow::into_owned);
    Shape {
        revision,
        server_info,
        name,
        version,
        instructions,
        has_tools,
        offers,
        subscribe,
        sessions_too: SessionsToo::No,
        tasks,
    }
}

/// A server that does not say who it is still needs a `serverInfo` with both members.
fn nameless(name: &str) -> Bytes {
    let mut out = b"{\"name\":".to_vec();
    json_string(if name.is_empty() { "unnamed" } else { name }, &mut out);
    out.extend_from_slice(b",\"version\":\"\"}");
    out.into()
}
