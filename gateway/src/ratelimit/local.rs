//! The buckets of one limit, by key, in this process. Their number is bounded, and whoever makes many keys gains nothing by
//! it and takes nothing from others:
//!
//! - Nothing frees a bucket early. Only full ones are dropped, which are the same as none, and a key that comes back from a
//!   shared bucket goes on where that one stands. So no budget is won by making others lose their room, or one's own.
//! - All keys that one owner could make up (a principal those of its tools, a range of addresses those of its hosts) live
//!   in one shard, whose room is a 64th of all. Who fills it has not touched the others'. Which owners share a shard is
//!   seeded at random: nobody can choose a neighbour.
//! - What finds no room in its shard shares a bucket: one of 64, again by owner. So the owner that filled the shard then
//!   waits for itself, and one owner in 4,096 with it.
//! - Principals and servers are their own owners: their number is that of credentials and of objects, not of requests.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::key::{Key, OwnHash};

/// Shards, so that requests seldom meet at a lock; a power of two.
const SHARDS: usize = 64;

/// Buckets per shard that keys without room share.
const SHARED: usize = 64;

/// No shard is swept before it has this many keys.
const SWEEP_FROM: usize = 64;

/// The TATs of one limit.
#[derive(Debug)]
pub struct Store {
    shards: Box<[RwLock<Shard>]>,
    keys_per_shard: usize,
    /// Shared by keys that find no room: those of a shard side by side.
    overflow: Box<[AtomicU64]>,
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
            overflow: std::iter::repeat_with(AtomicU64::default)
                .take(SHARDS * SHARED)
                .collect(),
        }
    }

    /// The TAT that a request of `key` would meet.
    pub fn peek(&self, key: &Key) -> u64 {
        let shard = self.shard(key).read().unwrap_or_else(PoisonError::into_inner);
        shard
            .buckets
            .get(key)
            .unwrap_or_else(|| self.shared(key))
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
                return f(self.shared(key));
            }
        }
        // A key may come here from the shared bucket: it goes on where that one stands, not with a fresh quota.
        let start = self.shared(key).load(Ordering::Relaxed);
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
        self.shards
            .get(shard_of(key))
            .expect("there are as many shards as remainders")
    }

    /// The bucket of a key that finds no room.
    fn shared(&self, key: &Key) -> &AtomicU64 {
        let within = usize::try_from((key.owner() >> 40) % SHARED as u64).unwrap_or(0);
        self.overflow
            .get(shard_of(key) * SHARED + within)
            .expect("there are as many as remainders in each shard")
    }
}

/// Bits from the middle: where an owner is its key, the map inside takes its own from both ends.
fn shard_of(key: &Key) -> usize {
    usize::try_from((key.owner() >> 32) % SHARDS as u64).unwrap_or(0)
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
    use rstest::rstest;
    use std::hash::RandomState;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
            client: Ipv4Addr::LOCALHOST.into(),
        };
        derive(LimitKey::Client, &subject, hasher())
    }

    /// That of an address.
    fn address(address: impl Into<IpAddr>) -> Key {
        let who = Identity::new("m".into(), "s".into(), Box::default(), Box::default(), None);
        let subject = Subject {
            who: &who,
            method: "ping",
            server: None,
            tool: None,
            client: address.into(),
        };
        derive(LimitKey::Ip, &subject, hasher())
    }

    /// That of a tool that somebody calls.
    fn tool(somebody: u32, tool: u32) -> Key {
        let name = |number: u32| number.to_string();
        let who = Identity::new(
            "m".into(),
            name(somebody).into(),
            Box::default(),
            Box::default(),
            None,
        );
        let subject = Subject {
            who: &who,
            method: "tools/call",
            server: Some("a/b"),
            tool: Some(&name(tool)),
            client: Ipv4Addr::LOCALHOST.into(),
        };
        derive(LimitKey::ClientTool, &subject, hasher())
    }

    fn set_key(store: &Store, key: &Key, tat: u64, now: u64) {
        store.with(key, now, |bucket| bucket.fetch_max(tat, Ordering::Relaxed));
    }

    /// The promise to everybody else, with somebody who makes keys without end.
    #[rstest]
    #[case::a_range_of_addresses(
        &|n: u32| address(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 64 | 1)),
        &|n: u32| address(Ipv6Addr::from_bits((0x2001_4000 + u128::from(n)) << 96 | 1)),
    )]
    #[case::many_ipv4_addresses(
        &|n: u32| address(Ipv4Addr::from_bits(0xc633_0000 | n & 0xffff)),
        &|n: u32| address(Ipv4Addr::from_bits(0x0b00_0000 + (n << 16))),
    )]
    #[case::a_principal_of_many_tools(&|n: u32| tool(1_000_000, n), &|n: u32| tool(n, 0))]
    fn who_makes_keys_without_end_takes_nobodys_room(
        #[case] attacker: &dyn Fn(u32) -> Key,
        #[case] others: &dyn Fn(u32) -> Key,
    ) {
        let store = Store::new(1 << 16);
        let before: Vec<Key> = (0..200).map(others).collect();
        let after: Vec<Key> = (200..400).map(others).collect();
        for key in &before {
            set_key(&store, key, 1_000, 0);
        }
        for number in 0..60_000 {
            set_key(&store, &attacker(number), 900_000, 10);
        }
        // Who was there has lost nothing, in either direction.
        assert!(before.iter().all(|key| store.peek(key) == 1_000));
        // Who comes now is waited for by hardly anybody: one in 4,096 shares the attacker's bucket.
        let fresh = after.iter().filter(|key| store.peek(key) == 0).count();
        assert!(fresh >= 197, "{fresh} of 200");
        // The attacker has used up what is its own, and no more.
        assert!(store.len() <= before.len() + store.keys_per_shard);
        assert_eq!(store.peek(&attacker(77_777_777)), 900_000);
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
        // A flood of new names, while all are in use: not one old bucket is lost, and the flood shares.
        for number in 1_000..80_000 {
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
