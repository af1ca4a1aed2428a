//! What is still missing before traffic may come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Named conditions that must all hold. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Readiness {
    /// Nothing is missing until a gate says so.
    pub fn new() -> Self {
        Self::default()
    }

    /// A condition of this name, at first not met for `reason`. The same name is the same condition.
    pub fn gate(&self, name: &'static str, reason: impl Into<String>) -> Gate {
        self.lock().insert(name, Some(reason.into()));
        Gate {
            name,
            readiness: self.clone(),
        }
    }

    /// Do all conditions hold?
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    /// One line for each condition that does not hold.
    pub fn pending(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter_map(|(name, reason)| reason.as_ref().map(|reason| format!("{name}: {reason}")))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Gate {
    /// It holds.
    pub fn open(&self) {
        self.set(None);
    }

    /// It does not, and why.
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// It holds, unless there is a reason why not.
    pub fn set_to(&self, reason: Option<String>) {
        self.set(reason);
    }

    fn set(&self, reason: Option<String>) {
        let mut gates = self.readiness.lock();
        let before = gates.get(self.name).cloned().flatten();
        if before != reason {
            match &reason {
                None => tracing::info!(gate = self.name, "ready"),
                Some(reason) => tracing::info!(gate = self.name, %reason, "not ready"),
            }
        }
        gates.insert(self.name, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_has_to_be_open() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let config = readiness.gate("config", "not loaded");
        let tls = readiness.gate("tls", "no certificate");
        assert_eq!(readiness.pending(), ["config: not loaded", "tls: no certificate"]);
        config.open();
        assert!(!readiness.is_ready());
        tls.open();
        assert!(readiness.is_ready());
        tls.close("expired");
        assert_eq!(readiness.pending(), ["tls: expired"]);
    }
}
