//! Evaluation, step by step: nothing is copied but strings with escapes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::expr::{Comparison, Const, Expr, Fact, TextTest};
use super::json::{Json, Shape, Tree};
use super::{Arguments, Failure, Trial, Verdict};

/// A value while it is worked on.
#[derive(Clone, Debug)]
enum Value<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'v, str>),
    /// Groups or scopes.
    Names(&'v [Arc<str>]),
    /// A list that stands in the condition.
    Consts(&'v [Const]),
    List(Json<'v>, usize),
    Object(Json<'v>, usize),
    /// It is yet to be said.
    Unknown,
}

/// An item of a list, or a key of an object, not looked at yet.
#[derive(Clone, Copy, Debug)]
enum Item<'v> {
    Name(&'v str),
    Const(&'v Const),
    Json(Json<'v>),
}

type Result<T> = std::result::Result<T, Failure>;

/// Bytes of text that are compared, copied or searched in one step.
const TEXT: usize = 32;
/// That go through the table of a regular expression, or are taken apart as a path.
const SLOW_TEXT: usize = 16;
/// Bytes that escapes take more than what they stand for.
const ESCAPED: usize = 4;
/// Of arguments that are taken apart.
const JSON: usize = 64;

impl Trial<'_> {
    pub(super) fn judge(&self, expr: &Expr) -> Verdict {
        match self.eval(expr, None) {
            Ok(Value::Bool(true)) => Verdict::Holds,
            Ok(Value::Bool(false)) => Verdict::HoldsNot,
            Ok(Value::Unknown) => Verdict::Depends,
            Ok(_) => Verdict::Fails(Failure::WrongKind),
            Err(failure) => Verdict::Fails(failure),
        }
    }

    fn charge(&self, steps: usize) -> Result<()> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let Some(left) = self.left.get().checked_sub(steps) else {
            self.left.set(0);
            return Err(Failure::TooMuch);
        };
        self.left.set(left);
        Ok(())
    }

    fn eval<'v>(&'v self, expr: &'v Expr, item: Option<Item<'v>>) -> Result<Value<'v>> {
        self.charge(1)?;
        match expr {
            Expr::Const(value) => Ok(of_const(value)),
            Expr::Consts(list) => Ok(Value::Consts(list)),
            Expr::Fact(fact) => Ok(self.fact(*fact)),
            Expr::Arguments => self.arguments(),
            Expr::Item => self.of_item(item.ok_or(Failure::Missing)?),
            Expr::Member(of, key) => {
                let of = self.eval(of, item)?;
                self.member(&of, key)?
                    .map_or(Err(Failure::Missing), |found| self.of_found(found))
            }
            Expr::Has(of, key) => match self.eval(of, item)? {
                Value::Unknown => Ok(Value::Unknown),
                of => Ok(Value::Bool(self.member(&of, key)?.is_some())),
            },
            Expr::Index(of, key) => {
                let (of, key) = (self.eval(of, item)?, self.eval(key, item)?);
                self.index(&of, &key)
            }
            Expr::Size(of) => self.size(&self.eval(of, item)?),
            Expr::Not(inner) => match truth(&self.eval(inner, item)?)? {
                Some(value) => Ok(Value::Bool(!value)),
                None => Ok(Value::Unknown),
            },
            Expr::And(all) => fold(false, all.iter().map(|one| self.eval(one, item))),
            Expr::Or(all) => fold(true, all.iter().map(|one| self.eval(one, item))),
            Expr::If(parts) => {
                let [condition, yes, no] = &**parts;
                match truth(&self.eval(condition, item)?)? {
                    Some(true) => self.eval(yes, item),
                    Some(false) => self.eval(no, item),
                    None => Ok(Value::Unknown),
                }
            }
            Expr::Compare(comparison, sides) => {
                let [left, right] = &**sides;
                let (left, right) = (self.eval(left, item)?, self.eval(right, item)?);
                self.compare(*comparison, &left, &right)
            }
            Expr::In(sides) => {
                let [wanted, list] = &**sides;
                let (wanted, list) = (self.eval(wanted, item)?, self.eval(list, item)?);
                self.is_in(&wanted, &list)
            }
            Expr::Text(test, sides) => {
                let [text, part] = &**sides;
                match (self.eval(text, item)?, self.eval(part, item)?) {
                    (Value::Unknown, _) | (_, Value::Unknown) => Ok(Value::Unknown),
                    (Value::Text(text), Value::Text(part)) => {
                        self.charge((text.len() + part.len()) / TEXT)?;
                        Ok(Value::Bool(match test {
                            TextTest::Contains => text.contains(&*part),
                            TextTest::StartsWith => text.starts_with(&*part),
                            TextTest::EndsWith => text.ends_with(&*part),
                        }))
                    }
                    _ => Err(Failure::WrongKind),
                }
            }
            Expr::Matches(of, pattern) => self.of_text(of, item, |text| Ok(pattern.is_in(text))),
            Expr::Under(of, folder) => self.of_text(of, item, |text| folder.holds(text)),
            Expr::Each(all, parts) => {
                let [list, body] = &**parts;
                let list = self.eval(list, item)?;
                if matches!(list, Value::Unknown) {
                    return Ok(Value::Unknown);
                }
                let items = items(&list).ok_or(Failure::WrongKind)?;
                fold(!*all, items.map(|item| self.eval(body, Some(item))))
            }
        }
    }

    /// A test of a text, byte by byte.
    fn of_text<'v>(
        &'v self,
        of: &'v Expr,
        item: Option<Item<'v>>,
        test: impl FnOnce(&str) -> Result<bool>,
    ) -> Result<Value<'v>> {
        match self.eval(of, item)? {
            Value::Unknown => Ok(Value::Unknown),
            Value::Text(text) => {
                self.charge(text.len() / SLOW_TEXT)?;
                test(&text).map(Value::Bool)
            }
            _ => Err(Failure::WrongKind),
        }
    }

    fn fact(&self, fact: Fact) -> Value<'_> {
        let text = |text| Value::Text(Cow::Borrowed(text));
        let (namespace, name) = self.server.split_once('/').unwrap_or(("", self.server));
        match fact {
            Fact::RequestMethod => self.asked.method.map_or(Value::Unknown, text),
            Fact::PrincipalMethod => text(&self.who.method),
            Fact::Subject => text(&self.who.subject),
            Fact::Groups => Value::Names(&self.who.groups),
            Fact::Scopes => Value::Names(&self.who.scopes),
            Fact::ServerName => text(name),
            Fact::ServerNamespace => text(namespace),
            // A rule that reads it is about tools only.
            Fact::ToolName => self.tool.map_or(Value::Null, text),
        }
    }

    fn arguments(&self) -> Result<Value<'_>> {
        let json = match self.asked.arguments {
            Arguments::Unknown => return Ok(Value::Unknown),
            Arguments::NotKept => return Err(Failure::NotKept),
            Arguments::Json(json) => json,
        };
        if self.tree.get().is_none() {
            let tree = Tree::read(json);
            let size = tree.as_ref().map_or(0, Tree::size);
            self.charge(size + json.len().min(super::json::MAX_BYTES) / JSON)?;
            return match self.tree.get_or_init(|| tree) {
                Ok(tree) => self.of_json(tree.root()),
                Err(failure) => Err(*failure),
            };
        }
        match self.tree.get() {
            Some(Ok(tree)) => self.of_json(tree.root()),
            Some(Err(failure)) => Err(*failure),
            None => Err(Failure::NotKept),
        }
    }

    fn of_json<'v>(&self, json: Json<'v>) -> Result<Value<'v>> {
        Ok(match json.shape()? {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(value),
            Shape::Int(value) => Value::Int(value),
            Shape::Double(value) => Value::Double(value),
            Shape::Text(text, written) => {
                // An escape costs more than a plain byte, and each makes the text shorter than it is written.
                self.charge(text.len() / TEXT + (written - text.len()) / ESCAPED)?;
                Value::Text(text)
            }
            Shape::List(count) => Value::List(json, count),
            Shape::Object(count) => Value::Object(json, count),
        })
    }

    fn of_item<'v>(&self, item: Item<'v>) -> Result<Value<'v>> {
        self.charge(1)?;
        match item {
            Item::Name(name) => Ok(Value::Text(Cow::Borrowed(name))),
            Item::Const(value) => Ok(of_const(value)),
            Item::Json(json) => self.of_json(json),
        }
    }

    fn of_found<'v>(&self, found: Found<'v>) -> Result<Value<'v>> {
        match found {
            Found::Value(json) => self.of_json(json),
            Found::Unknown => Ok(Value::Unknown),
        }
    }

    /// The value of a key.
    fn member<'v>(&self, of: &Value<'v>, key: &str) -> Result<Option<Found<'v>>> {
        match of {
            Value::Unknown => Ok(Some(Found::Unknown)),
            Value::Object(json, _) => {
                let (found, looked) = json.member(key);
                self.charge(looked.saturating_mul(1 + key.len() / TEXT))?;
                Ok(found.map(Found::Value))
            }
            _ => Err(Failure::WrongKind),
        }
    }

    fn index<'v>(&self, of: &Value<'v>, key: &Value<'v>) -> Result<Value<'v>> {
        match (of, key) {
            (Value::Unknown, _) | (_, Value::Unknown) => Ok(Value::Unknown),
            (Value::Object(..), Value::Text(key)) => self
                .member(of, key)?
                .map_or(Err(Failure::Missing), |found| self.of_found(found)),
            (_, Value::Int(at)) => {
                let at = usize::try_from(*at).map_err(|_| Failure::Missing)?;
                let mut items = match of {
                    Value::Object(..) => return Err(Failure::WrongKind),
                    list => items(list).ok_or(Failure::WrongKind)?,
                };
                // Walked from the first: no list is longer than this.
                self.charge(at.min(super::json::MAX_ITEMS))?;
                items
                    .nth(at)
                    .map_or(Err(Failure::Missing), |item| self.of_item(item))
            }
            _ => Err(Failure::WrongKind),
        }
    }

    fn size<'v>(&self, of: &Value<'v>) -> Result<Value<'v>> {
        let count = match of {
            Value::Unknown => return Ok(Value::Unknown),
            Value::Text(text) => {
                self.charge(text.len() / TEXT)?;
                text.chars().count()
            }
            Value::Names(list) => list.len(),
            Value::Consts(list) => list.len(),
            Value::List(_, count) | Value::Object(_, count) => *count,
            _ => return Err(Failure::WrongKind),
        };
        Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    fn compare<'v>(&self, comparison: Comparison, left: &Value<'v>, right: &Value<'v>) -> Result<Value<'v>> {
        if matches!(left, Value::Unknown) || matches!(right, Value::Unknown) {
            return Ok(Value::Unknown);
        }
        let order = || self.order(left, right)?.ok_or(Failure::WrongKind);
        Ok(Value::Bool(match comparison {
            Comparison::Equal => self.equal(left, right)?,
            Comparison::NotEqual => !self.equal(left, right)?,
            Comparison::Less => order()?.is_lt(),
            Comparison::LessOrEqual => order()?.is_le(),
            Comparison::Greater => order()?.is_gt(),
            Comparison::GreaterOrEqual => order()?.is_ge(),
        }))
    }

    /// The order of two numbers or two strings.
    fn order(&self, left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>> {
        Ok(match (left, right) {
            (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
            (Value::Int(left), Value::Double(right)) => int_and_double(*left, *right),
            (Value::Double(left), Value::Int(right)) => int_and_double(*right, *left).map(Ordering::reverse),
            (Value::Text(left), Value::Text(right)) => {
                self.charge(left.len().min(right.len()) / TEXT)?;
                Some(left.cmp(right))
            }
            _ => None,
        })
    }

    /// Values of different kinds are not equal. Objects cannot be compared.
    fn equal(&self, left: &Value<'_>, right: &Value<'_>) -> Result<bool> {
        match (left, right) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
            (Value::Object(..), Value::Object(..)) => Err(Failure::WrongKind),
            _ => match (items_of_list(left), items_of_list(right)) {
                (Some(mut left), Some(mut right)) => loop {
                    match (left.next(), right.next()) {
                        (None, None) => return Ok(true),
                        (Some(left), Some(right)) => {
                            if !self.equal(&self.of_item(left)?, &self.of_item(right)?)? {
                                return Ok(false);
                            }
                        }
                        _ => return Ok(false),
                    }
                },
                _ => Ok(self.order(left, right)?.is_some_and(Ordering::is_eq)),
            },
        }
    }

    fn is_in<'v>(&self, wanted: &Value<'v>, list: &Value<'v>) -> Result<Value<'v>> {
        match (wanted, list) {
            (Value::Unknown, _) | (_, Value::Unknown) => Ok(Value::Unknown),
            (Value::Text(key), Value::Object(..)) => Ok(Value::Bool(self.member(list, key)?.is_some())),
            _ => {
                let mut failure = None;
                for item in items_of_list(list).ok_or(Failure::WrongKind)? {
                    match self.of_item(item).and_then(|item| self.equal(wanted, &item)) {
                        Ok(true) => return Ok(Value::Bool(true)),
                        Ok(false) => {}
                        Err(Failure::TooMuch) => return Err(Failure::TooMuch),
                        Err(other) => failure = failure.or(Some(other)),
                    }
                }
                failure.map_or(Ok(Value::Bool(false)), Err)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Found<'v> {
    Value(Json<'v>),
    Unknown,
}

fn of_const(value: &Const) -> Value<'_> {
    match value {
        Const::Null => Value::Null,
        Const::Bool(value) => Value::Bool(*value),
        Const::Int(value) => Value::Int(*value),
        Const::Double(value) => Value::Double(*value),
        Const::Text(text) => Value::Text(Cow::Borrowed(text)),
    }
}

/// True or false; none where it is unknown.
fn truth(value: &Value<'_>) -> Result<Option<bool>> {
    match value {
        Value::Bool(value) => Ok(Some(*value)),
        Value::Unknown => Ok(None),
        _ => Err(Failure::WrongKind),
    }
}

/// Any of them that is `absorbing` decides, whatever the others are; then what is unknown counts, then what fails.
fn fold<'v>(absorbing: bool, all: impl Iterator<Item = Result<Value<'v>>>) -> Result<Value<'v>> {
    let mut unknown = false;
    let mut failure = None;
    for one in all {
        match one.and_then(|value| truth(&value)) {
            Ok(Some(value)) if value == absorbing => return Ok(Value::Bool(absorbing)),
            Ok(Some(_)) => {}
            Ok(None) => unknown = true,
            Err(Failure::TooMuch) => return Err(Failure::TooMuch),
            Err(other) => failure = failure.or(Some(other)),
        }
    }
    match failure {
        _ if unknown => Ok(Value::Unknown),
        Some(failure) => Err(failure),
        None => Ok(Value::Bool(!absorbing)),
    }
}

/// The items of a list, or the keys of an object.
fn items<'v>(value: &Value<'v>) -> Option<impl Iterator<Item = Item<'v>> + use<'v>> {
    let (names, consts, json) = match value {
        Value::Names(names) => (*names, &[][..], None),
        Value::Consts(consts) => (&[][..], *consts, None),
        Value::List(json, _) | Value::Object(json, _) => (&[][..], &[][..], Some(*json)),
        _ => return None,
    };
    let names = names.iter().map(|name| Item::Name(name));
    let json = json.into_iter().flat_map(Json::items).map(Item::Json);
    Some(names.chain(consts.iter().map(Item::Const)).chain(json))
}

fn items_of_list<'v>(value: &Value<'v>) -> Option<impl Iterator<Item = Item<'v>> + use<'v>> {
    match value {
        Value::Object(..) => None,
        list => items(list),
    }
}

/// The order of a whole number and a floating one, without rounding either.
fn int_and_double(int: i64, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        return None;
    }
    if double >= BEYOND {
        return Some(Ordering::Less);
    }
    if double < -BEYOND {
        return Some(Ordering::Greater);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and within the range that was just checked"
    )]
    let whole = double.trunc() as i64;
    Some(
        int.cmp(&whole)
            .then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)),
    )
}
