//! The members the gateway reads, and the objects they stand in.

use super::span::Span;

/// An object whose members are looked up by name. Everything else is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The JSON-RPC message.
    Message,
    /// Its `params`.
    Params,
    /// `params._meta`.
    ParamsMeta,
    /// `params.ref`.
    Ref,
    /// Its `result`.
    Result,
    /// `result._meta`.
    ResultMeta,
    /// Its `error`.
    Error,
    /// Any other object: no member is read.
    Other,
}

macro_rules! members {
    ($($level:ident { $($(#[$doc:meta])* $member:ident = $name:literal,)+ })+) => {
        /// A member the gateway reads, named by the object it stands in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Member {
            $($($(#[$doc])* $member,)+)+
        }

        impl Member {
            /// Every member.
            pub const ALL: &[Self] = &[$($(Self::$member,)+)+];

            /// Its key.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$member => $name,)+)+
                }
            }

            /// The object it stands in.
            pub(super) const fn level(self) -> Level {
                match self {
                    $($(Self::$member => Level::$level,)+)+
                }
            }

            /// The member of that object with that key.
            pub(super) fn find(level: Level, key: &[u8]) -> Option<Self> {
                match level {
                    $(Level::$level => {
                        $(if key == $name.as_bytes() {
                            return Some(Self::$member);
                        })+
                        None
                    })+
                    Level::Other => None,
                }
            }
        }

        /// How many members there are.
        const COUNT: usize = [$($(Member::$member,)+)+].len();
    };
}

members! {
    Message {
        /// `jsonrpc`
        JsonRpc = "jsonrpc",
        /// `id`
        Id = "id",
        /// `method`
        Method = "method",
        /// `params`
        Params = "params",
        /// `result`
        Result = "result",
        /// `error`
        Error = "error",
    }
    Params {
        /// `params.name`: of a tool or a prompt.
        Name = "name",
        /// `params.arguments`
        Arguments = "arguments",
        /// `params._meta`
        Meta = "_meta",
        /// `params.uri`: of a resource.
        Uri = "uri",
        /// `params.cursor`
        Cursor = "cursor",
        /// `params.protocolVersion`: what `initialize` asks for.
        ProtocolVersion = "protocolVersion",
        /// `params.capabilities`: of the client that initializes.
        Capabilities = "capabilities",
        /// `params.clientInfo`: of the client that initializes.
        ClientInfo = "clientInfo",
        /// `params.requestId`: what `notifications/cancelled` is about.
        RequestId = "requestId",
        /// `params.progressToken`: what `notifications/progress` is about.
        ProgressToken = "progressToken",
        /// `params.progress`
        Progress = "progress",
        /// `params.level`: of `logging/setLevel`.
        LogLevel = "level",
        /// `params.taskId`
        TaskId = "taskId",
        /// `params.requestState`: of a retry.
        RequestState = "requestState",
        /// `params.inputResponses`: of a retry.
        InputResponses = "inputResponses",
        /// `params.notifications`: the filter of `subscriptions/listen`.
        Notifications = "notifications",
        /// `params.ref`: what `completion/complete` is about.
        Ref = "ref",
    }
    Ref {
        /// `params.ref.type`
        RefType = "type",
        /// `params.ref.name`: of a prompt.
        RefName = "name",
        /// `params.ref.uri`: of a resource template, or of a resource.
        RefUri = "uri",
    }
    ParamsMeta {
        /// `params._meta.progressToken`: asks for progress.
        MetaProgressToken = "progressToken",
        /// `params._meta` protocol version: the claim to be stateless.
        MetaProtocolVersion = "io.modelcontextprotocol/protocolVersion",
        /// `params._meta` client capabilities, for this request.
        MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities",
        /// `params._meta` client info.
        MetaClientInfo = "io.modelcontextprotocol/clientInfo",
        /// `params._meta` least level of `notifications/message`.
        MetaLogLevel = "io.modelcontextprotocol/logLevel",
        /// `params._meta` id of the `subscriptions/listen` a notification belongs to.
        MetaSubscriptionId = "io.modelcontextprotocol/subscriptionId",
        /// `params._meta.traceparent` (W3C Trace Context).
        MetaTraceparent = "traceparent",
    }
    Result {
        /// `result.resultType`
        ResultType = "resultType",
        /// `result.content`: of a tool call.
        ResultContent = "content",
        /// `result.isError`: of a tool call.
        ResultIsError = "isError",
        /// `result.nextCursor`
        ResultNextCursor = "nextCursor",
        /// `result.tools`
        ResultTools = "tools",
        /// `result.prompts`
        ResultPrompts = "prompts",
        /// `result.resources`
        ResultResources = "resources",
        /// `result.resourceTemplates`
        ResultTemplates = "resourceTemplates",
        /// `result.protocolVersion`: what `initialize` settles on.
        ResultProtocolVersion = "protocolVersion",
        /// `result.supportedVersions`: of `server/discover`.
        ResultSupportedVersions = "supportedVersions",
        /// `result.capabilities`: of the server.
        ResultCapabilities = "capabilities",
        /// `result.serverInfo`: of `initialize`.
        ResultServerInfo = "serverInfo",
        /// `result.instructions`
        ResultInstructions = "instructions",
        /// `result.ttlMs`
        ResultTtl = "ttlMs",
        /// `result.cacheScope`
        ResultCacheScope = "cacheScope",
        /// `result.requestState`: of an `input_required` result.
        ResultRequestState = "requestState",
        /// `result.inputRequests`: of an `input_required` result.
        ResultInputRequests = "inputRequests",
        /// `result._meta`
        ResultMeta = "_meta",
    }
    ResultMeta {
        /// `result._meta` server info.
        ResultMetaServerInfo = "io.modelcontextprotocol/serverInfo",
    }
    Error {
        /// `error.code`
        ErrorCode = "code",
        /// `error.message`
        ErrorMessage = "message",
        /// `error.data`
        ErrorData = "data",
    }
}

impl Member {
    /// The member whose object it stands in; none for the message's own.
    pub const fn within(self) -> Option<Self> {
        match self.level() {
            Level::Message | Level::Other => None,
            Level::Params => Some(Self::Params),
            Level::ParamsMeta => Some(Self::Meta),
            Level::Ref => Some(Self::Ref),
            Level::Result => Some(Self::Result),
            Level::ResultMeta => Some(Self::ResultMeta),
            Level::Error => Some(Self::Error),
        }
    }
}

impl Level {
    /// What the object at this member of an object of this level is.
    pub(super) fn of(member: Option<Member>) -> Self {
        match member {
            Some(Member::Params) => Self::Params,
            Some(Member::Meta) => Self::ParamsMeta,
            Some(Member::Ref) => Self::Ref,
            Some(Member::Result) => Self::Result,
            Some(Member::ResultMeta) => Self::ResultMeta,
            Some(Member::Error) => Self::Error,
            _ => Self::Other,
        }
    }

    /// Whether a key is another spelling of one that is read here: equal but for case, as some parsers compare
    /// (Go's, with its two letters outside ASCII that fold to one inside). Such a parser would take it for the real one.
    pub(super) fn is_imitated_by(self, key: &[u8]) -> bool {
        Member::ALL
            .iter()
            .any(|member| member.level() == self && folds_to(key, member.name().as_bytes()))
    }
}

/// Whether `key` equals the ASCII `name` under Unicode's simple case folding.
fn folds_to(key: &[u8], name: &[u8]) -> bool {
    let mut rest = key;
    for want in name {
        let folded = match rest {
            // U+017F LATIN SMALL LETTER LONG S, U+212A KELVIN SIGN.
            [0xC5, 0xBF, after @ ..] => (b's', after),
            [0xE2, 0x84, 0xAA, after @ ..] => (b'k', after),
            [byte, after @ ..] => (byte.to_ascii_lowercase(), after),
            [] => return false,
        };
        if folded.0 != want.to_ascii_lowercase() {
            return false;
        }
        rest = folded.1;
    }
    rest.is_empty()
}

/// Where each member stands, if it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members([Option<Span>; COUNT]);

impl Members {
    /// None of them.
    pub const fn none() -> Self {
        Self([None; COUNT])
    }

    /// Where `member`'s value stands.
    pub fn get(&self, member: Member) -> Option<Span> {
        self.0.get(member as usize).copied().flatten()
    }

    pub(super) fn set(&mut self, member: Member, span: Option<Span>) {
        if let Some(slot) = self.0.get_mut(member as usize) {
            *slot = span;
        }
    }

    /// The same places counted from `origin`.
    pub(super) fn rebase(&mut self, origin: usize) {
        if origin > 0 {
            for span in &mut self.0 {
                *span = span.and_then(|span| span.relative_to(origin));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_found_at_its_own_level_only() {
        let levels = [
            Level::Message,
            Level::Params,
            Level::ParamsMeta,
            Level::Ref,
            Level::Result,
            Level::ResultMeta,
            Level::Error,
            Level::Other,
        ];
        for &member in Member::ALL {
            for level in levels {
                let found = Member::find(level, member.name().as_bytes());
                assert_eq!(
                    found == Some(member),
                    level == member.level(),
                    "{member:?} {level:?}"
                );
            }
        }
    }

    #[test]
    fn a_members_object_is_that_of_its_level() {
        for &member in Member::ALL {
            let level = member
                .within()
                .map_or(Level::Message, |holder| Level::of(Some(holder)));
            assert_eq!(level, member.level(), "{member:?}");
        }
    }

    #[test]
    fn imitations_differ_in_case_alone() {
        assert!(Level::Params.is_imitated_by(b"Name"));
        assert!(Level::Params.is_imitated_by("argumentſ".as_bytes()));
        assert!(Level::ParamsMeta.is_imitated_by("progressTo\u{212A}en".as_bytes()));
        assert!(Level::Message.is_imitated_by(b"METHOD"));
        assert!(Level::Ref.is_imitated_by(b"Name"));
        assert!(!Level::Params.is_imitated_by(b"names"));
        assert!(!Level::Params.is_imitated_by(b"nam"));
        assert!(!Level::Other.is_imitated_by(b"Name"));
        assert!(!Level::Params.is_imitated_by(b"Method"));
    }
}
