//! The status of an McpGateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use portcullis_config::status::Status;

use super::conditions::{Conditions, Finding, joined, reasons, types};
use super::deployment::{DeploymentFacts, PodFacts, first_trouble};
use super::references::{self, Mounted};
use crate::api::v1alpha1::{GatewayStatus, McpGateway, ServerCounts};
use crate::build::volumes::tls_paths;
use crate::controller::error::Class;
use crate::controller::poll::board::Report;
use crate::validate::gateway::PublicTransport;
use crate::validate::{Attached, Ca, Condition as Subject, Problem, ValidatedGateway};

/// How many pods, names and problems a message lists.
const LISTED: usize = 5;

/// A pod of a gateway, and what it said.
#[derive(Clone, Debug)]
pub struct GatewayPod {
    /// What Kubernetes says of it.
    pub facts: PodFacts,
    /// What it says of itself.
    pub report: Report,
}

/// A pass that ended early.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the error calls for.
    pub class: Class,
    /// One word.
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// Whether it has gone on long enough to be told.
    pub lasting: bool,
}

impl GatewayPod {
    /// Whether the pod counts, and has not been asked yet, or not often enough to say that it cannot be.
    pub fn is_unheard(&self) -> bool {
        self.facts.serves() && self.report.current().is_none() && !self.report.is_unreachable()
    }
}

/// How far a pass came.
#[derive(Clone, Debug)]
pub enum Outcome<'a> {
    /// The spec cannot be built.
    Refused(&'a [Problem]),
    /// Something went wrong on the way.
    Failed(&'a Failure),
    /// Everything was applied.
    Built {
        /// What was built.
        validated: &'a ValidatedGateway,
        /// What every pod should report.
        hash: &'a str,
        /// Whether the configuration changed so lately that pods may still be taking it over.
        updating: bool,
    },
}

/// Everything that a gateway's status depends on.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The object.
    pub gateway: &'a McpGateway,
    /// How far the pass came.
    pub outcome: Outcome<'a>,
    /// Its Deployment.
    pub deployment: DeploymentFacts,
    /// Its pods.
    pub pods: &'a [GatewayPod],
    /// The time, for conditions that flip.
    pub now: Timestamp,
}

/// The status, given what it was.
pub fn status(view: &View<'_>, previous: &GatewayStatus) -> GatewayStatus {
    let generation = view.gateway.metadata.generation;
    let mut conditions = Conditions::new(&previous.conditions, generation, view.now);
    match &view.outcome {
        Outcome::Refused(problems) => {
            refused(&mut conditions, problems, &view.deployment);
            GatewayStatus {
                observed_generation: generation,
                conditions: conditions.finish(),
                ..previous.clone()
            }
        }
        Outcome::Failed(failure) => GatewayStatus {
            observed_generation: previous.observed_generation,
            conditions: failed(conditions, failure, &previous.conditions),
            ..previous.clone()
        },
        Outcome::Built {
            validated,
            hash,
            updating,
        } => built(view, validated, hash, *updating, conditions),
    }
}

fn refused(conditions: &mut Conditions, problems: &[Problem], deployment: &DeploymentFacts) {
    let first = problems.first().map_or("InvalidSpec", |problem| problem.reason);
    let message = joined(problems.iter().map(|problem| problem.message.clone()), LISTED);
    let goes_on = if deployment.ready > 0 {
        "; the pods go on with the last accepted configuration"
    } else {
        ""
    };
    for subject in [Subject::Accepted, Subject::ResolvedRefs] {
        let own: Vec<&Problem> = problems
            .iter()
            .filter(|problem| problem.condition == subject)
            .collect();
        let finding = match own.first() {
            Some(problem) => {
                let all = joined(own.iter().map(|problem| problem.message.clone()), LISTED);
                Finding::no(problem.reason, all)
            }
            None if subject == Subject::Accepted => Finding::yes(reasons::ACCEPTED, ""),
            None => Finding::unknown(
                first,
                "the spec is not accepted, so its references were not looked at",
            ),
        };
        conditions.set(subject.as_str(), finding);
    }
    conditions.set(
        types::PROGRAMMED,
        Finding::no(first, format!("{message}{goes_on}")),
    );
    conditions.set(types::READY, Finding::no(first, format!("{message}{goes_on}")));
    conditions.set(types::STALLED, Finding::yes(first, message));
}

/// Conditions after a pass that ended early: only what the failure is about changes.
pub fn failed(mut conditions: Conditions, failure: &Failure, previous: &[Condition]) -> Vec<Condition> {
    let Failure {
        class,
        reason,
        message,
        lasting,
    } = failure;
    for old in previous {
        if !matches!(old.type_.as_str(), types::RECONCILING | types::STALLED) {
            conditions.keep(&old.type_);
        }
    }
    let no = || Finding::no(reason, message.clone());
    match class {
        Class::Terminal => {
            for type_ in [types::ACCEPTED, types::PROGRAMMED, types::READY] {
                conditions.set(type_, no());
            }
            conditions.set(types::STALLED, Finding::yes(reason, message.clone()));
        }
        Class::Forbidden | Class::Contested | Class::Bug => {
            unfinished(&mut conditions, failure, previous);
        }
        Class::Waiting | Class::Transient | Class::Conflict | Class::NotLeading if *lasting => {
            unfinished(&mut conditions, failure, previous);
        }
        Class::Waiting | Class::Transient | Class::Conflict | Class::NotLeading => {
            for type_ in [types::RECONCILING, types::STALLED] {
                conditions.keep(type_);
            }
        }
    }
    conditions.finish()
}

/// A pass that ended before the pods were looked at. What served before may serve still: nobody knows.
fn unfinished(conditions: &mut Conditions, failure: &Failure, previous: &[Condition]) {
    let Failure { reason, message, .. } = failure;
    conditions.set(types::PROGRAMMED, Finding::no(reason, message.clone()));
    conditions.set(types::RECONCILING, Finding::yes(reason, message.clone()));
    let served = |old: &Condition| old.type_ == types::READY && old.status == "True";
    if previous.iter().any(served) {
        conditions.set(types::READY, Finding::unknown(reason, message.clone()));
    }
}

fn built(
    view: &View<'_>,
    validated: &ValidatedGateway,
    hash: &str,
    updating: bool,
    mut conditions: Conditions,
) -> GatewayStatus {
    let spec = validated.spec();
    let fleet = Fleet::of(view.pods, hash);
    let programmed = fleet.programmed(&view.deployment, view.pods);
    let ready = if spec.suspend {
        Finding::no(
            reasons::SUSPENDED,
            "spec.suspend is true: MCP requests are answered with an error; set it to false to serve again",
        )
    } else {
        fleet.ready(&view.deployment, &programmed, updating)
    };
    let stalled = programmed.reason == reasons::CONFIG_REFUSED;
    let settled = programmed.holds() && view.deployment.rolled_out;
    conditions.set(types::ACCEPTED, Finding::yes(reasons::ACCEPTED, ""));
    conditions.set(types::RESOLVED_REFS, resolved(validated, &fleet));
    conditions.set(types::PROGRAMMED, programmed.clone());
    conditions.set(types::READY, ready);
    if stalled {
        conditions.set(
            types::STALLED,
            Finding::yes(&programmed.reason, programmed.message),
        );
    } else if !settled {
        let message = if programmed.holds() {
            format!(
                "{} of {} pods are of the present template and ready",
                view.deployment.ready, view.deployment.wanted
            )
        } else {
            programmed.message
        };
        conditions.set(types::RECONCILING, Finding::yes(reasons::PROGRESSING, message));
    }
    GatewayStatus {
        observed_generation: view.gateway.metadata.generation,
        url: Some(url(validated)),
        replicas: i32::try_from(fleet.ready.len()).ok(),
        config_hash: fleet.common_hash(),
        gateway_version: fleet.oldest_version(),
        servers: Some(counts(validated, &fleet)),
        conditions: conditions.finish(),
    }
}

fn url(validated: &ValidatedGateway) -> String {
    let scheme = match validated.transport {
        PublicTransport::Tls { .. } => "https",
        PublicTransport::Plaintext { .. } => "http",
    };
    format!("{scheme}://{}/mcp", validated.spec().public_host)
}

/// The pods, sorted by what they say.
struct Fleet<'a> {
    /// Ready according to the kubelet.
    ready: Vec<&'a GatewayPod>,
    /// Of those, the ones that report the expected configuration.
    programmed: usize,
    /// Of those, the ones that can be read at all.
    readable: Vec<&'a Arc<Status>>,
    /// Why one refuses the expected configuration.
    refusal: Option<String>,
    /// Why one cannot be read.
    unreachable: Option<String>,
    /// What all pods say that are not leaving, ready or not.
    heard: Vec<&'a Arc<Status>>,
}

impl<'a> Fleet<'a> {
    fn of(pods: &'a [GatewayPod], hash: &str) -> Self {
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

    fn programmed(&self, deployment: &DeploymentFacts, pods: &[GatewayPod]) -> Finding {
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

    fn ready(&self, deployment: &DeploymentFacts, programmed: &Finding, updating: bool) -> Finding {
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

    fn common_hash(&self) -> Option<String> {
        let first = &self.readable.first()?.config.hash;
        let all = self.readable.len() == self.ready.len()
            && self.readable.iter().all(|status| status.config.hash == *first);
        (all && !first.is_empty()).then(|| first.clone())
    }

    fn oldest_version(&self) -> Option<String> {
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

/// Whether everything is there that the gateway itself, and not one of its servers, refers to.
fn resolved(validated: &ValidatedGateway, fleet: &Fleet<'_>) -> Finding {
    if fleet.heard.is_empty() {
        return Finding::unknown(reasons::NOT_REPORTED, "no pod has reported its mounts yet");
    }
    let spec = validated.spec();
    let own = own_mounts(validated);
    let of_servers: BTreeSet<Mounted> = validated.attached().flat_map(server_mounts).collect();
    let broken: Vec<_> = references::broken(fleet.heard.iter().copied())
        .into_iter()
        .filter(|one| own.contains(&one.mounted) || !of_servers.contains(&one.mounted))
        .collect();
    let namespace = &validated.identity.key.namespace;
    let api_keys = spec.auth.api_keys.as_ref().map(|keys| keys.secret_name.as_str());
    let Some(first) = broken.first() else {
        let message = if validated.unattached.is_empty() {
            String::new()
        } else {
            let names = joined(validated.unattached.iter().map(ToString::to_string), LISTED);
            format!("rules or limits name servers that are not attached: {names}")
        };
        return Finding::yes(reasons::RESOLVED, message);
    };
    let reason = if first.missing {
        reasons::REFERENCE_MISSING
    } else {
        reasons::REFERENCE_INVALID
    };
    let sentences = broken
        .iter()
        .map(|one| references::sentence(one, namespace, api_keys));
    Finding::no(reason, joined(sentences, LISTED))
}

fn own_mounts(validated: &ValidatedGateway) -> BTreeSet<Mounted> {
    let mut own = BTreeSet::from([Mounted::ApiKeys, Mounted::SessionKey]);
    if let PublicTransport::Tls { secret_name } = &validated.transport {
        let (certificate, key) = tls_paths(secret_name);
        own.extend(
            [certificate, key]
                .iter()
                .map(|path| Mounted::of(&path.to_string_lossy())),
        );
    }
    for jwt in &validated.spec().auth.jwt {
        let ca = jwt
            .jwks
            .ca_bundle
            .as_ref()
            .map(|ca| (&ca.config_map_name, &ca.key));
        let set = jwt
            .jwks
            .config_map
            .as_ref()
            .map(|set| (&set.config_map_name, &set.key));
        own.extend(
            [ca, set]
                .into_iter()
                .flatten()
                .map(|(name, key)| Mounted::ConfigMapKey {
                    config_map: name.to_string(),
                    key: key.to_string(),
                }),
        );
    }
    own
}

/// What the gateway mounts for one server.
pub fn server_mounts(attached: &Attached) -> BTreeSet<Mounted> {
    let upstream = &attached.upstream;
    let credential = upstream.credential.as_ref().map(|header| {
        (
            header.secret_ref.secret_name.as_str(),
            header.secret_ref.key.as_str(),
        )
    });
    let ca = match &upstream.ca {
        Some(Ca::Mounted(bundle)) => Some((bundle.config_map_name.as_str(), bundle.key.as_str())),
        Some(Ca::Inline(_)) | None => None,
    };
    references::of_server(credential, ca)
}

fn counts(validated: &ValidatedGateway, fleet: &Fleet<'_>) -> ServerCounts {
    let attached: Vec<&Attached> = validated.attached().collect();
    let served = attached.iter().filter(|one| {
        let key = &one.upstream.key;
        !one.quarantined
            && fleet.readable.iter().any(|status| {
                status.servers.iter().any(|server| {
                    server.verified && server.name == *key.name && server.namespace == *key.namespace
                })
            })
    });
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    ServerCounts::new(number(served.count()), number(attached.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn a_failure_changes_only_what_it_is_about() {
        let now = Timestamp::UNIX_EPOCH;
        let mut conditions = Conditions::new(&[], Some(1), now);
        conditions.set(types::ACCEPTED, Finding::yes("Accepted", ""));
        conditions.set(types::READY, Finding::yes("Serving", ""));
        let before = conditions.finish();
        let after = |class, lasting| {
            let failure = Failure {
                class,
                reason: "R",
                message: "m".into(),
                lasting,
            };
            failed(Conditions::new(&before, Some(1), now), &failure, &before)
        };
        assert_eq!(after(Class::Transient, false), before);
        let lasting = after(Class::Transient, true);
        let status = |type_| {
            let found = lasting.iter().find(|one| one.type_ == type_);
            found.map(|one| one.status.as_str())
        };
        assert_eq!(status(types::ACCEPTED), Some("True"));
        assert_eq!(status(types::PROGRAMMED), Some("False"));
        assert_eq!(status(types::READY), Some("Unknown"), "nobody has looked");
        let terminal = after(Class::Terminal, true);
        assert!(
            terminal
                .iter()
                .all(|one| one.type_ == types::STALLED || one.status == "False")
        );
    }
}
