//! The buckets of one limit, by key, in this process. Bounded, and nothing an attacker does frees a bucket early:
//! only full ones are dropped, which are the same as none. When no room is left, new keys share one bucket.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::key::Key;

/// Shards, so that requests seldom meet at a lock; a power of two.
const SHARDS: usize = 64;

/// No shard is swept before it has this many keys.
const SWEEP_FROM: usize = 64;

/// The TATs of one limit.
#[derive(Debug)]
pub struct Store {
    shards: Box<[RwLock<Shard>]>,
    /// Seeded at random: nobody can choose names that all fall into one shard.
    hasher: RandomState,
    keys_per_shard: usize,
    /// Shared by keys that find no room.
    overflow: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    buckets: HashMap<Key, AtomicU64>,
    /// Sweep at this many keys: twice what the last sweep left.
    sweep_at: usize,
    /// Nothing becomes idle before this; spares a full shard a sweep at each new key.
    none_idle_before: u64,
}

impl Store {
    /// Room for about `keys` keys.
    pub fn new(keys: usize) -> Self {
        let shard = || {
            RwLock::new(Shard {
                buckets: HashMap::new(),
                sweep_at: SWEEP_FROM,
                none_idle_before: 0,
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher: RandomState::new(),
            keys_per_shard: keys.div_ceil(SHARDS).max(1),
            overflow: AtomicU64::new(0),
        }
    }

    /// The TAT that a request of `key` would meet.
    pub fn peek(&self, key: &Key) -> u64 {
        let shard = self.shard(key).read().unwrap_or_else(PoisonError::into_inner);
        shard
            .buckets
            .get(key)
            .unwrap_or(&self.overflow)
            .load(Ordering::Relaxed)
    }

    /// Runs `f` on the bucket of `key`, which is made if there is room.
    pub fn with<R>(&self, key: &Key, now: u64, f: impl FnOnce(&AtomicU64) -> R) -> R {
        let shard = self.shard(key);
        {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(bucket) = shard.buckets.get(key) {
                return f(bucket);
            }
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if !shard.buckets.contains_key(key) {
            if shard.buckets.len() >= shard.sweep_at.min(self.keys_per_shard) {
                shard.sweep(now);
            }
            if shard.buckets.len() >= self.keys_per_shard {
                return f(&self.overflow);
            }
        }
        // A key may come here from the shared bucket: it goes on where that one stands, not with a fresh quota.
        let start = self.overflow.load(Ordering::Relaxed);
        f(shard.buckets.entry(*key).or_insert_with(|| AtomicU64::new(start)))
    }

    /// How many keys have a bucket of their own.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                shard.buckets.len()
            })
            .sum()
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        let hash = self.hasher.hash_one(key);
        // The map inside takes its bits from both ends of a hash of its own.
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards
            .get(at)
            .expect("there are as many shards as remainders")
    }
}

impl Shard {
    /// Drops full buckets: they are the same as none.
    fn sweep(&mut self, now: u64) {
        if now < self.none_idle_before {
            return;
        }
        let mut next_idle = u64::MAX;
        self.buckets.retain(|_, bucket| {
            let tat = *bucket.get_mut();
            if tat > now {
                next_idle = next_idle.min(tat);
            }
            tat > now
        });
        self.none_idle_before = if self.buckets.is_empty() { 0 } else { next_idle };
        self.sweep_at = (self.buckets.len() * 2).max(SWEEP_FROM);
    }
}
