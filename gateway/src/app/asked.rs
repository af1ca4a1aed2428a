//! What a request asked of a thing, kept for as long as its answer is an open stream: it is judged anew by that.

use bytes::Bytes;

use crate::auth::authorize::Kind;
use crate::auth::when;
use crate::mcp::method::Method;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The MCP method.
    method: &'static str,
    arguments: Arguments,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Arguments {
    /// It has none, or these.
    Known(Option<Bytes>),
    /// It is about a call that was judged with its arguments when it was made.
    Before,
    /// No rule read them when it came.
    NotKept,
}

impl Asked {
    /// A request with these arguments.
    pub const fn with(method: &'static str, arguments: Option<Bytes>) -> Self {
        Self {
            method,
            arguments: Arguments::Known(arguments),
        }
    }

    /// A request whose arguments no rule reads now: keeping them would keep the whole request in memory.
    pub const fn without_arguments(method: &'static str) -> Self {
        Self {
            method,
            arguments: Arguments::NotKept,
        }
    }

    /// A request about a call that was judged with its arguments when it was made: a task, the rest of a stream.
    pub const fn about_a_call(method: &'static str) -> Self {
        Self {
            method,
            arguments: Arguments::Before,
        }
    }

    /// The rest of an answer that broke off: the request itself is gone.
    pub const fn rest_of_an_answer(about: Kind) -> Self {
        Self::about_a_call(match about {
            Kind::Tool => Method::ToolsCall.as_str(),
            Kind::Prompt => Method::PromptsGet.as_str(),
            Kind::Resource => Method::ResourcesRead.as_str(),
        })
    }

    /// As rules see it.
    pub fn get(&self) -> when::Asked<'_> {
        match &self.arguments {
            Arguments::Known(arguments) => when::Asked::request(self.method, arguments.as_deref()),
            Arguments::Before => when::Asked::about_a_call(self.method),
            Arguments::NotKept => when::Asked::without_arguments(self.method),
        }
    }
}
