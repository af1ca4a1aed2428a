//! The limits that count one request, charged together or not at all.

use super::gcra::Wait;
use super::key::Key;
use super::{Limit, Limited, Quota};

/// Up to this many limits are charged without allocation.
const INLINE: usize = 8;

/// The limits that count a request, and the bucket that it counts in with each.
#[derive(Default)]
pub(super) struct Counting<'g> {
    first: [Option<(&'g Limit, Key)>; INLINE],
    len: usize,
    more: Vec<(&'g Limit, Key)>,
}

impl<'g> Counting<'g> {
    /// One more.
    pub(super) fn push(&mut self, limit: &'g Limit, key: Key) {
        match self.first.get_mut(self.len) {
            Some(slot) => *slot = Some((limit, key)),
            None => self.more.push((limit, key)),
        }
        self.len += 1;
    }

    /// In the order in which they came.
    fn iter(&self) -> impl Iterator<Item = &(&'g Limit, Key)> {
        let first = self.first.get(..self.len.min(INLINE)).unwrap_or_default();
        first.iter().flatten().chain(&self.more)
    }

    /// Checks all, then charges them. A limit that another request exhausted in between refuses, and what was charged by
    /// then is given back: a refused request costs nothing.
    pub(super) fn charge(&self, now: u64) -> Result<Option<Quota>, Limited> {
        // A single one is checked by charging it.
        if self.len > 1 {
            let refusing = self
                .iter()
                .filter_map(|(limit, key)| Some((limit, limit.check(key, now).err()?)));
            if let Some((limit, wait)) = refusing.max_by_key(|(_, Wait(nanos))| *nanos) {
                return Err(limit.limited(wait));
            }
        }
        let mut tightest: Option<(&Limit, u64, u64)> = None;
        for (charged, (limit, key)) in self.iter().enumerate() {
            match limit.charge(key, now) {
                Ok(tat) => {
                    let remaining = limit.rate.remaining(tat, now);
                    if tightest.is_none_or(|(_, _, least)| remaining < least) {
                        tightest = Some((limit, tat, remaining));
                    }
                }
                Err(wait) => {
                    for (earlier, key) in self.iter().take(charged) {
                        earlier.refund(key, now);
                    }
                    return Err(limit.limited(wait));
                }
            }
        }
        Ok(tightest.map(|(limit, tat, _)| limit.quota(tat, now)))
    }
}
