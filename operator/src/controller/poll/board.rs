//! What the gateways' pods said last.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use portcullis_config::status::Status;

use crate::identity::Key;

/// After so many failures in a row what a pod said before counts no more.
const PATIENCE: u32 = 2;

/// What is known of one pod.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it said last, and when that still counts.
    pub status: Option<Arc<Status>>,
    /// Why it could not be read, if the last try failed.
    pub failure: Option<String>,
    /// Failures in a row.
    pub failures: u32,
}

impl Report {
    /// What the pod says, as far as that can be relied on: one failed read in between does not count.
    pub fn current(&self) -> Option<&Arc<Status>> {
        self.status.as_ref().filter(|_| self.failures < PATIENCE)
    }

    /// Whether the pod was tried often enough to say that it cannot be read.
    pub fn is_unreachable(&self) -> bool {
        self.failures >= PATIENCE
    }

    /// Takes in the outcome of one read. Says whether anybody who looks at it sees a difference.
    fn update(&mut self, outcome: Result<Status, String>) -> bool {
        let before = (self.current().cloned(), self.is_unreachable());
        match outcome {
            Ok(status) => {
                if self.status.as_deref() != Some(&status) {
                    self.status = Some(Arc::new(status));
                }
                self.failure = None;
                self.failures = 0;
            }
            Err(failure) => {
                self.failure = Some(failure);
                self.failures = self.failures.saturating_add(1);
            }
        }
        before != (self.current().cloned(), self.is_unreachable())
    }
}

/// Reports by gateway and pod UID.
#[derive(Debug, Default)]
pub struct Board {
    reports: RwLock<HashMap<Key, HashMap<String, Report>>>,
}

impl Board {
    /// All reports about a gateway's pods, by pod UID.
    pub fn of(&self, gateway: &Key) -> HashMap<String, Report> {
        self.reports
            .read()
            .expect("no code that holds this lock can panic")
            .get(gateway)
            .cloned()
            .unwrap_or_default()
    }

    /// Takes in the outcome of one read; says whether it changed anything.
    pub fn record(&self, gateway: &Key, pod_uid: &str, outcome: Result<Status, String>) -> bool {
        self.reports
            .write()
            .expect("no code that holds this lock can panic")
            .entry(gateway.clone())
            .or_default()
            .entry(pod_uid.to_owned())
            .or_default()
            .update(outcome)
    }

    /// Forgets all pods of a gateway but these; with none, the gateway.
    pub fn retain(&self, gateway: &Key, keep: impl Fn(&str) -> bool) {
        let mut reports = self
            .reports
            .write()
            .expect("no code that holds this lock can panic");
        if let Some(pods) = reports.get_mut(gateway) {
            pods.retain(|uid, _| keep(uid));
            if pods.is_empty() {
                reports.remove(gateway);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(hash: &str) -> Status {
        let mut status = Status::default();
        status.config.hash = hash.into();
        status
    }

    #[test]
    fn one_failed_read_changes_nothing_and_a_second_does() {
        let mut report = Report::default();
        assert!(report.update(Ok(said("a"))));
        assert!(!report.update(Ok(said("a"))));
        assert!(!report.update(Err("timeout".into())));
        assert_eq!(report.current().unwrap().config.hash, "a");
        assert!(report.update(Err("timeout".into())));
        assert!(report.current().is_none() && report.is_unreachable());
        assert!(!report.update(Err("timeout".into())));
        assert!(report.update(Ok(said("a"))));
        assert!(report.current().is_some());
    }

    #[test]
    fn pods_that_are_gone_are_forgotten() {
        let board = Board::default();
        let gateway = Key::new("ns", "gw");
        board.record(&gateway, "a", Ok(said("x")));
        board.record(&gateway, "b", Ok(said("x")));
        board.retain(&gateway, |uid| uid == "b");
        assert_eq!(board.of(&gateway).into_keys().collect::<Vec<_>>(), ["b"]);
        board.retain(&gateway, |_| false);
        assert!(board.of(&gateway).is_empty());
    }
}
