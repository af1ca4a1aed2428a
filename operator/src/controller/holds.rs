//! Gathers changes of a gateway's pod template that other people's objects cause, so that ten servers with credentials,
//! applied one after the other, start new pods once and not ten times. A change of the gateway itself is never held.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::Key;

/// How long a template must have stood still.
const STILL: Duration = Duration::from_secs(5);
/// After how long it is applied although it has not.
const LONGEST: Duration = Duration::from_secs(30);

/// What was applied last, and what waits.
#[derive(Clone, Debug)]
struct Hold {
    generation: Option<i64>,
    applied: String,
    waits: Option<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    template: String,
    first: Instant,
    changed: Instant,
}

/// The holds of all gateways.
#[derive(Debug, Default)]
pub struct Holds(Mutex<HashMap<Key, Hold>>);

impl Holds {
    /// Until when this template is to be held; none if it may be applied now. `template` is its hash.
    pub fn until(
        &self,
        gateway: &Key,
        generation: Option<i64>,
        template: &str,
        now: Instant,
    ) -> Option<Instant> {
        let mut holds = self.lock();
        let hold = holds.get_mut(gateway)?;
        if hold.applied == template || hold.generation != generation {
            hold.waits = None;
            return None;
        }
        let waits = hold.waits.get_or_insert_with(|| Waiting {
            template: template.to_owned(),
            first: now,
            changed: now,
        });
        if waits.template != template {
            template.clone_into(&mut waits.template);
            waits.changed = now;
        }
        let due = (waits.changed + STILL).min(waits.first + LONGEST);
        (due > now).then_some(due)
    }

    /// Notes what was applied.
    pub fn applied(&self, gateway: &Key, generation: Option<i64>, template: String) {
        let hold = Hold {
            generation,
            applied: template,
            waits: None,
        };
        self.lock().insert(gateway.clone(), hold);
    }

    /// Forgets a gateway.
    pub fn forget(&self, gateway: &Key) {
        self.lock().remove(gateway);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Hold>> {
        self.0.lock().expect("no code that holds this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_by_others_are_gathered_and_own_ones_are_not() {
        let holds = Holds::default();
        let gateway = Key::new("ns", "gw");
        let base = Instant::now();
        let at = |secs| base + Duration::from_secs(secs);
        // Nothing is known of what was there before: no reason to wait.
        assert_eq!(holds.until(&gateway, Some(1), "a", base), None);
        holds.applied(&gateway, Some(1), "a".into());
        assert_eq!(holds.until(&gateway, Some(1), "a", base), None);

        assert_eq!(holds.until(&gateway, Some(1), "b", at(0)), Some(at(5)));
        assert_eq!(holds.until(&gateway, Some(1), "b", at(4)), Some(at(5)));
        assert_eq!(holds.until(&gateway, Some(1), "c", at(4)), Some(at(9)));
        assert_eq!(holds.until(&gateway, Some(1), "c", at(9)), None);
        // A change of the gateway itself takes everything along.
        assert_eq!(holds.until(&gateway, Some(2), "c", at(5)), None);
        // Back to what is there: nothing to do, and nothing waits.
        assert_eq!(holds.until(&gateway, Some(1), "a", at(6)), None);
        assert_eq!(holds.until(&gateway, Some(1), "b", at(7)), Some(at(12)));
    }

    #[test]
    fn a_template_that_never_stands_still_is_applied_all_the_same() {
        let holds = Holds::default();
        let gateway = Key::new("ns", "gw");
        let base = Instant::now();
        holds.applied(&gateway, Some(1), "0".into());
        let held = (0..100)
            .map(|second| {
                let now = base + Duration::from_secs(second);
                holds.until(&gateway, Some(1), &format!("t{second}"), now)
            })
            .take_while(Option::is_some)
            .count();
        assert_eq!(held, 30);
    }
}
