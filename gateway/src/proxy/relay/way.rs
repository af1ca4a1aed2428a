//! How far the exchange with the server has come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::mcp::envelope::{Kind, Message};
use crate::proxy::exchange::{Exchange, Failure, Said};
use crate::proxy::source::Source;

/// What comes first of a server.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are heads, and a box would be one more for each"
)]
pub(super) enum First {
    /// The head of its answer, or why there is none.
    Head(Result<Exchange, Failure>),
    /// A message on its own stream.
    Aside(Message),
}

/// How far the exchange with the server has come.
#[expect(
    clippy::large_enum_variant,
    reason = "a box more would be one more per call, and nothing is saved"
)]
pub(super) enum Way {
    /// The request is on its way, or the server thinks.
    Sent(Start),
    /// The answer comes.
    Answering(Exchange),
    /// Nothing comes any more.
    Over,
}

/// In a box: it has to outlive the request that began it.
pub(super) type Start = Pin<Box<dyn Future<Output = Result<Exchange, Failure>> + Send>>;

impl Way {
    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Said>, Failure> {
        if let Self::Sent(start) = self {
            let started = start.await;
            *self = Self::Over;
            *self = Self::Answering(started?);
        }
        match self {
            Self::Answering(exchange) => exchange.said().await,
            Self::Sent(_) | Self::Over => Err(Failure::CutOff),
        }
    }

    /// Until the server has answered, or ended the stream.
    pub(super) async fn ended(&mut self) {
        while let Ok(Some(said)) = self.next().await {
            if let Said::Message(message) = said
                && matches!(message.kind(), Kind::Response | Kind::ErrorResponse)
            {
                return;
            }
        }
    }
}

/// The next message of the server's own stream, if there is one.
pub(super) fn poll_aside(aside: &mut Option<Source>, cx: &mut Context<'_>) -> Poll<Message> {
    while let Some(source) = aside {
        match ready!(source.as_mut().poll_next(cx)) {
            Some(heard) => {
                if let Some(message) = heard.message {
                    return Poll::Ready(message);
                }
            }
            None => *aside = None,
        }
    }
    Poll::Pending
}
