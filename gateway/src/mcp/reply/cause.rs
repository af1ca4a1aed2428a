//! Why something is refused, and everything that follows from it: status, code, message, label.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

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
    /// This replica is ending.
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
    /// The tool is allowed to those with more scopes.
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
    /// The server cannot be reached, or its circuit is open.
    UpstreamUnavailable,
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

/// What kind of refusal it is, which decides the HTTP status of the session era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of HTTP or of the protocol: keeps its status in both eras.
    Protocol,
    /// By policy, limit or availability: a session-era client gets it as an ordinary answer with status 200, because
    /// client libraries give up the whole session on any other.
    Refusal,
}

/// One line of the table: what follows from a cause.
struct Facts {
    status: StatusCode,
    code: i32,
    class: Class,
    reason: &'static str,
    message: &'static str,
}

const fn facts(
    status: StatusCode,
    code: i32,
    class: Class,
    reason: &'static str,
    message: &'static str,
) -> Facts {
    Facts {
        status,
        code,
        class,
        reason,
        message,
    }
}

/// Codes of our own are -31000 minus the HTTP status: outside the range that JSON-RPC and MCP keep for themselves.
const fn own(status: StatusCode) -> i32 {
    -31_000 - status.as_u16() as i32
}

const PARSE: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;
const METHOD_NOT_FOUND: i32 = -32_601;
const INVALID_PARAMS: i32 = -32_602;
const INTERNAL: i32 = -32_603;
const HEADER_MISMATCH: i32 = -32_020;
const UNSUPPORTED_VERSION: i32 = -32_022;

impl Cause {
    #[allow(clippy::too_many_lines, reason = "it is a table")]
    const fn facts(&self) -> Facts {
        use Class::{Protocol, Refusal};
        use StatusCode as S;
        match self {
            Self::HostNotAllowed => facts(
                S::FORBIDDEN,
                own(S::FORBIDDEN),
                Protocol,
                "host_not_allowed",
                "The Host header names a host that this gateway does not serve. Use the URL you were given for it.",
            ),
            Self::OriginNotAllowed => facts(
                S::FORBIDDEN,
                own(S::FORBIDDEN),
                Protocol,
                "origin_not_allowed",
                "Requests from web pages of this origin are not allowed.",
            ),
            Self::TooManyFailures { .. } => facts(
                S::TOO_MANY_REQUESTS,
                own(S::TOO_MANY_REQUESTS),
                Protocol,
                "too_many_failures",
                "Too many failed attempts to authenticate from this address. Check the credential, wait, then try again.",
            ),
            Self::Overloaded => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Refusal,
                "overloaded",
                "The gateway has as many requests in flight as it may. Try again shortly.",
            ),
            Self::Draining => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Refusal,
                "draining",
                "This replica of the gateway is shutting down. Try again; another one will answer.",
            ),
            Self::Suspended => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Refusal,
                "suspended",
                "The gateway is suspended by its administrator. Retrying does not help until that ends.",
            ),
            Self::Unauthenticated => facts(
                S::UNAUTHORIZED,
                own(S::UNAUTHORIZED),
                Protocol,
                "unauthenticated",
                "A valid credential is required. WWW-Authenticate says where to get one.",
            ),
            Self::KeysNotReady => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Protocol,
                "keys_not_ready",
                "The token cannot be checked yet because the issuer's keys have not been fetched. Try again shortly.",
            ),
            Self::NotFound => facts(
                S::NOT_FOUND,
                own(S::NOT_FOUND),
                Protocol,
                "not_found",
                "Nothing is served here.",
            ),
            Self::MethodNotAllowed { .. } => facts(
                S::METHOD_NOT_ALLOWED,
                own(S::METHOD_NOT_ALLOWED),
                Protocol,
                "method_not_allowed",
                "This path does not take this HTTP method. Allow lists those it takes.",
            ),
            Self::UnsupportedMediaType => facts(
                S::UNSUPPORTED_MEDIA_TYPE,
                own(S::UNSUPPORTED_MEDIA_TYPE),
                Protocol,
                "unsupported_media_type",
                "Content-Type must be application/json, in UTF-8 and without Content-Encoding.",
            ),
            Self::NotAcceptable => facts(
                S::NOT_ACCEPTABLE,
                own(S::NOT_ACCEPTABLE),
                Protocol,
                "not_acceptable",
                "Accept must list both application/json and text/event-stream (text/event-stream for GET).",
            ),
            Self::BodyTooLarge => facts(
                S::PAYLOAD_TOO_LARGE,
                own(S::PAYLOAD_TOO_LARGE),
                Protocol,
                "body_too_large",
                "The request's body is longer than this gateway allows. Send less at once.",
            ),
            Self::HeaderTooLarge => facts(
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                own(S::REQUEST_HEADER_FIELDS_TOO_LARGE),
                Protocol,
                "header_too_large",
                "The request's headers are longer than this gateway allows.",
            ),
            Self::BodyTimeout => facts(
                S::REQUEST_TIMEOUT,
                own(S::REQUEST_TIMEOUT),
                Protocol,
                "body_timeout",
                "The request's body did not arrive in time.",
            ),
            Self::BodyIncomplete => facts(
                S::BAD_REQUEST,
                own(S::BAD_REQUEST),
                Protocol,
                "body_incomplete",
                "The request's body ended early.",
            ),
            Self::Malformed(fault) if fault.is_parse_error() => facts(
                S::BAD_REQUEST,
                PARSE,
                Protocol,
                "parse_error",
                "The body is not valid JSON in UTF-8.",
            ),
            Self::Malformed(_) => facts(
                S::BAD_REQUEST,
                INVALID_REQUEST,
                Protocol,
                "invalid_request",
                "The body is not a JSON-RPC message that MCP allows",
            ),
            Self::BatchNotAllowed => facts(
                S::BAD_REQUEST,
                INVALID_REQUEST,
                Protocol,
                "batch_not_allowed",
                "Batches exist in sessions of revision 2025-03-26 only. Send one message per request.",
            ),
            Self::Unexpected(_) => facts(
                S::BAD_REQUEST,
                INVALID_REQUEST,
                Protocol,
                "unexpected_message",
                "This message does not belong here",
            ),
            Self::HeaderMismatch { .. } => facts(
                S::BAD_REQUEST,
                HEADER_MISMATCH,
                Protocol,
                "header_mismatch",
                "Header mismatch",
            ),
            Self::UnsupportedVersion { .. } => facts(
                S::BAD_REQUEST,
                UNSUPPORTED_VERSION,
                Protocol,
                "unsupported_version",
                "This protocol version is not supported. Use one of data.supported.",
            ),
            Self::MissingMeta { .. } => facts(
                S::BAD_REQUEST,
                INVALID_PARAMS,
                Protocol,
                "missing_meta",
                "params._meta is missing a key that every request of this protocol version carries, or it is malformed",
            ),
            Self::InvalidParams { .. } => facts(
                S::OK,
                INVALID_PARAMS,
                Protocol,
                "invalid_params",
                "Invalid params",
            ),
            Self::InvalidCursor => facts(
                S::OK,
                INVALID_PARAMS,
                Protocol,
                "invalid_cursor",
                "This cursor is not valid here or has expired. Start again from the first page.",
            ),
            Self::SessionMissing => facts(
                S::BAD_REQUEST,
                own(S::BAD_REQUEST),
                Protocol,
                "session_missing",
                "The Mcp-Session-Id header is missing. Send initialize first, then repeat the id it was answered with.",
            ),
            Self::SessionUnknown => facts(
                S::NOT_FOUND,
                own(S::NOT_FOUND),
                Protocol,
                "session_unknown",
                "This session does not exist or has ended. Send initialize to open a new one.",
            ),
            Self::SessionLimit => facts(
                S::TOO_MANY_REQUESTS,
                own(S::TOO_MANY_REQUESTS),
                Refusal,
                "session_limit",
                "This principal has as many open sessions as it may. End some with DELETE, or reuse one.",
            ),
            Self::SessionTooLarge => facts(
                S::BAD_REQUEST,
                own(S::BAD_REQUEST),
                Refusal,
                "session_too_large",
                "What initialize declares is too long to be kept in a session id. Shorten clientInfo.",
            ),
            Self::MethodUnknown => facts(
                S::NOT_FOUND,
                METHOD_NOT_FOUND,
                Refusal,
                "method_unknown",
                "This method does not exist here.",
            ),
            Self::ToolUnknown { .. } | Self::ToolForbidden { .. } => {
                facts(S::OK, INVALID_PARAMS, Refusal, "tool_unknown", "Unknown tool")
            }
            Self::InsufficientScope { .. } => facts(
                S::FORBIDDEN,
                own(S::FORBIDDEN),
                Protocol,
                "insufficient_scope",
                "The token lacks a scope that this tool needs. Get a token with all of data.scopes, then try again.",
            ),
            Self::RateLimited { .. } => facts(
                S::TOO_MANY_REQUESTS,
                own(S::TOO_MANY_REQUESTS),
                Refusal,
                "rate_limited",
                "A rate limit is used up. Wait for data.retryAfter seconds, then try again.",
            ),
            Self::UpstreamUnavailable => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Refusal,
                "upstream_unavailable",
                "The MCP server behind this tool cannot be reached at the moment. Try again later.",
            ),
            Self::UpstreamBusy => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Refusal,
                "upstream_busy",
                "The MCP server behind this tool has as many calls in flight as it may. Try again shortly.",
            ),
            Self::UpstreamTimeout => facts(
                S::GATEWAY_TIMEOUT,
                own(S::GATEWAY_TIMEOUT),
                Refusal,
                "upstream_timeout",
                "The MCP server did not answer in time. The call may have taken effect: check before repeating it.",
            ),
            Self::UpstreamInvalid => facts(
                S::BAD_GATEWAY,
                own(S::BAD_GATEWAY),
                Refusal,
                "upstream_invalid",
                "The MCP server's answer was not valid MCP. The call may have taken effect.",
            ),
            Self::ResponseTooLarge => facts(
                S::BAD_GATEWAY,
                own(S::BAD_GATEWAY),
                Refusal,
                "response_too_large",
                "The MCP server's answer was longer than this gateway allows. Ask for less at once.",
            ),
            Self::OwnerLost => facts(
                S::BAD_GATEWAY,
                own(S::BAD_GATEWAY),
                Refusal,
                "owner_lost",
                "The replica that handled this call went away. The call may have taken effect: check before repeating it.",
            ),
            Self::AuditUnavailable => facts(
                S::SERVICE_UNAVAILABLE,
                own(S::SERVICE_UNAVAILABLE),
                Refusal,
                "audit_unavailable",
                "The call was not made because it could not be recorded. Try again later.",
            ),
            Self::Internal => facts(
                S::INTERNAL_SERVER_ERROR,
                INTERNAL,
                Refusal,
                "internal",
                "Something went wrong in the gateway. Its administrator finds the cause in the log.",
            ),
        }
    }

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
            _ => self.reason(),
        }
    }

    /// The word for audit records.
    pub const fn audit_reason(&self) -> &'static str {
        self.label()
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyFailures { retry_after } | Self::RateLimited { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Overloaded | Self::Draining | Self::KeysNotReady | Self::UpstreamBusy => {
                Some(Duration::from_secs(1))
            }
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
