//! What is generated and committed is what its source generates now. `UPDATE=1` rewrites it (`make generate`).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use system_tests::chart::{self, CRDS, NAMESPACE, OPERATOR};

/// First lines of the manifest. The namespace stands there, since a chart cannot make its own.
const PREAMBLE: &str = "\
# The kinds, the operator and its namespace, for kubectl apply --server-side --filename. Rendered from charts/ with their
# defaults: what a cluster needs otherwise (images, address ranges, DNS), the chart's values say. Do not edit: make generate
---
apiVersion: v1
kind: Namespace
metadata:
  name: portcullis-system
  labels:
    app.kubernetes.io/part-of: portcullis
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/audit: restricted
    pod-security.kubernetes.io/warn: restricted
";

/// Compares a committed file with what it should be, or writes it.
fn committed(file: &Path, wanted: &str) -> Result<()> {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, wanted).with_context(|| file.display().to_string())?;
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    ensure!(found == wanted, "{} is stale: make generate", file.display());
    Ok(())
}

#[test]
fn the_chart_of_the_definitions_carries_the_generated_files() -> Result<()> {
    let sources = chart::files("crds", ".yaml")?;
    let names: Vec<_> = sources.iter().filter_map(|file| file.file_name()).collect();
    let copies = chart::path("charts/portcullis-crds/files");
    for (source, name) in sources.iter().zip(&names) {
        committed(&copies.join(name), &std::fs::read_to_string(source)?)?;
    }
    let found = chart::files("charts/portcullis-crds/files", "")?;
    let found: Vec<_> = found.iter().filter_map(|file| file.file_name()).collect();
    ensure!(found == names, "{found:?} in the chart, {names:?} in crds/");
    Ok(())
}

#[test]
fn the_chart_renders_the_definitions_unchanged_but_for_keeping_them() -> Result<()> {
    for keep in [true, false] {
        let arguments = ["--set", &format!("crds.keep={keep}")];
        let rendered = chart::objects(&chart::template(CRDS, &arguments)?)?;
        let mut wanted = Vec::new();
        for source in chart::files("crds", ".yaml")? {
            let mut crd = chart::objects(&std::fs::read_to_string(source)?)?;
            if keep {
                for object in &mut crd {
                    object["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
                }
            }
            wanted.append(&mut crd);
        }
        ensure!(rendered == wanted, "with crds.keep={keep}");
    }
    Ok(())
}

#[test]
fn the_manifest_is_what_the_charts_render() -> Result<()> {
    let definitions = chart::template(CRDS, &[])?;
    let operator = chart::template(OPERATOR, &[])?;
    let wanted = format!("{PREAMBLE}{definitions}{operator}");
    committed(&chart::path("manifests/install.yaml"), &wanted)?;

    let objects = chart::objects(&wanted)?;
    let namespace = chart::one(&objects, "Namespace")?;
    ensure!(namespace["metadata"]["name"] == NAMESPACE);
    for object in &objects {
        let namespace = &object["metadata"]["namespace"];
        ensure!(namespace.is_null() || namespace == NAMESPACE, "{object}");
    }
    Ok(())
}

#[test]
fn the_charts_have_the_version_of_the_product() -> Result<()> {
    for name in [OPERATOR, CRDS] {
        let text = chart::read(&format!("charts/{name}/Chart.yaml"))?;
        let about: Value = serde_yaml::from_str(&text)?;
        for field in ["version", "appVersion"] {
            ensure!(
                about[field] == env!("CARGO_PKG_VERSION"),
                "{name}: {field} is {}",
                about[field]
            );
        }
    }
    Ok(())
}
