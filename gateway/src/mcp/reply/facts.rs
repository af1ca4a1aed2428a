//! The table of causes: what each one is answered with.

use http::StatusCode;

use super::cause::Cause;
use crate::mcp::revision::Era;

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
pub(super) struct Facts {
    pub(super) status: StatusCode,
    pub(super) code: i32,
    pub(super) class: Class,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

const PARSE: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;
const METHOD_NOT_FOUND: i32 = -32_601;
const INVALID_PARAMS: i32 = -32_602;
const INTERNAL: i32 = -32_603;
const RESOURCE_NOT_FOUND: i32 = -32_002;
const HEADER_MISMATCH: i32 = -32_020;
const MISSING_CAPABILITY: i32 = -32_021;
const UNSUPPORTED_VERSION: i32 = -32_022;

/// A refusal with a code that JSON-RPC or MCP defines.
const fn standard(
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
const fn own(status: StatusCode, class: Class, reason: &'static str, message: &'static str) -> Facts {
    standard(status, -31_000 - status.as_u16() as i32, class, reason, message)
}

/// Refused by HTTP or by the protocol.
const fn rejected(status: StatusCode, reason: &'static str, message: &'static str) -> Facts {
    own(status, Class::Protocol, reason, message)
}

/// Refused by policy, limit or availability.
const fn refusal(status: StatusCode, reason: &'static str, message: &'static str) -> Facts {
    own(status, Class::Refusal, reason, message)
}

impl Cause {
    #[allow(clippy::too_many_lines, reason = "it is a table")]
    pub(super) const fn facts(&self) -> Facts {
        use Class::{Protocol, Refusal};
        use StatusCode as S;
        match self {
            Self::HostNotAllowed => rejected(
                S::FORBIDDEN,
                "host_not_allowed",
                "The Host header names a host that this gateway does not serve. Use the URL you were given for it.",
            ),
            Self::OriginNotAllowed => rejected(
                S::FORBIDDEN,
                "origin_not_allowed",
                "Requests from web pages of this origin are not allowed.",
            ),
            Self::TooManyFailures { .. } => rejected(
                S::TOO_MANY_REQUESTS,
                "too_many_failures",
                "Too many failed attempts to authenticate from this address. Check the credential, wait, then try again.",
            ),
            Self::Overloaded => refusal(
                S::SERVICE_UNAVAILABLE,
                "overloaded",
                "The gateway has as many requests in flight as it may. Try again shortly.",
            ),
            Self::Draining => refusal(
                S::SERVICE_UNAVAILABLE,
                "draining",
                "This replica of the gateway is shutting down. The call may have taken effect: check before repeating it.",
            ),
            Self::Suspended => refusal(
                S::SERVICE_UNAVAILABLE,
                "suspended",
                "The gateway is suspended by its administrator. Retrying does not help until that ends.",
            ),
            Self::Unauthenticated => rejected(
                S::UNAUTHORIZED,
                "unauthenticated",
                "A valid credential is required. WWW-Authenticate says where to get one.",
            ),
            Self::KeysNotReady => rejected(
                S::SERVICE_UNAVAILABLE,
                "keys_not_ready",
                "The token cannot be checked yet because the issuer's keys have not been fetched. Try again shortly.",
            ),
            Self::NotFound => rejected(S::NOT_FOUND, "not_found", "Nothing is served here."),
            Self::MethodNotAllowed { .. } => rejected(
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This path does not take this HTTP method. Allow lists those it takes.",
            ),
            Self::UnsupportedMediaType => rejected(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Content-Type must be application/json, in UTF-8 and without Content-Encoding.",
            ),
            Self::NotAcceptable => rejected(
                S::NOT_ACCEPTABLE,
                "not_acceptable",
                "Accept must list both application/json and text/event-stream (text/event-stream for GET).",
            ),
            Self::BodyTooLarge => rejected(
                S::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The request's body is longer than this gateway allows. Send less at once.",
            ),
            Self::HeaderTooLarge => rejected(
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "header_too_large",
                "The request's headers are longer than this gateway allows.",
            ),
            Self::BodyTimeout => rejected(
                S::REQUEST_TIMEOUT,
                "body_timeout",
                "The request's body did not arrive in time.",
            ),
            Self::BodyIncomplete => rejected(
                S::BAD_REQUEST,
                "body_incomplete",
                "The request's body ended early.",
            ),
            Self::Malformed(fault) if fault.is_parse_error() => standard(
                S::BAD_REQUEST,
                PARSE,
                Protocol,
                "parse_error",
                "The body is not valid JSON in UTF-8.",
            ),
            Self::Malformed(_) => standard(
                S::BAD_REQUEST,
                INVALID_REQUEST,
                Protocol,
                "invalid_request",
                "The body is not a JSON-RPC message that MCP allows",
            ),
            Self::BatchNotAllowed => standard(
                S::BAD_REQUEST,
                INVALID_REQUEST,
                Protocol,
                "batch_not_allowed",
                "Batches exist in sessions of revision 2025-03-26 only. Send one message per request.",
            ),
            Self::Unexpected(_) => standard(
                S::BAD_REQUEST,
                INVALID_REQUEST,
                Protocol,
                "unexpected_message",
                "This message does not belong here",
            ),
            Self::HeaderMismatch { .. } => standard(
                S::BAD_REQUEST,
                HEADER_MISMATCH,
                Protocol,
                "header_mismatch",
                "Header mismatch",
            ),
            Self::UnsupportedVersion { .. } => standard(
                S::BAD_REQUEST,
                UNSUPPORTED_VERSION,
                Protocol,
                "unsupported_version",
                "This protocol version is not supported. Use one of data.supported.",
            ),
            Self::MissingMeta { .. } => standard(
                S::BAD_REQUEST,
                INVALID_PARAMS,
                Protocol,
                "missing_meta",
                "params._meta is missing a key that every request of this protocol version carries, or it is malformed",
            ),
            Self::MissingExtension { .. } => standard(
                S::BAD_REQUEST,
                MISSING_CAPABILITY,
                Protocol,
                "missing_capability",
                "The request does not declare a capability that it needs. data.requiredCapabilities has it.",
            ),
            Self::InvalidParams { .. } => standard(
                S::OK,
                INVALID_PARAMS,
                Protocol,
                "invalid_params",
                "Invalid params",
            ),
            Self::InvalidCursor => standard(
                S::OK,
                INVALID_PARAMS,
                Protocol,
                "invalid_cursor",
                "This cursor is not valid here or has expired. Start again from the first page.",
            ),
            Self::SessionMissing => rejected(
                S::BAD_REQUEST,
                "session_missing",
                "The Mcp-Session-Id header is missing. Send initialize first, then repeat the id it was answered with.",
            ),
            Self::SessionUnknown => rejected(
                S::NOT_FOUND,
                "session_unknown",
                "This session does not exist or has ended. Send initialize to open a new one.",
            ),
            Self::SessionLimit => refusal(
                S::TOO_MANY_REQUESTS,
                "session_limit",
                "This principal has as many open sessions as it may. End some with DELETE, or reuse one.",
            ),
            Self::StreamLimit => refusal(
                S::TOO_MANY_REQUESTS,
                "stream_limit",
                "This principal has as many open streams as it may. Close some, or ask for more on one.",
            ),
            Self::SessionTooLarge => refusal(
                S::BAD_REQUEST,
                "session_too_large",
                "What initialize declares is too long to be kept in a session id. Shorten clientInfo.",
            ),
            Self::MethodUnknown => standard(
                S::NOT_FOUND,
                METHOD_NOT_FOUND,
                Refusal,
                "method_unknown",
                "This method does not exist here.",
            ),
            Self::ToolUnknown { .. } | Self::ToolForbidden { .. } => {
                standard(S::OK, INVALID_PARAMS, Refusal, "tool_unknown", "Unknown tool")
            }
            Self::PromptUnknown { .. } | Self::PromptForbidden { .. } => {
                standard(S::OK, INVALID_PARAMS, Refusal, "prompt_unknown", "Unknown prompt")
            }
            Self::ResourceUnknown { era, .. } | Self::ResourceForbidden { era, .. } => standard(
                S::OK,
                match era {
                    Era::Session => RESOURCE_NOT_FOUND,
                    Era::Stateless => INVALID_PARAMS,
                },
                Refusal,
                "resource_unknown",
                "Resource not found",
            ),
            Self::InsufficientScope { .. } => rejected(
                S::FORBIDDEN,
                "insufficient_scope",
                "The token lacks a scope that this needs. Get a token with all of data.scopes, then try again.",
            ),
            Self::RateLimited { .. } => refusal(
                S::TOO_MANY_REQUESTS,
                "rate_limited",
                "A rate limit is used up. Wait for data.retryAfter seconds, then try again.",
            ),
            Self::UpstreamUnavailable => refusal(
                S::SERVICE_UNAVAILABLE,
                "upstream_unavailable",
                "The MCP server behind this cannot be reached at the moment. Try again later.",
            ),
            Self::UpstreamFailing { .. } => refusal(
                S::SERVICE_UNAVAILABLE,
                "upstream_failing",
                "The MCP server behind this failed several calls in a row. Wait for data.retryAfter seconds, then try again.",
            ),
            Self::UpstreamBusy => refusal(
                S::SERVICE_UNAVAILABLE,
                "upstream_busy",
                "The MCP server behind this has as many calls in flight as it may. Try again shortly.",
            ),
            Self::UpstreamTimeout => refusal(
                S::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "The MCP server did not answer in time. The call may have taken effect: check before repeating it.",
            ),
            Self::UpstreamInvalid => refusal(
                S::BAD_GATEWAY,
                "upstream_invalid",
                "The MCP server's answer was not valid MCP. The call may have taken effect.",
            ),
            Self::ResponseTooLarge => refusal(
                S::BAD_GATEWAY,
                "response_too_large",
                "The MCP server's answer was longer than this gateway allows. Ask for less at once.",
            ),
            Self::OwnerLost => refusal(
                S::BAD_GATEWAY,
                "owner_lost",
                "The replica that handled this call went away. The call may have taken effect: check before repeating it.",
            ),
            Self::AuditUnavailable => refusal(
                S::SERVICE_UNAVAILABLE,
                "audit_unavailable",
                "The call was not made because it could not be recorded. Try again later.",
            ),
            Self::Internal => standard(
                S::INTERNAL_SERVER_ERROR,
                INTERNAL,
                Refusal,
                "internal",
                "Something went wrong in the gateway. Its administrator finds the cause in the log.",
            ),
        }
    }
}
