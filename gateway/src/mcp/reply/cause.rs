//! Why something is refused, and everything that follows from it: status, code, message, label.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::facts::Class;
use crate::budget::Full;
use crate::mcp::revision::{Era, Revision};
use crate::mcp::scan::Fault;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The Host header names none of the gateway's hosts.
    HostNotAllowed,
    /// A browser page of a foreign origin.
    OriginNotAllowed,
    /// The address has failed to authenticate too often.
    TooManyFailures {
        /// When it may try again.
        retry_after: Duration,
    },
    /// The in-flight cap or the byte budget is used up.
    Overloaded,
    /// This replica is ending, and the call with it.
    Draining,
    /// The gateway refuses all traffic, by configuration.
    Suspended,
    /// No credential, or none that counts.
    Unauthenticated,
    /// The issuer's keys are not there yet.
    KeysNotReady,
    /// Nothing is served here.
    NotFound,
    /// The path does not take this HTTP method.
    MethodNotAllowed {
        /// What it takes, as in `Allow`.
        allow: &'static str,
    },
    /// A body that is not `application/json`.
    UnsupportedMediaType,
    /// The client takes neither of what a server may answer with.
    NotAcceptable,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The headers are longer than allowed.
    HeaderTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body was cut off.
    BodyIncomplete,
    /// The scan refused the body.
    Malformed(Fault),
    /// A batch where the revision has none.
    BatchNotAllowed,
    /// A message that this side of the connection does not send, or not in this form.
    Unexpected(&'static str),
    /// A header is missing, doubled, unreadable, or differs from the body.
    HeaderMismatch {
        /// Which header.
        header: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A revision the gateway does not speak.
    UnsupportedVersion {
        /// As the client wrote it.
        requested: Box<str>,
    },
    /// A stateless request without what `_meta` must carry.
    MissingMeta {
        /// The key that is missing or malformed.
        key: &'static str,
    },
    /// A stateless request that does not declare an extension without which it cannot be served.
    MissingExtension {
        /// Which.
        name: &'static str,
    },
    /// `params` without what the method needs.
    InvalidParams {
        /// What is wrong.
        problem: &'static str,
    },
    /// A cursor that the gateway did not give out here, or that has expired.
    InvalidCursor,
    /// A session-era request without a session id.
    SessionMissing,
    /// A session that never was, has ended, or is another principal's.
    SessionUnknown,
    /// The principal has as many sessions as it may.
    SessionLimit,
    /// The principal has as many streams of news as it may.
    StreamLimit,
    /// What the session id would have to carry does not fit.
    SessionTooLarge,
    /// No such method in this era, or not offered.
    MethodUnknown,
    /// No server has such a tool.
    ToolUnknown {
        /// As the client named it.
        name: Box<str>,
    },
    /// A tool that this principal may not use. Looks exactly like [`Cause::ToolUnknown`] from outside.
    ToolForbidden {
        /// As the client named it.
        name: Box<str>,
        /// The rule that denies it, if one does.
        rule: Option<Arc<str>>,
    },
    /// No server has such a prompt.
    PromptUnknown {
        /// As the client named it.
        name: Box<str>,
    },
    /// A prompt that this principal may not use. Looks exactly like [`Cause::PromptUnknown`] from outside.
    PromptForbidden {
        /// As the client named it.
        name: Box<str>,
        /// The rule that denies it, if one does.
        rule: Option<Arc<str>>,
    },
    /// No server has such a resource.
    ResourceUnknown {
        /// As the client wrote it.
        uri: Box<str>,
        /// The client's era, which decides the code.
        era: Era,
    },
    /// A resource that this principal may not read. Looks exactly like [`Cause::ResourceUnknown`] from outside.
    ResourceForbidden {
        /// As the client wrote it.
        uri: Box<str>,
        /// The client's era, which decides the code.
        era: Era,
        /// The rule that denies it, if one does.
        rule: Option<Arc<str>>,
    },
    /// It is allowed to those with more scopes.
    InsufficientScope {
        /// All that the operation needs.
        scopes: Arc<[Arc<str>]>,
    },
    /// A rate limit is used up.
    RateLimited {
        /// Which.
        rule: Arc<str>,
        /// When there is room again.
        retry_after: Duration,
    },
    /// The server cannot be reached.
    UpstreamUnavailable,
    /// Calls to the server failed one after the other, and this one was not sent.
    UpstreamFailing {
        /// When one is let through again.
        retry_after: Duration,
    },
    /// The server has as many calls in flight as it may.
    UpstreamBusy,
    /// The server did not answer in time.
    UpstreamTimeout,
    /// The server's answer is not MCP.
    UpstreamInvalid,
    /// The server's answer is longer than allowed.
    ResponseTooLarge,
    /// The replica that held the session's moving parts is gone, and with it what was in flight.
    OwnerLost,
    /// The record that policy demands could not be made.
    AuditUnavailable,
    /// A mistake of ours.
    Internal,
}

impl From<Full> for Cause {
    fn from(Full: Full) -> Self {
        Self::Overloaded
    }
}

impl Cause {
    /// The HTTP status. `era` is `None` where it is not known, and for what is no JSON-RPC message (GET, DELETE).
    pub fn http_status(&self, era: Option<Era>) -> StatusCode {
        let facts = self.facts();
        if era == Some(Era::Session) && facts.class == Class::Refusal {
            return StatusCode::OK;
        }
        facts.status
    }

    /// The JSON-RPC error code.
    pub const fn code(&self) -> i32 {
        self.facts().code
    }

    /// Of what kind it is.
    pub const fn class(&self) -> Class {
        self.facts().class
    }

    /// `data.reason`: a word for programs, the same for causes that must look the same.
    pub const fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The word for metrics and audit records, which tell apart what clients must not.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ToolForbidden { .. } => "tool_forbidden",
            Self::PromptForbidden { .. } => "prompt_forbidden",
            Self::ResourceForbidden { .. } => "resource_forbidden",
            _ => self.reason(),
        }
    }

    /// The word for audit records.
    pub const fn audit_reason(&self) -> &'static str {
        self.label()
    }

    /// The rule that forbids it, where it is forbidden.
    pub const fn forbidding_rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::ToolForbidden { rule, .. }
            | Self::PromptForbidden { rule, .. }
            | Self::ResourceForbidden { rule, .. } => rule.as_ref(),
            _ => None,
        }
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyFailures { retry_after }
            | Self::RateLimited { retry_after, .. }
            | Self::UpstreamFailing { retry_after } => Some(*retry_after),
            Self::Overloaded | Self::KeysNotReady | Self::UpstreamBusy => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What happened and what to do, for a person or an agent. Names nothing that lies behind the gateway.
    pub fn message(&self) -> std::borrow::Cow<'static, str> {
        let said = self.facts().message;
        match self {
            Self::Malformed(fault) if !fault.is_parse_error() => format!("{said}: {fault}.").into(),
            Self::Unexpected(what) => format!("{said}: {what}.").into(),
            Self::HeaderMismatch { header, problem } => format!("{said}: {header} {problem}.").into(),
            Self::MissingMeta { key } => format!("{said}: {key}.").into(),
            Self::InvalidParams { problem } => format!("{said}: {problem}.").into(),
            Self::ToolUnknown { name } | Self::ToolForbidden { name, .. } => {
                format!("{said}: {}. tools/list names those there are.", shorten(name)).into()
            }
            Self::PromptUnknown { name } | Self::PromptForbidden { name, .. } => {
                format!("{said}: {}. prompts/list names those there are.", shorten(name)).into()
            }
            Self::ResourceUnknown { uri, .. } | Self::ResourceForbidden { uri, .. } => {
                format!("{said}: {}", shorten(uri)).into()
            }
            _ => said.into(),
        }
    }

    /// Members of `data` besides `reason` and `retryAfter`, as JSON with a comma before each.
    pub(super) fn write_data(&self, out: &mut Vec<u8>) {
        match self {
            Self::UnsupportedVersion { requested } => {
                out.extend_from_slice(b",\"supported\":[");
                for (at, revision) in Revision::SERVED.into_iter().enumerate() {
                    out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
                    out.extend_from_slice(revision.as_str().as_bytes());
                    out.push(b'"');
                }
                out.extend_from_slice(b"],\"requested\":");
                super::json_string(shorten(requested), out);
            }
            Self::HeaderMismatch { header, .. } => {
                out.extend_from_slice(b",\"header\":");
                super::json_string(header, out);
            }
            Self::MissingMeta { key } => {
                out.extend_from_slice(b",\"key\":");
                super::json_string(key, out);
            }
            Self::MissingExtension { name } => {
                out.extend_from_slice(b",\"requiredCapabilities\":{\"extensions\":{");
                super::json_string(name, out);
                out.extend_from_slice(b":{}}}");
            }
            Self::InsufficientScope { scopes } => {
                out.extend_from_slice(b",\"scopes\":[");
                for (at, scope) in scopes.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    super::json_string(scope, out);
                }
                out.push(b']');
            }
            Self::ResourceUnknown { uri, .. } | Self::ResourceForbidden { uri, .. } => {
                out.extend_from_slice(b",\"uri\":");
                super::json_string(shorten(uri), out);
            }
            Self::RateLimited { rule, .. } => {
                out.extend_from_slice(b",\"rule\":");
                super::json_string(rule, out);
            }
            _ => {}
        }
    }
}

/// What a client wrote, cut to what a message should repeat.
fn shorten(text: &str) -> &str {
    const MOST: usize = 128;
    text.char_indices()
        .nth(MOST)
        .and_then(|(end, _)| text.get(..end))
        .unwrap_or(text)
}
