//! `Mcp-Param-*`: tool arguments that stateless clients repeat in headers, as the tool's schema asks for with
//! `x-mcp-header`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{self, PARAM_PREFIX};
use super::reply::Cause;
use super::scan::{Span, elements, field, fields, unescape};

/// The keyword that asks for a header.
const KEYWORD: &str = "x-mcp-header";
/// More annotations than that are no tool's need.
const MAX_ANNOTATIONS: usize = 64;
/// Nor is deeper nesting of schemas.
const MAX_DEPTH: u32 = 64;

/// A schema asks for headers in a way that the specification forbids: the tool is not to be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("x-mcp-header: {0}")]
pub struct BadAnnotation(&'static str);

/// One argument that is repeated in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The keys that lead to it from the arguments.
    path: Box<[Box<str>]>,
    /// The header, in lower case.
    header: HeaderName,
}

impl Annotation {
    /// The header's name.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }
}

/// What a tool's input schema (a JSON object) asks to be repeated in headers.
pub fn annotations(schema: &[u8]) -> Result<Vec<Annotation>, BadAnnotation> {
    let mut found = Vec::new();
    // Most schemas have none: one look at the bytes settles it. An escaped spelling is rare enough to be searched for.
    let mentioned = schema
        .windows(KEYWORD.len())
        .any(|window| window == KEYWORD.as_bytes());
    if !mentioned && !schema.contains(&b'\\') {
        return Ok(found);
    }
    if let Some(span) = Span::new(0, schema.len()) {
        let mut path = Vec::new();
        Collector {
            text: schema,
            found: &mut found,
        }
        .schema(span, Some(&mut path), 1)?;
    }
    Ok(found)
}

/// Walks a schema. A path means that the walk has followed nothing but `properties`.
struct Collector<'t> {
    text: &'t [u8],
    found: &'t mut Vec<Annotation>,
}

impl Collector<'_> {
    fn schema(
        &mut self,
        at: Span,
        mut path: Option<&mut Vec<Box<str>>>,
        depth: u32,
    ) -> Result<(), BadAnnotation> {
        if depth > MAX_DEPTH {
            return Err(BadAnnotation("the schema nests too deep"));
        }
        for item in fields(self.text, at) {
            let (key, value) = item.map_err(|_| BadAnnotation("the schema is not JSON"))?;
            let Ok(key) = unescape(key.of(self.text)) else {
                continue;
            };
            match &*key {
                KEYWORD => self.annotation(at, value, path.as_deref())?,
                "properties" => self.map(value, path.as_deref_mut(), depth)?,
                "$defs" | "definitions" | "patternProperties" | "dependentSchemas" | "dependencies" => {
                    self.map(value, None, depth)?;
                }
                // Values, not schemas: what looks like the keyword in there is data.
                "default" | "const" | "enum" | "examples" | "required" | "dependentRequired" => {}
                _ => self.other(value, depth)?,
            }
        }
        Ok(())
    }

    /// An object whose values are schemas.
    fn map(
        &mut self,
        at: Span,
        mut path: Option<&mut Vec<Box<str>>>,
        depth: u32,
    ) -> Result<(), BadAnnotation> {
        for item in fields(self.text, at) {
            let (key, value) = item.map_err(|_| BadAnnotation("the schema is not JSON"))?;
            let name = unescape(key.of(self.text)).ok();
            match (path.as_deref_mut(), name) {
                (Some(path), Some(name)) => {
                    path.push(name.into());
                    self.schema(value, Some(path), depth + 1)?;
                    path.pop();
                }
                _ => self.schema(value, None, depth + 1)?,
            }
        }
        Ok(())
    }

    /// A keyword whose value is a schema, a list of schemas, or no schema.
    fn other(&mut self, at: Span, depth: u32) -> Result<(), BadAnnotation> {
        match at.first(self.text) {
            b'{' => self.schema(at, None, depth + 1),
            b'[' => {
                for item in elements(self.text, at) {
                    let item = item.map_err(|_| BadAnnotation("the schema is not JSON"))?;
                    self.other(item, depth + 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn annotation(
        &mut self,
        schema: Span,
        value: Span,
        path: Option<&Vec<Box<str>>>,
    ) -> Result<(), BadAnnotation> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Err(BadAnnotation("stands where properties alone do not lead"));
        };
        let raw = value.of(self.text);
        let name = (raw.first() == Some(&b'"')).then(|| unescape(raw).ok()).flatten();
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(BadAnnotation("is not a name"));
        };
        let header = HeaderName::try_from(format!("{PARAM_PREFIX}{name}"))
            .map_err(|_| BadAnnotation("is not a token of HTTP"))?;
        let kind = field(self.text, schema, "type").map(|kind| kind.of(self.text));
        if !matches!(kind, Some(b"\"string\"" | b"\"integer\"" | b"\"boolean\"")) {
            return Err(BadAnnotation(
                "stands on something other than a string, integer or boolean",
            ));
        }
        if self.found.iter().any(|other| other.header == header) {
            return Err(BadAnnotation("names a header twice"));
        }
        if self.found.len() >= MAX_ANNOTATIONS {
            return Err(BadAnnotation("stands in too many places"));
        }
        self.found.push(Annotation {
            path: path.clone().into(),
            header,
        });
        Ok(())
    }
}

/// The headers for a call with these raw arguments. Arguments that are absent or null have none.
pub fn headers_for(annotations: &[Annotation], arguments: Option<&[u8]>) -> Vec<(HeaderName, HeaderValue)> {
    annotations
        .iter()
        .filter_map(|annotation| {
            let text = text_of(value_at(arguments?, &annotation.path)?)?;
            Some((annotation.header.clone(), headers::encode(&text)))
        })
        .collect()
}

/// Holds the headers of a call against its arguments: what is annotated and there must be repeated, and truly.
pub fn check(annotations: &[Annotation], headers: &HeaderMap, arguments: Option<&[u8]>) -> Result<(), Cause> {
    const HEADER: &str = "Mcp-Param-*";
    let mismatch = |problem| Cause::HeaderMismatch {
        header: HEADER,
        problem,
    };
    for annotation in annotations {
        let header = headers::single(headers, &annotation.header, HEADER)?;
        let value = arguments.and_then(|arguments| value_at(arguments, &annotation.path));
        let text = value.and_then(text_of);
        match (header, text) {
            (None, None) => {}
            (None, Some(_)) => return Err(mismatch("is missing for an argument that is there")),
            (Some(_), None) => return Err(mismatch("repeats an argument that is not there")),
            (Some(header), Some(text)) => {
                let header = headers::decode(header).map_err(|_| mismatch("cannot be decoded"))?;
                let number = value.is_some_and(|value| matches!(value.first(), Some(b'-' | b'0'..=b'9')));
                if header != text && !(number && same_number(&header, &text)) {
                    return Err(mismatch("differs from the argument in the body"));
                }
            }
        }
    }
    Ok(())
}

/// The value that a path leads to.
fn value_at<'t>(arguments: &'t [u8], path: &[Box<str>]) -> Option<&'t [u8]> {
    let start = Span::new(0, arguments.len())?;
    let found = path.iter().try_fold(start, |at, key| field(arguments, at, key))?;
    Some(found.of(arguments))
}

/// The text of a string, number or boolean. Of anything else, and of a string without a text, there is none.
fn text_of(value: &[u8]) -> Option<Cow<'_, str>> {
    match value.first()? {
        b'"' => unescape(value).ok(),
        b'-' | b'0'..=b'9' | b't' | b'f' => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        _ => None,
    }
}

/// Whether two spellings mean one whole number that every implementation holds exactly.
fn same_number(one: &str, other: &str) -> bool {
    const SAFE: f64 = 9_007_199_254_740_991.0;
    let digits = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
    };
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(a), Ok(b)) => digits(one) && digits(other) && a.abs() <= SAFE && (a - b).abs() == 0.0,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
