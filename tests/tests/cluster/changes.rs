//! A broken object gets a condition a person can act on.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use system_tests::demo::{Demo, NAMESPACE, eventually};

use super::proven;

#[test]
fn f1_a_broken_object_says_what_to_do() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let kind = "mcpservers.portcullis.dev";
    demo.apply(&json!({"apiVersion":"portcullis.dev/v1alpha1","kind":"McpServer","metadata":{"name":"broken","namespace":NAMESPACE},
        "spec":{"gatewayRefs":[{"name":"tools"}],"container":{"image":"registry.example.com/mcp:latest","transport":{"streamableHttp":{"port":3001}}},
            "quarantine":{"enabled":false}}}).to_string())?;
    let said = eventually(
        "a condition on the broken server",
        Duration::from_secs(30),
        || {
            let text = demo.value(
                kind,
                "broken",
                r#"{range .status.conditions[?(@.status=="False")]}{.type}/{.reason}: {.message}{"\n"}{end}"#,
            )?;
            Ok(text.contains("digest").then_some(text))
        },
    );
    let demo_clean = demo.kubectl(&["-n", NAMESPACE, "delete", kind, "broken", "--ignore-not-found"]);
    let said = said?;
    demo_clean?;
    println!(
        "  {}",
        said.lines()
            .find(|line| line.contains("digest"))
            .unwrap_or_default()
    );
    let refused = demo.apply(&json!({"apiVersion":"portcullis.dev/v1alpha1","kind":"McpGateway","metadata":{"name":"unsafe","namespace":NAMESPACE},
        "spec":{"publicHost":"x.example.com","tls":{"secretName":"t"},"auth":{"anonymous":{"reason":"no"}}}}).to_string());
    let refused = refused
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(
        refused.contains("Production") && refused.contains("anonymous"),
        "{refused}"
    );
    proven("a broken object gets a condition that names the remedy; an unsafe one is refused at admission");
    Ok(())
}
