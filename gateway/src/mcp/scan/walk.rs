//! Going through an array or an object that has been scanned: a tools list, capabilities, an error's data.

use super::keys::Keys;
use super::span::Span;
use super::text::{contents, unescape_raw};
use super::token::Cursor;
use super::{Fault, MAX_DEPTH};

/// The values of the array at `span`, in order. Of anything but an array: none.
///
/// Places are those in `text`. A text that was not scanned gives a fault as its last item.
pub fn elements(text: &[u8], span: Span) -> Elements<'_> {
    Elements(Walk::new(text, span, b'['))
}

/// The members of the object at `span`, in order: the key as it is written, with its quotes, and the value.
/// Of anything but an object: none.
pub fn fields(text: &[u8], span: Span) -> Fields<'_> {
    Fields(Walk::new(text, span, b'{'))
}

/// The value of the member called `name` of the object at `span`; the first one, should a server have sent two.
pub fn field(text: &[u8], span: Span, name: &str) -> Option<Span> {
    fields(text, span)
        .map_while(Result::ok)
        .find(|(key, _)| *unescape_raw(contents(key.of(text))) == *name.as_bytes())
        .map(|(_, value)| value)
}

/// Whether a key stands twice in the object at `span`, however it is spelled: two parsers may read such an object
/// differently.
pub fn repeats_a_key(text: &[u8], span: Span) -> bool {
    let mut keys = Keys::new();
    fields(text, span).map_while(Result::ok).any(|(key, _)| {
        let key = contents(key.of(text));
        !keys.add(key, key.contains(&b'\\'))
    })
}

/// Iterator of [`elements`].
#[derive(Clone)]
pub struct Elements<'t>(Walk<'t>);

/// Iterator of [`fields`].
#[derive(Clone)]
pub struct Fields<'t>(Walk<'t>);

#[derive(Clone)]
struct Walk<'t> {
    at: Cursor<'t>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Just after the opening bracket.
    First,
    /// Just after a value.
    Next,
    Done,
}

impl<'t> Walk<'t> {
    fn new(text: &'t [u8], span: Span, open: u8) -> Self {
        let within = text.get(..span.end()).unwrap_or_default();
        let mut at = Cursor::starting_at(within, span.start());
        let state = if at.eat(open) { State::First } else { State::Done };
        Self { at, state }
    }

    /// To the start of the next item; `false` at the end.
    fn step(&mut self, close: u8) -> Result<bool, Fault> {
        self.at.space();
        match self.state {
            State::Done => return Ok(false),
            State::First if self.at.eat(close) => {
                self.state = State::Done;
                return Ok(false);
            }
            State::First => self.state = State::Next,
            State::Next if self.at.eat(b',') => self.at.space(),
            State::Next => {
                self.state = State::Done;
                self.at.expect(close)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn value(&mut self) -> Result<Span, Fault> {
        let start = self.at.pos();
        self.at.skip_value(1, MAX_DEPTH)?;
        Span::new(start, self.at.pos()).ok_or(Fault::TooLong)
    }

    fn field(&mut self) -> Result<(Span, Span), Fault> {
        let start = self.at.pos();
        self.at.string()?;
        let key = Span::new(start, self.at.pos()).ok_or(Fault::TooLong)?;
        self.at.space();
        self.at.expect(b':')?;
        self.at.space();
        Ok((key, self.value()?))
    }

    /// The next item by `read`; after a fault there is none.
    fn next<T>(
        &mut self,
        close: u8,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let item = match self.step(close) {
            Ok(false) => return None,
            Ok(true) => read(self),
            Err(fault) => Err(fault),
        };
        if item.is_err() {
            self.state = State::Done;
        }
        Some(item)
    }
}

impl Iterator for Elements<'_> {
    type Item = Result<Span, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(b']', Walk::value)
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<(Span, Span), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(b'}', Walk::field)
    }
}
