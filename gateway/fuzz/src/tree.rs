//! JSON as `serde_json` reads it, with every key that stands twice: what the gateway's own scanner is held against.

use std::fmt;

use portcullis_gateway::mcp::scan::Member;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// None for what is no JSON, and for what only `serde_json` minds: halves of surrogate pairs, numbers that it
    /// cannot hold, and nesting beyond its own bound.
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub fn fields(&self) -> &[(String, Self)] {
        match self {
            Self::Object(fields) => fields,
            _ => &[],
        }
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// The first field of that name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.fields()
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Self::Object(fields) => fields
                .iter_mut()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// What stands at a member of the message.
    pub fn at(&self, member: Member) -> Option<&Self> {
        let holder = member.within().map_or(Some(self), |holder| self.at(holder))?;
        holder.get(member.name())
    }

    pub fn at_mut(&mut self, member: Member) -> Option<&mut Self> {
        let holder = match member.within() {
            None => Some(self),
            Some(holder) => self.at_mut(holder),
        };
        holder?.get_mut(member.name())
    }

    /// How deep its containers nest.
    pub fn depth(&self) -> u32 {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(fields) => 1 + fields.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether this object itself has a key twice.
    pub fn repeats(&self) -> bool {
        let fields = self.fields();
        (1..fields.len()).any(|at| fields[..at].iter().any(|(key, _)| *key == fields[at].0))
    }

    /// Whether it or anything in it has a key twice.
    pub fn repeats_anywhere(&self) -> bool {
        match self {
            Self::Array(items) => items.iter().any(Self::repeats_anywhere),
            Self::Object(fields) => {
                self.repeats() || fields.iter().any(|(_, value)| value.repeats_anywhere())
            }
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
        let mut items = vec![];
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
        let mut fields = vec![];
        while let Some(field) = from.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Object(fields))
    }
}
