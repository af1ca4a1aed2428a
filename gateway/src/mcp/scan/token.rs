//! The tokens of RFC 8259, read by a cursor that only goes forward.

use super::Fault;

/// Eight copies of one byte.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Whitespace between tokens.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy)]
pub(super) struct Text<'t> {
    pub(super) raw: &'t [u8],
    pub(super) escaped: bool,
}

/// A place in the text.
#[derive(Clone)]
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    pos: usize,
}

impl<'t> Cursor<'t> {
    pub(super) const fn new(text: &'t [u8]) -> Self {
        Self { text, pos: 0 }
    }

    pub(super) const fn starting_at(text: &'t [u8], pos: usize) -> Self {
        Self { text, pos }
    }

    pub(super) const fn pos(&self) -> usize {
        self.pos
    }

    /// The place, for an error. Texts that do not fit have been refused.
    pub(super) fn offset(&self) -> u32 {
        u32::try_from(self.pos).unwrap_or(u32::MAX)
    }

    pub(super) const fn check_length(&self) -> Result<(), Fault> {
        if self.text.len() >= u32::MAX as usize {
            return Err(Fault::TooLong);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
    }

    /// Steps over `byte` if it stands here.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.pos += usize::from(there);
        there
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    /// Nothing but whitespace may follow.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.pos == self.text.len() {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    #[cold]
    pub(super) fn syntax(&self) -> Fault {
        Fault::Syntax(self.offset())
    }

    /// Anything but an object or an array.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.syntax()),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self
            .text
            .get(self.pos..)
            .is_some_and(|rest| rest.starts_with(word))
        {
            self.pos += word.len();
            return Ok(());
        }
        Err(self.syntax())
    }

    /// `-`? integer fraction? exponent?
    fn number(&mut self) -> Result<(), Fault> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pos += 1;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.pos;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.pos += 1;
        }
        if self.pos == start {
            Err(self.syntax())
        } else {
            Ok(())
        }
    }

    /// A string, its escapes checked and its bytes known to be UTF-8.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'t>, Fault> {
        self.expect(b'"')?;
        let start = self.pos;
        let mut escaped = false;
        let mut ascii = true;
        loop {
            self.plain_run();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x80..) => {
                    ascii = false;
                    while self.peek().is_some_and(|byte| byte >= 0x80) {
                        self.pos += 1;
                    }
                }
                Some(0x20..) => self.pos += 1,
                // A control character, or the text's end.
                _ => return Err(self.syntax()),
            }
        }
        let raw = self.text.get(start..self.pos).unwrap_or_default();
        self.pos += 1;
        if !ascii && std::str::from_utf8(raw).is_err() {
            return Err(Fault::Utf8(u32::try_from(start).unwrap_or(u32::MAX)));
        }
        Ok(Text { raw, escaped })
    }

    /// Steps over bytes that mean nothing in a string, eight at a time.
    #[inline]
    fn plain_run(&mut self) {
        while let Some(chunk) = self.text.get(self.pos..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            // The high bit of a byte is set where it is below 0x20, a quote, a backslash, or not ASCII. A borrow can
            // mark bytes above a marked one wrongly, never the lowest.
            let quote = word ^ eight(b'"');
            let slash = word ^ eight(b'\\');
            let marks = (word.wrapping_sub(eight(0x20))
                | quote.wrapping_sub(eight(1))
                | slash.wrapping_sub(eight(1))
                | word)
                & eight(0x80);
            if marks == 0 {
                self.pos += 8;
                continue;
            }
            self.pos += (marks.trailing_zeros() / 8) as usize;
            return;
        }
    }

    /// A backslash and what it escapes.
    fn escape(&mut self) -> Result<(), Fault> {
        self.pos += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 1,
            Some(b'u') => {
                self.pos += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.syntax());
                    }
                    self.pos += 1;
                }
            }
            _ => return Err(self.syntax()),
        }
        Ok(())
    }
}
