//! Conditions of rules (`when`): a bounded part of CEL, the Common Expression Language.
//!
//! A condition is read and checked when the configuration is loaded: only known names, no arithmetic, no loop in a loop,
//! regular expressions and folders only as they stand in it. Evaluating one takes a bounded number of steps, and all
//! conditions of a decision share that bound: see [`MAX_STEPS`]. What cannot be told fails, and a rule that fails does
//! what is safe: a Deny denies, an Allow does not allow.

mod eval;
mod expr;
mod json;
mod parse;
mod path;
mod pattern;
#[cfg(test)]
mod tests;
mod token;

use std::cell::{Cell, OnceCell};
use std::fmt;

use crate::identity::Identity;
use expr::Expr;
use json::Tree;
use parse::Reads;
pub use pattern::Patterns;

/// The longest condition, in characters.
pub const MAX_LENGTH: usize = 2048;

/// The steps that the conditions of one decision may take together. A step is one node of an expression, one value or key
/// looked at, or some 16 to 64 bytes of text: tens of nanoseconds. At this number a decision takes less than a millisecond.
pub const MAX_STEPS: u32 = 24_000;

/// A condition that was read.
#[derive(Debug)]
pub struct Condition {
    expr: Expr,
    reads: Reads,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// At which character, counted from 1.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at, self.message)
    }
}

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    HoldsNot,
    /// It depends on what is not known yet: what a list is made for, the call has yet to say.
    Depends,
    /// It cannot be told.
    Fails(Failure),
}

/// Why a condition cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The arguments are too large, or hold too much.
    TooLarge,
    /// They, or what is read of them, have no exact value: not every server would read the same.
    NotExact,
    /// A key or an item that is not there.
    Missing,
    /// A value of another kind than what is asked of it takes.
    WrongKind,
    /// What a path leads to cannot be told from its text.
    UnclearPath,
    /// More steps than one decision may take.
    TooMuch,
    /// The arguments were not kept.
    NotKept,
}

impl Failure {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "the arguments are too large to be judged",
            Self::NotExact => {
                "the arguments have no exact value: a key twice, half a surrogate pair, or a number that does not fit"
            }
            Self::Missing => "it reads a member or an item that is not there (ask has() first)",
            Self::WrongKind => "it reads a value of another kind than it takes",
            Self::UnclearPath => "what the path leads to cannot be told from its text",
            Self::TooMuch => "it takes too many steps",
            Self::NotKept => "the arguments were not kept",
        }
    }
}

/// What is asked of a thing.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The MCP method; none for a list, which is made for requests that are yet to come.
    method: Option<&'a str>,
    arguments: Arguments<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Arguments<'a> {
    Unknown,
    NotKept,
    Json(&'a [u8]),
}

impl<'a> Asked<'a> {
    /// To be listed.
    pub const LISTED: Self = Self {
        method: None,
        arguments: Arguments::Unknown,
    };

    /// A request with these arguments, as JSON. One that has none has an empty object.
    pub fn request(method: &'a str, arguments: Option<&'a [u8]>) -> Self {
        let json = match arguments {
            None | Some(b"null") => b"{}",
            Some(json) => json,
        };
        Self {
            method: Some(method),
            arguments: Arguments::Json(json),
        }
    }

    /// A request about a call that was judged with its arguments when it was made.
    pub const fn about_a_call(method: &'a str) -> Self {
        Self {
            method: Some(method),
            arguments: Arguments::Unknown,
        }
    }

    /// A request whose arguments are gone: what reads them fails.
    pub const fn without_arguments(method: &'a str) -> Self {
        Self {
            method: Some(method),
            arguments: Arguments::NotKept,
        }
    }
}

/// One decision's evaluations: what they may read, and how many steps are left.
#[derive(Debug)]
pub struct Trial<'a> {
    who: &'a Identity,
    /// `namespace/name`.
    server: &'a str,
    tool: Option<&'a str>,
    asked: Asked<'a>,
    /// The arguments, taken apart when the first condition reads them.
    tree: OnceCell<Result<Tree<'a>, Failure>>,
    left: Cell<u32>,
}

impl<'a> Trial<'a> {
    /// Of a decision.
    pub fn new(who: &'a Identity, server: &'a str, tool: Option<&'a str>, asked: Asked<'a>) -> Self {
        Self {
            who,
            server,
            tool,
            asked,
            tree: OnceCell::new(),
            left: Cell::new(MAX_STEPS),
        }
    }

    /// The steps taken so far.
    pub fn steps(&self) -> u32 {
        MAX_STEPS - self.left.get()
    }
}

impl Condition {
    /// Reads a condition.
    pub fn compile(text: &str, patterns: &mut Patterns) -> Result<Self, Mistake> {
        if text.chars().count() > MAX_LENGTH {
            return Err(Mistake {
                at: MAX_LENGTH + 1,
                message: format!("a condition has at most {MAX_LENGTH} characters"),
            });
        }
        let (expr, reads) = parse::parse(text, patterns)?;
        Ok(Self { expr, reads })
    }

    /// Does it read the arguments?
    pub const fn reads_arguments(&self) -> bool {
        self.reads.arguments
    }

    /// Does it read what only tools have?
    pub const fn reads_tool(&self) -> bool {
        self.reads.tool
    }

    /// Evaluates it.
    pub fn judge(&self, trial: &Trial<'_>) -> Verdict {
        trial.judge(&self.expr)
    }
}
