//! The pods of a gateway, and what they say all together.

use std::sync::Arc;

use portcullis_config::status::Status;

use super::{GatewayPod, LISTED};
use crate::status::conditions::{Finding, joined, reasons};
use crate::status::deployment::{DeploymentFacts, PodFacts, first_trouble};

/// The pods, sorted by what they say.
pub(super) struct Fleet<'a> {
    /// Ready according to the kubelet.
    pub(super) ready: Vec<&'a GatewayPod>,
    /// Of those, the ones that report the expected configuration.
    programmed: usize,
    /// Of those, the ones that can be read at all.
    pub(super) readable: Vec<&'a Arc<Status>>,
    /// Why one refuses the expected configuration.
    refusal: Option<String>,
    /// Why one cannot be read.
    unreachable: Option<String>,
    /// What all pods say that are not leaving, ready or not.
    pub(super) heard: Vec<&'a Arc<Status>>,
}

impl<'a> Fleet<'a> {
    pub(super) fn of(pods: &'a [GatewayPod], hash: &str) -> Self {
        let ready: Vec<&GatewayPod> = pods.iter().filter(|pod| pod.facts.serves()).collect();
        let readable: Vec<&Arc<Status>> = ready.iter().filter_map(|pod| pod.report.current()).collect();
        let staying = || pods.iter().filter(|pod| !pod.facts.leaving);
        let refusal = staying().find_map(|pod| {
            let status = pod.report.current()?;
            (status.config.rejected_hash.as_deref() == Some(hash)).then(|| {
                let why = status
                    .config
                    .rejected_reason
                    .as_deref()
                    .unwrap_or("it gives no reason");
                format!("pod {} refuses the configuration: {why}", pod.facts.name)
            })
        });
        let unreachable = ready.iter().find(|pod| pod.report.is_unreachable()).map(|pod| {
            let why = pod.report.failure.as_deref().unwrap_or("no reason");
            format!("pod {} cannot be asked: {why}", pod.facts.name)
        });
        Self {
            programmed: readable
                .iter()
                .filter(|status| status.config.hash == hash)
                .count(),
            heard: staying().filter_map(|pod| pod.report.current()).collect(),
            ready,
            readable,
            refusal,
            unreachable,
        }
    }

    pub(super) fn programmed(&self, deployment: &DeploymentFacts, pods: &[GatewayPod]) -> Finding {
        let all = self.ready.len();
        if let Some(refusal) = &self.refusal {
            return Finding::no(
                reasons::CONFIG_REFUSED,
                format!("{refusal}; the configuration before it stays in force"),
            );
        }
        if all == 0 {
            return Finding::no(reasons::NO_READY_PODS, why_none(deployment, pods));
        }
        if self.programmed == all {
            return Finding::yes(
                reasons::PROGRAMMED,
                format!("all {all} ready pods run this configuration"),
            );
        }
        let stale = self.readable.len() - self.programmed;
        match &self.unreachable {
            Some(unreachable) if stale == 0 => Finding::unknown(reasons::NOT_REACHABLE, unreachable.clone()),
            Some(_) | None => Finding::no(
                reasons::PENDING,
                format!("{} of {all} ready pods run this configuration", self.programmed),
            ),
        }
    }

    pub(super) fn ready(
        &self,
        deployment: &DeploymentFacts,
        programmed: &Finding,
        updating: bool,
    ) -> Finding {
        // As many as the disruption budget keeps.
        let wanted = usize::try_from(deployment.wanted).unwrap_or(0);
        let enough = wanted.saturating_sub(1).max(1);
        let serve = |count: usize| format!("{count} of {wanted} replicas serve");
        if self.programmed >= enough {
            return Finding::yes(reasons::SERVING, serve(self.programmed));
        }
        if self.ready.is_empty() {
            return Finding::no(reasons::NO_READY_PODS, programmed.message.clone());
        }
        if updating && self.refusal.is_none() && self.readable.len() >= enough {
            return Finding::yes(
                reasons::UPDATING,
                format!(
                    "{}, and take over a new configuration",
                    serve(self.readable.len())
                ),
            );
        }
        match &self.unreachable {
            Some(unreachable) if self.ready.len() >= enough && self.refusal.is_none() => {
                Finding::unknown(reasons::NOT_REACHABLE, unreachable.clone())
            }
            Some(_) | None if self.ready.len() < enough => {
                Finding::no(reasons::TOO_FEW_REPLICAS, serve(self.programmed))
            }
            Some(_) | None => Finding::no(&programmed.reason, programmed.message.clone()),
        }
    }

    pub(super) fn common_hash(&self) -> Option<String> {
        let first = &self.readable.first()?.config.hash;
        let all = self.readable.len() == self.ready.len()
            && self.readable.iter().all(|status| status.config.hash == *first);
        (all && !first.is_empty()).then(|| first.clone())
    }

    pub(super) fn oldest_version(&self) -> Option<String> {
        let numbers = |version: &str| -> Vec<u64> {
            version
                .split(['.', '-', '+'])
                .map_while(|part| part.parse().ok())
                .collect()
        };
        self.readable
            .iter()
            .map(|status| &status.version)
            .filter(|version| !version.is_empty() && version.len() <= 64)
            .min_by_key(|version| numbers(version))
            .cloned()
    }
}

/// Why no pod is ready.
fn why_none(deployment: &DeploymentFacts, pods: &[GatewayPod]) -> String {
    let facts: Vec<PodFacts> = pods.iter().map(|pod| pod.facts.clone()).collect();
    if let Some(trouble) = first_trouble(deployment, &facts) {
        return format!("{}: {}", trouble.reason, trouble.message);
    }
    let says = pods.iter().filter(|pod| !pod.facts.leaving).find_map(|pod| {
        let status = pod.report.current()?;
        let why = joined(status.not_ready.iter().cloned(), LISTED);
        (!why.is_empty()).then(|| format!("pod {} is not ready: {why}", pod.facts.name))
    });
    says.unwrap_or_else(|| {
        format!(
            "{} pods are starting",
            pods.iter().filter(|pod| !pod.facts.leaving).count()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::poll::board::Report;
    use crate::status::conditions::Truth;
    use rstest::rstest;

    /// What a pod is and says: `+hash` ready, `-hash` not ready, `?` unreachable, `.` not asked yet, `!hash` refusing it.
    fn pods(text: &str) -> Vec<GatewayPod> {
        text.split_whitespace()
            .enumerate()
            .map(|(number, one)| {
                let (kind, hash) = one.split_at(1);
                let status = |config| {
                    Some(Arc::new(Status {
                        config,
                        version: format!("0.{}.0", 10 - number),
                        not_ready: vec!["because".into()],
                        ..Status::default()
                    }))
                };
                let running = |hash: &str| portcullis_config::status::ConfigStatus {
                    hash: hash.to_owned(),
                    ..Default::default()
                };
                let refusing = portcullis_config::status::ConfigStatus {
                    hash: "old".into(),
                    rejected_hash: Some(hash.into()),
                    rejected_reason: Some("a field is unknown".into()),
                };
                let report = match kind {
                    "+" | "-" => Report {
                        status: status(running(hash)),
                        ..Report::default()
                    },
                    "!" => Report {
                        status: status(refusing),
                        ..Report::default()
                    },
                    "?" => Report {
                        failure: Some("no answer".into()),
                        failures: 2,
                        ..Report::default()
                    },
                    _ => Report::default(),
                };
                GatewayPod {
                    facts: PodFacts {
                        uid: number.to_string(),
                        name: format!("pod-{number}"),
                        ip: None,
                        ready: kind != "-",
                        leaving: false,
                        trouble: None,
                    },
                    report,
                }
            })
            .collect()
    }

    fn judge(text: &str, wanted: i32, updating: bool) -> (String, String) {
        let pods = pods(text);
        let deployment = DeploymentFacts {
            wanted,
            ..DeploymentFacts::default()
        };
        let fleet = Fleet::of(&pods, "new");
        let programmed = fleet.programmed(&deployment, &pods);
        let ready = fleet.ready(&deployment, &programmed, updating);
        let word = |finding: &Finding| format!("{}/{}", finding.truth.as_str(), finding.reason);
        (word(&programmed), word(&ready))
    }

    #[rstest]
    #[case::all("+new +new", 2, "True/Programmed", "True/Serving")]
    #[case::one_behind("+new +old", 2, "False/Pending", "True/Serving")]
    #[case::most_behind("+new +old +old", 3, "False/Pending", "False/Pending")]
    #[case::one_missing("+new", 2, "True/Programmed", "True/Serving")]
    #[case::two_missing("+new", 3, "True/Programmed", "False/TooFewReplicas")]
    #[case::none("", 2, "False/NoReadyPods", "False/NoReadyPods")]
    #[case::none_ready("-new -new", 2, "False/NoReadyPods", "False/NoReadyPods")]
    #[case::not_asked(". .", 2, "False/Pending", "False/Pending")]
    #[case::unreachable("? ?", 2, "Unknown/PodsNotReachable", "Unknown/PodsNotReachable")]
    #[case::one_unreachable("+new ?", 2, "Unknown/PodsNotReachable", "True/Serving")]
    #[case::unreachable_and_behind("+old ? ?", 3, "False/Pending", "Unknown/PodsNotReachable")]
    #[case::refused("!new !new", 2, "False/ConfigRefused", "False/ConfigRefused")]
    #[case::one_refuses("+new !new", 2, "False/ConfigRefused", "True/Serving")]
    #[case::refused_before("!other !other", 2, "False/Pending", "False/Pending")]
    fn pods_decide(#[case] text: &str, #[case] wanted: i32, #[case] programmed: &str, #[case] ready: &str) {
        assert_eq!(
            judge(text, wanted, false),
            (programmed.to_owned(), ready.to_owned())
        );
    }

    #[rstest]
    #[case::both_old("+old +old", "True/Updating")]
    #[case::refused("!new !new", "False/ConfigRefused")]
    #[case::nobody("", "False/NoReadyPods")]
    fn while_a_change_spreads_pods_that_serve_the_old_one_count(#[case] text: &str, #[case] ready: &str) {
        assert_eq!(judge(text, 2, true).1, ready);
        assert_ne!(judge(text, 2, false).1, "True/Updating");
    }

    #[test]
    fn unknown_is_never_the_answer_to_a_refusal() {
        let (programmed, ready) = judge("!new ?", 2, true);
        assert!(programmed.starts_with(Truth::False.as_str()) && ready.starts_with(Truth::False.as_str()));
    }

    #[test]
    fn the_hash_is_told_only_where_all_agree_and_the_version_is_the_oldest() {
        let told = |text: &str| Fleet::of(&pods(text), "new").common_hash();
        assert_eq!(told("+a +a"), Some("a".into()));
        assert_eq!(told("+a +b"), None);
        assert_eq!(told("+a ?"), None);
        assert_eq!(told("-a"), None);
        let all = pods("+a +a");
        assert_eq!(Fleet::of(&all, "new").oldest_version(), Some("0.9.0".into()));
    }
}
