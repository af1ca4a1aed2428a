//! From words to a condition. What is not on the list of what is available is refused here, with its place.

mod values;

use super::Mistake;
use super::expr::{Comparison, Const, Expr};
use super::pattern::Patterns;
use super::token::{Token, tokens};

/// Parentheses and the like in one another.
const MAX_DEPTH: usize = 24;

/// Nodes in one another, members of members and the like included.
const MAX_HEIGHT: usize = 48;
const TOO_DEEP: &str = "too many expressions in one another";

/// What an expression is, as far as it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Map,
    Any,
}

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Map => "an object",
            Self::Any => "anything",
        }
    }

    fn may_be(self, wanted: Self) -> bool {
        self == wanted || self == Self::Any || wanted == Self::Any
    }
}

type Typed = (Expr, Kind);

/// What a condition reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    pub(super) arguments: bool,
    pub(super) tool: bool,
}

/// Reads a whole condition.
pub(super) fn parse(text: &str, patterns: &mut Patterns) -> Result<(Expr, Reads), Mistake> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        patterns,
        item: None,
        depth: 0,
        reads: Reads::default(),
    };
    let at = parser.at();
    let (expr, kind) = parser.choice()?;
    want(kind, Kind::Bool, at, "a condition")?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected("the end, or an operator"));
    }
    if expr.height() > MAX_HEIGHT {
        return mistake(at, TOO_DEEP);
    }
    Ok((expr, parser.reads))
}

struct Parser<'t, 'p> {
    tokens: &'t [(usize, Token)],
    patterns: &'p mut Patterns,
    /// The variable of the `all` or `exists` around, and what it is.
    item: Option<(Box<str>, Kind)>,
    depth: usize,
    reads: Reads,
}

fn mistake<T>(at: usize, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake {
        at,
        message: message.into(),
    })
}

fn want(kind: Kind, wanted: Kind, at: usize, of: &str) -> Result<(), Mistake> {
    if kind.may_be(wanted) {
        return Ok(());
    }
    mistake(
        at,
        format!("{of} is {}, this is {}", wanted.words(), kind.words()),
    )
}

impl<'t> Parser<'t, '_> {
    fn peek(&self) -> &'t Token {
        self.tokens.first().map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.first().map_or(0, |(at, _)| *at)
    }

    fn next(&mut self) -> &'t Token {
        let token = self.peek();
        // The end stays.
        if let [_, rest @ ..] = self.tokens
            && !rest.is_empty()
        {
            self.tokens = rest;
        }
        token
    }

    fn eat(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(found) if *found == mark);
        if found {
            self.next();
        }
        found
    }

    fn unexpected(&self, wanted: &str) -> Mistake {
        let found = match self.peek() {
            Token::End => "the end".to_owned(),
            Token::Mark(mark @ ("+" | "*" | "/" | "%")) => {
                return Mistake {
                    at: self.at(),
                    message: format!("{mark} is not available: conditions compare, they do not calculate"),
                };
            }
            Token::Mark(mark) => (*mark).to_owned(),
            Token::Name(name) => name.to_string(),
            Token::Int(_) | Token::Double(_) => "a number".to_owned(),
            Token::Text(_) => "a string".to_owned(),
        };
        Mistake {
            at: self.at(),
            message: format!("{wanted} is expected here, not {found}"),
        }
    }

    fn close(&mut self, mark: &str) -> Result<(), Mistake> {
        if self.eat(mark) {
            Ok(())
        } else {
            Err(self.unexpected(mark))
        }
    }

    /// `a ? b : c`
    fn choice(&mut self) -> Result<Typed, Mistake> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return mistake(self.at(), TOO_DEEP);
        }
        let at = self.at();
        let (condition, kind) = self.or()?;
        let typed = if self.eat("?") {
            want(kind, Kind::Bool, at, "what stands before ?")?;
            let (yes, of_yes) = self.choice()?;
            self.close(":")?;
            let (no, of_no) = self.choice()?;
            let kind = if of_yes == of_no { of_yes } else { Kind::Any };
            (Expr::If(Box::new([condition, yes, no])), kind)
        } else {
            (condition, kind)
        };
        self.depth -= 1;
        Ok(typed)
    }

    fn or(&mut self) -> Result<Typed, Mistake> {
        self.chain("||", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Typed, Mistake> {
        self.chain("&&", Self::comparison, Expr::And)
    }

    fn chain(
        &mut self,
        mark: &str,
        inner: fn(&mut Self) -> Result<Typed, Mistake>,
        make: fn(Box<[Expr]>) -> Expr,
    ) -> Result<Typed, Mistake> {
        let at = self.at();
        let (first, kind) = inner(self)?;
        if !matches!(self.peek(), Token::Mark(found) if *found == mark) {
            return Ok((first, kind));
        }
        let of = format!("a side of {mark}");
        want(kind, Kind::Bool, at, &of)?;
        let mut all = vec![first];
        while self.eat(mark) {
            let at = self.at();
            let (next, kind) = inner(self)?;
            want(kind, Kind::Bool, at, &of)?;
            all.push(next);
        }
        Ok((make(all.into()), Kind::Bool))
    }

    fn comparison(&mut self) -> Result<Typed, Mistake> {
        let (mut left, mut kind) = self.unary()?;
        loop {
            let at = self.at();
            let comparison = match self.peek() {
                Token::Mark("==") => Comparison::Equal,
                Token::Mark("!=") => Comparison::NotEqual,
                Token::Mark("<") => Comparison::Less,
                Token::Mark("<=") => Comparison::LessOrEqual,
                Token::Mark(">") => Comparison::Greater,
                Token::Mark(">=") => Comparison::GreaterOrEqual,
                Token::Name(name) if **name == *"in" => {
                    self.next();
                    let (right, of_right) = self.unary()?;
                    if !matches!(of_right, Kind::List | Kind::Map | Kind::Any) {
                        return mistake(
                            at,
                            format!("in takes a list or an object, this is {}", of_right.words()),
                        );
                    }
                    left = Expr::In(Box::new([left, right]));
                    kind = Kind::Bool;
                    continue;
                }
                _ => return Ok((left, kind)),
            };
            self.next();
            let (right, of_right) = self.unary()?;
            let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            let comparable = |kind| matches!(kind, Kind::Number | Kind::Text | Kind::Any);
            // Null is compared with, to see whether something is there.
            if !kind.may_be(of_right) && !(equality && (kind == Kind::Null || of_right == Kind::Null)) {
                return mistake(
                    at,
                    format!("{} is never equal to {}", kind.words(), of_right.words()),
                );
            }
            if !(equality || comparable(kind) && comparable(of_right))
                || kind == Kind::Map
                || of_right == Kind::Map
            {
                return mistake(
                    at,
                    "numbers and strings have an order, objects cannot be compared",
                );
            }
            left = Expr::Compare(comparison, Box::new([left, right]));
            kind = Kind::Bool;
        }
    }

    fn unary(&mut self) -> Result<Typed, Mistake> {
        let mut negations = 0_usize;
        let at = self.at();
        while self.eat("!") {
            negations += 1;
        }
        if negations > 0 {
            let of = self.at();
            let (inner, kind) = self.member()?;
            want(kind, Kind::Bool, of, "what stands after !")?;
            let inner = if negations % 2 == 1 {
                Expr::Not(Box::new(inner))
            } else {
                inner
            };
            return Ok((inner, Kind::Bool));
        }
        if self.eat("-") {
            return match self.next() {
                Token::Int(value) => Ok((Expr::Const(Const::Int(-*value)), Kind::Number)),
                Token::Double(value) => Ok((Expr::Const(Const::Double(-*value)), Kind::Number)),
                _ => mistake(at, "- stands before a number only"),
            };
        }
        self.member()
    }
}
