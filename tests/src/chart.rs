//! The charts as Helm renders them, without a cluster.
//!
//! Helm is not a crate: it is looked for in the cache that `tests/cluster/build` fills. A test that needs it and does not
//! find it fails, and says what to run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::Value;

/// Name of the release, as the documentation has it.
pub const RELEASE: &str = "portcullis";
/// Namespace of the release, as the documentation has it.
pub const NAMESPACE: &str = "portcullis-system";
/// The operator's chart.
pub const OPERATOR: &str = "portcullis";
/// The chart of the definitions.
pub const CRDS: &str = "portcullis-crds";

/// A path seen from the repository's root.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(relative)
}

/// Reads a file of the repository.
pub fn read(relative: &str) -> Result<String> {
    let path = path(relative);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The files of `folder` whose names end in `suffix`, by name.
pub fn files(folder: &str, suffix: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path(folder)).with_context(|| folder.to_owned())? {
        let file = entry?.path();
        if file.to_string_lossy().ends_with(suffix) {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// The values files that stand for the ways in which the operator's chart is used, the defaults (no file) first.
pub fn variants() -> Result<Vec<Option<PathBuf>>> {
    let files = files("charts/portcullis/ci", "-values.yaml")?;
    ensure!(!files.is_empty(), "charts/portcullis/ci is empty");
    Ok(std::iter::once(None).chain(files.into_iter().map(Some)).collect())
}

/// Runs Helm, without a cluster and without what a person has configured.
pub fn helm<A: AsRef<str>>(arguments: &[A]) -> Result<Output> {
    let helm = tool("helm")?;
    let nowhere = std::env::temp_dir().join("portcullis-helm");
    Command::new(&helm)
        .args(arguments.iter().map(AsRef::as_ref))
        .current_dir(path(""))
        .env("KUBECONFIG", "/dev/null")
        .env("HELM_CACHE_HOME", nowhere.join("cache"))
        .env("HELM_CONFIG_HOME", nowhere.join("config"))
        .env("HELM_DATA_HOME", nowhere.join("data"))
        .output()
        .with_context(|| helm.display().to_string())
}

/// What a chart renders with these further arguments, as text.
pub fn template(chart: &str, arguments: &[&str]) -> Result<String> {
    let chart = format!("charts/{chart}");
    let output = helm(
        &[
            &["template", RELEASE, &chart, "--namespace", NAMESPACE],
            arguments,
        ]
        .concat(),
    )?;
    if !output.status.success() {
        bail!(
            "helm template {chart}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What the operator's chart renders with one of [`variants`].
pub fn variant(values: Option<&Path>) -> Result<Vec<Value>> {
    let values = values.map(|file| file.to_string_lossy().into_owned());
    let arguments: Vec<&str> = values
        .iter()
        .flat_map(|file| ["--values", file.as_str()])
        .collect();
    objects(&template(OPERATOR, &arguments)?)
}

/// The objects of a YAML stream.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document)?;
        if !object.is_null() {
            found.push(object);
        }
    }
    ensure!(!found.is_empty(), "no object in it");
    Ok(found)
}

/// The only object of a kind.
pub fn one<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
    match (of_kind.next(), of_kind.next()) {
        (Some(object), None) => Ok(object),
        (None, _) => bail!("no {kind}"),
        (Some(_), Some(_)) => bail!("more than one {kind}"),
    }
}

/// A program that `tests/cluster/build` puts into the cache.
fn tool(name: &str) -> Result<PathBuf> {
    let cache = match (
        std::env::var_os("PORTCULLIS_CACHE"),
        std::env::var_os("XDG_CACHE_HOME"),
        std::env::var_os("HOME"),
    ) {
        (Some(cache), _, _) => PathBuf::from(cache),
        (None, Some(caches), _) => PathBuf::from(caches).join("portcullis"),
        (None, None, Some(home)) => PathBuf::from(home).join(".cache/portcullis"),
        (None, None, None) => bail!("none of PORTCULLIS_CACHE, XDG_CACHE_HOME and HOME is set"),
    };
    let program = cache.join("tools/bin").join(name);
    ensure!(
        program.exists(),
        "{name} is not in {}: run tests/cluster/build tools, which puts it there",
        program.display()
    );
    Ok(program)
}
