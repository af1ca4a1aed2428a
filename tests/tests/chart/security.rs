//! The hardening of what the operator's chart installs, field by field, in every variant. Accepting another rendering
//! cannot weaken it: this does not compare with what was there before, it says what must be.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use system_tests::chart;

/// Runs `check` on the objects of every variant.
fn in_every_variant(check: impl Fn(&[Value]) -> Result<()>) -> Result<()> {
    for values in chart::variants()? {
        let name = values
            .as_deref()
            .and_then(|file| file.file_name())
            .map_or("defaults".into(), |name| name.to_string_lossy().into_owned());
        chart::variant(values.as_deref())
            .and_then(|objects| check(&objects))
            .with_context(|| name)?;
    }
    Ok(())
}

fn pod(objects: &[Value]) -> Result<&Value> {
    Ok(&chart::one(objects, "Deployment")?["spec"]["template"]["spec"])
}

/// Compares `object` at `pointer`; what is absent is null.
fn holds(object: &Value, pointer: &str, wanted: &Value) -> Result<()> {
    let found = object.pointer(pointer).unwrap_or(&Value::Null);
    ensure!(found == wanted, "{pointer} is {found}, not {wanted}");
    Ok(())
}

#[test]
fn the_pod_meets_the_restricted_standard_and_more() -> Result<()> {
    in_every_variant(|objects| {
        let pod = pod(objects)?;
        for (pointer, wanted) in [
            ("/hostNetwork", Value::Null),
            ("/hostPID", Value::Null),
            ("/hostIPC", Value::Null),
            ("/shareProcessNamespace", Value::Null),
            ("/initContainers", Value::Null),
            ("/ephemeralContainers", Value::Null),
            ("/enableServiceLinks", json!(false)),
            ("/securityContext/runAsNonRoot", json!(true)),
            (
                "/securityContext/seccompProfile",
                json!({"type": "RuntimeDefault"}),
            ),
            ("/securityContext/sysctls", Value::Null),
            ("/securityContext/supplementalGroups", Value::Null),
        ] {
            holds(pod, pointer, &wanted)?;
        }
        let containers = pod["containers"].as_array().context("containers")?;
        ensure!(containers.len() == 1, "{} containers", containers.len());
        for container in containers {
            for (pointer, wanted) in [
                ("/securityContext/allowPrivilegeEscalation", json!(false)),
                ("/securityContext/privileged", json!(false)),
                ("/securityContext/readOnlyRootFilesystem", json!(true)),
                ("/securityContext/runAsNonRoot", json!(true)),
                ("/securityContext/capabilities", json!({"drop": ["ALL"]})),
                (
                    "/securityContext/seccompProfile",
                    json!({"type": "RuntimeDefault"}),
                ),
                ("/securityContext/procMount", Value::Null),
                ("/command", Value::Null),
                ("/lifecycle", Value::Null),
            ] {
                holds(container, pointer, &wanted)?;
            }
            for port in container["ports"].as_array().context("ports")? {
                holds(port, "/hostPort", &Value::Null)?;
            }
            for kind in ["requests", "limits"] {
                ensure!(
                    !container["resources"][kind]["memory"].is_null(),
                    "no memory in {kind}"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn the_pod_runs_as_nobody_unless_the_platform_assigns_a_user() -> Result<()> {
    in_every_variant(|objects| {
        let pod = pod(objects)?;
        let container = &pod["containers"][0]["securityContext"];
        let users = [
            &pod["securityContext"]["runAsUser"],
            &pod["securityContext"]["runAsGroup"],
            &pod["securityContext"]["fsGroup"],
            &container["runAsUser"],
            &container["runAsGroup"],
        ];
        let fixed = users.iter().all(|user| **user == json!(65_532));
        let left_open = users.iter().all(|user| user.is_null());
        ensure!(fixed || left_open, "{users:?}");
        Ok(())
    })?;
    let openshift = chart::variant(Some(&chart::path("charts/portcullis/ci/openshift-values.yaml")))?;
    holds(pod(&openshift)?, "/securityContext/runAsUser", &Value::Null)
}

#[test]
fn the_only_volume_is_a_token_that_the_api_server_would_refuse() -> Result<()> {
    in_every_variant(|objects| {
        let pod = pod(objects)?;
        let volumes = pod["volumes"].as_array().context("volumes")?;
        ensure!(volumes.len() == 1, "{volumes:?}");
        // A number: an API server reads "0444" of a YAML 1.2 file as text.
        holds(&volumes[0], "/projected/defaultMode", &json!(0o444))?;
        let sources = &volumes[0]["projected"]["sources"];
        ensure!(
            *sources
                == json!([{"serviceAccountToken": {"path": "token", "audience": "portcullis-status", "expirationSeconds": 3600}}]),
            "{sources}"
        );
        let mounts = pod["containers"][0]["volumeMounts"]
            .as_array()
            .context("mounts")?;
        ensure!(mounts.len() == 1, "{mounts:?}");
        holds(&mounts[0], "/readOnly", &json!(true))
    })
}

#[test]
fn only_the_operators_own_pods_have_its_account() -> Result<()> {
    in_every_variant(|objects| {
        holds(
            chart::one(objects, "ServiceAccount")?,
            "/automountServiceAccountToken",
            &json!(false),
        )?;
        let account = &chart::one(objects, "ServiceAccount")?["metadata"]["name"];
        holds(pod(objects)?, "/serviceAccountName", account)
    })
}

#[test]
fn several_operators_are_spread_and_survive_an_emptied_node() -> Result<()> {
    in_every_variant(|objects| {
        let deployment = chart::one(objects, "Deployment")?;
        let several = deployment["spec"]["replicas"].as_u64() > Some(1);
        ensure!(several != deployment["spec"]["template"]["spec"]["topologySpreadConstraints"].is_null());
        let budget = chart::one(objects, "PodDisruptionBudget");
        ensure!(several == budget.is_ok());
        if let Ok(budget) = budget {
            holds(budget, "/spec/maxUnavailable", &json!(1))?;
            holds(budget, "/spec/unhealthyPodEvictionPolicy", &json!("AlwaysAllow"))?;
            holds(budget, "/spec/selector", &deployment["spec"]["selector"])?;
        }
        holds(
            deployment,
            "/spec/strategy/rollingUpdate/maxUnavailable",
            &json!(0),
        )
    })
}

#[test]
fn the_pods_are_selected_by_labels_that_values_cannot_change() -> Result<()> {
    in_every_variant(|objects| {
        let deployment = chart::one(objects, "Deployment")?;
        let selector = deployment["spec"]["selector"]["matchLabels"]
            .as_object()
            .context("labels")?;
        ensure!(selector.len() == 3);
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        for (key, value) in selector {
            ensure!(labels[key] == *value, "{key}");
        }
        // Or the operator would take itself for something that it made.
        ensure!(labels["app.kubernetes.io/managed-by"] != "portcullis");
        Ok(())
    })
}

#[test]
fn the_fence_has_no_rule_that_means_everybody() -> Result<()> {
    in_every_variant(|objects| {
        let Ok(policy) = chart::one(objects, "NetworkPolicy") else {
            // One variant turns it off; a test of the notes holds that this is said aloud.
            return Ok(());
        };
        let deployment = chart::one(objects, "Deployment")?;
        holds(policy, "/spec/podSelector", &deployment["spec"]["selector"])?;
        holds(policy, "/spec/policyTypes", &json!(["Ingress", "Egress"]))?;
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in policy["spec"][direction].as_array().context("rules")? {
                for list in [peers, "ports"] {
                    ensure!(
                        rule[list].as_array().is_some_and(|list| !list.is_empty()),
                        "{direction}: {rule}"
                    );
                }
                for peer in rule[peers].as_array().into_iter().flatten() {
                    ensure!(
                        peer.as_object().is_some_and(|peer| !peer.is_empty()),
                        "{direction}: {rule}"
                    );
                }
            }
        }
        Ok(())
    })
}

#[test]
fn the_fence_opens_what_the_operator_needs_and_nothing_else() -> Result<()> {
    let file = chart::path("charts/portcullis/ci/hardened-values.yaml");
    let objects = chart::variant(Some(&file))?;
    let spec = &chart::one(&objects, "NetworkPolicy")?["spec"];
    let values: Value = serde_yaml::from_str(&std::fs::read_to_string(&file)?)?;
    let defaults: Value = serde_yaml::from_str(&chart::read("charts/portcullis/values.yaml")?)?;
    ensure!(
        spec["ingress"]
            == json!([{"from": values["monitoring"]["peers"], "ports": [{"port": 9090, "protocol": "TCP"}]}]),
        "{}",
        spec["ingress"]
    );
    let wanted = json!([
        {
            "to": defaults["dns"]["peers"],
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
        },
        {
            "to": [{"ipBlock": {"cidr": "203.0.113.10/32"}}, {"ipBlock": {"cidr": "10.96.0.1/32"}}],
            "ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}],
        },
        {
            "to": [{
                "namespaceSelector": {},
                "podSelector": {"matchLabels": {
                    "app.kubernetes.io/managed-by": portcullis_operator::api::labels::PORTCULLIS,
                    "app.kubernetes.io/component": portcullis_operator::api::labels::COMPONENT_GATEWAY,
                }},
            }],
            "ports": [{"port": portcullis_config::PORT_STATUS, "protocol": "TCP"}],
        },
    ]);
    ensure!(spec["egress"] == wanted, "{}", spec["egress"]);
    Ok(())
}

#[test]
fn the_probes_ask_the_operators_own_port() -> Result<()> {
    in_every_variant(|objects| {
        let container = &pod(objects)?["containers"][0];
        ensure!(container["ports"] == json!([{"name": "metrics", "containerPort": 9090, "protocol": "TCP"}]));
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            ensure!(
                container[probe]["httpGet"] == json!({"path": path, "port": "metrics"}),
                "{probe}"
            );
        }
        Ok(())
    })
}

#[test]
fn the_admission_policies_hold_the_operators_account_and_nobody_else() -> Result<()> {
    in_every_variant(|objects| {
        let policies: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"] == "ValidatingAdmissionPolicy")
            .collect();
        if policies.is_empty() {
            return Ok(());
        }
        ensure!(policies.len() == 2);
        let account = chart::one(objects, "ServiceAccount")?["metadata"]["name"]
            .as_str()
            .context("a name")?;
        let user = format!(
            "request.userInfo.username == 'system:serviceaccount:{}:{account}'",
            chart::NAMESPACE
        );
        for policy in policies {
            holds(policy, "/spec/failurePolicy", &json!("Fail"))?;
            ensure!(
                policy["spec"]["matchConditions"] == json!([{"name": "by-the-operator", "expression": user}])
            );
            let bound = objects.iter().any(|object| {
                object["kind"] == "ValidatingAdmissionPolicyBinding"
                    && object["spec"]
                        == json!({"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]})
            });
            ensure!(bound, "{} is not bound", policy["metadata"]["name"]);
        }
        Ok(())
    })
}
