//! The status of an McpGateway.

mod fleet;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{Conditions, Finding, joined, reasons, types};
use super::deployment::{DeploymentFacts, PodFacts};
use super::references::{self, Mounted};
use crate::api::v1alpha1::{GatewayStatus, McpGateway, ServerCounts};
use crate::build::volumes::tls_paths;
use crate::controller::error::Class;
use crate::controller::poll::board::Report;
use crate::identity::Key;
use crate::validate::credential::Credential;
use crate::validate::gateway::PublicTransport;
use crate::validate::security_txt::{self, Currency, Judgement};
use crate::validate::{Attached, Ca, Condition as Subject, Problem, ValidatedGateway};
use fleet::Fleet;

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
    if let Some(judgement) = security_txt::judge(spec, view.now) {
        conditions.set(types::SECURITY_TXT_CURRENT, currency(judgement));
    }
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

/// Whether `security.txt` is current. A gateway serves whatever this says.
fn currency(judgement: Judgement) -> Finding {
    let Judgement {
        currency,
        message,
        until: _, // decides when this is asked again
    } = judgement;
    match currency {
        Currency::Current => Finding::yes(reasons::CURRENT, message),
        Currency::EndsSoon => Finding::yes(reasons::ENDS_SOON, message),
        Currency::Expired => Finding::no(reasons::EXPIRED, message),
        Currency::TooDistant => Finding::no(reasons::TOO_DISTANT, message),
    }
}

fn url(validated: &ValidatedGateway) -> String {
    let scheme = match validated.transport {
        PublicTransport::Tls { .. } => "https",
        PublicTransport::Plaintext { .. } => "http",
    };
    format!("{scheme}://{}/mcp", validated.spec().public_host)
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
    let Key { namespace, name } = &validated.identity.key;
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
        .map(|one| references::sentence(one, namespace, Some(name), api_keys));
    Finding::no(reason, joined(sentences, LISTED))
}

fn own_mounts(validated: &ValidatedGateway) -> BTreeSet<Mounted> {
    let mut own = BTreeSet::from([Mounted::ApiKeys]);
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
    let credential = upstream.credential.as_ref();
    let own = match &upstream.ca {
        Some(Ca::Mounted(bundle)) => Some(bundle),
        Some(Ca::Inline(_)) | None => None,
    };
    let bundles = own.into_iter().chain(credential.and_then(Credential::ca_bundle));
    references::of_server(credential.map(Credential::secret), bundles)
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
