//! Verified tokens by their digest, so that a token's signature is judged once. Holds who a token belongs to and for
//! whom it is meant, never a decision: denials, audiences and expiry are looked at on each request.
//!
//! Bounded in entries and bytes per shard; a full shard drops what was not used since it last came round (second
//! chance), so that a flood of fresh tokens does not drive out those in use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::jwt::Verified;

/// SHA-256 of a token.
pub type TokenDigest = [u8; 32];

/// Shards, so that requests seldom meet at a lock.
const SHARDS: usize = 64;

/// Verified tokens.
#[derive(Debug)]
pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    entries_per_shard: usize,
    bytes_per_shard: usize,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<TokenDigest, Entry>,
    /// In the order in which they come up for dropping. Each entry stands here once.
    queue: VecDeque<TokenDigest>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    verified: Arc<Verified>,
    used: bool,
}

impl Cache {
    /// Room for about so many tokens and bytes.
    pub fn new(entries: usize, bytes: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            entries_per_shard: entries.div_ceil(SHARDS).max(1),
            bytes_per_shard: bytes.div_ceil(SHARDS),
        }
    }

    /// What is known of a token.
    pub fn get(&self, token: &TokenDigest) -> Option<Arc<Verified>> {
        let mut shard = self.lock(token);
        let entry = shard.entries.get_mut(token)?;
        entry.used = true;
        Some(entry.verified.clone())
    }

    /// Remembers a token, in place of what was known of it.
    pub fn insert(&self, token: TokenDigest, verified: Arc<Verified>) {
        let mut shard = self.lock(&token);
        let bytes = verified.weight();
        let entry = Entry {
            verified,
            used: false,
        };
        match shard.entries.insert(token, entry) {
            Some(old) => shard.bytes -= old.verified.weight(),
            None => shard.queue.push_back(token),
        }
        shard.bytes += bytes;
        while shard.entries.len() > self.entries_per_shard || shard.bytes > self.bytes_per_shard {
            if !shard.drop_one() {
                break;
            }
        }
    }

    /// How many tokens are remembered.
    pub fn remembered(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                shard.entries.len()
            })
            .sum()
    }

    fn lock(&self, token: &TokenDigest) -> std::sync::MutexGuard<'_, Shard> {
        let [first, ..] = *token;
        self.shards
            .get(usize::from(first) % SHARDS)
            .expect("there are as many shards as remainders")
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Drops the first entry that was not used since it last came round. Ends: each turn clears a mark.
    fn drop_one(&mut self) -> bool {
        while let Some(token) = self.queue.pop_front() {
            let Some(entry) = self.entries.get_mut(&token) else {
                continue;
            };
            if std::mem::take(&mut entry.used) {
                self.queue.push_back(token);
                continue;
            }
            if let Some(entry) = self.entries.remove(&token) {
                self.bytes -= entry.verified.weight();
            }
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::audience::Audiences;
    use crate::auth::identity::Identity;

    fn verified(weight: usize) -> Arc<Verified> {
        Arc::new(Verified::for_tests(
            Identity::anonymous(),
            Audiences::Gateway,
            weight,
        ))
    }

    /// A digest in the shard of `shard`.
    fn digest(shard: u8, number: u32) -> TokenDigest {
        let mut digest = [shard; 32];
        digest[1..5].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let cache = Cache::new(64 * 10, 64 * 1000);
        for number in 0..1000 {
            cache.insert(digest(3, number), verified(1));
        }
        assert_eq!(cache.remembered(), 10);
        for number in 0..1000 {
            cache.insert(digest(3, number), verified(400));
        }
        assert_eq!(cache.remembered(), 2);
        // What is heavier than a whole shard is not kept.
        cache.insert(digest(3, 1), verified(1001));
        assert_eq!(cache.remembered(), 0);
    }

    #[test]
    fn what_is_in_use_outlives_a_flood() {
        let cache = Cache::new(64 * 10, usize::MAX / 2);
        cache.insert(digest(3, 0), verified(1));
        for number in 1..10_000 {
            assert!(cache.get(&digest(3, 0)).is_some(), "lost at {number}");
            cache.insert(digest(3, number), verified(1));
        }
    }

    #[test]
    fn a_token_verified_again_replaces_what_was_known() {
        let cache = Cache::new(64, 64 * 100);
        for weight in [10, 90, 20] {
            let new = verified(weight);
            cache.insert(digest(1, 1), new.clone());
            assert!(Arc::ptr_eq(&cache.get(&digest(1, 1)).unwrap(), &new));
        }
        assert_eq!(cache.remembered(), 1);
        assert!(cache.get(&digest(1, 2)).is_none());
    }

    #[test]
    fn threads_share_it() {
        let cache = Cache::new(640, usize::MAX / 2);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for number in 0..20_000_u32 {
                        let token = digest(u8::try_from(number % 64).unwrap(), number % 997 + thread);
                        if cache.get(&token).is_none() {
                            cache.insert(token, verified(1));
                        }
                    }
                });
            }
        });
        assert!(cache.remembered() <= 640);
    }
}
