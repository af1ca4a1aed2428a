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
    pub fn len(&self) -> usize {
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
