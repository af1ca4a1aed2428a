//! Rotation under load: nobody notices, and the old one is out within seconds of the nudge.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use system_tests::demo::{Demo, NAMESPACE, eventually};
use system_tests::http::Client;
use system_tests::load::Load;

use super::{block_on, endpoint, proven};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// How soon a nudge has to act.
const NUDGE: Duration = Duration::from_secs(5);

fn restarts(demo: &Demo) -> Result<Vec<(String, i64)>> {
    let pods = demo.gateway_pods()?;
    let mut all: Vec<(String, i64)> = pods
        .iter()
        .map(|pod| {
            let count = pod["status"]["containerStatuses"][0]["restartCount"]
                .as_i64()
                .unwrap_or(-1);
            (
                pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                count,
            )
        })
        .collect();
    all.sort();
    Ok(all)
}

#[test]
fn d1_an_api_key_and_a_certificate_rotate_under_load() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    block_on(async {
        let endpoint = endpoint(&demo)?;
        let before = restarts(&demo)?;
        let old_key = demo.read("me.key")?;
        let old_certificate = endpoint.certificate().await?;
        let load = Load::start(&endpoint, &demo.read("loader.key")?, 4);
        let stack = concat!(env!("CARGO_MANIFEST_DIR"), "/stack/lib.sh");
        let folder = demo.folder.display();
        let script = format!(
            ". {stack}; \"$TESTS/stack/idp.py\" certificate {folder}/idp gateway localhost && api_key me {NAMESPACE} agent-keys {folder} && \
             kubectl -n {NAMESPACE} create secret tls tools-tls --cert={folder}/idp/gateway.crt --key={folder}/idp/gateway.key --dry-run=client -o yaml | kubectl apply -f - >/dev/null"
        );
        let done = demo
            .command("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let new_key = demo.read("me.key")?;
        ensure!(new_key != old_key, "the key did not change");
        let nudged = Instant::now();
        let stamp = format!("portcullis.dev/refresh={:?}", jiff::Timestamp::now());
        demo.kubectl(&[
            "-n",
            NAMESPACE,
            "annotate",
            "mcpgateways.portcullis.dev",
            "tools",
            &stamp,
            "--overwrite",
        ])?;
        // Several new connections in a row: every replica has to have changed.
        let (mut agreed, mut took) = (0, Duration::ZERO);
        while agreed < 12 {
            ensure!(
                nudged.elapsed() < NUDGE + Duration::from_secs(20),
                "the rotation is not in force after 25 s"
            );
            if agreed == 0 {
                took = nudged.elapsed();
            }
            let new = Client::new(&endpoint, "/mcp", Some(&new_key))
                .initialize()
                .await?
                .status;
            let old = Client::new(&endpoint, "/mcp", Some(&old_key))
                .post(LIST, &[])
                .await?
                .status;
            let fresh = endpoint.certificate().await? != old_certificate;
            if new == StatusCode::OK && old == StatusCode::UNAUTHORIZED && fresh {
                agreed += 1;
            } else {
                agreed = 0;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let outcome = load.stop().await;
        ensure!(
            outcome.failures.is_empty(),
            "{} calls failed: {:#?}",
            outcome.failures.len(),
            outcome.failures
        );
        ensure!(took < NUDGE, "new in and old out only after {took:?}");
        ensure!(restarts(&demo)? == before, "a pod was restarted");
        proven(&format!(
            "API key and certificate rotated under load: new in and old out {took:.1?} after the nudge, {} calls, none failed, no restart",
            outcome.good
        ));
        Ok(())
    })
}

#[test]
fn d2_a_rule_change_acts_on_all_replicas() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let patch = |rules: &str| {
        let patch =
            format!(r#"[{{"op":"replace","path":"/spec/authorization/rules/1/tools","value":{rules}}}]"#);
        demo.kubectl(&[
            "-n",
            NAMESPACE,
            "patch",
            "mcpgateways.portcullis.dev",
            "tools",
            "--type=json",
            "-p",
            &patch,
        ])
    };
    block_on(async {
        let endpoint = endpoint(&demo)?;
        let token = demo.read("analyst.token")?;
        let start = Instant::now();
        patch(r#"["echo"]"#)?;
        let mut agreed = 0;
        while agreed < 12 {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "the rule is not in force after a minute"
            );
            let mut client = Client::new(&endpoint, "/mcp", Some(&token));
            let answer = client.call_stateless("python__add", r#"{"a":1,"b":2}"#).await?;
            agreed = if answer.body["error"]["data"]["reason"] == "tool_unknown" {
                agreed + 1
            } else {
                0
            };
            if agreed == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let took = start.elapsed();
        patch(r#"["echo","get-sum","add"]"#)?;
        eventually("Programmed to be True again", Duration::from_secs(60), || {
            let generation = demo.value("mcpgateways.portcullis.dev", "tools", "{.metadata.generation}")?;
            let seen = demo.value(
                "mcpgateways.portcullis.dev",
                "tools",
                r#"{.status.conditions[?(@.type=="Programmed")].observedGeneration}"#,
            )?;
            let status = demo.value(
                "mcpgateways.portcullis.dev",
                "tools",
                r#"{.status.conditions[?(@.type=="Programmed")].status}"#,
            )?;
            Ok((generation == seen && status == "True").then_some(()))
        })
        .context("after the rule was put back")?;
        proven(&format!(
            "a rule change acts on all replicas {took:.1?} after kubectl patch"
        ));
        Ok(())
    })
}
