//! A demo that is up, and the commands that look at it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Namespace of the demo's objects.
pub const NAMESPACE: &str = "demo";
/// Namespace of the operator.
pub const SYSTEM: &str = "portcullis-system";

/// A demo that is up.
#[derive(Clone, Debug)]
pub struct Demo {
    /// Its folder: keys, certificates, `cluster.env`.
    pub folder: PathBuf,
    vars: Vec<(String, String)>,
}

impl Demo {
    /// The demo that `PORTCULLIS_DEMO` names. `None`, said aloud, where there is none.
    pub fn find() -> Result<Option<Self>> {
        let Some(folder) = std::env::var_os("PORTCULLIS_DEMO").map(PathBuf::from) else {
            eprintln!("SKIPPED: no demo is up: PORTCULLIS_DEMO is not set (make test-cluster sets it)");
            return Ok(None);
        };
        let text =
            std::fs::read_to_string(folder.join("cluster.env")).context("the demo has no cluster.env")?;
        let vars = text
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .filter(|(name, _)| *name != "PATH")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Some(Self { folder, vars }))
    }

    /// A value of the cluster's environment, such as `PORTCULLIS_CLUSTER_HOST_IP`.
    pub fn var(&self, name: &str) -> Result<&str> {
        let found = self.vars.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .with_context(|| format!("cluster.env does not set {name}"))
    }

    /// A file of the folder, without the line end.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        Ok(std::fs::read_to_string(&path)
            .with_context(|| path.display().to_string())?
            .trim_end()
            .to_owned())
    }

    /// A command with the cluster's environment.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `kubectl ARGS`, its output; an error holds what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.command("kubectl").args(args).output().context("kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// `kubectl get -o json`.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// `kubectl apply` of YAML or JSON text.
    pub fn apply(&self, text: &str) -> Result<()> {
        let file = self.folder.join(format!("apply-{}.yaml", std::process::id()));
        std::fs::write(&file, text)?;
        self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            &file.display().to_string(),
        ])?;
        Ok(())
    }

    /// The value of a JSON path of one object.
    pub fn value(&self, kind: &str, name: &str, path: &str) -> Result<String> {
        self.kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            kind,
            name,
            "-o",
            &format!("jsonpath={path}"),
        ])
    }

    /// The gateway's pods that are not ending, by name.
    pub fn gateway_pods(&self) -> Result<Vec<Value>> {
        let pods = self.get(&["-n", NAMESPACE, "pods", "-l", "portcullis.dev/gateway=tools"])?;
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect())
    }

    /// The ClusterIP of the gateway's Service.
    pub fn gateway_ip(&self) -> Result<String> {
        self.value("service", "tools-gateway", "{.spec.clusterIP}")
    }

    /// One of the real clients of `tests/clients`: exit code and what it printed.
    pub fn client(&self, which: &str, args: &[&str]) -> Result<(i32, Vec<Value>)> {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/run");
        let output = self.command(run).arg(which).args(args).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Ok((output.status.code().unwrap_or(-1), lines))
    }
}

/// Asks until `check` gives a value; an error names what was waited for, and its last answer.
pub fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut last = None;
    while start.elapsed() < within {
        match check() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    match last {
        Some(error) => Err(error.context(format!("not within {within:?}: {what}"))),
        None => bail!("not within {within:?}: {what}"),
    }
}
