//! Which configuration each gateway should run, and which servers stand in it: what a server's pass needs to know to say
//! whether its own generation has arrived.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::time::Instant;

use crate::identity::Key;

/// How many former configurations are remembered: a pod that still runs one of them may well serve a server as it should.
const HISTORY: usize = 8;

/// Generation of each server, as it stands in a configuration.
pub type Generations = BTreeMap<Key, i64>;

/// What a gateway's pods should report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Hash of the configuration they should run, and the servers in it.
    hash: String,
    since: Instant,
    /// That one and former ones, the latest first.
    known: VecDeque<(String, Arc<Generations>)>,
    /// Pods that count: those that are ready, by UID.
    pub ready: Vec<String>,
}

impl Rollout {
    /// Hash of the configuration that the pods should run.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Generation of `server` in the configuration with this hash; none if that is unknown or leaves it out.
    pub fn generation(&self, hash: &str, server: &Key) -> Option<i64> {
        let (_, servers) = self.known.iter().find(|(known, _)| known == hash)?;
        servers.get(server).copied()
    }
}

/// The rollouts of all gateways.
#[derive(Debug, Default)]
pub struct Rollouts(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rollouts: HashMap<Key, Arc<Rollout>>,
    /// Gateways that this process has passed over, whatever came of it.
    visited: HashSet<Key>,
}

impl Rollouts {
    /// A gateway's rollout, if this process has built it.
    pub fn get(&self, gateway: &Key) -> Option<Arc<Rollout>> {
        self.read().rollouts.get(gateway).cloned()
    }

    /// Whether this process has passed over a gateway at least once, so that what it knows of it is not just nothing yet.
    pub fn is_visited(&self, gateway: &Key) -> bool {
        self.read().visited.contains(gateway)
    }

    /// Notes that a pass over a gateway has ended. Says whether it was the first.
    pub fn visit(&self, gateway: &Key) -> bool {
        !self.is_visited(gateway) && self.write().visited.insert(gateway.clone())
    }

    /// Notes what a gateway should run. Says since when it should, and whether anything that a server's status depends
    /// on moved.
    pub fn set(
        &self,
        gateway: &Key,
        hash: &str,
        servers: Generations,
        ready: Vec<String>,
        now: Instant,
    ) -> (Instant, bool) {
        let rollouts = &mut self.write().rollouts;
        let known = rollouts.get(gateway);
        let mut history = known.map(|known| known.known.clone()).unwrap_or_default();
        history.retain(|(former, _)| former != hash);
        history.push_front((hash.to_owned(), Arc::new(servers)));
        history.truncate(HISTORY);
        let since = known
            .filter(|known| known.hash == hash)
            .map_or(now, |known| known.since);
        let fresh = Rollout {
            hash: hash.to_owned(),
            since,
            known: history,
            ready,
        };
        let moved = known.is_none_or(|known| **known != fresh);
        if moved {
            rollouts.insert(gateway.clone(), Arc::new(fresh));
        }
        (since, moved)
    }

    /// Forgets a gateway.
    pub fn forget(&self, gateway: &Key) {
        let mut inner = self.write();
        inner.rollouts.remove(gateway);
        inner.visited.remove(gateway);
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().expect("no code that holds this lock can panic")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().expect("no code that holds this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(generation: i64) -> Generations {
        Generations::from([(Key::new("ns", "files"), generation)])
    }

    #[test]
    fn a_pod_with_a_former_configuration_may_have_the_server_as_it_is() {
        let rollouts = Rollouts::default();
        let gateway = Key::new("ns", "gw");
        let server = Key::new("ns", "files");
        let base = Instant::now();
        let later = base + std::time::Duration::from_secs(1);
        assert_eq!(rollouts.set(&gateway, "h1", with(1), vec![], base), (base, true));
        assert_eq!(
            rollouts.set(&gateway, "h1", with(1), vec![], later),
            (base, false)
        );
        assert_eq!(
            rollouts.set(&gateway, "h2", with(1), vec![], later),
            (later, true)
        );
        let rollout = rollouts.get(&gateway).unwrap();
        assert_eq!(rollout.generation("h1", &server), Some(1));
        assert_eq!(rollout.generation("h2", &server), Some(1));
        assert_eq!(rollout.generation("h0", &server), None);
        for n in 3..20 {
            rollouts.set(&gateway, &format!("h{n}"), with(1), vec![], later);
        }
        assert_eq!(rollouts.get(&gateway).unwrap().known.len(), HISTORY);
    }
}
