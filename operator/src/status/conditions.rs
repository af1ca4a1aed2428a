//! Conditions: their types and reasons, once each, and the merge that keeps a transition time until the status flips.
//!
//! Both kinds use the same words. `Reconciling` and `Stalled` follow kstatus: they are there only while they are true.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::v1alpha1::status::MAX_MESSAGE;

/// Types of conditions.
pub mod types {
    /// The spec is valid and nothing conflicts.
    pub const ACCEPTED: &str = "Accepted";
    /// Everything it names exists and may be used.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// Every ready gateway pod reports the configuration that this generation renders to.
    pub const PROGRAMMED: &str = "Programmed";
    /// A gateway takes the server.
    pub const ATTACHED: &str = "Attached";
    /// The server runs.
    pub const AVAILABLE: &str = "Available";
    /// A gateway pod completed a handshake with the server and listed its tools.
    pub const VERIFIED: &str = "Verified";
    /// A gateway's security.txt is neither over nor to hold for longer than a year. Only where it has one.
    pub const SECURITY_TXT_CURRENT: &str = "SecurityTxtCurrent";
    /// It serves traffic now.
    pub const READY: &str = "Ready";
    /// kstatus: work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: nothing will happen until somebody changes something.
    pub const STALLED: &str = "Stalled";
}

/// Reasons that are not those of a problem or an error.
pub mod reasons {
    /// Accepted.
    pub const ACCEPTED: &str = "Accepted";
    /// All references are there.
    pub const RESOLVED: &str = "Resolved";
    /// A Secret or ConfigMap is missing.
    pub const REFERENCE_MISSING: &str = "ReferenceMissing";
    /// A Secret or ConfigMap is there and unusable.
    pub const REFERENCE_INVALID: &str = "ReferenceInvalid";
    /// No pod has said anything yet.
    pub const NOT_REPORTED: &str = "NotReported";
    /// Every ready pod reports the hash.
    pub const PROGRAMMED: &str = "Programmed";
    /// Some pods do not report the hash yet.
    pub const PENDING: &str = "Pending";
    /// There is no ready pod.
    pub const NO_READY_PODS: &str = "NoReadyPods";
    /// A pod refuses the configuration.
    pub const CONFIG_REFUSED: &str = "ConfigRefused";
    /// A ready pod cannot be asked.
    pub const NOT_REACHABLE: &str = "PodsNotReachable";
    /// Enough replicas serve.
    pub const SERVING: &str = "Serving";
    /// They serve, and take over a new configuration.
    pub const UPDATING: &str = "Updating";
    /// Too few replicas.
    pub const TOO_FEW_REPLICAS: &str = "TooFewReplicas";
    /// `spec.suspend`.
    pub const SUSPENDED: &str = "Suspended";
    /// A gateway takes it.
    pub const ATTACHED: &str = "Attached";
    /// Attached, and kept from clients.
    pub const QUARANTINED: &str = "Quarantined";
    /// Its pods run.
    pub const RUNNING: &str = "Running";
    /// Its pods do not run.
    pub const NOT_RUNNING: &str = "NotRunning";
    /// It answers.
    pub const REACHABLE: &str = "Reachable";
    /// It does not answer.
    pub const NOT_ANSWERING: &str = "NotAnswering";
    /// It is not run, since it must not.
    pub const WITHHELD: &str = "Withheld";
    /// Every ready gateway pod verified it.
    pub const VERIFIED: &str = "Verified";
    /// Some ready gateway pods did, others did not.
    pub const PARTLY_VERIFIED: &str = "PartlyVerified";
    /// None did.
    pub const NOT_VERIFIED: &str = "NotVerified";
    /// security.txt holds.
    pub const CURRENT: &str = "Current";
    /// security.txt ends within thirty days.
    pub const ENDS_SOON: &str = "EndsSoon";
    /// security.txt is over.
    pub const EXPIRED: &str = "Expired";
    /// security.txt is to hold for longer than a year.
    pub const TOO_DISTANT: &str = "TooDistant";
    /// The message tells.
    pub const OTHER: &str = "Other";
    /// Work is under way.
    pub const PROGRESSING: &str = "Progressing";
}

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition's content, before it is merged with what was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it says.
    pub truth: Truth,
    /// Why, in one word.
    pub reason: String,
    /// Why, and what to do about it.
    pub message: String,
}

impl Finding {
    /// It holds.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Truth::True, reason, message)
    }

    /// It does not.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Truth::False, reason, message)
    }

    /// Nobody can tell.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Truth::Unknown, reason, message)
    }

    fn new(truth: Truth, reason: &str, message: impl Into<String>) -> Self {
        Self {
            truth,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Whether it holds.
    pub const fn holds(&self) -> bool {
        matches!(self.truth, Truth::True)
    }
}

/// Collects a pass's findings.
#[derive(Clone, Debug)]
pub struct Conditions {
    generation: Option<i64>,
    now: Timestamp,
    previous: Vec<Condition>,
    found: Vec<Condition>,
}

impl Conditions {
    /// Findings about `generation`, on top of the conditions that were there.
    pub fn new(previous: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            generation,
            now,
            previous: previous.to_vec(),
            found: Vec::new(),
        }
    }

    /// Sets a condition.
    pub fn set(&mut self, type_: &str, finding: Finding) {
        let Finding {
            truth,
            reason,
            message,
        } = finding;
        let status = truth.as_str();
        let since = self
            .previous
            .iter()
            .find(|old| old.type_ == type_ && old.status == status)
            .map_or(Time(self.now), |old| old.last_transition_time.clone());
        self.found.retain(|one| one.type_ != type_);
        self.found.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            // Some reasons are quoted from Kubernetes or from a pod.
            reason: if is_word(&reason) {
                reason
            } else {
                reasons::OTHER.to_owned()
            },
            message: bounded(&message, MAX_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: since,
        });
    }

    /// Keeps a condition as it was, its generation included: nothing new was learned about it.
    pub fn keep(&mut self, type_: &str) {
        if let Some(old) = self.previous.iter().find(|old| old.type_ == type_) {
            self.found.retain(|one| one.type_ != type_);
            self.found.push(old.clone());
        }
    }

    /// The conditions in the order they were set. What was not set is gone.
    pub fn finish(self) -> Vec<Condition> {
        self.found
    }
}

/// A condition that flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Type of the condition.
    pub type_: String,
    /// What it says now.
    pub now: String,
    /// Why.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Whether that is bad news.
    pub bad: bool,
}

/// What a person following the object's events wants to hear: that something holds now or holds no longer. That nobody
/// could tell before is no news, and everything begins with not being ready; only a judgement of the spec is told at once.
pub fn flips(before: &[Condition], after: &[Condition]) -> Vec<Flip> {
    let holds = |condition: &Condition| condition.status == Truth::True.as_str();
    after
        .iter()
        .filter(|new| !matches!(new.type_.as_str(), types::RECONCILING | types::STALLED))
        .filter(|new| {
            let old = before.iter().find(|old| old.type_ == new.type_);
            match old {
                None => (holds(new) && new.type_ == types::READY) || is_verdict(new),
                Some(old) => holds(old) != holds(new) || (is_verdict(new) && !is_verdict(old)),
            }
        })
        .map(|new| Flip {
            type_: new.type_.clone(),
            now: new.status.clone(),
            reason: new.reason.clone(),
            message: new.message.clone(),
            bad: !holds(new),
        })
        .collect()
}

/// Whether a first condition is a judgement of the spec, as opposed to a state that everything begins in.
fn is_verdict(condition: &Condition) -> bool {
    condition.status == Truth::False.as_str()
        && matches!(condition.type_.as_str(), types::ACCEPTED | types::ATTACHED)
}

/// The text, cut at a character's end to at most `max` bytes.
pub fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut cut: String = text
        .char_indices()
        .take_while(|(at, c)| at + c.len_utf8() + 3 <= max)
        .map(|(_, c)| c)
        .collect();
    cut.push('…');
    cut
}

/// Whether the text can be a condition's reason.
pub fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Joins the first few of many lines, and says how many are left out.
pub fn joined(lines: impl IntoIterator<Item = String>, most: usize) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    let text = lines.iter().take(most).cloned().collect::<Vec<_>>().join("; ");
    match lines.len().checked_sub(most) {
        None | Some(0) => text,
        Some(more) => format!("{text}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn one(previous: &[Condition], generation: i64, now: i64, finding: Finding) -> Vec<Condition> {
        let mut conditions = Conditions::new(previous, Some(generation), at(now));
        conditions.set(types::READY, finding);
        conditions.finish()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let first = one(&[], 1, 10, Finding::no("A", "a"));
        let second = one(&first, 2, 20, Finding::no("B", "b"));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(
            (second[0].observed_generation, second[0].reason.as_str()),
            (Some(2), "B")
        );
        let third = one(&second, 2, 30, Finding::yes("C", "c"));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn the_same_findings_give_the_same_conditions() {
        let first = one(&[], 1, 10, Finding::no("A", "a"));
        assert_eq!(one(&first, 1, 99, Finding::no("A", "a")), first);
    }

    #[test]
    fn what_is_not_found_any_more_goes_and_what_is_kept_stays_as_it_was() {
        let mut conditions = Conditions::new(&[], Some(1), at(1));
        conditions.set(types::STALLED, Finding::yes("A", "a"));
        conditions.set(types::READY, Finding::no("A", "a"));
        let before = conditions.finish();
        let mut conditions = Conditions::new(&before, Some(2), at(2));
        conditions.keep(types::READY);
        let after = conditions.finish();
        assert_eq!(after, [before[1].clone()]);
    }

    #[test]
    fn only_flips_and_verdicts_are_news() {
        let pending = one(&[], 1, 10, Finding::no(reasons::PENDING, ""));
        assert!(flips(&[], &pending).is_empty());
        let ready = one(&pending, 1, 20, Finding::yes(reasons::SERVING, ""));
        assert_eq!(flips(&pending, &ready).len(), 1);
        assert!(flips(&ready, &ready).is_empty());
        let unknown = one(&ready, 1, 30, Finding::unknown(reasons::NOT_REACHABLE, ""));
        assert_eq!(flips(&ready, &unknown).len(), 1);
        let pending = one(&unknown, 1, 40, Finding::no(reasons::PENDING, ""));
        assert!(flips(&unknown, &pending).is_empty());
        let mut refused = Conditions::new(&[], Some(1), at(1));
        refused.set(types::ACCEPTED, Finding::no("NameConflict", "m"));
        let news = flips(&[], &refused.finish());
        assert!(news.len() == 1 && news[0].bad);
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let lines = (0..5).map(|n| n.to_string());
        assert_eq!(joined(lines, 2), "0; 1; and 3 more");
    }

    proptest! {
        #[test]
        fn messages_fit(text in "\\PC{0,400}", max in 8usize..300) {
            let cut = bounded(&text, max);
            prop_assert!(cut.len() <= max);
            prop_assert!(text.len() > max || cut == text);
        }

        #[test]
        fn transition_times_never_lie_before_a_flip(flips in prop::collection::vec(any::<bool>(), 1..20)) {
            let mut conditions = Vec::new();
            let mut last = None;
            let mut since = 0;
            for (second, flag) in flips.into_iter().enumerate() {
                let second = i64::try_from(second).unwrap();
                let finding = if flag { Finding::yes("R", "") } else { Finding::no("R", "") };
                conditions = one(&conditions, 1, second, finding);
                if last != Some(flag) {
                    since = second;
                    last = Some(flag);
                }
                prop_assert_eq!(conditions[0].last_transition_time.clone(), Time(at(since)));
            }
        }
    }
}
