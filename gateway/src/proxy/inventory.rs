//! What a server offers, as it last said.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::mcp::scan::{self, Span};

/// Tools kept of one server.
pub const MAX_TOOLS: usize = 4096;
/// The longest tool name.
const MAX_NAME: usize = 256;

/// One tool: the server's own words, byte for byte.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The server's own name for it.
    pub name: Box<str>,
    /// The whole object.
    pub json: Bytes,
    /// Where in it the name stands, quotes and all.
    pub name_at: Span,
}

/// A server's tools at one moment, sorted by name.
#[derive(Debug)]
pub struct Inventory {
    /// The tools.
    pub tools: Vec<Arc<Tool>>,
    by_name: HashMap<Box<str>, usize>,
    /// When the server said so.
    pub listed: Instant,
}

impl Inventory {
    /// From tools in any order; of two with one name the first counts.
    pub fn new(mut tools: Vec<Arc<Tool>>, listed: Instant) -> Self {
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools.dedup_by(|b, a| a.name == b.name);
        let by_name = tools
            .iter()
            .enumerate()
            .map(|(index, tool)| (tool.name.clone(), index))
            .collect();
        Self {
            tools,
            by_name,
            listed,
        }
    }

    /// The tool with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.get(*self.by_name.get(name)?)
    }

    /// Same tools, word for word?
    pub fn same_as(&self, other: &Self) -> bool {
        self.tools.len() == other.tools.len()
            && self.tools.iter().zip(&other.tools).all(|(a, b)| a.json == b.json)
    }
}

/// Takes one page's `tools` array (at `list` in `text`) apart. A tool without a usable name is left out: nobody could
/// call it.
pub fn tools_of(text: &Bytes, list: Span, into: &mut Vec<Arc<Tool>>) -> Result<(), &'static str> {
    for element in scan::elements(text, list) {
        let at = element.map_err(|_| "its tools are not a list")?;
        let json = text.slice(at.start()..at.end());
        let Some(whole) = Span::new(0, json.len()) else {
            continue;
        };
        let Some(name_at) = scan::field(&json, whole, "name") else {
            continue;
        };
        let raw = name_at.of(&json);
        if raw.first() != Some(&b'"') {
            continue;
        }
        let Ok(name) = scan::unescape(raw) else { continue };
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            continue;
        }
        if into.len() >= MAX_TOOLS {
            return Err("it has more tools than a gateway keeps");
        }
        into.push(Arc::new(Tool {
            name: name.into(),
            json,
            name_at,
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(text: &str) -> Vec<Arc<Tool>> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let mut out = Vec::new();
        tools_of(&bytes, Span::new(0, bytes.len()).unwrap(), &mut out).unwrap();
        out
    }

    #[test]
    fn tools_keep_their_own_words() {
        let found = tools(
            r#"[ {"name":"b","x":1.0}, {"description":"d", "name":"\u0061"} , {"name":7}, {"name":""}, 3 ]"#,
        );
        let inventory = Inventory::new(found, Instant::now());
        let names: Vec<&str> = inventory.tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(&inventory.get("b").unwrap().json[..], br#"{"name":"b","x":1.0}"#);
        let a = inventory.get("a").unwrap();
        assert_eq!(a.name_at.of(&a.json), br#""\u0061""#);
        assert!(inventory.get("c").is_none());
    }

    #[test]
    fn of_two_with_one_name_the_first_counts() {
        let inventory = Inventory::new(
            tools(r#"[{"name":"a","v":1},{"name":"a","v":2}]"#),
            Instant::now(),
        );
        assert_eq!(inventory.tools.len(), 1);
        assert_eq!(&inventory.get("a").unwrap().json[..], br#"{"name":"a","v":1}"#);
    }
}
