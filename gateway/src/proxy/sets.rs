//! Named sets of tools: endpoints with fewer of them.

use std::collections::HashMap;

use portcullis_config::ToolSet;

use crate::auth::glob::Globs;
use crate::auth::names::Names;

/// All sets of a configuration, by name.
#[derive(Debug, Default)]
pub struct Sets(HashMap<Box<str>, Set>);

/// One set.
#[derive(Debug)]
pub struct Set {
    /// `namespace/name`; none: all.
    servers: Option<Names>,
    tools: Globs,
}

impl Sets {
    /// From a configuration that passed validation.
    pub fn new(sets: &[ToolSet]) -> Self {
        let compiled = sets.iter().map(|set| {
            let all = set.servers.iter().any(|server| server == "*");
            let compiled = Set {
                servers: (!all).then(|| Names::new(&set.servers)),
                tools: Globs::new(&set.tools),
            };
            (set.name.as_str().into(), compiled)
        });
        Self(compiled.collect())
    }

    /// The set with this name.
    pub fn get(&self, name: &str) -> Option<&Set> {
        self.0.get(name)
    }
}

impl Set {
    /// Can a tool of this server (`namespace/name`) be in it?
    pub fn has_server(&self, server: &str) -> bool {
        self.servers
            .as_ref()
            .is_none_or(|servers| servers.contains(server))
    }

    /// Is this tool of that server, by the server's own name, in it?
    pub fn has(&self, server: &str, tool: &str) -> bool {
        self.has_server(server) && self.tools.matches(tool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("one", "a/files", "read_file", true)]
    #[case("one", "a/files", "write_file", false)]
    #[case("one", "a/web", "read_file", false)]
    #[case("all", "a/web", "read_file", true)]
    #[case("all", "a/web", "search", false)]
    fn a_set_has_what_both_its_lists_name(
        #[case] set: &str,
        #[case] server: &str,
        #[case] tool: &str,
        #[case] expected: bool,
    ) {
        let set_of = |name: &str, server: &str| ToolSet {
            name: name.into(),
            servers: vec![server.into()],
            tools: vec!["read_*".into()],
        };
        let sets = Sets::new(&[set_of("one", "a/files"), set_of("all", "*")]);
        assert_eq!(sets.get(set).unwrap().has(server, tool), expected);
        assert!(sets.get("none").is_none());
    }
}
