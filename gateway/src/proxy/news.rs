//! What changes at servers, for whoever wants to know.
//!
//! A server says that a list changed, on the stream that the gateway itself listens on ([`feed`]) or on that of any call.
//! The keeper asks for the list then, and only when the new one is in force everybody is told: who hears of it and asks
//! gets the new list. One channel carries the news of all servers; who may hear of which, is judged by the hearer.

pub mod feed;
pub mod follow;
pub mod heard;
pub mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use portcullis_config::Features;

use super::primitive::Primitive;
use crate::mcp::method::Method;

pub use heard::Heard;

/// News kept for those who are slow to hear: who misses some takes all lists for changed.
pub const KEPT: usize = 64;

/// A list of a server changed, and the new one is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// `namespace/name`.
    pub server: Arc<str>,
    /// Which. Templates are told of as resources, as clients are.
    pub list: Primitive,
}

/// Some of the lists that clients are told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists(u8);

impl Lists {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(0b111);
    /// None of them, but the server is to be asked.
    const ASK: u8 = 0b1000;
    /// In the order in which they are told.
    const EACH: [Primitive; 3] = [Primitive::Tools, Primitive::Prompts, Primitive::Resources];

    /// This one. Templates are resources.
    pub const fn of(primitive: Primitive) -> Self {
        Self(match primitive {
            Primitive::Tools => 0b1,
            Primitive::Prompts => 0b10,
            Primitive::Resources | Primitive::Templates => 0b100,
        })
    }

    /// What a notification says that changed, if it says so.
    pub const fn changed_by(method: Method) -> Option<Self> {
        match method {
            Method::ToolsListChanged => Some(Self::of(Primitive::Tools)),
            Method::PromptsListChanged => Some(Self::of(Primitive::Prompts)),
            Method::ResourcesListChanged => Some(Self::of(Primitive::Resources)),
            _ => None,
        }
    }

    /// The notification that tells of this one.
    pub const fn notification(primitive: Primitive) -> Method {
        match primitive {
            Primitive::Tools => Method::ToolsListChanged,
            Primitive::Prompts => Method::PromptsListChanged,
            Primitive::Resources | Primitive::Templates => Method::ResourcesListChanged,
        }
    }

    /// Those that are on.
    pub fn on(features: Features) -> Self {
        Self::EACH
            .into_iter()
            .filter(|primitive| primitive.is_in(features))
            .fold(Self::NONE, |all, primitive| all.and(Self::of(primitive)))
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of these.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Is this one among them?
    pub const fn has(self, primitive: Primitive) -> bool {
        self.0 & Self::of(primitive).0 != 0
    }

    /// Is it none?
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// One after the other.
    pub fn each(self) -> impl Iterator<Item = Primitive> {
        Self::EACH.into_iter().filter(move |list| self.has(*list))
    }

    /// Takes the first one out.
    pub fn pop(&mut self) -> Option<Primitive> {
        let first = self.each().next()?;
        self.0 &= !Self::of(first).0;
        Some(first)
    }
}

/// What a server said that changed, and was not asked for since.
#[derive(Debug, Default)]
pub struct Told(AtomicU8);

impl Told {
    /// It says so.
    pub fn add(&self, lists: Lists) {
        self.0.fetch_or(lists.0, Ordering::AcqRel);
    }

    /// It may have said something that nobody heard: it is to be asked, and told is only what is found changed.
    pub fn ask(&self) {
        self.0.fetch_or(Lists::ASK, Ordering::AcqRel);
    }

    /// Did it say anything?
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// All of it. Unless it is settled, it stands as before.
    pub fn take(&self) -> Taken<'_> {
        Taken {
            told: self,
            what: self.0.swap(0, Ordering::AcqRel),
        }
    }
}

/// What was told, while the server is asked.
pub struct Taken<'t> {
    told: &'t Told,
    what: u8,
}

impl Taken<'_> {
    /// The server has been asked. Gives the lists.
    pub fn settle(mut self) -> Lists {
        Lists(std::mem::take(&mut self.what)).only(Lists::ALL)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.told.0.fetch_or(self.what, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_stands_until_it_is_settled() {
        let told = Told::default();
        told.add(Lists::of(Primitive::Templates));
        told.ask();
        drop(told.take());
        assert!(told.is_any(), "the question failed");
        let taken = told.take();
        told.add(Lists::of(Primitive::Tools));
        assert_eq!(taken.settle(), Lists::of(Primitive::Resources));
        assert_eq!(
            told.take().settle(),
            Lists::of(Primitive::Tools),
            "what was told meanwhile is asked for again"
        );
        assert!(!told.is_any());
    }

    #[test]
    fn lists_are_told_by_their_notifications() {
        for primitive in Primitive::ALL {
            let lists = Lists::changed_by(Lists::notification(primitive)).unwrap();
            assert_eq!(lists, Lists::of(primitive));
        }
        let mut all = Lists::ALL;
        assert_eq!(all.pop(), Some(Primitive::Tools));
        assert_eq!(all.each().count(), 2);
        assert_eq!(Lists::on(Features::default()), Lists::of(Primitive::Tools));
    }
}
