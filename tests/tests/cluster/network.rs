//! Who reaches whom: from pods, since the host end of the cluster's cable is no pod.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use system_tests::demo::{Demo, NAMESPACE, eventually};

use super::proven;

/// Tries connections from a pod whose image has Node, and says of each `open`, `blocked` or the error's code.
fn connect(demo: &Demo, exec: &[&str], targets: &[(String, u16)]) -> Result<Vec<(String, u16, String)>> {
    let list = serde_json::to_string(targets)?;
    let script = format!(
        r"const net = require('net');
        const one = ([host, port]) => new Promise(done => {{
            const socket = net.connect({{host, port, timeout: 2000}});
            socket.on('connect', () => done([host, port, 'open'])).on('timeout', () => {{ socket.destroy(); done([host, port, 'blocked']); }})
                .on('error', e => done([host, port, e.code]));
        }});
        Promise.all({list}.map(one)).then(all => {{ console.log(JSON.stringify(all)); process.exit(0); }});"
    );
    let mut args = vec!["exec"];
    args.extend(exec);
    args.extend(["--", "node", "-e", &script]);
    let out = demo.kubectl(&args)?;
    serde_json::from_str(&out).with_context(|| out.clone())
}

/// A pod of nobody's.
fn stranger(demo: &Demo, namespace: &str, image: &str) -> Result<()> {
    demo.apply(
        &json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":namespace,
            "labels":{"pod-security.kubernetes.io/enforce":"restricted"}}})
        .to_string(),
    )?;
    demo.apply(
        &json!({
            "apiVersion":"v1","kind":"Pod","metadata":{"name":"stranger","namespace":namespace},
            "spec":{"automountServiceAccountToken":false,"terminationGracePeriodSeconds":0,
                "securityContext":{"runAsNonRoot":true,"runAsUser":65532,"seccompProfile":{"type":"RuntimeDefault"}},
                "containers":[{"name":"stranger","image":image,"imagePullPolicy":"IfNotPresent",
                    "command":["node","-e","setInterval(() => {}, 1000000)"],
                    "securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,
                        "capabilities":{"drop":["ALL"]}}}]}
        })
        .to_string(),
    )?;
    demo.kubectl(&[
        "-n",
        namespace,
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "pod/stranger",
    ])?;
    Ok(())
}

fn first(list: &Value, path: &str) -> Result<String> {
    list["items"][0]
        .pointer(path)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("no {path}"))
}

#[test]
fn c1_nobody_reaches_servers_or_inner_ports_past_the_gateway() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let gateway = demo.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/gateway=tools"])?;
    let gateway = first(&gateway, "/status/podIP")?;
    let server = demo.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/server=everything"])?;
    let image = first(&server, "/spec/containers/0/image")?;
    let server = first(&server, "/status/podIP")?;
    let fenced = first(
        &demo.get(&["-n", NAMESPACE, "pods", "-l", "app=python"])?,
        "/status/podIP",
    )?;
    let outside = "stranger";
    let targets = [
        (server, 3001),
        (fenced, 8000),
        (gateway.clone(), 9090),
        (gateway.clone(), 9091),
        (gateway.clone(), 9443),
        (gateway, 8443),
    ];
    for namespace in [outside, NAMESPACE] {
        stranger(&demo, namespace, &image)?;
        let seen = connect(&demo, &["-n", namespace, "stranger"], &targets)?;
        ensure!(
            seen.len() == targets.len() && seen.iter().all(|(.., how)| how == "blocked"),
            "from {namespace}: {seen:?}"
        );
    }
    demo.kubectl(&["delete", "namespace", outside, "--wait=false"])?;
    demo.kubectl(&["-n", NAMESPACE, "delete", "pod", "stranger", "--wait=false"])?;
    proven(
        "another pod, in the namespace or outside, reaches no server, no metrics, status or peer port of the gateway",
    );
    Ok(())
}

#[test]
fn c2_a_server_reaches_nothing() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let api = demo.kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"])?;
    let node = demo.var("PORTCULLIS_CLUSTER_NODE_IP")?.to_owned();
    let dns = demo.var("PORTCULLIS_CLUSTER_DNS_IP")?.to_owned();
    let gateway = first(
        &demo.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/gateway=tools"])?,
        "/status/podIP",
    )?;
    let targets = [
        (api, 443),
        (node.clone(), 6443),
        (node, 10250),
        (dns, 53),
        (gateway, 8443),
    ];
    let seen = connect(
        &demo,
        &["-n", NAMESPACE, "deploy/everything-server", "-c", "server"],
        &targets,
    )?;
    ensure!(
        seen.len() == 5 && seen.iter().all(|(.., how)| how == "blocked"),
        "{seen:?}"
    );
    proven("a server reaches neither the API server, nor the node, nor DNS, nor another pod");
    Ok(())
}

#[test]
fn c3_the_gateway_reaches_only_what_it_must() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let pods = demo.gateway_pods()?;
    let pod = pods
        .first()
        .and_then(|pod| pod["metadata"]["name"].as_str())
        .context("no pod")?;
    let api = demo.kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"])?;
    let node = demo.var("PORTCULLIS_CLUSTER_NODE_IP")?;
    let server = first(
        &demo.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/server=everything"])?,
        "/status/podIP",
    )?;
    let dns = demo.var("PORTCULLIS_CLUSTER_DNS_IP")?;
    let table = [
        (format!("{api}:443"), "blocked"),
        (format!("{node}:6443"), "blocked"),
        (format!("{node}:10250"), "blocked"),
        (format!("{server}:3001"), "open"),
        (format!("{server}:3002"), "blocked"),
        (format!("{dns}:53"), "open"),
    ];
    for (target, expect) in table {
        let tried = || {
            demo.kubectl(&[
                "-n",
                NAMESPACE,
                "exec",
                pod,
                "--",
                "/portcullis-gateway",
                "probe",
                "connect",
                &target,
                "--timeout",
                "2s",
                "--expect",
                expect,
            ])
            .map(Some)
        };
        eventually(
            &format!("{target} to be {expect} for the gateway"),
            Duration::from_secs(10),
            tried,
        )?;
    }
    proven("the gateway reaches its servers' ports and DNS, and neither the API server nor the node");
    Ok(())
}
