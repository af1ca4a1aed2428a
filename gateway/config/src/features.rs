//! Which primitives exist beside tools.

use serde::{Deserialize, Serialize};

/// What the gateway offers beside tools. What is off is absent from capabilities, and its methods are unknown.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each stands for one feature, as in the file"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Features {
    /// `prompts/list`, `prompts/get`.
    pub prompts: bool,
    /// `resources/list`, `resources/templates/list`, `resources/read`.
    pub resources: bool,
    /// `completion/complete`, about prompts and resource templates.
    pub completions: bool,
    /// A server may ask the client's user: `elicitation/create`.
    pub elicitation: bool,
    /// A server may ask the client's model: `sampling/createMessage`.
    pub sampling: bool,
    /// A server may ask for the client's roots: `roots/list`, `notifications/roots/list_changed`.
    pub roots: bool,
    /// A server's log messages reach the client: `logging/setLevel`, `notifications/message`.
    pub logging: bool,
    /// Clients are told what changes: `notifications/*/list_changed`, `resources/subscribe`, `subscriptions/listen`.
    pub subscriptions: bool,
}

/// What of that one server takes part in: never more than the gateway's own.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each stands for one feature, as in the file"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerFeatures {
    /// Its prompts.
    pub prompts: bool,
    /// Its resources and resource templates.
    pub resources: bool,
    /// Its completions.
    pub completions: bool,
    /// It may ask the client's user.
    pub elicitation: bool,
    /// It may ask the client's model.
    pub sampling: bool,
    /// It may ask for the client's roots.
    pub roots: bool,
    /// Its log messages.
    pub logging: bool,
    /// News of its lists and resources.
    pub subscriptions: bool,
}

impl Default for ServerFeatures {
    fn default() -> Self {
        Self {
            prompts: true,
            resources: true,
            completions: true,
            elicitation: true,
            sampling: true,
            roots: true,
            logging: true,
            subscriptions: true,
        }
    }
}

impl Features {
    /// What is on both here and at `server`. Completions are about prompts and resources: without either there is
    /// nothing to complete.
    #[must_use]
    pub const fn with(self, server: ServerFeatures) -> Self {
        let prompts = self.prompts && server.prompts;
        let resources = self.resources && server.resources;
        Self {
            prompts,
            resources,
            completions: self.completions && server.completions && (prompts || resources),
            elicitation: self.elicitation && server.elicitation,
            sampling: self.sampling && server.sampling,
            roots: self.roots && server.roots,
            logging: self.logging && server.logging,
            subscriptions: self.subscriptions && server.subscriptions,
        }
    }

    /// May a server send anything that is not part of an answer?
    pub const fn any_push(self) -> bool {
        self.elicitation || self.sampling || self.roots || self.logging || self.subscriptions
    }
}

/// How names of several servers stand side by side on the federated endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ToolNames {
    /// Who gets a prefix.
    pub prefix: Prefix,
}

/// Who gets a prefix: `PREFIX__NAME` for tools and prompts, `PREFIX+URI` for resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prefix {
    /// Everything.
    #[default]
    Always,
    /// What more than one server has.
    OnConflict,
    /// Nothing. What more than one server has is not offered, so that no server can take another's place.
    Never,
}

/// A named set of tools with an endpoint of its own, `/sets/NAME/mcp`. It never permits what rules do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolSet {
    /// Unique; stands in the path.
    pub name: String,
    /// `namespace/name` of each server, or `*` for every attached one. Never empty.
    pub servers: Vec<String>,
    /// Globs on the servers' own tool names. Never empty.
    pub tools: Vec<String>,
}

/// Is it what a file says that does not mention it?
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
