//! The hardening of every pod, field by field. This is the one place that says what a pod must be, apart from the builders;
//! accepting a snapshot does not change it. The checker is itself checked: each line of hardening that is taken away from a
//! rendered pod must be noticed.

#[path = "hardening/findings.rs"]
mod findings;

use serde_json::{Value, json};

use self::findings::findings;
use crate::worlds::{everything, label, settings};

#[test]
fn every_pod_of_every_world_is_hardened() {
    for user_namespaces in [false, true] {
        for proven in [true, false] {
            let mut settings = settings();
            settings.user_namespaces = user_namespaces;
            if !proven {
                settings.fence_probe = None;
            }
            let objects = everything(&settings);
            let deployments: Vec<_> = objects
                .iter()
                .filter(|(_, object)| object["kind"] == "Deployment")
                .collect();
            assert_eq!(deployments.len(), 9, "pods in all worlds");
            for (world, deployment) in deployments {
                let found = findings(deployment, &settings);
                assert!(found.is_empty(), "{world}: {}: {found:#?}", label(deployment));
            }
        }
    }
}

#[test]
fn only_deployments_bring_pods() {
    let known = [
        "ServiceAccount",
        "NetworkPolicy",
        "ConfigMap",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ];
    for (world, object) in everything(&settings()) {
        assert!(
            known.contains(&object["kind"].as_str().unwrap()),
            "{world}: {}",
            label(&object)
        );
    }
}

/// Takes away, or turns round, one thing at a time.
#[test]
fn whatever_is_taken_away_is_noticed() {
    let settings = settings();
    let objects = everything(&settings);
    let mut noticed = 0;
    for (world, deployment) in objects
        .iter()
        .filter(|(_, object)| object["kind"] == "Deployment")
    {
        for path in hardening_paths(deployment) {
            let mut weaker = deployment.clone();
            let (parent, field) = path.rsplit_once('/').unwrap();
            weaker
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(field);
            assert!(
                !findings(&weaker, &settings).is_empty(),
                "{world}: {}: nobody misses {path}",
                label(deployment)
            );
            noticed += 1;
        }
        for (path, value) in [
            ("/spec/template/spec/hostNetwork", json!(true)),
            ("/spec/template/spec/hostPID", json!(true)),
            ("/spec/template/spec/shareProcessNamespace", json!(true)),
            ("/spec/template/spec/securityContext/runAsUser", json!(0)),
            (
                "/spec/template/spec/containers/0/securityContext/privileged",
                json!(true),
            ),
            (
                "/spec/template/spec/containers/0/securityContext/procMount",
                json!("Unmasked"),
            ),
            (
                "/spec/template/spec/containers/0/securityContext/capabilities/add",
                json!(["NET_RAW"]),
            ),
            (
                "/spec/template/spec/containers/0/envFrom",
                json!([{"secretRef": {"name": "x"}}]),
            ),
            ("/spec/template/spec/containers/0/lifecycle", json!({})),
            ("/spec/template/spec/containers/0/ports/0/hostPort", json!(80)),
            (
                "/spec/template/spec/volumes/0",
                json!({"name": "x", "hostPath": {"path": "/"}}),
            ),
        ] {
            let mut weaker = deployment.clone();
            set(&mut weaker, path, value);
            assert!(
                !findings(&weaker, &settings).is_empty(),
                "{world}: {}: nobody minds {path}",
                label(deployment)
            );
        }
    }
    assert!(noticed > 200, "only {noticed} lines of hardening were tried");
}

fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, field) = path.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        parent => parent[field] = value,
    }
}

/// The paths of everything in a pod that hardens it.
fn hardening_paths(deployment: &Value) -> Vec<String> {
    let pod = "/spec/template/spec";
    let mut paths: Vec<String> = [
        "automountServiceAccountToken",
        "enableServiceLinks",
        "serviceAccountName",
        "securityContext/runAsNonRoot",
        "securityContext/seccompProfile",
    ]
    .map(|field| format!("{pod}/{field}"))
    .into();
    if !deployment
        .pointer(&format!("{pod}/initContainers"))
        .is_none_or(Value::is_null)
    {
        paths.extend(["initContainers", "dnsPolicy", "dnsConfig"].map(|field| format!("{pod}/{field}")));
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = deployment
            .pointer(&format!("{pod}/{list}"))
            .and_then(Value::as_array)
        else {
            continue;
        };
        for (at, container) in containers.iter().enumerate() {
            let base = format!("{pod}/{list}/{at}");
            for field in container["securityContext"].as_object().unwrap().keys() {
                paths.push(format!("{base}/securityContext/{field}"));
            }
            for kind in ["requests", "limits"] {
                for resource in ["cpu", "memory", "ephemeral-storage"] {
                    paths.push(format!("{base}/resources/{kind}/{resource}"));
                }
            }
            for (mount_at, mount) in container["volumeMounts"]
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
            {
                if mount["readOnly"] == true {
                    paths.push(format!("{base}/volumeMounts/{mount_at}/readOnly"));
                }
            }
        }
    }
    let volumes = deployment
        .pointer(&format!("{pod}/volumes"))
        .unwrap()
        .as_array()
        .unwrap();
    for (at, volume) in volumes.iter().enumerate() {
        for (kind, bound) in [
            ("emptyDir", "sizeLimit"),
            ("secret", "defaultMode"),
            ("configMap", "defaultMode"),
            ("projected", "defaultMode"),
        ] {
            if volume[kind].is_object() {
                paths.push(format!("{pod}/volumes/{at}/{kind}/{bound}"));
            }
        }
    }
    paths
}

#[test]
fn no_service_account_has_a_token() {
    for (world, object) in everything(&settings()) {
        if object["kind"] == "ServiceAccount" {
            assert_eq!(
                object["automountServiceAccountToken"],
                false,
                "{world}: {}",
                label(&object)
            );
            assert!(object["secrets"].is_null() && object["imagePullSecrets"].is_null());
        }
    }
}

#[test]
fn every_object_has_an_owner_labels_and_a_namespace() {
    for (world, object) in everything(&settings()) {
        let place = format!("{world}: {}", label(&object));
        let meta = &object["metadata"];
        assert!(meta["namespace"].is_string(), "{place}");
        let owners = meta["ownerReferences"].as_array().unwrap();
        assert_eq!(owners.len(), 1, "{place}");
        assert_eq!(owners[0]["controller"], true, "{place}");
        assert_eq!(owners[0]["apiVersion"], "portcullis.dev/v1alpha1", "{place}");
        assert_eq!(
            meta["labels"]["app.kubernetes.io/managed-by"], "portcullis",
            "{place}"
        );
        assert!(
            meta["name"]
                .as_str()
                .unwrap()
                .starts_with(owners[0]["name"].as_str().unwrap()),
            "{place}"
        );
    }
}

#[test]
fn inner_ports_are_on_no_service() {
    for (world, object) in everything(&settings()) {
        if object["kind"] == "Service" {
            for port in object["spec"]["ports"].as_array().unwrap() {
                let name = port["name"].as_str().unwrap();
                assert!(
                    name == "mcp" || name == "peer",
                    "{world}: {} has {name}",
                    label(&object)
                );
                assert!(port["nodePort"].is_null());
            }
            assert_eq!(object["spec"]["type"], "ClusterIP");
            assert_ne!(object["spec"]["publishNotReadyAddresses"], true);
        }
    }
}
