//! The generic cell rate algorithm: one number per bucket, the theoretical arrival time (TAT) in nanoseconds.
//!
//! A request moves the TAT on by one interval; it is refused if that would put the TAT further ahead of now than
//! the burst allows. A TAT in the past is a full bucket. Hence over any window of `per` at most `requests + burst`
//! requests pass: each moves the TAT on by an interval, and it can only run from `now` to `now + window + burst`.

use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_config::limits::RateLimit;

/// How fast and how far a bucket goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two requests of the steady flow; rounded up, so never too fast.
    interval: u64,
    /// How far ahead of now the TAT may be.
    tolerance: u64,
}

/// A bucket refuses for so many nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub u64);

/// No bucket looks further ahead: 146 years keep sums far from overflow.
const FARTHEST: u64 = u64::MAX / 4;

impl Rate {
    /// The rate of a validated limit.
    pub fn new(limit: &RateLimit) -> Self {
        let per = limit.per.get().as_nanos();
        let interval = per.div_ceil(u128::from(limit.requests.max(1))).max(1);
        let tolerance = interval.saturating_mul(u128::from(limit.burst.max(1)));
        let bounded = |nanos: u128| u64::try_from(nanos).unwrap_or(FARTHEST).min(FARTHEST);
        Self {
            interval: bounded(interval),
            tolerance: bounded(tolerance).max(bounded(interval)),
        }
    }

    /// What the TAT would be after one more request.
    fn next(self, tat: u64, now: u64) -> Result<u64, Wait> {
        let next = tat.max(now).saturating_add(self.interval);
        let latest = now.saturating_add(self.tolerance);
        if next <= latest {
            Ok(next)
        } else {
            Err(Wait(next.saturating_sub(latest)))
        }
    }

    /// Would one more request pass? Charges nothing.
    pub fn check(self, tat: u64, now: u64) -> Result<(), Wait> {
        self.next(tat, now).map(drop)
    }

    /// Takes one request from the bucket, and gives its TAT afterwards.
    pub fn charge(self, bucket: &AtomicU64, now: u64) -> Result<u64, Wait> {
        let mut tat = bucket.load(Ordering::Relaxed);
        loop {
            let next = self.next(tat, now)?;
            match bucket.compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(next),
                Err(current) => tat = current,
            }
        }
    }

    /// Gives one request back that [`Rate::charge`] took and that did not happen.
    pub fn refund(self, bucket: &AtomicU64) {
        // Saturating, because the bucket may have been dropped as full and made anew in between.
        bucket.update(Ordering::Relaxed, Ordering::Relaxed, |tat| {
            tat.saturating_sub(self.interval)
        });
    }

    /// How many requests would pass at once.
    pub fn remaining(self, tat: u64, now: u64) -> u64 {
        let ahead = tat.saturating_sub(now);
        self.tolerance.saturating_sub(ahead) / self.interval
    }

    /// Nanoseconds until the bucket is full again.
    pub fn until_full(tat: u64, now: u64) -> u64 {
        tat.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_config::Duration;
    use portcullis_config::limits::LimitKey;
    use proptest::prelude::*;
    use rstest::rstest;

    fn limit(requests: u32, per_millis: u64, burst: u32) -> RateLimit {
        RateLimit {
            name: "l".into(),
            key: LimitKey::Client,
            matches: None,
            requests,
            per: Duration::from_millis(per_millis),
            burst,
        }
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_the_steady_flow() {
        let rate = Rate::new(&limit(10, 1000, 3));
        let bucket = AtomicU64::new(0);
        let second = 1_000_000_000;
        let now = 5 * second;
        for left in [2, 1, 0] {
            let tat = rate.charge(&bucket, now).unwrap();
            assert_eq!(rate.remaining(tat, now), left);
        }
        assert_eq!(rate.charge(&bucket, now), Err(Wait(second / 10)));
        assert_eq!(rate.charge(&bucket, now + second / 10 - 1), Err(Wait(1)));
        assert!(rate.charge(&bucket, now + second / 10).is_ok());
        assert!(rate.charge(&bucket, now + second / 10).is_err());
        let tat = bucket.load(Ordering::Relaxed);
        assert_eq!(Rate::until_full(tat, now + second / 10), 3 * second / 10);
    }

    #[rstest]
    #[case(u32::MAX, 1, 1)]
    #[case(1, 86_400_000, u32::MAX)]
    #[case(u32::MAX, 86_400_000, u32::MAX)]
    #[case(1, 1, 1)]
    fn extreme_limits_neither_overflow_nor_refuse_the_first(
        #[case] requests: u32,
        #[case] per: u64,
        #[case] burst: u32,
    ) {
        let rate = Rate::new(&limit(requests, per, burst));
        for now in [0, 1, u64::MAX / 2] {
            let bucket = AtomicU64::new(0);
            let tat = rate.charge(&bucket, now).unwrap();
            assert!(rate.remaining(tat, now) < u64::from(u32::MAX));
            rate.refund(&bucket);
            rate.refund(&bucket);
            assert!(rate.charge(&bucket, now).is_ok());
        }
    }

    #[test]
    fn threads_get_the_burst_between_them_and_no_more() {
        let rate = Rate::new(&limit(1, 86_400_000, 1000));
        let bucket = AtomicU64::new(0);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if rate.charge(&bucket, 7).is_ok() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1000);
    }

    proptest! {
        /// The promise itself: over any window of `per`, at most `requests + burst`.
        #[test]
        fn no_window_has_more_than_requests_and_burst(
            requests in 1_u32..20,
            per in prop::sample::select(vec![7_u64, 100, 1000, 60_000]),
            burst in 1_u32..10,
            pauses in prop::collection::vec((0_u64..=100, any::<bool>()), 1..400),
        ) {
            let rate = Rate::new(&limit(requests, per, burst));
            let window = per * 1_000_000;
            let bucket = AtomicU64::new(0);
            let mut now = 1;
            let mut passed = Vec::new();
            for (pause, long) in pauses {
                // Short pauses hammer, long ones let the bucket fill.
                now += pause * if long { window / 50 } else { window / 20_000 };
                if rate.charge(&bucket, now).is_ok() {
                    passed.push(now);
                }
            }
            for (at, start) in passed.iter().enumerate() {
                let inside = passed[at..].iter().take_while(|time| **time <= start + window).count();
                prop_assert!(inside <= (requests + burst) as usize, "{inside} from {start}");
            }
        }

        #[test]
        fn who_keeps_to_the_flow_is_never_refused(
            requests in 1_u32..1000, per in 1_u64..100_000, burst in 1_u32..10, pauses in prop::collection::vec(0_u64..1000, 100),
        ) {
            let rate = Rate::new(&limit(requests, per, burst));
            let bucket = AtomicU64::new(0);
            let interval = (per * 1_000_000).div_ceil(u64::from(requests));
            let mut now = 1_000_000_000;
            for late in pauses {
                now += interval + late;
                prop_assert!(rate.charge(&bucket, now).is_ok());
            }
        }

        #[test]
        fn a_wait_is_exactly_long_enough(requests in 1_u32..100, per in 1_u64..10_000, burst in 1_u32..5, start in 0_u64..u64::MAX / 8) {
            let rate = Rate::new(&limit(requests, per, burst));
            let bucket = AtomicU64::new(0);
            while rate.charge(&bucket, start).is_ok() {}
            let Wait(wait) = rate.check(bucket.load(Ordering::Relaxed), start).unwrap_err();
            prop_assert!(rate.charge(&bucket, start + wait - 1).is_err());
            prop_assert!(rate.charge(&bucket, start + wait).is_ok());
        }
    }
}
