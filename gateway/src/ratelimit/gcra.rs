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
