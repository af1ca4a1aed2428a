//! What stands between operators: values, members, methods and functions.

use super::{Kind, Parser, Typed, mistake, want};
use crate::when::Mistake;
use crate::when::expr::{Const, Expr, Fact, TextTest};
use crate::when::path::Folder;
use crate::when::token::Token;

/// What an item cannot be called.
const RESERVED: [&str; 9] = [
    "true",
    "false",
    "null",
    "in",
    "request",
    "principal",
    "server",
    "tool",
    "has",
];

impl Parser<'_, '_> {
    /// A value and what is taken of it: `.name`, `[key]`, `.method(...)`.
    pub(super) fn member(&mut self) -> Result<Typed, Mistake> {
        let (mut expr, mut kind) = self.primary()?;
        loop {
            let at = self.at();
            if self.eat("[") {
                let (key, of_key) = self.choice()?;
                self.close("]")?;
                if !matches!(kind, Kind::List | Kind::Map | Kind::Any) {
                    return mistake(at, format!("{} has no items", kind.words()));
                }
                if !matches!(of_key, Kind::Text | Kind::Number | Kind::Any) {
                    return mistake(at, format!("{} is no key", of_key.words()));
                }
                expr = Expr::Index(Box::new(expr), Box::new(key));
                kind = Kind::Any;
                continue;
            }
            if !self.eat(".") {
                return Ok((expr, kind));
            }
            let at = self.at();
            let Token::Name(name) = self.next() else {
                return mistake(at, "a name is expected after the dot");
            };
            if self.eat("(") {
                (expr, kind) = self.method(name, at, expr, kind)?;
            } else if matches!(kind, Kind::Map | Kind::Any) {
                expr = Expr::Member(Box::new(expr), name.clone());
                kind = Kind::Any;
            } else {
                return mistake(at, format!("{} has no member {name}", kind.words()));
            }
        }
    }

    /// A method, after its opening parenthesis.
    fn method(&mut self, name: &str, at: usize, of: Expr, kind: Kind) -> Result<Typed, Mistake> {
        let test = match name {
            "contains" => TextTest::Contains,
            "startsWith" => TextTest::StartsWith,
            "endsWith" => TextTest::EndsWith,
            "matches" => {
                want(kind, Kind::Text, at, "what matches() is asked of")?;
                let at = self.at();
                let Token::Text(pattern) = self.next() else {
                    return mistake(
                        at,
                        "matches() takes a regular expression as a string that stands here",
                    );
                };
                let pattern = match self.patterns.get(pattern) {
                    Ok(pattern) => pattern,
                    Err(message) => return mistake(at, message),
                };
                self.close(")")?;
                return Ok((Expr::Matches(Box::new(of), pattern), Kind::Bool));
            }
            "size" => {
                self.close(")")?;
                return size(at, of, kind);
            }
            "all" | "exists" => return self.each(name == "all", at, of, kind),
            _ => {
                return mistake(
                    at,
                    format!(
                        "{name}() is not available: contains, startsWith, endsWith, matches, size, all and exists are, and path(...).under"
                    ),
                );
            }
        };
        want(kind, Kind::Text, at, &format!("what {name}() is asked of"))?;
        let of_argument = self.at();
        let (argument, kind) = self.choice()?;
        want(kind, Kind::Text, of_argument, &format!("what {name}() takes"))?;
        self.close(")")?;
        Ok((Expr::Text(test, Box::new([of, argument])), Kind::Bool))
    }

    /// `.all(name, condition)`, after its opening parenthesis.
    fn each(&mut self, all: bool, at: usize, of: Expr, kind: Kind) -> Result<Typed, Mistake> {
        if self.item.is_some() {
            return mistake(at, "all() and exists() cannot stand in one another");
        }
        if !matches!(kind, Kind::List | Kind::Map | Kind::Any) {
            return mistake(at, format!("{} has no items", kind.words()));
        }
        let at = self.at();
        let Token::Name(name) = self.next() else {
            return mistake(at, "a name for the item is expected here");
        };
        if RESERVED.contains(&&**name) {
            return mistake(
                at,
                format!("{name} means something else: choose another name for the item"),
            );
        }
        self.close(",")?;
        let of_item = match (&of, kind) {
            (Expr::Fact(_), _) | (_, Kind::Map) => Kind::Text,
            _ => Kind::Any,
        };
        self.item = Some((name.clone(), of_item));
        let at = self.at();
        let (body, kind) = self.choice()?;
        want(kind, Kind::Bool, at, "what is asked of each item")?;
        self.item = None;
        self.close(")")?;
        Ok((Expr::Each(all, Box::new([of, body])), Kind::Bool))
    }

    fn primary(&mut self) -> Result<Typed, Mistake> {
        let at = self.at();
        let constant = |value, kind| Ok((Expr::Const(value), kind));
        match self.next() {
            Token::Int(value) => constant(Const::Int(*value), Kind::Number),
            Token::Double(value) => constant(Const::Double(*value), Kind::Number),
            Token::Text(value) => constant(Const::Text(value.clone()), Kind::Text),
            Token::Mark("(") => {
                let inner = self.choice()?;
                self.close(")")?;
                Ok(inner)
            }
            Token::Mark("[") => self.list(),
            Token::Name(name) => match &**name {
                "true" => constant(Const::Bool(true), Kind::Bool),
                "false" => constant(Const::Bool(false), Kind::Bool),
                "null" => constant(Const::Null, Kind::Null),
                "request" | "principal" | "server" | "tool" => self.fact(name, at),
                "has" | "size" | "path" if matches!(self.peek(), Token::Mark("(")) => {
                    self.next();
                    self.function(name, at)
                }
                name => match &self.item {
                    Some((item, kind)) if **item == *name => Ok((Expr::Item, *kind)),
                    _ => mistake(
                        at,
                        format!("{name} is unknown: request, principal, server and tool are known"),
                    ),
                },
            },
            _ => {
                let found = Mistake {
                    at,
                    message: "a value is expected here".to_owned(),
                };
                Err(found)
            }
        }
    }

    /// A function, after its opening parenthesis.
    fn function(&mut self, name: &str, at: usize) -> Result<Typed, Mistake> {
        let inside = self.at();
        let (argument, kind) = self.choice()?;
        self.close(")")?;
        match name {
            "size" => size(at, argument, kind),
            "has" => match argument {
                Expr::Member(of, key) => Ok((Expr::Has(of, key), Kind::Bool)),
                _ => mistake(
                    inside,
                    "has() takes a member of an object, such as request.arguments.path",
                ),
            },
            _ => {
                want(kind, Kind::Text, inside, "what path() takes")?;
                let under = self.eat(".") && matches!(self.next(), Token::Name(name) if **name == *"under");
                if !under || !self.eat("(") {
                    return mistake(at, "a path is asked one thing: path(...).under(\"/folder\")");
                }
                let at = self.at();
                let Token::Text(folder) = self.next() else {
                    return mistake(at, "under() takes a folder as a string that stands here");
                };
                let folder = match Folder::new(folder) {
                    Ok(folder) => folder,
                    Err(message) => return mistake(at, message),
                };
                self.close(")")?;
                Ok((Expr::Under(Box::new(argument), folder), Kind::Bool))
            }
        }
    }

    /// A list, after its opening bracket.
    fn list(&mut self) -> Result<Typed, Mistake> {
        let mut items = Vec::new();
        while !self.eat("]") {
            let at = self.at();
            let (Expr::Const(item), _) = self.unary()? else {
                return mistake(
                    at,
                    "a list that stands in a condition holds strings, numbers, true, false and null",
                );
            };
            items.push(item);
            if !self.eat(",") && !matches!(self.peek(), Token::Mark("]")) {
                return Err(self.unexpected("] or ,"));
            }
        }
        Ok((Expr::Consts(items.into()), Kind::List))
    }

    /// `request.method` and the like.
    fn fact(&mut self, root: &str, at: usize) -> Result<Typed, Mistake> {
        let name = match (self.eat("."), self.peek()) {
            (true, Token::Name(name)) => &**name,
            _ => "",
        };
        let fact = match (root, name) {
            ("request", "arguments") => {
                self.next();
                self.reads.arguments = true;
                return Ok((Expr::Arguments, Kind::Map));
            }
            ("request", "method") => (Fact::RequestMethod, Kind::Text),
            ("principal", "method") => (Fact::PrincipalMethod, Kind::Text),
            ("principal", "subject") => (Fact::Subject, Kind::Text),
            ("principal", "groups") => (Fact::Groups, Kind::List),
            ("principal", "scopes") => (Fact::Scopes, Kind::List),
            ("server", "name") => (Fact::ServerName, Kind::Text),
            ("server", "namespace") => (Fact::ServerNamespace, Kind::Text),
            ("tool", "name") => {
                self.reads.tool = true;
                (Fact::ToolName, Kind::Text)
            }
            _ => {
                let known = match root {
                    "request" => "request.method and request.arguments",
                    "principal" => "principal.method, .subject, .groups and .scopes",
                    "server" => "server.name and server.namespace",
                    _ => "tool.name",
                };
                return mistake(at, format!("of {root} only {known} can be read"));
            }
        };
        self.next();
        Ok((Expr::Fact(fact.0), fact.1))
    }
}

fn size(at: usize, of: Expr, kind: Kind) -> Result<Typed, Mistake> {
    if !matches!(kind, Kind::Text | Kind::List | Kind::Map | Kind::Any) {
        return mistake(at, format!("{} has no size", kind.words()));
    }
    Ok((Expr::Size(Box::new(of)), Kind::Number))
}
