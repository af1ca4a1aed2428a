//! Deleting everything leaves nothing.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use system_tests::demo::{Demo, eventually};

use super::proven;

const KINDS: &str = "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,endpointslices";

#[test]
fn h1_deleting_the_objects_leaves_no_child() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let namespace = "ending";
    demo.apply(&json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":namespace,"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}).to_string())?;
    let image = demo.value(
        "mcpservers.portcullis.dev",
        "everything",
        "{.spec.container.image}",
    )?;
    demo.apply(&json!({"apiVersion":"portcullis.dev/v1alpha1","kind":"McpGateway","metadata":{"name":"short","namespace":namespace},
        "spec":{"profile":"Development","publicHost":"short.example.com","tls":{"plaintext":{"reason":"test"}},"auth":{"anonymous":{"reason":"test"}},
            "workload":{"replicas":1}}}).to_string())?;
    demo.apply(&json!({"apiVersion":"portcullis.dev/v1alpha1","kind":"McpServer","metadata":{"name":"one","namespace":namespace},
        "spec":{"gatewayRefs":[{"name":"short"}],"container":{"image":image,"transport":{"streamableHttp":{"port":3001}}}}}).to_string())?;
    eventually("gateway and server to be Ready", Duration::from_secs(120), || {
        demo.kubectl(&[
            "-n",
            namespace,
            "wait",
            "--for=condition=Ready",
            "--timeout=5s",
            "mcpgateways.portcullis.dev/short",
            "mcpservers.portcullis.dev/one",
        ])
        .map(Some)
    })?;
    demo.kubectl(&[
        "-n",
        namespace,
        "delete",
        "mcpgateways.portcullis.dev,mcpservers.portcullis.dev",
        "--all",
        "--timeout=60s",
    ])?;
    eventually("every child to be gone", Duration::from_secs(90), || {
        let left = demo.kubectl(&["-n", namespace, "get", KINDS, "-o", "name"])?;
        let ours: Vec<&str> = left
            .lines()
            .filter(|name| !name.contains("kube-root-ca.crt") && *name != "serviceaccount/default")
            .collect();
        if ours.is_empty() {
            Ok(Some(()))
        } else {
            anyhow::bail!("left: {ours:?}")
        }
    })?;
    demo.kubectl(&["delete", "namespace", namespace, "--wait=false"])?;
    proven("deleting a gateway and a server leaves nothing of theirs");
    Ok(())
}
