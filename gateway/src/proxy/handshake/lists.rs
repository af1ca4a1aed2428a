//! What a server offers: its lists, asked for from the first page to the last.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::Features;
use tokio::time::Instant;

use super::{Seed, meta};
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::mcp::session::Capabilities;
use crate::net::pool::ExchangeError;
use crate::proxy::channel::Channel;
use crate::proxy::exchange::Failure;
use crate::proxy::inventory::{Inventory, Section, items_of};
use crate::proxy::link::{Health, Shape};
use crate::proxy::news::Lists;
use crate::proxy::opened::Opened;
use crate::proxy::primitive::Primitive;
use crate::proxy::upstream::Upstream;

/// How long the pages of one list may be together, with what is not kept of them.
const MAX_READ: usize = 16 << 20;
/// Pages of a list that are followed.
const MAX_PAGES: usize = 100;

impl Upstream {
    /// Asks for what the server offers unless that was listed less than `max_age` ago, and notes how that went.
    pub async fn refresh(&self, max_age: Duration) -> Result<(), Failure> {
        if self.credential.is_missing() {
            return Err(Failure::NoCredential);
        }
        let fresh = || {
            let inventory = self.link.inventory();
            inventory.as_ref().is_some_and(|inventory| {
                inventory.listed.elapsed() < max_age && inventory.asked == self.features
            }) && !self.link.what_was_told().is_any()
        };
        if fresh() {
            return Ok(());
        }
        let _one = self.link.refreshing.lock().await;
        if fresh() {
            return Ok(());
        }
        // What is told from now on is asked for again.
        let told = self.link.what_was_told().take();
        let done = self.list().await.map(|changed| {
            let told = told.settle().and(changed);
            // Who hears of it and asks gets the new list: it is in force.
            if self.features.subscriptions {
                self.link.tell(told.only(Lists::on(self.features)));
            }
        });
        if done.as_ref().is_err_and(Failure::is_unauthorized) {
            self.credential.was_refused();
        }
        self.link.set_health(match &done {
            Ok(()) => Health {
                verified: true,
                ..Health::default()
            },
            Err(failure) => Health {
                verified: false,
                reason: reason(failure),
                message: failure.to_string(),
            },
        });
        if done.is_err()
            && let Some(shared) = self.link.forget_shape()
        {
            self.link.sessions.end(shared);
        }
        done
    }

    /// Asks for all lists, and says which of them changed.
    async fn list(&self) -> Result<Lists, Failure> {
        let known = self.link.shape().clone();
        let shape = match known {
            Some(shape) => shape,
            None => self.shape().await?,
        };
        self.declare_anew();
        let tools = if shape.has_tools {
            let tools = self.section(&shape, Primitive::Tools).await?;
            Arc::new(self.marked(&shape, tools).await)
        } else {
            Arc::default()
        };
        let mut sections = [tools, Arc::default(), Arc::default(), Arc::default()];
        for primitive in [Primitive::Prompts, Primitive::Resources, Primitive::Templates] {
            if !(primitive.is_in(self.features) && primitive.is_in(shape.offers)) {
                continue;
            }
            // Tools are what a server is verified by. What else it lists badly is kept as it was.
            let section = match self.section(&shape, primitive).await {
                Ok(section) => Arc::new(section),
                Err(failure) => {
                    tracing::warn!(server = %self.full_name, method = primitive.method().as_str(), error = %failure, "a list of the server was not to be had");
                    let old = self.link.inventory();
                    let old = old.as_ref().map(|inventory| Arc::clone(inventory.of(primitive)));
                    old.unwrap_or_default()
                }
            };
            if let Some(place) = sections.get_mut(primitive.index()) {
                *place = section;
            }
        }
        Ok(self.link.set_inventory(Inventory::new(
            sections,
            shape.offers,
            self.features,
            Instant::now(),
        )))
    }

    /// The gateway's own session declared other capabilities than it would now: it is opened anew.
    fn declare_anew(&self) {
        let asked = self.link.inventory().as_ref().map(|inventory| inventory.asked);
        let same = asked.is_none_or(|asked| {
            let of = |features: Features| (features.elicitation, features.sampling, features.roots);
            of(asked) == of(self.features)
        });
        if !same && let Some(shared) = self.link.shared() {
            self.link.forget_shared(&shared);
            self.link.sessions.end(shared);
        }
    }

    /// One whole list; asked for again if the session was lost.
    async fn section(&self, shape: &Shape, primitive: Primitive) -> Result<Section, Failure> {
        match self.own_pages(shape, primitive).await {
            Err(Failure::SessionLost) => {
                self.link.set_shared(None);
                self.own_pages(shape, primitive).await
            }
            other => other,
        }
    }

    async fn own_pages(&self, shape: &Shape, primitive: Primitive) -> Result<Section, Failure> {
        let own = match shape.era() {
            Era::Session => self.shared_channel().await?,
            Era::Stateless => self.link.stateless(),
        };
        self.pages(&own, self.own_capabilities(), primitive).await
    }

    /// The tools, with those marked that the server does not show to clients that cannot be asked. That is found out when
    /// the tools are not what they were.
    async fn marked(&self, shape: &Shape, tools: Section) -> Section {
        if self.own_capabilities().is_empty() {
            return tools;
        }
        let old = self.link.inventory();
        let old = old
            .as_ref()
            .map(|old| (old.asked, Arc::clone(old.of(Primitive::Tools))));
        if let Some((asked, old)) = old
            && asked == self.features
            && old.same_as(&tools)
        {
            return tools.marked(|name| old.get(name).is_some_and(|tool| tool.asks));
        }
        // Boxed: large and rare.
        match Box::pin(self.shown_to_all(shape)).await {
            Ok(all) => tools.marked(|name| all.get(name).is_none()),
            Err(failure) => {
                tracing::warn!(server = %self.full_name, error = %failure, "which of its tools the server shows to clients that cannot be asked is not known: they are shown all");
                tools
            }
        }
    }

    /// The tools that a client sees which declares nothing.
    async fn shown_to_all(&self, shape: &Shape) -> Result<Section, Failure> {
        match shape.era() {
            Era::Stateless => {
                self.pages(&self.link.stateless(), Capabilities::NONE, Primitive::Tools)
                    .await
            }
            Era::Session => {
                let (channel, _) = self.initialize(&Seed::GATEWAY).await?;
                // Ended with the list.
                let opened = Opened::new(&self.link, channel);
                self.pages(opened.channel(), Capabilities::NONE, Primitive::Tools)
                    .await
            }
        }
    }

    async fn pages(
        &self,
        channel: &Channel,
        declared: Capabilities,
        primitive: Primitive,
    ) -> Result<Section, Failure> {
        let meta = match channel.era() {
            Era::Session => String::new(),
            Era::Stateless => format!("\"_meta\":{}", meta(declared)),
        };
        let mut items = Vec::new();
        let (mut left_out, mut read) = (0, 0);
        let mut ttl_ms: Option<u64> = None;
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut params = format!("{{{meta}");
            if let Some(cursor) = &cursor {
                if !meta.is_empty() {
                    params.push(',');
                }
                params.push_str("\"cursor\":");
                params.push_str(cursor);
            }
            params.push('}');
            let answer = match self.ask(channel, primitive.method().as_str(), &params).await {
                Ok((answer, ..)) => answer,
                Err(Failure::Status(_, Some(answer))) => *answer,
                Err(failure) => return Err(failure),
            };
            read += answer.bytes().len();
            if read > MAX_READ {
                return Err(Failure::TooLarge);
            }
            if primitive == Primitive::Templates && is_unknown_method(&answer) {
                // Resources without templates: many servers have no such method then.
                return Ok(Section::default());
            }
            let list = answer.span(primitive.member()).ok_or(Failure::Invalid(
                "it answered the question for a list without one",
            ))?;
            left_out += items_of(answer.bytes(), list, primitive, &mut items).map_err(Failure::Invalid)?;
            let ttl = answer
                .integer(Member::ResultTtl)
                .map(|ttl| u64::try_from(ttl).unwrap_or(0));
            ttl_ms = ttl_ms.into_iter().chain(ttl).min();
            // The cursor goes back as it is written; the empty string is one too.
            match answer.raw(Member::ResultNextCursor) {
                Some(next) if next.first() == Some(&b'"') => {
                    cursor = Some(String::from_utf8_lossy(next).into_owned());
                }
                _ => return Ok(Section::new(items, ttl_ms).without(left_out)),
            }
        }
        Err(Failure::Invalid("a list of it does not end"))
    }
}

fn is_unknown_method(answer: &Message) -> bool {
    answer.kind() == Kind::ErrorResponse && answer.integer(Member::ErrorCode) == Some(-32_601)
}

/// One word for status and metrics.
fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::Shared(failure) => reason(failure),
        Failure::Exchange(ExchangeError::Connect(_)) => "ConnectFailed",
        Failure::Exchange(ExchangeError::Broken(..)) | Failure::CutOff => "ConnectionLost",
        Failure::SessionLost => "SessionLost",
        Failure::Status(status, _) => match status.as_u16() {
            401 | 403 => "CredentialRefused",
            _ => "HttpError",
        },
        Failure::Invalid(_) => "NotMcp",
        Failure::NoCommonRevision | Failure::OtherRevision { .. } => "UnsupportedRevision",
        Failure::NoCredential => "CredentialMissing",
        Failure::TooLarge => "AnswerTooLarge",
        Failure::NoMemory(_) => "Overloaded",
        Failure::Timeout | Failure::Unanswered => "Timeout",
    }
}
