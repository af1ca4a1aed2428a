//! What goes away under load without anybody noticing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use system_tests::demo::{Demo, NAMESPACE, SYSTEM, eventually};
use system_tests::load::Load;

use super::{block_on, endpoint, proven};

/// Runs `action` under load and says how many calls there were; none may fail.
fn under_load(demo: &Demo, what: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    block_on(async {
        let load = Load::start(&endpoint(demo)?, &demo.read("loader.key")?, 4);
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(
            load.good() > 0,
            "the load does not get through: {:?}",
            load.stop().await.failures
        );
        let done = tokio::task::block_in_place(action);
        let settled = load.good();
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(load.good() > settled, "the load stands still");
        let outcome = load.stop().await;
        done?;
        ensure!(
            outcome.failures.is_empty(),
            "{what}: {} calls failed: {:#?}",
            outcome.failures.len(),
            outcome.failures
        );
        proven(&format!("{what}: {} calls, none failed", outcome.good));
        Ok(())
    })
}

#[test]
fn e1_deleting_a_gateway_pod_fails_no_call() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    under_load(&demo, "a gateway pod deleted", || {
        let pods = demo.gateway_pods()?;
        let name = pods
            .first()
            .and_then(|pod| pod["metadata"]["name"].as_str())
            .context("no pod")?
            .to_owned();
        demo.kubectl(&[
            "-n",
            NAMESPACE,
            "delete",
            "pod",
            &name,
            "--wait=true",
            "--timeout=120s",
        ])?;
        demo.kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "deployment/tools-gateway",
            "--timeout=120s",
        ])?;
        Ok(())
    })
}

#[test]
fn e2_rolling_the_gateway_fails_no_call() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    under_load(&demo, "the gateway rolled", || {
        demo.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/tools-gateway"])?;
        demo.kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "deployment/tools-gateway",
            "--timeout=240s",
        ])?;
        eventually("the old pods to be gone", Duration::from_secs(120), || {
            let pods = demo.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/gateway=tools"])?;
            Ok((pods["items"].as_array().is_some_and(|all| all.len() == 2)).then_some(()))
        })
    })
}

#[test]
fn e3_killing_the_operators_leader_fails_no_call_and_another_takes_over() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    under_load(&demo, "the operator's leader killed", || {
        let holder = || {
            demo.kubectl(&[
                "-n",
                SYSTEM,
                "get",
                "lease",
                "-o",
                "jsonpath={.items[0].spec.holderIdentity}",
            ])
        };
        let leader = holder()?;
        let pod = leader.split('_').next().unwrap_or_default().to_owned();
        demo.kubectl(&["-n", SYSTEM, "delete", "pod", &pod, "--grace-period=0", "--force"])?;
        eventually("another leader", Duration::from_secs(90), || {
            Ok(holder().ok().filter(|now| !now.is_empty() && *now != leader))
        })?;
        demo.kubectl(&[
            "-n",
            SYSTEM,
            "wait",
            "--for=condition=Available",
            "--timeout=90s",
            "deployment",
            "--all",
        ])?;
        Ok(())
    })
}

#[test]
fn e4_scaling_the_gateway_fails_no_call() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let scale = |replicas: usize| {
        let patch = serde_json::json!({"spec":{"workload":{"replicas":replicas}}}).to_string();
        let gateway = "mcpgateway.portcullis.dev/tools";
        demo.kubectl(&["-n", NAMESPACE, "patch", gateway, "--type=merge", "-p", &patch])?;
        eventually(
            &format!("{replicas} replicas, all of them ready"),
            Duration::from_secs(180),
            || {
                let pods = demo.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/gateway=tools"])?;
                let all = pods["items"].as_array().map_or(0, Vec::len);
                let deployment = demo.get(&["-n", NAMESPACE, "deployment", "tools-gateway"])?;
                let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or_default();
                Ok((all == replicas && ready == all as u64).then_some(()))
            },
        )
    };
    let scaled = under_load(&demo, "scaled 2 -> 1 -> 3 -> 2", || {
        for replicas in [1, 3, 2] {
            scale(replicas)?;
        }
        Ok(())
    });
    // What follows counts on two, also after a failure.
    if scaled.is_err() {
        scale(2)?;
    }
    scaled
}
