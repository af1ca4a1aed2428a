//! What the gateways that take a server say of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_config::status::{ServerStatus as Seen, Status};

use super::GatewayView;
use crate::api::v1alpha1::status::{MAX_MESSAGE, MAX_SERVER_INFO, MAX_TOOL_NAME, MAX_TOOLS};
use crate::api::v1alpha1::{
    Attachment, AttachmentState, McpServer, ServerInfo, ServerStatus, ToolCounts, ToolState, ToolStatus,
};
use crate::controller::rollouts::Rollout;
use crate::identity::Key;
use crate::status::conditions::{Finding, Truth, bounded, is_word, reasons};
use crate::validate::{Attached, ValidatedServer};

/// Longest protocol revision in a status.
const MAX_REVISION: usize = 32;

/// What the gateways that take the server say of it.
pub(super) struct Picture<'a> {
    pub(super) key: Key,
    generation: i64,
    pub(super) gateways: BTreeMap<&'a Key, Taken<'a>>,
}

/// One gateway that takes the server.
pub(super) struct Taken<'a> {
    pub(super) attached: &'a Attached,
    rollout: Option<&'a Rollout>,
    /// What its ready pods say, by UID.
    pub(super) heard: Vec<(&'a String, &'a Arc<Status>)>,
    /// Why one of its ready pods cannot be read.
    unreachable: Option<String>,
}

impl<'a> Picture<'a> {
    pub(super) fn of(
        server: &McpServer,
        validated: &'a ValidatedServer,
        gateways: &'a BTreeMap<Key, GatewayView>,
    ) -> Self {
        let taken = validated.gateways.iter().filter_map(|(key, verdict)| {
            let attached = verdict.as_ref().ok()?;
            let view = gateways.get(key);
            let rollout = view.and_then(|view| view.rollout.as_deref());
            let counts = |uid: &String| rollout.is_some_and(|rollout| rollout.ready.contains(uid));
            let ready = || {
                view.into_iter()
                    .flat_map(|view| &view.reports)
                    .filter(|(uid, _)| counts(uid))
            };
            let taken = Taken {
                attached,
                rollout,
                heard: ready()
                    .filter_map(|(uid, report)| Some((uid, report.current()?)))
                    .collect(),
                unreachable: ready()
                    .find(|(_, report)| report.is_unreachable())
                    .map(|(_, report)| report.failure.clone().unwrap_or_default()),
            };
            Some((key, taken))
        });
        Self {
            key: Key::of(server),
            generation: server.metadata.generation.unwrap_or_default(),
            gateways: taken.collect(),
        }
    }

    /// What each ready pod says of the server.
    pub(super) fn seen(&self) -> impl Iterator<Item = (&'a String, &'a Seen)> {
        self.gateways
            .values()
            .flat_map(|taken| &taken.heard)
            .filter_map(|(uid, status)| {
                let seen = status
                    .servers
                    .iter()
                    .find(|seen| seen.name == *self.key.name && seen.namespace == *self.key.namespace)?;
                Some((*uid, seen))
            })
    }

    /// Whether every ready pod of one gateway has this generation of the server.
    pub(super) fn arrived(&self, key: &Key, taken: &Taken<'_>) -> Finding {
        let Some(rollout) = taken.rollout else {
            return Finding::unknown(
                reasons::PENDING,
                format!("McpGateway {key} has not been looked at yet"),
            );
        };
        let ready = rollout.ready.len();
        if ready == 0 {
            return Finding::no(
                reasons::NO_READY_PODS,
                format!("McpGateway {key} has no ready pod"),
            );
        }
        let has =
            |status: &Status| rollout.generation(&status.config.hash, &self.key) == Some(self.generation);
        let done = taken.heard.iter().filter(|(_, status)| has(status)).count();
        if done == ready {
            return Finding::yes(reasons::PROGRAMMED, "");
        }
        if rollout.generation(rollout.hash(), &self.key).is_none() {
            return Finding::no(
                reasons::PENDING,
                format!("McpGateway {key} has not taken it up yet"),
            );
        }
        match &taken.unreachable {
            Some(why) if done == taken.heard.len() => Finding::unknown(
                reasons::NOT_REACHABLE,
                format!("a pod of McpGateway {key} cannot be asked: {why}"),
            ),
            Some(_) | None => Finding::no(
                reasons::PENDING,
                format!("{done} of {ready} ready pods of McpGateway {key} run this generation"),
            ),
        }
    }

    pub(super) fn programmed(&self, attached: &Finding) -> Finding {
        if !attached.holds() {
            return Finding::no(&attached.reason, "no gateway takes the server");
        }
        let findings: Vec<Finding> = self
            .gateways
            .iter()
            .map(|(key, taken)| self.arrived(key, taken))
            .collect();
        let worst = |truth: Truth| findings.iter().find(|finding| finding.truth == truth).cloned();
        worst(Truth::False)
            .or_else(|| worst(Truth::Unknown))
            .unwrap_or_else(|| {
                Finding::yes(
                    reasons::PROGRAMMED,
                    "every ready gateway pod runs this generation",
                )
            })
    }

    pub(super) fn verified(&self, attached: &Finding) -> Finding {
        if !attached.holds() {
            return Finding::unknown(
                &attached.reason,
                "no gateway takes the server, so none has spoken to it",
            );
        }
        let all: Vec<&Seen> = self.seen().map(|(_, seen)| seen).collect();
        let good = all.iter().filter(|seen| seen.verified).count();
        let bad = all.iter().find(|seen| !seen.verified && !seen.reason.is_empty());
        let why = bad.map(|seen| format!("{}: {}", seen.reason, seen.message));
        match (good, why) {
            (0, Some(why)) => {
                let reason = bad
                    .map(|seen| seen.reason.as_str())
                    .filter(|reason| is_word(reason));
                Finding::no(reason.unwrap_or(reasons::NOT_VERIFIED), why)
            }
            (0, None) if self.gateways.values().all(|taken| taken.heard.is_empty()) => {
                let why = self.gateways.values().find_map(|taken| taken.unreachable.clone());
                Finding::unknown(
                    reasons::NOT_REPORTED,
                    why.unwrap_or_else(|| "no gateway pod has reported yet".to_owned()),
                )
            }
            (0, None) => Finding::no(
                reasons::NOT_VERIFIED,
                "no gateway pod has completed a handshake with it yet",
            ),
            (_, Some(why)) => Finding::yes(
                reasons::PARTLY_VERIFIED,
                format!(
                    "{good} of {} gateway pods completed a handshake; another says {why}",
                    all.len()
                ),
            ),
            (_, None) => Finding::yes(
                reasons::VERIFIED,
                format!("{good} gateway pods completed a handshake and listed its tools"),
            ),
        }
    }

    pub(super) fn attachments(
        &self,
        validated: &ValidatedServer,
        previous: &[Attachment],
    ) -> Vec<Attachment> {
        validated
            .gateways
            .iter()
            .map(|(key, verdict)| {
                let (state, problem) = match verdict {
                    Err(problem) => (AttachmentState::Refused, Some(problem)),
                    Ok(attached) => (self.state(key, attached, previous), None),
                };
                Attachment {
                    name: key.name.to_string(),
                    namespace: key.namespace.to_string(),
                    state,
                    reason: problem.map(|problem| problem.reason.to_owned()),
                    message: problem.map(|problem| bounded(&problem.message, MAX_MESSAGE)),
                }
            })
            .collect()
    }

    pub(super) fn state(&self, key: &Key, attached: &Attached, previous: &[Attachment]) -> AttachmentState {
        let settled = if attached.quarantined {
            AttachmentState::Quarantined
        } else {
            AttachmentState::Serving
        };
        let arrived = self.gateways.get(key).map(|taken| self.arrived(key, taken).truth);
        match arrived {
            Some(Truth::True) => settled,
            Some(Truth::False) | None => AttachmentState::Pending,
            // Nobody can tell: say nothing new.
            Some(Truth::Unknown) => previous
                .iter()
                .find(|old| old.name == *key.name && old.namespace == *key.namespace)
                .map_or(AttachmentState::Pending, |old| old.state),
        }
    }

    /// What the server says of itself, from the first gateway pod that verified it; what it said before, while none does.
    pub(super) fn introduction(
        &self,
        previous: &ServerStatus,
    ) -> (Option<ServerInfo>, Vec<ToolStatus>, Option<ToolCounts>) {
        let mut verified: Vec<(&String, &Seen)> = self.seen().filter(|(_, seen)| seen.verified).collect();
        verified.sort_by_key(|(uid, _)| *uid);
        let Some((_, seen)) = verified.first() else {
            return (
                previous.server_info.clone(),
                previous.tools.clone(),
                previous.tool_counts.clone(),
            );
        };
        let info = ServerInfo {
            name: bounded(&seen.server_name, MAX_SERVER_INFO),
            version: bounded(&seen.server_version, MAX_SERVER_INFO),
            protocol_version: bounded(&seen.protocol_version, MAX_REVISION),
        };
        // A list keyed by name takes each name once.
        let tools: BTreeMap<String, bool> = seen
            .tools
            .iter()
            .map(|tool| (bounded(&tool.name, MAX_TOOL_NAME), tool.served))
            .collect();
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let counts = ToolCounts::new(
            number(seen.tools.iter().filter(|tool| tool.served).count()),
            number(seen.tools.len()),
        );
        let listed = tools
            .into_iter()
            .take(MAX_TOOLS)
            .map(|(name, served)| ToolStatus {
                name,
                state: if served {
                    ToolState::Served
                } else {
                    ToolState::Filtered
                },
            });
        (Some(info), listed.collect(), Some(counts))
    }
}
