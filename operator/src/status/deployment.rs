//! What a Deployment and its pods tell: how many are ready, and what keeps the others from it.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;

use super::conditions::bounded;
use crate::build::container::FENCE_PROOF;

/// Reasons for which a container waits that pass by themselves.
const HARMLESS_WAITS: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Reason for which a container waits that ended again and again.
const CRASH_LOOP: &str = "CrashLoopBackOff";
/// Longest quotation of somebody else's message.
const QUOTE: usize = 300;

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Option<std::net::IpAddr>,
    /// Whether the kubelet calls it ready.
    pub ready: bool,
    /// Whether it is being removed.
    pub leaving: bool,
    /// What keeps it from running, in words.
    pub trouble: Option<Trouble>,
}

/// What keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word, as Kubernetes has it.
    pub reason: String,
    /// In words.
    pub message: String,
}

impl PodFacts {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions = status
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        Self {
            uid: pod.uid().unwrap_or_default(),
            name: pod.name_any(),
            ip: status
                .and_then(|status| status.pod_ip.as_deref())
                .and_then(|ip| ip.parse().ok()),
            ready: conditions
                .iter()
                .any(|one| one.type_ == "Ready" && one.status == "True"),
            leaving: pod.metadata.deletion_timestamp.is_some(),
            trouble: unscheduled(conditions).or_else(|| failing(pod)),
        }
    }

    /// Whether it counts as a ready replica.
    pub const fn serves(&self) -> bool {
        self.ready && !self.leaving
    }
}

fn unscheduled(conditions: &[PodCondition]) -> Option<Trouble> {
    conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False")
        .map(|one| Trouble {
            reason: one.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
            message: format!("no node takes it: {}", quoted(one.message.as_deref())),
        })
}

fn failing(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let of = |list: &Option<Vec<ContainerStatus>>| list.clone().unwrap_or_default();
    of(&status.init_container_statuses)
        .iter()
        .chain(&of(&status.container_statuses))
        .find_map(container_trouble)
}

fn container_trouble(container: &ContainerStatus) -> Option<Trouble> {
    let name = &container.name;
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref());
    match reason {
        "" | CRASH_LOOP => {}
        harmless if HARMLESS_WAITS.contains(&harmless) => {}
        "ErrImagePull" | "ImagePullBackOff" => return Some(no_image(container, message)),
        reason => {
            return Some(Trouble {
                reason: reason.to_owned(),
                message: format!("container {name}: {}", quoted(message)),
            });
        }
    }
    // A container that ends again and again waits, runs and has ended by turns: all of it is one trouble.
    let ended =
        ending(state).or_else(|| ending(container.last_state.as_ref()).filter(|_| !container.ready))?;
    Some(if *name == FENCE_PROOF {
        not_fenced(&ended)
    } else {
        Trouble {
            reason: "ContainerEnded".to_owned(),
            message: format!("container {name} ended: {ended}"),
        }
    })
}

/// The kubelet tries and waits by turns, with other words; what is wrong stays the same.
fn no_image(container: &ContainerStatus, message: Option<&str>) -> Trouble {
    let message = message.unwrap_or_default();
    let cause = match message.split_once("ErrImagePull: ") {
        Some((_, cause)) => cause,
        None if message.starts_with("Back-off") => "",
        None => message,
    };
    let cause = if cause.is_empty() {
        String::new()
    } else {
        format!(": {}", quoted(Some(cause)))
    };
    Trouble {
        reason: "ImagePullFailed".to_owned(),
        message: format!(
            "image {} of container {} cannot be pulled{cause}",
            container.image, container.name
        ),
    }
}

/// The proof that stands before a server failed.
fn not_fenced(ended: &str) -> Trouble {
    Trouble {
        reason: "NotFenced".to_owned(),
        message: format!(
            "the pod could connect where its NetworkPolicy forbids it, so the server is not started: does the cluster's \
             network plugin enforce NetworkPolicy? ({ended})"
        ),
    }
}

/// How a container ended, if it ended badly.
fn ending(state: Option<&ContainerState>) -> Option<String> {
    let ended = state?.terminated.as_ref()?;
    if ended.exit_code == 0 {
        return None;
    }
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let said = ended
        .message
        .as_deref()
        .map(|said| format!(": {}", quoted(Some(said))));
    Some(format!(
        "{reason}, exit code {}{}",
        ended.exit_code,
        said.unwrap_or_default()
    ))
}

fn quoted(message: Option<&str>) -> String {
    let message = message.unwrap_or("no reason given").trim();
    let one_line: String = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    bounded(&one_line, QUOTE)
}

/// A Deployment's rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// Replicas that are wanted.
    pub wanted: i32,
    /// Replicas that are ready.
    pub ready: i32,
    /// Whether all wanted replicas are of the present template, and ready.
    pub rolled_out: bool,
    /// Why pods cannot be made, in words.
    pub trouble: Option<Trouble>,
}

impl DeploymentFacts {
    /// Reads a Deployment.
    pub fn of(deployment: &Deployment) -> Self {
        let wanted = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        let Some(status) = &deployment.status else {
            return Self {
                wanted,
                ..Self::default()
            };
        };
        let ready = status.ready_replicas.unwrap_or(0);
        let observed = status.observed_generation >= deployment.metadata.generation;
        let updated = status.updated_replicas.unwrap_or(0);
        let all = status.replicas.unwrap_or(0);
        let conditions = status.conditions.as_deref().unwrap_or_default();
        Self {
            wanted,
            ready,
            rolled_out: observed && updated >= wanted && all == updated && ready >= wanted,
            trouble: cannot_make(conditions).or_else(|| takes_too_long(conditions)),
        }
    }
}

/// Quota, Pod Security and webhooks refuse pods here, where nobody looks.
fn cannot_make(conditions: &[DeploymentCondition]) -> Option<Trouble> {
    conditions
        .iter()
        .find(|one| one.type_ == "ReplicaFailure" && one.status == "True")
        .map(|one| Trouble {
            reason: one.reason.clone().unwrap_or_else(|| "ReplicaFailure".to_owned()),
            message: format!("pods cannot be made: {}", quoted(one.message.as_deref())),
        })
}

fn takes_too_long(conditions: &[DeploymentCondition]) -> Option<Trouble> {
    conditions
        .iter()
        .find(|one| one.type_ == "Progressing" && one.status == "False")
        .map(|one| Trouble {
            reason: one.reason.clone().unwrap_or_else(|| "NotProgressing".to_owned()),
            message: quoted(one.message.as_deref()),
        })
}

/// The first thing worth telling about why pods are not ready: what keeps them from being made, then what keeps one from
/// running.
pub fn first_trouble(deployment: &DeploymentFacts, pods: &[PodFacts]) -> Option<Trouble> {
    let of_pod = || {
        pods.iter()
            .filter(|pod| !pod.ready && !pod.leaving)
            .find_map(|pod| {
                let trouble = pod.trouble.clone()?;
                Some(Trouble {
                    message: format!("pod {}: {}", pod.name, trouble.message),
                    ..trouble
                })
            })
    };
    // A missed deadline says less than the pod that caused it.
    match &deployment.trouble {
        Some(trouble) if trouble.reason != "ProgressDeadlineExceeded" => Some(trouble.clone()),
        other => of_pod().or_else(|| other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap()
    }

    #[rstest]
    #[case::pull(json!({"containerStatuses": [{"name": "c", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\": ErrImagePull: not found"}}}]}),
        "ImagePullFailed", "image x of container c cannot be pulled: not found")]
    #[case::pull_again(json!({"containerStatuses": [{"name": "c", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]}),
        "ImagePullFailed", "image x of container c cannot be pulled: not found")]
    #[case::crash(json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
        "ContainerEnded", "container c ended: OOMKilled, exit code 137")]
    #[case::init(json!({"initContainerStatuses": [{"name": "fence", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "198.19.0.1:443 could be\nreached"}}}]}),
        "ContainerEnded", "container fence ended: Error, exit code 1: 198.19.0.1:443 could be reached")]
    #[case::fence(json!({"initContainerStatuses": [{"name": "fence-proof", "image": "", "imageID": "", "ready": false, "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "open"}}}]}),
        "NotFenced", "the pod could connect where its NetworkPolicy forbids it, so the server is not started: does the cluster's network plugin enforce NetworkPolicy? (Error, exit code 1: open)")]
    #[case::running_between_two_ends(json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
        "ContainerEnded", "container c ended: OOMKilled, exit code 137")]
    #[case::node(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
        "Unschedulable", "no node takes it: 0/1 nodes")]
    fn a_pod_that_does_not_run_says_why(
        #[case] status: serde_json::Value,
        #[case] reason: &str,
        #[case] message: &str,
    ) {
        let trouble = PodFacts::of(&pod(&status)).trouble.unwrap();
        assert_eq!(
            (trouble.reason.as_str(), trouble.message.as_str()),
            (reason, message)
        );
    }

    #[rstest]
    #[case::starting(json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}}}]}))]
    #[case::done(json!({"initContainerStatuses": [{"name": "i", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}))]
    #[case::ended_once(json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1,
        "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}))]
    #[case::fresh(json!({}))]
    fn what_passes_by_itself_is_no_trouble(#[case] status: serde_json::Value) {
        assert_eq!(PodFacts::of(&pod(&status)).trouble, None);
    }

    #[test]
    fn a_pod_that_leaves_does_not_serve() {
        let mut ready =
            pod(&json!({"podIP": "198.18.0.7", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert!(PodFacts::of(&ready).serves());
        ready.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(!PodFacts::of(&ready).serves());
    }

    #[test]
    fn a_rollout_is_done_when_only_new_pods_are_left() {
        let read = |status: serde_json::Value| {
            let object = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status});
            DeploymentFacts::of(&serde_json::from_value(object).unwrap())
        };
        let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        assert!(read(done).rolled_out);
        let surplus =
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3});
        assert!(!read(surplus).rolled_out);
        let unseen =
            json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        assert!(!read(unseen).rolled_out);
        assert!(!read(json!({})).rolled_out);
    }

    #[test]
    fn what_keeps_pods_from_being_made_comes_first_and_a_missed_deadline_last() {
        let pods = [PodFacts::of(&pod(
            &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "m"}]}),
        ))];
        let with = |reason: &str| DeploymentFacts {
            trouble: Some(Trouble {
                reason: reason.into(),
                message: "d".into(),
            }),
            ..DeploymentFacts::default()
        };
        assert_eq!(first_trouble(&with("FailedCreate"), &pods).unwrap().message, "d");
        assert!(
            first_trouble(&with("ProgressDeadlineExceeded"), &pods)
                .unwrap()
                .message
                .starts_with("pod p")
        );
        assert_eq!(
            first_trouble(&with("ProgressDeadlineExceeded"), &[])
                .unwrap()
                .message,
            "d"
        );
    }
}
