//! The closed sets of label values: whatever comes in on the wire, a metric has one of these.

use super::grid::{Label as _, label};

label! {
    /// What kind of endpoint a request went to.
    EndpointKind {
        /// `/mcp`.
        Federated = "federated",
        /// `/servers/NAME/mcp`.
        Server = "server",
        /// `/sets/NAME/mcp`.
        Set = "set",
        /// Under `/.well-known/` and other fixed documents.
        WellKnown = "well_known",
        /// The load balancers' question whether the gateway is there.
        Health = "health",
        /// The hop from another replica.
        Peer = "peer",
        /// Anything else.
        Other = "other",
    }
}

label! {
    /// How a request ended.
    Outcome {
        /// Answered by the upstream or by us, as asked.
        Ok = "ok",
        /// Answered with the server's own JSON-RPC error. (An error of a tool is a result like any other.)
        UpstreamError = "upstream_error",
        /// No valid credential.
        Unauthenticated = "unauthenticated",
        /// Not permitted, or no such tool.
        Denied = "denied",
        /// Over a limit.
        Limited = "limited",
        /// Not a request we answer: form, version, method, path.
        Invalid = "invalid",
        /// Upstream or we ourselves could not serve it now.
        Unavailable = "unavailable",
        /// The client went away first.
        Cancelled = "cancelled",
    }
}

label! {
    /// MCP methods, so that a client cannot make labels.
    Method {
        /// No MCP message: GET streams, DELETE, documents, unreadable bodies.
        None = "none",
        /// Any method that is not in this list.
        Other = "other",
        /// Several messages at once.
        Batch = "batch",
        /// A client's answer to a server's request.
        Response = "response",
        /// `initialize`
        Initialize = "initialize",
        /// `server/discover`
        Discover = "server/discover",
        /// `ping`
        Ping = "ping",
        /// `tools/list`
        ToolsList = "tools/list",
        /// `tools/call`
        ToolsCall = "tools/call",
        /// `resources/list`
        ResourcesList = "resources/list",
        /// `resources/templates/list`
        ResourceTemplatesList = "resources/templates/list",
        /// `resources/read`
        ResourcesRead = "resources/read",
        /// `resources/subscribe`
        ResourcesSubscribe = "resources/subscribe",
        /// `resources/unsubscribe`
        ResourcesUnsubscribe = "resources/unsubscribe",
        /// `prompts/list`
        PromptsList = "prompts/list",
        /// `prompts/get`
        PromptsGet = "prompts/get",
        /// `completion/complete`
        Complete = "completion/complete",
        /// `logging/setLevel`
        SetLevel = "logging/setLevel",
        /// `subscriptions/listen`
        Listen = "subscriptions/listen",
        /// `tasks/get`
        TasksGet = "tasks/get",
        /// `tasks/update`
        TasksUpdate = "tasks/update",
        /// `tasks/list`
        TasksList = "tasks/list",
        /// `tasks/result`
        TasksResult = "tasks/result",
        /// `tasks/cancel`
        TasksCancel = "tasks/cancel",
        /// `notifications/initialized`
        Initialized = "notifications/initialized",
        /// `notifications/cancelled`
        Cancelled = "notifications/cancelled",
        /// `notifications/progress`
        Progress = "notifications/progress",
        /// `notifications/roots/list_changed`
        RootsListChanged = "notifications/roots/list_changed",
        /// `elicitation/create`, of a server
        Elicit = "elicitation/create",
        /// `sampling/createMessage`, of a server
        Sample = "sampling/createMessage",
        /// `roots/list`, of a server
        RootsList = "roots/list",
        /// A client's own stream (GET).
        Stream = "GET",
    }
}

impl Method {
    /// The label of a method's name as it came.
    pub fn of(name: &str) -> Self {
        // `None`, `Other`, `Batch` and `Response` are no methods: a client that sends these words gets `Other`.
        Self::ALL
            .iter()
            .skip(4)
            .copied()
            .find(|method| method.as_str() == name)
            .unwrap_or(Self::Other)
    }
}

label! {
    /// Why a connection ended other than by its client's choice.
    CloseReason {
        /// A request's head or a handshake took too long.
        HeaderTimeout = "header_timeout",
        /// Nothing was asked for too long.
        Idle = "idle",
        /// The client did not take its answer.
        WriteStalled = "write_stalled",
        /// Not HTTP, or larger than allowed.
        Malformed = "malformed",
        /// The handshake failed.
        Handshake = "handshake",
        /// No place was free.
        Full = "full",
        /// A trusted proxy did not begin with whom it connects for, or not in the way it has to.
        ProxyHeader = "proxy_header",
        /// Not from a trusted proxy, where only those may connect.
        NoProxy = "no_proxy",
        /// The socket failed or the client went away in the middle.
        Broken = "broken",
    }
}

label! {
    /// Which port.
    Port {
        /// Clients.
        Public = "public",
        /// Liveness, readiness, metrics.
        Metrics = "metrics",
        /// The status document.
        Status = "status",
        /// The hop between replicas.
        Peer = "peer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_make_labels() {
        assert_eq!(Method::of("tools/call"), Method::ToolsCall);
        assert_eq!(Method::of("x/y"), Method::Other);
        assert_eq!(Method::of("batch"), Method::Other);
        assert_eq!(Method::of("none"), Method::Other);
    }
}
