//! A fence outlives what it fences.
//!
//! When an object is deleted, garbage collection takes all its children at once, but a pod may go on for as long as its
//! grace period lets it, and without its policy it would spend that time in the open. So a policy is also owned, beside
//! its controller, by each pod that it selects: garbage collection removes a child only when the last of its owners is
//! gone, whether the operator still runs or not.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use crate::api::labels::Labels;

/// Most pods that are named as owners; a policy is an object of bounded size. No gateway or server has more.
const MOST: usize = 200;

/// Names the pods that `policy` selects as further owners of it. A policy around pods that others run is left as it is:
/// they may have to go on without us.
pub fn outlive(policy: &mut NetworkPolicy, selector: &Labels, pods: &[Arc<Pod>]) {
    if !fences(policy, selector) {
        return;
    }
    let mut owners: Vec<OwnerReference> = pods
        .iter()
        .filter(|pod| selects(selector, pod))
        .filter_map(|pod| {
            Some(OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.metadata.name.clone()?,
                uid: pod.metadata.uid.clone()?,
                controller: None,
                block_owner_deletion: None,
            })
        })
        .collect();
    owners.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
    owners.truncate(MOST);
    policy.owner_references_mut().extend(owners);
}

/// Whether a policy is the one around the pods with these labels.
fn fences(policy: &NetworkPolicy, selector: &Labels) -> bool {
    let selected = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    selected.is_some_and(|selected| {
        selected.match_labels.as_ref() == Some(selector)
            && selected.match_expressions.as_ref().is_none_or(Vec::is_empty)
    })
}

/// Whether a pod has all of these labels.
pub fn selects(selector: &Labels, pod: &Pod) -> bool {
    selector
        .iter()
        .all(|(key, value)| pod.labels().get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, server: &str) -> Arc<Pod> {
        let metadata =
            json!({"name": name, "uid": format!("uid-{name}"), "labels": {"portcullis.dev/server": server}});
        Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
    }

    fn policy(selector: &serde_json::Value) -> NetworkPolicy {
        let owner = json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "McpServer", "name": "files", "uid": "u", "controller": true});
        serde_json::from_value(json!({
            "metadata": {"name": "files-server", "ownerReferences": [owner]},
            "spec": {"podSelector": selector},
        }))
        .unwrap()
    }

    fn owners(policy: &NetworkPolicy) -> Vec<String> {
        policy
            .owner_references()
            .iter()
            .map(|owner| owner.uid.clone())
            .collect()
    }

    #[test]
    fn every_pod_it_selects_holds_the_fence_and_no_other() {
        let selector = Labels::from([("portcullis.dev/server".to_owned(), "files".to_owned())]);
        let mut fence = policy(&json!({"matchLabels": {"portcullis.dev/server": "files"}}));
        outlive(
            &mut fence,
            &selector,
            &[pod("b", "files"), pod("other", "mail"), pod("a", "files")],
        );
        assert_eq!(owners(&fence), ["u", "uid-a", "uid-b"]);
        let controllers = fence
            .owner_references()
            .iter()
            .filter(|owner| owner.controller == Some(true));
        assert_eq!(controllers.count(), 1);
    }

    #[test]
    fn a_fence_around_pods_of_others_is_left_alone() {
        let selector = Labels::from([("portcullis.dev/server".to_owned(), "files".to_owned())]);
        let mut fence = policy(&json!({"matchLabels": {"app": "theirs"}}));
        outlive(&mut fence, &selector, &[pod("a", "files")]);
        assert_eq!(owners(&fence), ["u"]);
    }
}
