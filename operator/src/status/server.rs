//! The status of an McpServer.

mod picture;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_config::status::Status;

use super::conditions::{Conditions, Finding, Truth, joined, reasons, types};
use super::deployment::{DeploymentFacts, PodFacts, first_trouble};
use super::gateway::{Failure, failed, server_mounts};
use super::references;
use crate::api::v1alpha1::{Container, McpServer, McpServerSpec, Revision, ServerStatus, TransportKind};
use crate::controller::poll::board::Report;
use crate::controller::rollouts::Rollout;
use crate::identity::Key;
use crate::validate::{Condition as Subject, Problem, ServerForm, ValidatedServer};
use picture::Picture;

/// How many pods, names and problems a message lists.
const LISTED: usize = 5;

/// A gateway that the server names, and what its pods say.
#[derive(Clone, Debug)]
pub struct GatewayView {
    /// What its pods should run; none if its controller has not built it yet.
    pub rollout: Option<Arc<Rollout>>,
    /// What its pods say, by UID.
    pub reports: BTreeMap<String, Report>,
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
        validated: &'a ValidatedServer,
        /// Its Deployment, if Portcullis runs it.
        deployment: Option<DeploymentFacts>,
        /// Its pods.
        pods: &'a [PodFacts],
        /// The gateways it names.
        gateways: &'a BTreeMap<Key, GatewayView>,
    },
}

/// Everything that a server's status depends on.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The object.
    pub server: &'a McpServer,
    /// How far the pass came.
    pub outcome: Outcome<'a>,
    /// The time, for conditions that flip.
    pub now: Timestamp,
}

/// The status, given what it was.
pub fn status(view: &View<'_>, previous: &ServerStatus) -> ServerStatus {
    let generation = view.server.metadata.generation;
    let mut conditions = Conditions::new(&previous.conditions, generation, view.now);
    match &view.outcome {
        Outcome::Refused(problems) => {
            let reason = problems.first().map_or("InvalidSpec", |problem| problem.reason);
            let message = joined(problems.iter().map(|problem| problem.message.clone()), LISTED);
            for type_ in [types::ACCEPTED, types::PROGRAMMED, types::READY] {
                conditions.set(type_, Finding::no(reason, message.clone()));
            }
            conditions.set(types::STALLED, Finding::yes(reason, message));
            ServerStatus {
                observed_generation: generation,
                conditions: conditions.finish(),
                ..previous.clone()
            }
        }
        Outcome::Failed(failure) => ServerStatus {
            conditions: failed(conditions, failure, &previous.conditions),
            ..previous.clone()
        },
        Outcome::Built {
            validated,
            deployment,
            pods,
            gateways,
        } => {
            let picture = Picture::of(view.server, validated, gateways);
            let available = available(validated, deployment.as_ref(), pods, &picture);
            built(
                view,
                validated,
                &picture,
                &available,
                deployment.as_ref(),
                conditions,
                previous,
            )
        }
    }
}

fn built(
    view: &View<'_>,
    validated: &ValidatedServer,
    picture: &Picture<'_>,
    available: &Finding,
    deployment: Option<&DeploymentFacts>,
    mut conditions: Conditions,
    previous: &ServerStatus,
) -> ServerStatus {
    let accepted = about(validated, Subject::Accepted).unwrap_or_else(|| Finding::yes(reasons::ACCEPTED, ""));
    let resolved = resolved(validated, picture);
    let attached = attached(validated);
    let programmed = picture.programmed(&attached);
    let verified = picture.verified(&attached);
    let mut ready = ready(&accepted, &attached, &programmed, available, &verified, picture);
    // Pods of the former template may serve while those of the present one do not start.
    let updating = deployment.is_some_and(|facts| !facts.rolled_out);
    if updating && ready.holds() {
        ready = Finding::yes(reasons::UPDATING, available.message.clone());
    }
    let waits = !programmed.holds() || !available.holds() || !verified.holds() || updating;
    let stuck = !accepted.holds() || !attached.holds();
    let pending = (stuck, waits, ready.clone());
    for (type_, finding) in [
        (types::ACCEPTED, accepted),
        (types::RESOLVED_REFS, resolved),
        (types::PROGRAMMED, programmed),
        (types::ATTACHED, attached),
        (types::AVAILABLE, available.clone()),
        (types::VERIFIED, verified),
        (types::READY, ready),
    ] {
        conditions.set(type_, finding);
    }
    match pending {
        (true, _, ready) => conditions.set(types::STALLED, Finding::yes(&ready.reason, ready.message)),
        (false, true, ready) => {
            conditions.set(
                types::RECONCILING,
                Finding::yes(reasons::PROGRESSING, ready.message),
            );
        }
        (false, false, _) => {}
    }
    let (server_info, tools, tool_counts) = picture.introduction(previous);
    ServerStatus {
        observed_generation: view.server.metadata.generation,
        gateways: picture.attachments(validated, &previous.gateways),
        transport: Some(transport(&view.server.spec)),
        server_info,
        tools,
        tool_counts,
        conditions: conditions.finish(),
    }
}

fn transport(spec: &McpServerSpec) -> TransportKind {
    let sse = |container: &Container| container.transport.sse.is_some();
    if spec.container.as_ref().is_some_and(sse) || spec.protocol.revision == Revision::V20241105 {
        TransportKind::Sse
    } else {
        TransportKind::StreamableHttp
    }
}

/// The first finding of a gateway that is about `subject`.
fn about(validated: &ValidatedServer, subject: Subject) -> Option<Finding> {
    let problems: Vec<&Problem> = validated
        .gateways
        .values()
        .filter_map(|verdict| verdict.as_ref().err())
        .filter(|problem| problem.condition == subject)
        .collect();
    let first = problems.first()?;
    let messages = problems.iter().map(|problem| problem.message.clone());
    Some(Finding::no(first.reason, joined(messages, LISTED)))
}

fn attached(validated: &ValidatedServer) -> Finding {
    let refusals: Vec<(&Key, &Problem)> = validated
        .gateways
        .iter()
        .filter_map(|(key, verdict)| Some((key, verdict.as_ref().err()?)))
        .collect();
    let taken: Vec<&Key> = validated.attached().collect();
    let refused = joined(
        refusals.iter().map(|(key, problem)| {
            let gateway = format!("McpGateway {key}");
            if problem.message.contains(&gateway) {
                problem.message.clone()
            } else {
                format!("{gateway}: {}", problem.message)
            }
        }),
        LISTED,
    );
    if taken.is_empty() {
        let reason = refusals
            .first()
            .map_or("GatewayNotFound", |(_, problem)| problem.reason);
        return Finding::no(reason, refused);
    }
    let names = joined(taken.iter().map(ToString::to_string), LISTED);
    let message = if refused.is_empty() {
        format!("attached to {names}")
    } else {
        format!("attached to {names}; refused by {refused}")
    };
    Finding::yes(reasons::ATTACHED, message)
}

fn resolved(validated: &ValidatedServer, picture: &Picture<'_>) -> Finding {
    if let Some(finding) = about(validated, Subject::ResolvedRefs) {
        return finding;
    }
    let namespace = &validated.identity.key.namespace;
    let broken: Vec<_> = picture
        .gateways
        .values()
        .flat_map(|one| {
            let mounts = server_mounts(one.attached);
            let statuses: Vec<&Arc<Status>> = one.heard.iter().map(|(_, status)| *status).collect();
            references::broken(statuses)
                .into_iter()
                .filter(move |broken| mounts.contains(&broken.mounted))
        })
        .collect();
    match broken.first() {
        None => Finding::yes(reasons::RESOLVED, ""),
        Some(first) => {
            let reason = if first.missing {
                reasons::REFERENCE_MISSING
            } else {
                reasons::REFERENCE_INVALID
            };
            let sentences = broken
                .iter()
                .map(|one| references::sentence(one, namespace, None, None));
            Finding::no(reason, joined(sentences, LISTED))
        }
    }
}

fn available(
    validated: &ValidatedServer,
    deployment: Option<&DeploymentFacts>,
    pods: &[PodFacts],
    picture: &Picture<'_>,
) -> Finding {
    match &validated.form {
        ServerForm::Withheld => Finding::no(
            reasons::WITHHELD,
            "the server is not run, since a gateway it is attached to would not take it",
        ),
        ServerForm::Container(_) => running(&deployment.cloned().unwrap_or_default(), pods),
        ServerForm::Elsewhere | ServerForm::Fenced(_) => {
            if picture.seen().any(|(_, seen)| seen.verified) {
                return Finding::yes(reasons::REACHABLE, "");
            }
            match picture.seen().find(|(_, seen)| !seen.reason.is_empty()) {
                Some((_, seen)) => Finding::no(
                    reasons::NOT_ANSWERING,
                    format!("{}: {}", seen.reason, seen.message),
                ),
                None => Finding::unknown(reasons::NOT_REPORTED, "no gateway pod has tried it yet"),
            }
        }
    }
}

/// Whether a container serves, and what keeps pods of the present template from doing so.
fn running(facts: &DeploymentFacts, pods: &[PodFacts]) -> Finding {
    let count = format!("{} of {} pods are ready", facts.ready, facts.wanted);
    let trouble = first_trouble(facts, pods);
    match (facts.ready > 0, facts.rolled_out, trouble) {
        (true, true, _) => Finding::yes(reasons::RUNNING, count),
        (true, false, Some(trouble)) => Finding::yes(
            reasons::RUNNING,
            format!("{count}, not all of them new: {}", trouble.message),
        ),
        (true, false, None) => Finding::yes(reasons::RUNNING, format!("{count}, not all of them new")),
        (false, _, Some(trouble)) => Finding::no(&trouble.reason, trouble.message),
        (false, _, None) => Finding::no(reasons::NOT_RUNNING, count),
    }
}

fn ready(
    accepted: &Finding,
    attached: &Finding,
    programmed: &Finding,
    available: &Finding,
    verified: &Finding,
    picture: &Picture<'_>,
) -> Finding {
    // The first thing that stands in the way is the one to tell.
    for needed in [accepted, attached, available, programmed, verified] {
        match needed.truth {
            Truth::True => {}
            Truth::False => return Finding::no(&needed.reason, needed.message.clone()),
            Truth::Unknown => return Finding::unknown(&needed.reason, needed.message.clone()),
        }
    }
    if picture.gateways.values().all(|one| one.attached.quarantined) {
        return Finding::no(
            reasons::QUARANTINED,
            "the server is verified, and served to nobody but spec.quarantine.exceptFor: look at its tools, then set \
             spec.quarantine.enabled: false",
        );
    }
    Finding::yes(reasons::SERVING, "")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::status::deployment::Trouble;

    #[test]
    fn old_pods_that_serve_do_not_hide_that_new_ones_do_not_start() {
        let mut facts = DeploymentFacts {
            wanted: 1,
            ready: 1,
            rolled_out: true,
            trouble: None,
        };
        assert_eq!(running(&facts, &[]).message, "1 of 1 pods are ready");
        facts.rolled_out = false;
        facts.trouble = Some(Trouble {
            reason: "ImagePullFailed".to_owned(),
            message: "no such image".to_owned(),
        });
        let found = running(&facts, &[]);
        assert!(found.holds());
        assert_eq!(
            found.message,
            "1 of 1 pods are ready, not all of them new: no such image"
        );
        facts.ready = 0;
        let found = running(&facts, &[]);
        assert_eq!((found.holds(), found.reason.as_str()), (false, "ImagePullFailed"));
    }

    #[rstest]
    #[case(
        "{container: {image: i, transport: {streamableHttp: {port: 8080}}}}",
        TransportKind::StreamableHttp
    )]
    #[case("{container: {image: i, transport: {sse: {port: 8080}}}}", TransportKind::Sse)]
    #[case(
        "{remote: {url: 'https://a.example/sse'}, protocol: {revision: '2024-11-05'}}",
        TransportKind::Sse
    )]
    #[case("{remote: {url: 'https://a.example/mcp'}}", TransportKind::StreamableHttp)]
    fn the_transport_is_what_the_spec_says(#[case] spec: &str, #[case] expected: TransportKind) {
        let mut spec: serde_json::Value = serde_yaml::from_str(spec).unwrap();
        spec["gatewayRefs"] = serde_json::json!([{"name": "g"}]);
        let spec: McpServerSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(transport(&spec), expected);
    }
}
