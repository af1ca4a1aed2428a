//! Why there is no answer.

use std::sync::Arc;

use http::StatusCode;

use crate::budget::Full;
use crate::mcp::envelope::Message;
use crate::mcp::reply::Cause;
use crate::mcp::revision::Revision;
use crate::mcp::scan::Member;
use crate::net::connect::ConnectError;
use crate::net::pool::ExchangeError;
use crate::proxy::breaker::Blame;
use crate::telemetry::metrics::UpstreamOutcome;

/// Why there is no answer. For logs and status; clients see [`Failure::cause`].
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error(transparent)]
    Exchange(ExchangeError),
    /// The server no longer knows the session (404), or is no longer where it held it: the message was not processed.
    #[error("the server no longer knows the session")]
    SessionLost,
    /// Another HTTP status than 2xx; with the JSON-RPC message in the body, if there was one.
    #[error("the server answered {0}")]
    Status(StatusCode, Option<Box<Message>>),
    /// The answer is not MCP.
    #[error("the server's answer is not MCP: {0}")]
    Invalid(&'static str),
    /// It says which revisions it speaks, and none is among them that the gateway does.
    #[error("the server speaks no revision that the gateway does")]
    NoCommonRevision,
    /// `initialize` settled on another revision than the one the server is held to.
    #[error("the server offers revision {offered} and is held to {}", .held_to.as_str())]
    OtherRevision {
        /// What it settled on, cut to what a message should hold.
        offered: Box<str>,
        /// What it is held to.
        held_to: Revision,
    },
    /// The answer is longer than allowed.
    #[error("the server's answer is longer than allowed")]
    TooLarge,
    /// The gateway has no memory left for the answer.
    #[error(transparent)]
    NoMemory(#[from] Full),
    /// The answer was cut off.
    #[error("the server's answer was cut off")]
    CutOff,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The gateway's own credential for the server cannot be read: without it nothing is sent.
    #[error("the credential for the server cannot be read")]
    NoCredential,
    /// The client answered a question of the server with an error, or not at all.
    #[error("the client did not answer what the server asked")]
    Unanswered,
    /// What somebody else was told a moment ago, or while this one waited.
    #[error(transparent)]
    Shared(Arc<Failure>),
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Connect(error @ ConnectError::PinLost(..)) => {
                tracing::info!(%error, "a server's session is lost");
                Self::SessionLost
            }
            error => Self::Exchange(error),
        }
    }
}

impl Failure {
    /// What the client is told.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Shared(failure) => failure.cause(),
            Self::Exchange(_)
            | Self::SessionLost
            | Self::Status(..)
            | Self::NoCommonRevision
            | Self::NoCredential
            | Self::OtherRevision { .. }
            | Self::CutOff => Cause::UpstreamUnavailable,
            Self::Invalid(_) => Cause::UpstreamInvalid,
            Self::TooLarge => Cause::ResponseTooLarge,
            Self::NoMemory(full) => (*full).into(),
            Self::Timeout => Cause::UpstreamTimeout,
            Self::Unanswered => Cause::Unexpected("the server needs an answer that you did not give"),
        }
    }

    /// How it counts in metrics.
    pub fn outcome(&self) -> UpstreamOutcome {
        match self {
            Self::Shared(failure) => failure.outcome(),
            Self::Exchange(ExchangeError::Connect(_)) | Self::NoCredential => UpstreamOutcome::ConnectFailed,
            Self::Timeout => UpstreamOutcome::Timeout,
            Self::NoMemory(_) => UpstreamOutcome::Shed,
            Self::Unanswered => UpstreamOutcome::Cancelled,
            Self::Status(..) | Self::SessionLost => UpstreamOutcome::HttpError,
            Self::Exchange(ExchangeError::Broken(..))
            | Self::Invalid(_)
            | Self::NoCommonRevision
            | Self::OtherRevision { .. }
            | Self::TooLarge
            | Self::CutOff => UpstreamOutcome::Invalid,
        }
    }

    /// What it says about the server's health. A server that answers, however it refuses, is alive.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Shared(failure) => failure.blame(),
            Self::Exchange(ExchangeError::Connect(_)) => Blame::Server,
            Self::Exchange(ExchangeError::Broken(..)) | Self::Invalid(_) | Self::CutOff | Self::Timeout => {
                Blame::Call
            }
            Self::Status(status, _) if status.is_server_error() => Blame::Call,
            Self::Status(..)
            | Self::SessionLost
            | Self::NoCommonRevision
            | Self::OtherRevision { .. }
            | Self::TooLarge
            | Self::NoMemory(_)
            | Self::NoCredential
            | Self::Unanswered => Blame::Nobody,
        }
    }

    /// Does the server refuse what the gateway has shown it?
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::Shared(failure) => failure.is_unauthorized(),
            Self::Status(status, _) => *status == StatusCode::UNAUTHORIZED,
            _ => false,
        }
    }

    /// Does the server say that it does not have what it was asked for: that method, or a stream of its own? Asking again soon
    /// is of no use then. (Everything else, a refused credential or a server that is busy, passes.)
    pub fn is_unknown_there(&self) -> bool {
        match self {
            Self::Status(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _) => true,
            Self::Status(_, Some(answer)) => answer.integer(Member::ErrorCode) == Some(-32_601),
            _ => false,
        }
    }

    /// Was the message surely not processed, so that it may be sent again?
    pub const fn is_unprocessed(&self) -> bool {
        matches!(
            self,
            Self::SessionLost | Self::Exchange(ExchangeError::Connect(_))
        )
    }
}
