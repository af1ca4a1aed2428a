//! How long to wait after a failed pass, per object.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::error::Class;
use super::target::Target;

const FIRST: Duration = Duration::from_secs(1);
const FIRST_SLOW: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);
/// After this many conflicts in a row something fights us, and retrying at once only feeds the fight.
const PATIENT_CONFLICTS: u32 = 8;

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    failures: u32,
    conflicts: u32,
}

/// The delays of all objects.
#[derive(Debug, Default)]
pub struct Backoff {
    streaks: Mutex<HashMap<Target, Streak>>,
}

impl Backoff {
    /// Records a failure of `class` and tells after which delay to try again; `None` means not by itself.
    pub fn failed(&self, target: &Target, class: Class) -> Option<Duration> {
        let mut streaks = self.lock();
        let streak = streaks.entry(target.clone()).or_default();
        match class {
            Class::Terminal | Class::Waiting | Class::NotLeading => {
                streaks.remove(target);
                None
            }
            Class::Conflict => {
                streak.conflicts = streak.conflicts.saturating_add(1);
                let excess = streak.conflicts.saturating_sub(PATIENT_CONFLICTS);
                let most = if excess == 0 {
                    Duration::from_millis(200)
                } else {
                    doubled(FIRST, excess)
                };
                Some(jitter(most))
            }
            Class::Transient => {
                streak.failures = streak.failures.saturating_add(1);
                Some(jitter(doubled(FIRST, streak.failures)))
            }
            Class::Forbidden | Class::Contested | Class::Bug => {
                streak.failures = streak.failures.saturating_add(1);
                // Full jitter from a minute up would retry at once now and then: half of it is kept fixed.
                let most = doubled(FIRST_SLOW, streak.failures);
                Some(most / 2 + jitter(most / 2))
            }
        }
    }

    /// How many passes over `target` failed in a row.
    pub fn failures(&self, target: &Target) -> u32 {
        self.lock().get(target).map_or(0, |streak| streak.failures)
    }

    /// A pass went well, or the object is gone.
    pub fn reset(&self, target: &Target) {
        self.lock().remove(target);
    }

    /// How many objects are being waited for.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no object is being waited for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Streak>> {
        self.streaks
            .lock()
            .expect("no code that holds this lock can panic")
    }
}

/// `first`, doubled for each attempt after the first, up to the longest delay.
fn doubled(first: Duration, attempt: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(attempt.saturating_sub(1).min(16))
        .unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(LONGEST)
}

/// Anything between nothing and `most`, so that objects that failed together do not come back together.
pub fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Key;
    use proptest::prelude::*;

    fn target() -> Target {
        Target::Server(Key::new("a", "b"))
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays: Vec<u64> = (1..=12).map(|n| doubled(FIRST, n).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(doubled(FIRST, u32::MAX), LONGEST);
    }

    #[test]
    fn terminal_and_waiting_are_not_retried() {
        let backoff = Backoff::default();
        for class in [Class::Terminal, Class::Waiting, Class::NotLeading] {
            assert_eq!(backoff.failed(&target(), class), None);
        }
        assert!(backoff.is_empty());
    }

    #[test]
    fn conflicts_are_retried_at_once_until_they_look_like_a_fight() {
        let backoff = Backoff::default();
        for _ in 0..PATIENT_CONFLICTS {
            let delay = backoff.failed(&target(), Class::Conflict).unwrap();
            assert!(delay <= Duration::from_millis(200));
        }
        assert_eq!(backoff.failures(&target()), 0);
        let longest = (0..400)
            .map(|_| backoff.failed(&target(), Class::Conflict).unwrap())
            .max()
            .unwrap();
        assert!(longest > Duration::from_secs(10));
    }

    #[test]
    fn forbidden_starts_slowly() {
        let backoff = Backoff::default();
        let delay = backoff.failed(&target(), Class::Forbidden).unwrap();
        assert!((30..=60).contains(&delay.as_secs()));
    }

    #[test]
    fn success_forgets() {
        let backoff = Backoff::default();
        backoff.failed(&target(), Class::Transient);
        backoff.failed(&target(), Class::Transient);
        assert_eq!(backoff.failures(&target()), 2);
        backoff.reset(&target());
        assert_eq!(backoff.failures(&target()), 0);
        assert!(backoff.is_empty());
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bound(millis in 0u64..1_000_000) {
            let most = Duration::from_millis(millis);
            prop_assert!(jitter(most) <= most);
        }
    }
}
