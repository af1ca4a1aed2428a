//! The words of a condition.

use super::Mistake;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(Box<str>),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    /// One of [`MARKS`].
    Mark(&'static str),
    End,
}

/// Punctuation, longer marks before those they begin with.
const MARKS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ",", ".", "(", ")", "[", "]", "-", "+", "*",
    "/", "%", "{", "}",
];

/// What a number may not end in.
const AFTER_NUMBER: &str = "a number is written in digits, with a dot and an exponent where it has one";

/// Splits a condition into words, each with the place of its first character, counted from 1.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Mistake> {
    let mut reader = Reader { text, rest: text };
    let mut found = Vec::new();
    loop {
        reader.skip_space();
        let at = reader.place();
        let token = reader.token().map_err(|message| Mistake { at, message })?;
        let end = token == Token::End;
        found.push((at, token));
        if end {
            return Ok(found);
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn place(&self) -> usize {
        let done = self.text.len() - self.rest.len();
        self.text.get(..done).map_or(0, |done| done.chars().count()) + 1
    }

    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            match self.rest.strip_prefix("//") {
                Some(comment) => self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest),
                None => return,
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.strip_prefix(c).unwrap_or_default();
        Some(c)
    }

    /// Takes characters as long as they are `wanted`.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        taken
    }

    fn token(&mut self) -> Result<Token, String> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if first == '"' || first == '\'' {
            return self.text(false);
        }
        if matches!(first, 'r' | 'R')
            && self
                .rest
                .get(1..)
                .is_some_and(|rest| rest.starts_with(['"', '\'']))
        {
            self.next();
            return self.text(true);
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
            if matches!(name, "b" | "B" | "br" | "rb") && self.rest.starts_with(['"', '\'']) {
                return Err("bytes are not available: write a string".into());
            }
            return Ok(Token::Name(name.into()));
        }
        for mark in MARKS {
            if let Some(rest) = self.rest.strip_prefix(mark) {
                self.rest = rest;
                return Ok(Token::Mark(mark));
            }
        }
        Err(format!("{first:?} means nothing here"))
    }

    fn number(&mut self) -> Result<Token, String> {
        let too_large = |text: &str| format!("{text} does not fit into 64 bits");
        let token = if self.rest.starts_with("0x") || self.rest.starts_with("0X") {
            let text = self.take(|c| c.is_ascii_alphanumeric());
            let digits = text.get(2..).unwrap_or_default();
            Token::Int(i64::from_str_radix(digits, 16).map_err(|_| too_large(text))?)
        } else {
            let start = self.rest;
            self.take(|c| c.is_ascii_digit());
            let mut whole = true;
            let mut ahead = self.rest.chars();
            if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
                whole = false;
                self.next();
                self.take(|c| c.is_ascii_digit());
            }
            if self.rest.starts_with(['e', 'E']) {
                whole = false;
                self.next();
                if self.rest.starts_with(['+', '-']) {
                    self.next();
                }
                self.take(|c| c.is_ascii_digit());
            }
            let text = start.get(..start.len() - self.rest.len()).unwrap_or_default();
            if whole {
                Token::Int(text.parse().map_err(|_| too_large(text))?)
            } else {
                let value: f64 = text.parse().map_err(|_| AFTER_NUMBER.to_owned())?;
                if !value.is_finite() {
                    return Err(too_large(text));
                }
                Token::Double(value)
            }
        };
        match self.rest.chars().next() {
            Some(c) if c.is_ascii_alphanumeric() || c == '_' => Err(AFTER_NUMBER.into()),
            _ => Ok(token),
        }
    }

    /// A string; a raw one has no escapes.
    fn text(&mut self, raw: bool) -> Result<Token, String> {
        let quote = self.next().unwrap_or('"');
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n' | '\r') => return Err(format!("the string is not closed by {quote}")),
                Some(c) if c == quote => return Ok(Token::Text(text.into())),
                Some('\\') if !raw => text.push(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let (digits, radix) = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('a') => return Ok('\x07'),
            Some('b') => return Ok('\x08'),
            Some('f') => return Ok('\x0c'),
            Some('v') => return Ok('\x0b'),
            Some(c @ ('\\' | '"' | '\'' | '`' | '?')) => return Ok(c),
            Some('x' | 'X') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            _ => {
                return Err("no such escape in a string: write \\\\ for a backslash, or r'...' for a string without escapes".into());
            }
        };
        let mut code = 0_u32;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(radix));
            let digit = digit.ok_or_else(|| format!("this escape takes {digits} hexadecimal digits"))?;
            code = code.wrapping_mul(radix).wrapping_add(digit);
        }
        char::from_u32(code).ok_or_else(|| format!("{code:x} is no character"))
    }
}
