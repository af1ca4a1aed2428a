//! A condition as it is evaluated.

use std::sync::Arc;

use super::path::Folder;
use super::pattern::Pattern;

/// A node. All that can be known before a request is known here: names, kinds where they show, patterns, folders.
#[derive(Debug)]
pub(super) enum Expr {
    Const(Const),
    /// A list that stands in the condition.
    Consts(Box<[Const]>),
    Fact(Fact),
    /// `request.arguments`.
    Arguments,
    /// The variable of the `all` or `exists` around it.
    Item,
    /// The value of a key that has to be there.
    Member(Box<Expr>, Box<str>),
    Index(Box<Expr>, Box<Expr>),
    /// Is the key there?
    Has(Box<Expr>, Box<str>),
    Size(Box<Expr>),
    Not(Box<Expr>),
    And(Box<[Expr]>),
    Or(Box<[Expr]>),
    If(Box<[Expr; 3]>),
    Compare(Comparison, Box<[Expr; 2]>),
    In(Box<[Expr; 2]>),
    Text(TextTest, Box<[Expr; 2]>),
    Matches(Box<Expr>, Arc<Pattern>),
    Under(Box<Expr>, Folder),
    /// Of a list or of an object's keys: all (true) or one (false).
    Each(bool, Box<[Expr; 2]>),
}

impl Expr {
    /// How many nodes there are in one another: evaluation takes as many frames of the stack.
    pub(super) fn height(&self) -> usize {
        let highest = |parts: &[Self]| parts.iter().map(Self::height).max().unwrap_or(0);
        1 + match self {
            Self::Const(_) | Self::Consts(_) | Self::Fact(_) | Self::Arguments | Self::Item => 0,
            Self::Member(of, _)
            | Self::Has(of, _)
            | Self::Size(of)
            | Self::Not(of)
            | Self::Matches(of, _)
            | Self::Under(of, _) => of.height(),
            Self::Index(of, key) => of.height().max(key.height()),
            Self::And(parts) | Self::Or(parts) => highest(parts),
            Self::If(parts) => highest(&**parts),
            Self::Compare(_, parts) | Self::In(parts) | Self::Text(_, parts) | Self::Each(_, parts) => {
                highest(&**parts)
            }
        }
    }
}

/// A value that stands in the condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
}

/// What is known of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    RequestMethod,
    PrincipalMethod,
    Subject,
    Groups,
    Scopes,
    ServerName,
    ServerNamespace,
    ToolName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}
