//! What servers list: tools, prompts, resources and templates of resources. What differs between them is here.

use portcullis_config::Features;

use crate::auth::authorize::{Kind, Thing};
use crate::mcp::method::Method;
use crate::mcp::scan::Member;

/// One kind of list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Primitive {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

impl Primitive {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// What that method lists.
    pub const fn listed_by(method: Method) -> Option<Self> {
        match method {
            Method::ToolsList => Some(Self::Tools),
            Method::PromptsList => Some(Self::Prompts),
            Method::ResourcesList => Some(Self::Resources),
            Method::ResourcesTemplatesList => Some(Self::Templates),
            _ => None,
        }
    }

    /// The method that lists it.
    pub const fn method(self) -> Method {
        match self {
            Self::Tools => Method::ToolsList,
            Self::Prompts => Method::PromptsList,
            Self::Resources => Method::ResourcesList,
            Self::Templates => Method::ResourcesTemplatesList,
        }
    }

    /// The member of the result that is the list.
    pub const fn member(self) -> Member {
        match self {
            Self::Tools => Member::ResultTools,
            Self::Prompts => Member::ResultPrompts,
            Self::Resources => Member::ResultResources,
            Self::Templates => Member::ResultTemplates,
        }
    }

    /// The member of an item that it is called by.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// What rules call it.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Tools => Kind::Tool,
            Self::Prompts => Kind::Prompt,
            Self::Resources | Self::Templates => Kind::Resource,
        }
    }

    /// An item of it, for a decision.
    pub const fn thing(self, name: &str) -> Thing<'_> {
        match self {
            Self::Tools => Thing::Tool(name),
            Self::Prompts => Thing::Prompt(name),
            Self::Resources | Self::Templates => Thing::Listed(name),
        }
    }

    /// Is it among these? Tools always are.
    pub const fn is_in(self, features: Features) -> bool {
        match self {
            Self::Tools => true,
            Self::Prompts => features.prompts,
            Self::Resources | Self::Templates => features.resources,
        }
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_lead_back() {
        for (at, primitive) in Primitive::ALL.into_iter().enumerate() {
            assert_eq!(Primitive::listed_by(primitive.method()), Some(primitive));
            assert_eq!(primitive.index(), at);
            assert_eq!(primitive.thing("x").kind(), primitive.kind());
        }
        assert_eq!(Primitive::listed_by(Method::ToolsCall), None);
    }
}
