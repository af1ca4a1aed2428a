//! What is to be reconciled, and when. Each object stands in the queue at most once and is never worked on twice at a
//! time; requests that come close together become one.
//!
//! One queue serves both kinds, so that each kind of object is watched once and both controllers share one bound on
//! concurrency.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::target::Target;

/// Shared handle to the queue.
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Shared>,
    debounce: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    schedule: Mutex<Schedule>,
    changed: Notify,
}

/// The order of work. Pure: the time comes from the caller.
#[derive(Debug, Default)]
struct Schedule {
    entries: HashMap<Target, Entry>,
    due: BTreeSet<(Instant, Target)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// To be taken at this time.
    Waiting(Instant),
    /// Being worked on; to be taken again at this time, if any, but not before the present pass has ended.
    Running(Option<Instant>),
}

impl Schedule {
    /// Asks for `target` at `at`. Of several requests the earliest counts.
    fn add(&mut self, target: Target, at: Instant) {
        match self.entries.get_mut(&target) {
            None => {
                self.entries.insert(target.clone(), Entry::Waiting(at));
                self.due.insert((at, target));
            }
            Some(Entry::Waiting(due)) if at < *due => {
                self.due.remove(&(*due, target.clone()));
                *due = at;
                self.due.insert((at, target));
            }
            Some(Entry::Waiting(_)) => {}
            Some(Entry::Running(again)) => {
                *again = Some(again.map_or(at, |due| due.min(at)));
            }
        }
    }

    /// Takes the first target that is due, or tells when the next one will be.
    fn take(&mut self, now: Instant) -> Result<Target, Option<Instant>> {
        match self.due.first() {
            Some((due, _)) if *due > now => Err(Some(*due)),
            None => Err(None),
            Some(_) => {
                let (_, target) = self.due.pop_first().ok_or(None)?;
                self.entries.insert(target.clone(), Entry::Running(None));
                Ok(target)
            }
        }
    }

    /// Ends the pass over `target`; `again` is when the pass itself wants another one.
    fn finish(&mut self, target: &Target, again: Option<Instant>) {
        let asked = match self.entries.remove(target) {
            Some(Entry::Running(asked)) => asked,
            Some(waiting @ Entry::Waiting(_)) => {
                self.entries.insert(target.clone(), waiting);
                None
            }
            None => None,
        };
        for at in [asked, again].into_iter().flatten() {
            self.add(target.clone(), at);
        }
    }
}

impl Queue {
    /// An empty queue that gathers requests for `debounce` before it hands out an object.
    pub fn new(debounce: Duration) -> Self {
        Self {
            shared: Arc::default(),
            debounce,
        }
    }

    /// Asks for a pass soon. The first request of a burst starts the clock, so a steady stream of them delays nothing.
    pub fn soon(&self, target: Target) {
        self.at(target, Instant::now() + self.debounce);
    }

    /// Asks for a pass at `at`.
    pub fn at(&self, target: Target, at: Instant) {
        self.lock().add(target, at);
        self.shared.changed.notify_one();
    }

    /// Waits for the next object that is due. Every object taken must be given back with [`Self::finish`].
    pub async fn take(&self) -> Target {
        loop {
            let next = match self.lock().take(Instant::now()) {
                Ok(target) => return target,
                Err(next) => next,
            };
            let changed = self.shared.changed.notified();
            match next {
                Some(due) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Ends the pass over `target`, with the delay after which it wants another one.
    pub fn finish(&self, target: &Target, again: Option<Duration>) {
        let again = again.map(|delay| Instant::now() + delay);
        self.lock().finish(target, again);
        self.shared.changed.notify_one();
    }

    /// How many objects wait or are worked on.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether nothing waits and nothing is worked on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.shared
            .schedule
            .lock()
            .expect("no code that holds this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Key;

    fn target(name: &str) -> Target {
        Target::Gateway(Key::new("ns", name))
    }

    fn at(base: Instant, millis: u64) -> Instant {
        base + Duration::from_millis(millis)
    }

    #[test]
    fn the_earliest_of_several_requests_counts() {
        let base = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(target("a"), at(base, 100));
        schedule.add(target("a"), at(base, 50));
        schedule.add(target("a"), at(base, 200));
        assert_eq!(schedule.take(base), Err(Some(at(base, 50))));
        assert_eq!(schedule.take(at(base, 50)), Ok(target("a")));
        assert_eq!(schedule.take(at(base, 500)), Err(None));
    }

    #[test]
    fn what_is_worked_on_is_not_handed_out_twice_and_not_forgotten() {
        let base = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(target("a"), base);
        assert_eq!(schedule.take(base), Ok(target("a")));
        schedule.add(target("a"), at(base, 10));
        assert_eq!(schedule.take(at(base, 100)), Err(None));
        schedule.finish(&target("a"), Some(at(base, 900)));
        assert_eq!(schedule.take(at(base, 100)), Ok(target("a")));
        schedule.finish(&target("a"), None);
        assert!(schedule.entries.is_empty() && schedule.due.is_empty());
    }

    #[test]
    fn the_pass_itself_can_ask_for_another() {
        let base = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(target("a"), base);
        assert_eq!(schedule.take(base), Ok(target("a")));
        schedule.finish(&target("a"), Some(at(base, 70)));
        assert_eq!(schedule.take(at(base, 60)), Err(Some(at(base, 70))));
        schedule.add(target("a"), at(base, 65));
        assert_eq!(schedule.take(at(base, 65)), Ok(target("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_of_requests_does_not_starve_an_object() {
        let queue = Queue::new(Duration::from_millis(100));
        let start = Instant::now();
        let pest = tokio::spawn({
            let queue = queue.clone();
            async move {
                loop {
                    queue.soon(target("a"));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        assert_eq!(queue.take().await, target("a"));
        assert!(start.elapsed() <= Duration::from_millis(110));
        pest.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_taker_wakes_for_an_earlier_request() {
        let queue = Queue::new(Duration::ZERO);
        queue.at(target("late"), Instant::now() + Duration::from_secs(60));
        let taker = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        queue.soon(target("early"));
        assert_eq!(taker.await.unwrap(), target("early"));
    }
}
