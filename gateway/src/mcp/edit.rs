//! Changing named members of a message and nothing else: one new text, one allocation, every other byte as it came.

use bytes::{Bytes, BytesMut};

use super::scan::Span;

/// Two changes of one place, or of one object's members: the caller's mistake, and never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two changes of a message overlap")]
pub struct Overlap;

/// One stretch of the text and what stands there instead.
#[derive(Clone, Copy)]
struct Change<'a> {
    start: usize,
    end: usize,
    with: &'a [u8],
}

/// How many changes fit without an allocation.
const INLINE: usize = 12;

/// How many objects' members one patch may change: message, params, `_meta` and one to spare.
const OBJECTS: usize = 4;

/// No object starts there.
const FREE: usize = usize::MAX;

/// Changes of one text, made all at once by [`Patch::apply`].
pub struct Patch<'a> {
    text: &'a [u8],
    inline: [Change<'a>; INLINE],
    len: usize,
    spill: Vec<Change<'a>>,
    /// Where the objects start whose members have been changed.
    objects: [usize; OBJECTS],
    conflict: bool,
}

/// A member to put into an object: its key, unescaped and free of characters that need it, and its value as JSON.
pub type NewMember<'a> = (&'a str, &'a [u8]);

impl<'a> Patch<'a> {
    /// No change of `text` yet.
    pub const fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            inline: [Change {
                start: 0,
                end: 0,
                with: &[],
            }; INLINE],
            len: 0,
            spill: Vec::new(),
            objects: [FREE; OBJECTS],
            conflict: false,
        }
    }

    /// Puts `with` in place of the value at `span`.
    pub fn replace(&mut self, span: Span, with: &'a [u8]) -> &mut Self {
        self.push(span.start(), span.end(), with)
    }

    /// Takes the members whose values are at `remove` out of the object at `object`, and puts `insert` at its start.
    ///
    /// All that is done to the members of one object is done in one call, since where the commas go depends on all of
    /// it; a second call for an object makes [`Self::apply`] fail.
    pub fn members(&mut self, object: Span, remove: &[Option<Span>], insert: &[NewMember<'a>]) -> &mut Self {
        if remove.iter().all(Option::is_none) && insert.is_empty() {
            return self;
        }
        self.claim(object);
        let kept = self.remove(object, remove);
        let at = object.start() + 1;
        let mut rest = insert.iter().peekable();
        while let Some((key, value)) = rest.next() {
            self.push(at, at, b"\"")
                .push(at, at, key.as_bytes())
                .push(at, at, b"\":")
                .push(at, at, value);
            if rest.peek().is_some() || kept {
                self.push(at, at, b",");
            }
        }
        self
    }

    /// Notes that an object's members are changed.
    fn claim(&mut self, object: Span) {
        let free = self
            .objects
            .iter_mut()
            .find(|start| **start == object.start() || **start == FREE);
        match free {
            Some(slot) if *slot == FREE => *slot = object.start(),
            _ => self.conflict = true,
        }
    }

    /// Cuts members out; whether any stays.
    fn remove(&mut self, object: Span, remove: &[Option<Span>]) -> bool {
        let mut values: Vec<Span> = remove.iter().flatten().copied().collect();
        let after_open = next_token(self.text, object.start() + 1);
        if values.is_empty() {
            return self.text.get(after_open) != Some(&b'}');
        }
        values.sort_unstable_by_key(|span| span.start());
        let mut values = values.into_iter().peekable();
        let mut kept = false;
        while let Some(first) = values.next() {
            // A run of members next to one another goes as a whole.
            let start = member_start(self.text, first);
            let mut end = first.end();
            while let Some(next) = values.next_if(|next| {
                let comma = next_token(self.text, end);
                member_start(self.text, *next) == next_token(self.text, comma + 1)
            }) {
                end = next.end();
            }
            let before = last_token(self.text, start);
            let after = next_token(self.text, end);
            let comma_after = self.text.get(after) == Some(&b',');
            let comma_before = self.text.get(before) == Some(&b',');
            kept |= comma_after || comma_before;
            match (comma_after, comma_before) {
                (true, _) => self.push(start, next_token(self.text, after + 1), b""),
                (false, true) => self.push(before, end, b""),
                (false, false) => self.push(start, end, b""),
            };
        }
        kept
    }

    /// The new text.
    pub fn apply(mut self) -> Result<Bytes, Overlap> {
        if self.conflict {
            return Err(Overlap);
        }
        let changes = if self.spill.is_empty() {
            self.inline.get_mut(..self.len).unwrap_or_default()
        } else {
            &mut self.spill
        };
        // Stable: what is put in at one place keeps its order.
        changes.sort_by_key(|change| (change.start, change.end));
        let added: usize = changes.iter().map(|change| change.with.len()).sum();
        let mut out = BytesMut::with_capacity(self.text.len() + added);
        let mut done = 0;
        for change in &*changes {
            let kept = self.text.get(done..change.start).ok_or(Overlap)?;
            out.extend_from_slice(kept);
            out.extend_from_slice(change.with);
            done = change.end;
        }
        out.extend_from_slice(self.text.get(done..).ok_or(Overlap)?);
        Ok(out.freeze())
    }

    fn push(&mut self, start: usize, end: usize, with: &'a [u8]) -> &mut Self {
        let change = Change { start, end, with };
        if !self.spill.is_empty() {
            self.spill.push(change);
        } else if let Some(slot) = self.inline.get_mut(self.len) {
            *slot = change;
            self.len += 1;
        } else {
            self.spill.extend_from_slice(&self.inline);
            self.spill.push(change);
        }
        self
    }
}

/// The first byte at or after `at` that is not whitespace.
fn next_token(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The last byte before `at` that is not whitespace.
fn last_token(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before
        .iter()
        .rposition(|byte| !byte.is_ascii_whitespace())
        .unwrap_or_default()
}

/// Where the key of the member with its value at `value` begins, found backwards.
fn member_start(text: &[u8], value: Span) -> usize {
    let colon = last_token(text, value.start());
    let closing = last_token(text, colon);
    let mut at = closing;
    // Inside a string a quote follows an odd number of backslashes; before the opening quote there are none.
    while let Some(quote) = text
        .get(..at)
        .and_then(|before| before.iter().rposition(|byte| *byte == b'"'))
    {
        at = quote;
        let slashes = text.get(..quote).map_or(0, |before| {
            before.iter().rev().take_while(|byte| **byte == b'\\').count()
        });
        if slashes % 2 == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests;
