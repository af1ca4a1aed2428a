//! The pods' hardening, from the object and from inside the running container.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use system_tests::demo::{Demo, NAMESPACE};

use super::proven;

fn hardened(pod: &Value) -> Result<()> {
    let name = &pod["metadata"]["name"];
    let spec = &pod["spec"];
    ensure!(
        spec["automountServiceAccountToken"] == false,
        "{name}: a token is mounted"
    );
    ensure!(spec["enableServiceLinks"] == false, "{name}: service links");
    for flag in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(!spec[flag].as_bool().unwrap_or(false), "{name}: {flag}");
    }
    ensure!(
        spec["securityContext"]["runAsNonRoot"] == true,
        "{name}: may run as root"
    );
    ensure!(
        spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
        "{name}: no seccomp"
    );
    let all = [&spec["initContainers"], &spec["containers"]];
    let containers = all.iter().filter_map(|list| list.as_array()).flatten();
    for container in containers {
        let security = &container["securityContext"];
        let at = format!("{name}/{}", container["name"]);
        ensure!(
            security["allowPrivilegeEscalation"] == false,
            "{at}: may gain privileges"
        );
        ensure!(security["readOnlyRootFilesystem"] == true, "{at}: writable root");
        ensure!(
            security["capabilities"]["drop"][0] == "ALL" && security["capabilities"]["add"].is_null(),
            "{at}: capabilities"
        );
        for resource in ["cpu", "memory", "ephemeral-storage"] {
            ensure!(
                !container["resources"]["limits"][resource].is_null(),
                "{at}: no limit on {resource}"
            );
        }
    }
    Ok(())
}

#[test]
fn b1_every_pod_is_hardened_as_its_object_says() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let mut count = 0;
    for selector in ["portcullis.dev/gateway", "portcullis.dev/server"] {
        let pods = demo.get(&["-n", NAMESPACE, "pods", "-l", selector])?;
        for pod in pods["items"].as_array().context("no list")? {
            hardened(pod)?;
            count += 1;
        }
    }
    ensure!(count >= 3, "only {count} pods");
    let enforced = demo.kubectl(&[
        "get",
        "namespace",
        NAMESPACE,
        "-o",
        r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}",
    ])?;
    ensure!(enforced == "restricted", "the namespace enforces {enforced:?}");
    proven(&format!(
        "{count} pods, hardened field by field, in a namespace that enforces the restricted standard"
    ));
    Ok(())
}

#[test]
fn b2_the_gateways_container_has_no_power_seen_from_inside() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    for pod in demo.gateway_pods()? {
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let report = demo.kubectl(&[
            "-n",
            NAMESPACE,
            "exec",
            name,
            "--",
            "/portcullis-gateway",
            "probe",
            "self",
        ])?;
        let report: Value = serde_json::from_str(&report).with_context(|| report.clone())?;
        let checks = report["checks"].as_array().context("no checks")?;
        for wanted in [
            "user",
            "no effective capabilities",
            "no new privileges",
            "seccomp filter",
            "read-only root",
            "no ServiceAccount token",
        ] {
            ensure!(
                checks
                    .iter()
                    .any(|check| check["name"] == wanted && check["ok"] == true),
                "{name}: {wanted}: {report}"
            );
        }
        ensure!(report["ok"] == true, "{name}: {report}");
    }
    proven(
        "gateway, from inside: uid 65532, no capability, no new privileges, seccomp filter, a write that fails, no token",
    );
    Ok(())
}

#[test]
fn b3_a_servers_container_has_no_power_seen_from_inside() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let script = r"const fs = require('fs');
        const status = fs.readFileSync('/proc/self/status', 'utf8');
        const field = name => status.match(new RegExp('^' + name + ':\\s*(.*)$', 'm'))[1];
        let wrote = true; try { fs.writeFileSync('/written', 'x'); } catch (e) { wrote = e.code; }
        console.log(JSON.stringify({uid: process.getuid(), cap: field('CapEff'), nnp: field('NoNewPrivs'), seccomp: field('Seccomp'), wrote,
            token: fs.existsSync('/var/run/secrets/kubernetes.io'), env: Object.keys(process.env)}));";
    let out = demo
        .kubectl(&[
            "-n",
            NAMESPACE,
            "exec",
            "deploy/everything-server",
            "-c",
            "server",
            "--",
            "node",
            "-e",
            script,
        ])
        .or_else(|_| {
            demo.kubectl(&[
                "-n",
                NAMESPACE,
                "exec",
                "deploy/everything-server",
                "--",
                "/usr/bin/node",
                "-e",
                script,
            ])
        })?;
    let seen: Value = serde_json::from_str(&out).with_context(|| out.clone())?;
    ensure!(seen["uid"] == 65532, "{seen}");
    ensure!(
        seen["cap"] == "0000000000000000" && seen["nnp"] == "1" && seen["seccomp"] == "2",
        "{seen}"
    );
    ensure!(seen["wrote"] == "EROFS", "{seen}");
    ensure!(seen["token"] == false, "{seen}");
    let links = seen["env"]
        .as_array()
        .context("env")?
        .iter()
        .filter_map(Value::as_str);
    let links: Vec<&str> = links
        .filter(|name| name.contains("_SERVICE_HOST") && !name.starts_with("KUBERNETES_"))
        .collect();
    ensure!(links.is_empty(), "service links: {links:?}");
    proven(
        "server, from inside: uid 65532, no capability, no new privileges, seccomp filter, a write that fails, no token, no service links",
    );
    Ok(())
}
