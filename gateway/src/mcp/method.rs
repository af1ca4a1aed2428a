//! Methods of all revisions, and what the gateway needs to know about each.

use super::revision::Era;
use super::scan::Member;

/// Who sends it, and whether it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A request to a server.
    ClientRequest,
    /// A notification to a server.
    ClientNotification,
    /// A request to a client (session era).
    ServerRequest,
    /// A notification to a client.
    ServerNotification,
    /// A request either way.
    AnyRequest,
    /// A notification either way.
    AnyNotification,
}

/// What becomes of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// The gateway answers it without asking a server.
    Own,
    /// Every server behind the endpoint is asked, and the answers are merged.
    Merged,
    /// It goes to the one server it names, by tool, prompt, resource or task.
    Relayed,
    /// It goes to whoever handles the request it is about.
    Routed,
    /// Clients do not send it.
    None,
}

macro_rules! methods {
    ($($method:ident $name:literal $role:ident $era:expr, $handling:ident $source:expr;)+) => {
        /// A method the gateway knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $method,)+
            /// Any other.
            Other,
        }

        impl Method {
            /// Every method with a name.
            pub const KNOWN: &[Self] = &[$(Self::$method,)+];

            /// The method with exactly that name.
            pub fn from_name(name: &[u8]) -> Self {
                $(if name == $name.as_bytes() {
                    return Self::$method;
                })+
                Self::Other
            }

            /// Its name, as labels and logs show it: of an unknown method never what the client wrote.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)+
                    Self::Other => "other",
                }
            }

            const fn facts(self) -> (Role, Option<Era>, Handling, Option<Member>) {
                match self {
                    $(Self::$method => (Role::$role, $era, Handling::$handling, $source),)+
                    Self::Other => (Role::AnyRequest, None, Handling::None, None),
                }
            }
        }
    };
}

const BOTH: Option<Era> = None;
const SESSION: Option<Era> = Some(Era::Session);
const STATELESS: Option<Era> = Some(Era::Stateless);

// Name, sender, era (BOTH: either), what becomes of it, and which member `Mcp-Name` repeats.
// The most frequent stand first: names are compared in this order.
methods! {
    ToolsCall "tools/call" ClientRequest BOTH, Relayed Some(Member::Name);
    ToolsList "tools/list" ClientRequest BOTH, Merged None;
    Progress "notifications/progress" AnyNotification BOTH, Routed None;
    Ping "ping" AnyRequest SESSION, Own None;
    Initialize "initialize" ClientRequest SESSION, Own None;
    Initialized "notifications/initialized" ClientNotification SESSION, Own None;
    Discover "server/discover" ClientRequest STATELESS, Own None;
    Cancelled "notifications/cancelled" AnyNotification BOTH, Routed None;
    PromptsList "prompts/list" ClientRequest BOTH, Merged None;
    PromptsGet "prompts/get" ClientRequest BOTH, Relayed Some(Member::Name);
    ResourcesList "resources/list" ClientRequest BOTH, Merged None;
    ResourcesTemplatesList "resources/templates/list" ClientRequest BOTH, Merged None;
    ResourcesRead "resources/read" ClientRequest BOTH, Relayed Some(Member::Uri);
    ResourcesSubscribe "resources/subscribe" ClientRequest SESSION, Relayed None;
    ResourcesUnsubscribe "resources/unsubscribe" ClientRequest SESSION, Relayed None;
    CompletionComplete "completion/complete" ClientRequest BOTH, Relayed None;
    LoggingSetLevel "logging/setLevel" ClientRequest SESSION, Own None;
    SubscriptionsListen "subscriptions/listen" ClientRequest STATELESS, Merged None;
    TasksGet "tasks/get" ClientRequest BOTH, Relayed Some(Member::TaskId);
    TasksUpdate "tasks/update" ClientRequest STATELESS, Relayed Some(Member::TaskId);
    TasksCancel "tasks/cancel" ClientRequest BOTH, Relayed Some(Member::TaskId);
    TasksResult "tasks/result" ClientRequest SESSION, Relayed None;
    TasksList "tasks/list" ClientRequest SESSION, Merged None;
    RootsListChanged "notifications/roots/list_changed" ClientNotification SESSION, Routed None;
    SamplingCreateMessage "sampling/createMessage" ServerRequest SESSION, None None;
    ElicitationCreate "elicitation/create" ServerRequest SESSION, None None;
    RootsList "roots/list" ServerRequest SESSION, None None;
    LogMessage "notifications/message" ServerNotification BOTH, None None;
    ToolsListChanged "notifications/tools/list_changed" ServerNotification BOTH, None None;
    PromptsListChanged "notifications/prompts/list_changed" ServerNotification BOTH, None None;
    ResourcesListChanged "notifications/resources/list_changed" ServerNotification BOTH, None None;
    ResourcesUpdated "notifications/resources/updated" ServerNotification BOTH, None None;
    ElicitationComplete "notifications/elicitation/complete" ServerNotification SESSION, None None;
    SubscriptionsAcknowledged "notifications/subscriptions/acknowledged" ServerNotification STATELESS, None None;
    TasksStatus "notifications/tasks/status" AnyNotification SESSION, Routed None;
    Tasks "notifications/tasks" ServerNotification STATELESS, None None;
}

impl Method {
    /// Whether it exists in that era.
    pub fn exists_in(self, era: Era) -> bool {
        self != Self::Other && self.facts().1.is_none_or(|only| only == era)
    }

    /// Who sends it.
    pub const fn role(self) -> Role {
        self.facts().0
    }

    /// What becomes of it when a client sends it.
    pub const fn handling(self) -> Handling {
        self.facts().2
    }

    /// Whether a client may send it as a request.
    pub const fn is_client_request(self) -> bool {
        matches!(self.role(), Role::ClientRequest | Role::AnyRequest) && !matches!(self, Self::Other)
    }

    /// Whether a client may send it as a notification.
    pub const fn is_client_notification(self) -> bool {
        matches!(self.role(), Role::ClientNotification | Role::AnyNotification)
    }

    /// The member of `params` that the `Mcp-Name` header repeats (stateless era).
    pub const fn name_source(self) -> Option<Member> {
        self.facts().3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_kinds_agree_with_them() {
        for &method in Method::KNOWN {
            assert_eq!(Method::from_name(method.as_str().as_bytes()), method);
            let notification = matches!(
                method.role(),
                Role::ClientNotification | Role::ServerNotification | Role::AnyNotification
            );
            assert_eq!(
                notification,
                method.as_str().starts_with("notifications/"),
                "{method:?}"
            );
            let sent = method.is_client_request() || method.is_client_notification();
            assert_eq!(sent, method.handling() != Handling::None, "{method:?}");
        }
        for name in ["", "tools/Call", "tools/call ", "other"] {
            assert_eq!(Method::from_name(name.as_bytes()), Method::Other);
        }
    }

    #[test]
    fn what_the_stateless_era_dropped_does_not_exist_there() {
        use Method::{Initialize, LoggingSetLevel, Ping, ResourcesSubscribe, ResourcesUnsubscribe};
        for method in [
            Initialize,
            Ping,
            LoggingSetLevel,
            ResourcesSubscribe,
            ResourcesUnsubscribe,
        ] {
            assert!(
                method.exists_in(Era::Session) && !method.exists_in(Era::Stateless),
                "{method:?}"
            );
        }
        assert!(!Method::Discover.exists_in(Era::Session));
        assert!(!Method::Other.exists_in(Era::Session) && !Method::Other.exists_in(Era::Stateless));
    }
}
