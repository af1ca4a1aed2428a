//! What a server offers, as it last said.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_config::Features;
use tokio::time::Instant;

use super::news::Lists;
use super::primitive::Primitive;
use crate::mcp::params::{self, Annotation};
use crate::mcp::scan::{self, Span};

/// Items kept of one list of a server.
pub const MAX_ITEMS: usize = 4096;
/// How long the objects kept of one list may be together. A gateway keeps all lists of all servers, also of those that
/// nobody may use yet.
pub const MAX_BYTES: usize = 4 << 20;
/// The longest name of a tool or prompt.
const MAX_NAME: usize = 256;
/// The longest URI that is listed: it must fit into a cursor.
const MAX_URI: usize = 1024;

/// One tool, prompt, resource or template: the server's own words, byte for byte.
#[derive(Clone, Debug)]
pub struct Item {
    /// The server's own name for it: a name, a URI or a URI template.
    pub name: Box<str>,
    /// The whole object.
    pub json: Bytes,
    /// Where in it the name stands, quotes and all.
    pub name_at: Span,
    /// The arguments of a tool that its callers repeat in headers. Usually none.
    pub params: Box<[Annotation]>,
    /// The server shows it only to those who can be asked something.
    pub asks: bool,
}

impl Item {
    /// The name as the server wrote it, quotes and all.
    pub fn name_json(&self) -> &[u8] {
        self.name_at.of(&self.json)
    }
}

/// One list of a server, sorted by name.
#[derive(Debug, Default)]
pub struct Section {
    /// The items.
    pub items: Vec<Arc<Item>>,
    by_name: HashMap<Box<str>, usize>,
    /// How long the server lets it be kept, where it says so.
    pub ttl_ms: Option<u64>,
    /// How many the server listed that are not here, since nobody could ask for them safely.
    pub left_out: usize,
}

impl Section {
    /// From items in any order; of two with one name the first counts.
    pub fn new(mut items: Vec<Arc<Item>>, ttl_ms: Option<u64>) -> Self {
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items.dedup_by(|b, a| a.name == b.name);
        let by_name = items
            .iter()
            .enumerate()
            .map(|(index, item)| (item.name.clone(), index))
            .collect();
        Self {
            items,
            by_name,
            ttl_ms,
            left_out: 0,
        }
    }

    /// The same, with a note of how many were left out.
    #[must_use]
    pub const fn without(mut self, left_out: usize) -> Self {
        self.left_out = left_out;
        self
    }

    /// The same, with those items marked that ask, which is what `asks` says of a name.
    #[must_use]
    pub fn marked(mut self, asks: impl Fn(&str) -> bool) -> Self {
        for item in &mut self.items {
            if asks(&item.name) != item.asks {
                let item = Arc::make_mut(item);
                item.asks = !item.asks;
            }
        }
        self
    }

    /// The item with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Item>> {
        self.items.get(*self.by_name.get(name)?)
    }

    /// The same items, word for word?
    pub fn same_as(&self, other: &Self) -> bool {
        self.left_out == other.left_out
            && self.items.len() == other.items.len()
            && self.items.iter().zip(&other.items).all(|(a, b)| a.json == b.json)
    }
}

/// A server's lists at one moment.
#[derive(Debug)]
pub struct Inventory {
    sections: [Arc<Section>; Primitive::ALL.len()],
    /// What the server said that it offers beside tools.
    pub offers: Features,
    /// What it was asked for beside tools.
    pub asked: Features,
    /// When the server said so.
    pub listed: Instant,
}

impl Inventory {
    /// From the lists in the order of [`Primitive::ALL`].
    pub const fn new(
        sections: [Arc<Section>; Primitive::ALL.len()],
        offers: Features,
        asked: Features,
        listed: Instant,
    ) -> Self {
        Self {
            sections,
            offers,
            asked,
            listed,
        }
    }

    /// One of the lists.
    pub const fn of(&self, primitive: Primitive) -> &Arc<Section> {
        let [tools, prompts, resources, templates] = &self.sections;
        match primitive {
            Primitive::Tools => tools,
            Primitive::Prompts => prompts,
            Primitive::Resources => resources,
            Primitive::Templates => templates,
        }
    }

    /// The lists that are not as they were, where they were none: those that are not empty.
    pub fn differs_from(&self, old: Option<&Self>) -> Lists {
        let same = |primitive| match old {
            Some(old) => self.of(primitive).same_as(old.of(primitive)),
            None => self.of(primitive).items.is_empty(),
        };
        Primitive::ALL
            .into_iter()
            .filter(|primitive| !same(*primitive))
            .fold(Lists::NONE, |all, primitive| all.and(Lists::of(primitive)))
    }

    /// Same items, word for word?
    pub fn same_as(&self, other: &Self) -> bool {
        self.offers == other.offers
            && self
                .sections
                .iter()
                .zip(&other.sections)
                .all(|(a, b)| a.same_as(b))
    }
}

/// Takes one page's array (at `list` in `text`) apart, and says how many items were left out: those without a usable name,
/// which nobody could ask for; those that name a member twice, which clients read in different ways, or refuse the whole list
/// for, which on a federated endpoint is everybody's; and tools that ask for headers in a way that is forbidden
/// (specification, `x-mcp-header`).
pub fn items_of(
    text: &Bytes,
    list: Span,
    primitive: Primitive,
    into: &mut Vec<Arc<Item>>,
) -> Result<usize, &'static str> {
    let mut left_out = 0;
    let mut kept: usize = into.iter().map(|item| item.json.len()).sum();
    for element in scan::elements(text, list) {
        let at = element.map_err(|_| "a list of it is not one")?;
        let Some(item) = item(Bytes::copy_from_slice(at.of(text)), primitive) else {
            left_out += 1;
            continue;
        };
        if into.len() >= MAX_ITEMS {
            return Err("a list of it has more items than a gateway keeps");
        }
        kept += item.json.len();
        if kept > MAX_BYTES {
            return Err("a list of it is longer than a gateway keeps");
        }
        into.push(Arc::new(item));
    }
    Ok(left_out)
}

fn item(json: Bytes, primitive: Primitive) -> Option<Item> {
    let longest = match primitive {
        Primitive::Tools | Primitive::Prompts => MAX_NAME,
        Primitive::Resources | Primitive::Templates => MAX_URI,
    };
    let whole = Span::new(0, json.len())?;
    let key = primitive.key();
    // A parser that does not mind case would take the other spelling for the name.
    let imitated = scan::fields(&json, whole).map_while(Result::ok).any(|(at, _)| {
        scan::unescape(at.of(&json)).is_ok_and(|other| other != key && other.eq_ignore_ascii_case(key))
    });
    if imitated || scan::repeats_a_key(&json, whole) {
        return None;
    }
    let name_at = scan::field(&json, whole, key)?;
    let raw = name_at.of(&json);
    if raw.first() != Some(&b'"') {
        return None;
    }
    let name = scan::unescape(raw).ok()?;
    if name.is_empty() || name.len() > longest || name.chars().any(char::is_control) {
        return None;
    }
    let params = match primitive {
        Primitive::Tools => match scan::field(&json, whole, "inputSchema") {
            Some(schema) => params::annotations(schema.of(&json))
                .inspect_err(|bad| tracing::debug!(tool = &*name, error = %bad, "a tool is left out"))
                .ok()?
                .into(),
            None => Box::default(),
        },
        Primitive::Prompts | Primitive::Resources | Primitive::Templates => Box::default(),
    };
    Some(Item {
        name: name.into(),
        name_at,
        params,
        asks: false,
        json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn items(primitive: Primitive, text: &str) -> Vec<Arc<Item>> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let mut out = Vec::new();
        let list = Span::new(0, bytes.len()).unwrap();
        items_of(&bytes, list, primitive, &mut out).unwrap();
        out
    }

    #[test]
    fn tools_keep_their_own_words() {
        let found = items(
            Primitive::Tools,
            r#"[ {"name":"b","x":1.0}, {"description":"d", "name":"\u0061"} , {"name":7}, {"name":""}, 3 ]"#,
        );
        let section = Section::new(found, None);
        let names: Vec<&str> = section.items.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(&section.get("b").unwrap().json[..], br#"{"name":"b","x":1.0}"#);
        assert_eq!(section.get("a").unwrap().name_json(), br#""\u0061""#);
        assert!(section.get("c").is_none());
    }

    #[rstest]
    #[case(Primitive::Prompts, "n")]
    #[case(Primitive::Resources, "u")]
    #[case(Primitive::Templates, "t")]
    fn each_list_has_its_own_name_for_names(#[case] primitive: Primitive, #[case] expected: &str) {
        let found = items(
            primitive,
            r#"[{"name":"n","uri":"u","uriTemplate":"t"},{"title":"x"}]"#,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(&*found[0].name, expected);
    }

    #[rstest]
    #[case::twice(r#"{"name":"a","name":"b"}"#)]
    #[case::spelled_otherwise(r#"{"name":"a","n\u0061me":"b"}"#)]
    #[case::another_member(r#"{"name":"a","inputSchema":{},"inputSchema":{"x":1}}"#)]
    #[case::another_case(r#"{"name":"a","Name":"b"}"#)]
    #[case::header_of_an_object(
        r#"{"name":"a","inputSchema":{"properties":{"x":{"type":"object","x-mcp-header":"X"}}}}"#
    )]
    #[case::header_without_a_name(
        r#"{"name":"a","inputSchema":{"properties":{"x":{"type":"string","x-mcp-header":""}}}}"#
    )]
    #[case::no_object(r#""a""#)]
    fn what_can_be_read_in_two_ways_is_left_out(#[case] bad: &str) {
        let text = Bytes::from(format!(r#"[{{"name":"before"}},{bad},{{"name":"after"}}]"#));
        let mut found = Vec::new();
        let list = Span::new(0, text.len()).unwrap();
        assert_eq!(items_of(&text, list, Primitive::Tools, &mut found), Ok(1));
        let section = Section::new(found, None).without(1);
        let names: Vec<&str> = section.items.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["after", "before"]);
        assert!(!section.same_as(&Section::new(section.items.clone(), None)));
    }

    #[test]
    fn what_is_kept_of_a_list_is_bounded_and_not_the_whole_page() {
        let junk = "x".repeat(1 << 20);
        let text = Bytes::from(format!(r#"[{{"name":"a","description":"{junk}"}}]"#));
        let mut found = Vec::new();
        let list = Span::new(0, text.len()).unwrap();
        let pages = (0..8).map_while(|_| items_of(&text, list, Primitive::Tools, &mut found).ok());
        assert_eq!(pages.count(), 3, "{MAX_BYTES}");
        let page = text.as_ptr_range();
        assert!(found.iter().all(|item| !page.contains(&item.json.as_ptr())));
    }

    #[test]
    fn what_asks_is_marked() {
        let found = items(Primitive::Tools, r#"[{"name":"a"},{"name":"b"}]"#);
        let section = Section::new(found, None).marked(|name| name == "b");
        assert!(!section.get("a").unwrap().asks && section.get("b").unwrap().asks);
        let section = section.marked(|_| false);
        assert!(!section.get("b").unwrap().asks);
    }

    #[test]
    fn of_two_with_one_name_the_first_counts() {
        let found = items(Primitive::Tools, r#"[{"name":"a","v":1},{"name":"a","v":2}]"#);
        let section = Section::new(found, None);
        assert_eq!(section.items.len(), 1);
        assert_eq!(&section.get("a").unwrap().json[..], br#"{"name":"a","v":1}"#);
    }
}
