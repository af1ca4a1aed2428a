//! The buckets of one limit, by key, in this process. Bounded, and nothing an attacker does frees a bucket early:
//! only full ones are dropped, which are the same as none. When no room is left, new keys share one bucket.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::key::{Key, OwnHash};

/// Shards, so that requests seldom meet at a lock; a power of two.
const SHARDS: usize = 64;

/// No shard is swept before it has this many keys.
const SWEEP_FROM: usize = 64;

/// The TATs of one limit.
#[derive(Debug)]
pub struct Store {
    shards: Box<[RwLock<Shard>]>,
    keys_per_shard: usize,
    /// Shared by keys that find no room.
    overflow: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    buckets: HashMap<Key, AtomicU64, BuildHasherDefault<OwnHash>>,
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
                buckets: HashMap::default(),
                sweep_at: SWEEP_FROM,
                none_idle_before: 0,
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
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
        let bucket = shard.buckets.entry(*key).or_insert_with(|| AtomicU64::new(start));
        let outcome = f(bucket);
        let tat = bucket.load(Ordering::Relaxed);
        shard.none_idle_before = shard.none_idle_before.min(tat);
        outcome
    }

    /// How many keys have a bucket of their own.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                shard.buckets.len()
            })
            .sum()
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        // Bits from the middle: the map inside takes its own from both ends.
        let at = usize::try_from((key.hash() >> 32) % SHARDS as u64).unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::identity::Identity;
    use crate::ratelimit::Subject;
    use crate::ratelimit::key::derive;
    use portcullis_config::limits::LimitKey;
    use std::hash::RandomState;

    fn key(number: u32) -> Key {
        let who = Identity::new(
            "m".into(),
            number.to_string().into(),
            Box::default(),
            Box::default(),
            None,
        );
        let subject = Subject {
            who: &who,
            method: "ping",
            server: None,
            tool: None,
        };
        derive(LimitKey::Client, &subject, hasher())
    }

    /// One for all keys, as a limit has it.
    fn hasher() -> &'static RandomState {
        static HASHER: std::sync::LazyLock<RandomState> = std::sync::LazyLock::new(RandomState::new);
        &HASHER
    }

    fn set(store: &Store, number: u32, tat: u64, now: u64) {
        store.with(&key(number), now, |bucket| {
            bucket.fetch_max(tat, Ordering::Relaxed)
        });
    }

    #[test]
    fn keys_in_use_are_never_dropped_and_strangers_then_share() {
        let store = Store::new(640);
        for number in 0..640 {
            set(&store, number, 1_000, 0);
        }
        let held: Vec<u32> = (0..640).filter(|n| store.peek(&key(*n)) == 1_000).collect();
        assert_eq!(held.len(), 640, "what shares a bucket meets its TAT too");
        assert!(store.len() > 500);
        // A flood of new names, while all are in use: not one old bucket is lost, and the flood has one TAT.
        for number in 1_000..20_000 {
            set(&store, number, 2_000, 10);
        }
        assert!(store.len() <= 640);
        for number in held {
            assert!(store.peek(&key(number)) >= 1_000);
        }
        assert_eq!(store.peek(&key(999_999)), 2_000);
    }

    #[test]
    fn full_buckets_make_room() {
        let store = Store::new(640);
        for number in 0..600 {
            set(&store, number, 1_000, 0);
        }
        for number in 1_000..1_600 {
            set(&store, number, 5_000, 2_000);
        }
        let own = (1_000..1_600).filter(|n| {
            store
                .shard(&key(*n))
                .read()
                .unwrap()
                .buckets
                .contains_key(&key(*n))
        });
        assert!(own.count() > 500);
    }

    #[test]
    fn a_few_deep_buckets_do_not_keep_idle_ones() {
        let store = Store::new(640);
        let one_shard: Vec<u32> = {
            let first = key(0);
            let same = |n: &u32| std::ptr::eq(store.shard(&key(*n)), store.shard(&first));
            (0..10_000).filter(same).take(25).collect()
        };
        let (deep, light) = one_shard.split_at(6);
        for number in deep {
            set(&store, *number, 1_000_000, 0);
        }
        // Three waves of four: each finds the one before idle, and the deep ones in use.
        for (wave, numbers) in (0_u64..).zip(light.chunks_exact(4)) {
            for number in numbers {
                set(&store, *number, wave * 10 + 5, wave * 10);
            }
            let shard = store.shard(&key(numbers[0])).read().unwrap();
            assert!(
                numbers.iter().all(|n| shard.buckets.contains_key(&key(*n))),
                "wave {wave}"
            );
        }
        assert!(deep.iter().all(|n| store.peek(&key(*n)) == 1_000_000));
    }

    #[test]
    fn idle_keys_do_not_stay_for_ever() {
        let store = Store::new(1 << 20);
        for round in 0_u32..50 {
            for number in 0..2_000 {
                let now = u64::from(round) * 1_000;
                set(&store, round * 10_000 + number, now + 500, now);
            }
        }
        assert!(store.len() < 3 * SHARDS * SWEEP_FROM, "{} keys", store.len());
    }

    #[test]
    fn who_comes_from_the_shared_bucket_gets_no_fresh_quota() {
        let store = Store::new(1);
        // One key per shard; find two that share one.
        let first = key(0);
        let other = (1..10_000)
            .map(key)
            .find(|k| std::ptr::eq(store.shard(k), store.shard(&first)))
            .unwrap();
        store.with(&first, 0, |bucket| bucket.store(100, Ordering::Relaxed));
        store.with(&other, 0, |bucket| bucket.store(7_000, Ordering::Relaxed));
        assert_eq!((store.peek(&first), store.peek(&other)), (100, 7_000));
        // The first is idle now, and makes room.
        store.with(&other, 200, |bucket| {
            assert_eq!(bucket.load(Ordering::Relaxed), 7_000);
        });
        assert!(store.shard(&other).read().unwrap().buckets.contains_key(&other));
    }
}
