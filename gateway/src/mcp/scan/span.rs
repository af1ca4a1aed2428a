//! Places in a JSON text.

use std::num::NonZeroU32;

/// Where a JSON value stands in its text. Four bytes each way: texts over 4 GiB are refused before they are scanned.
///
/// A value is never empty, so its end is never zero, and `Option<Span>` is as small as `Span`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    start: u32,
    end: NonZeroU32,
}

impl Span {
    /// From `start` to just before `end`; `None` when that is empty or does not fit.
    pub fn new(start: usize, end: usize) -> Option<Self> {
        if start >= end {
            return None;
        }
        Some(Self {
            start: u32::try_from(start).ok()?,
            end: NonZeroU32::new(u32::try_from(end).ok()?)?,
        })
    }

    /// Offset of the first byte.
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// Offset just after the last byte.
    pub const fn end(self) -> usize {
        self.end.get() as usize
    }

    /// The bytes here. Empty when the text is not the one this span was made for.
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start()..self.end()).unwrap_or_default()
    }

    /// The first byte, which tells a JSON value's type.
    pub fn first(self, text: &[u8]) -> u8 {
        text.get(self.start()).copied().unwrap_or_default()
    }

    /// The same place counted from `origin`; `None` when it begins before it.
    pub(super) fn relative_to(self, origin: usize) -> Option<Self> {
        Self::new(self.start().checked_sub(origin)?, self.end().checked_sub(origin)?)
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
