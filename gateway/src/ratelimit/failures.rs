//! Failed authentications per address. Only failures are charged: behind an Ingress or a NAT one guesser must not
//! lock out the rest, whose credentials verify.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

/// Failures per minute and address that are judged before the address has to wait.
const FAILURES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("20 is not 0");

/// Addresses held. Beyond, new ones share a bucket.
const MAX_ADDRESSES: usize = 1 << 16;

/// An entry is dropped only this long after it became the same as none: rounding never makes it early.
const MARGIN: Nanos = Nanos::new(1_000_000_000);

/// The limiter of failed authentications.
pub struct Failures<C: Clock<Instant = Nanos> = SinceStart> {
    limiter: RateLimiter<Attempt, Shared, C, NoOpMiddleware<Nanos>>,
    store: Arc<Store>,
    clock: C,
}

/// The time since the process began to count.
#[derive(Clone, Debug)]
pub struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

impl Failures<SinceStart> {
    /// A limiter on the process's monotonic clock.
    pub fn new() -> Self {
        Self::with_clock(SinceStart(Instant::now()), MAX_ADDRESSES)
    }
}

impl Default for Failures<SinceStart> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock<Instant = Nanos> + Clone> Failures<C> {
    /// A limiter on another clock, for `addresses` addresses.
    pub fn with_clock(clock: C, addresses: usize) -> Self {
        let store = Arc::new(Store {
            entries: Mutex::default(),
            len: AtomicUsize::new(0),
            most: addresses,
        });
        // governor counts from the time at which the limiter is made.
        let quota = Quota::per_minute(FAILURES_PER_MINUTE);
        let limiter = RateLimiter::new(quota, Shared(store.clone()), clock.clone());
        Self {
            limiter,
            store,
            clock,
        }
    }

    /// Has this address used up its failures? Charges nothing.
    pub fn exhausted(&self, address: IpAddr) -> bool {
        self.wait(address).is_some()
    }

    /// How long this address has to wait before another failure would be judged.
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        // Nobody failed lately: nothing to look up.
        if self.store.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let attempt = Attempt {
            network: network(address),
            counts: false,
        };
        self.limiter
            .check_key(&attempt)
            .err()
            .map(|until| until.wait_time_from(self.clock.now()))
    }

    /// Counts a failure of this address.
    pub fn charge(&self, address: IpAddr) {
        self.store.make_room(self.clock.now());
        let attempt = Attempt {
            network: network(address),
            counts: true,
        };
        // An address over its limit stays there: nothing more to do about it.
        drop(self.limiter.check_key(&attempt));
    }
}

impl<C: Clock<Instant = Nanos>> std::fmt::Debug for Failures<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failures").finish_non_exhaustive()
    }
}

/// What counts as one guesser: an IPv4 address, or the /64 that one IPv6 host usually has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
    /// All that found no room.
    Others,
}

fn network(address: IpAddr) -> Network {
    match address.to_canonical() {
        IpAddr::V4(v4) => Network::V4(v4.to_bits()),
        IpAddr::V6(v6) => Network::V6((v6.to_bits() >> 64) as u64),
    }
}

/// A look at a bucket, or a charge of it: governor itself only knows the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    network: Network,
    counts: bool,
}

/// A bounded store under governor's arithmetic. One lock: it is taken on failures, and on requests only while there
/// are some.
struct Store {
    entries: Mutex<Entries>,
    /// How many there are, to be read without the lock.
    len: AtomicUsize,
    most: usize,
}

#[derive(Default)]
struct Entries {
    tats: HashMap<Network, Nanos>,
    /// No entry becomes the same as none before this: spares a full store a sweep on each failure.
    none_idle_before: Nanos,
}

impl Store {
    /// Drops entries that are the same as none, once there are many.
    fn make_room(&self, now: Nanos) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.tats.len() < self.most || now < entries.none_idle_before {
            return;
        }
        entries.tats.retain(|_, tat| *tat + MARGIN > now);
        let next = entries.tats.values().min().copied();
        entries.none_idle_before = next.map_or(Nanos::default(), |tat| tat + MARGIN);
        self.len.store(entries.tats.len(), Ordering::Relaxed);
    }
}

/// What governor owns of the store.
struct Shared(Arc<Store>);

impl StateStore for Shared {
    type Key = Attempt;

    fn measure_and_replace<T, F, E>(&self, attempt: &Attempt, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Store { entries, len, most } = &*self.0;
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        let network = if entries.tats.len() >= *most && !entries.tats.contains_key(&attempt.network) {
            Network::Others
        } else {
            attempt.network
        };
        let (outcome, tat) = f(entries.tats.get(&network).copied())?;
        if attempt.counts {
            entries.tats.insert(network, tat);
            entries.none_idle_before = entries.none_idle_before.min(tat + MARGIN);
            len.store(entries.tats.len(), Ordering::Relaxed);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use rstest::rstest;

    fn failures(addresses: usize) -> (Failures<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Failures::with_clock(clock.clone(), addresses), clock)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn twenty_failures_are_judged_and_then_one_every_three_seconds() {
        let (failures, clock) = failures(100);
        let guesser = address("192.0.2.1");
        for turn in 0..20 {
            assert!(!failures.exhausted(guesser), "after {turn}");
            failures.charge(guesser);
        }
        assert!(failures.exhausted(guesser));
        assert_eq!(failures.wait(guesser), Some(Duration::from_secs(3)));
        // Looking does not charge, nor do failures beyond the limit.
        for _ in 0..100 {
            failures.charge(guesser);
            assert!(failures.exhausted(guesser));
        }
        clock.advance(Duration::from_secs(3));
        assert!(!failures.exhausted(guesser));
        failures.charge(guesser);
        assert!(failures.exhausted(guesser));
        clock.advance(Duration::from_mins(1));
        for _ in 0..20 {
            assert!(!failures.exhausted(guesser));
            failures.charge(guesser);
        }
        assert!(failures.exhausted(guesser));
    }

    #[rstest]
    #[case("192.0.2.1", "192.0.2.2", false)]
    #[case("192.0.2.1", "::ffff:192.0.2.1", true)]
    #[case("2001:db8::1", "2001:db8::ffff:2", true)]
    #[case("2001:db8::1", "2001:db8:0:1::1", false)]
    fn a_guesser_is_an_address_or_a_64(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        let (failures, _) = failures(100);
        for _ in 0..20 {
            failures.charge(address(one));
        }
        assert_eq!(failures.exhausted(address(other)), same);
    }

    #[test]
    fn addresses_are_bounded_and_a_flood_frees_nobody() {
        let (failures, clock) = failures(100);
        let guesser = v4(1);
        for _ in 0..20 {
            failures.charge(guesser);
        }
        for number in 2..10_000 {
            failures.charge(v4(number));
        }
        assert!(failures.exhausted(guesser));
        assert!(failures.store.entries.lock().unwrap().tats.len() <= 101);
        // Those without a bucket of their own share one, which is used up.
        assert!(failures.exhausted(v4(5_000_000)));
        clock.advance(Duration::from_secs(62));
        failures.charge(v4(7));
        assert!(!failures.exhausted(guesser) && !failures.exhausted(v4(5_000_000)));
        assert!(failures.store.entries.lock().unwrap().tats.len() < 10);
    }
}
